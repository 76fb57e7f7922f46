//! A way for pods to a server that listens on loopback of this machine; for a cluster of our own only.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where pods of `make cluster-up` reach this machine.
const MACHINE: &str = "198.18.0.1:0";

/// Passes connections on until it is dropped.
pub struct Relay {
    /// Where pods reach it.
    pub addr: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Relay {
    /// A relay in front of this server.
    pub fn before(server: SocketAddr) -> Self {
        let socket = TcpListener::bind(MACHINE).unwrap();
        let (addr, stopped) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let relay = Self { addr, stopped: Arc::clone(&stopped) };
        std::thread::spawn(move || {
            for client in socket.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away in the middle is its own affair, and the server may have gone.
                std::thread::spawn(move || client.and_then(|client| pass(client, server)));
            }
        });
        relay
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

fn pass(client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let back = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || copy(back.0, back.1));
    copy(client, server)
}

/// Copies to the end, and says that it is the end.
fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}
