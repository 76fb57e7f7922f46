//! A way to a Service from where its address is not reached: `kubectl port-forward`, again whenever it ended.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::wait_for;

/// Whether this machine reaches an address of the cluster; what is refused there was reached.
pub(crate) fn reaches(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, Duration::from_secs(3)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

pub(crate) struct Forward {
    namespace: String,
    service: String,
    running: Mutex<Option<(Child, SocketAddr)>>,
}

impl Forward {
    pub(crate) fn new(namespace: &str, service: &str) -> Self {
        Self { namespace: namespace.to_owned(), service: service.to_owned(), running: Mutex::default() }
    }

    /// Where the Service is reached now.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut running = self.running.lock().unwrap();
        if let Some((child, address)) = running.as_mut() {
            // It ends, or stops listening, when the pod that it was for has gone.
            if child.try_wait().unwrap().is_none() && reaches(*address) {
                return *address;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let (child, address) = wait_for("kubectl forwards a port", || self.start());
        *running = Some((child, address));
        address
    }

    fn start(&self) -> Option<(Child, SocketAddr)> {
        let service = format!("service/{}", self.service);
        let mut command = Command::new("kubectl");
        command.args(["-n", &self.namespace, "port-forward", "--address=127.0.0.1", &service, ":8080"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        let address = line.split(' ').find_map(|word| word.parse().ok());
        if address.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Some((child, address?))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
