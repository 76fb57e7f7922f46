//! A forward proxy, as companies have between their networks and the internet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::listen::{Call, Listener, Reply};
use super::proxy::pass;

/// The only host that the proxy passes requests to; the name exists nowhere else.
pub const HOST: &str = "elsewhere.test";

/// Passes plain requests to one server, refuses tunnels, and records requests.
pub struct Forward {
    calls: Arc<Mutex<Vec<Call>>>,
    listener: Listener,
}

impl Forward {
    /// A proxy that passes everything to this server.
    pub fn to(server: SocketAddr) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&calls);
        let listener = Listener::start(None, move |call| {
            mine.lock().unwrap().push(call.clone());
            let path = call.target.strip_prefix(&format!("http://{HOST}")).map(str::to_owned);
            match path {
                Some(path) => pass(server, &Call { target: path, ..call }),
                None => Reply::text(403, "no tunnels here"),
            }
        });
        Self { calls, listener }
    }

    /// With a name and a password in it.
    pub fn url(&self) -> String {
        format!("http://ann:hush-71d0b6@{}", self.listener.addr)
    }

    /// Method and target of what arrived. Everybody must have said who they are.
    #[track_caller]
    pub fn asked(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        for call in calls.iter() {
            // "ann:hush-71d0b6" in base64.
            assert_eq!(call.header("proxy-authorization"), Some("Basic YW5uOmh1c2gtNzFkMGI2"), "{call:?}");
        }
        calls.iter().map(|call| format!("{} {}", call.method, call.target)).collect()
    }
}
