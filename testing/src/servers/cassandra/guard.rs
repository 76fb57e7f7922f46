//! What a ring occupies on this machine, and a process that clears it away also when the test process is killed.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::machine::temporary_directory;

/// Networks 127.77.1.0/24 to 127.77.200.0/24, one for each ring that runs on this machine.
const NETWORKS: u8 = 200;
/// The JMX ports of a network are four from here on; unlike all other ports they are those of 127.0.0.1.
const FIRST_JMX_PORT: u16 = 17_000;

/// A network and a directory, until it is dropped.
pub(super) struct Guard {
    network: u8,
    directory: PathBuf,
    process: Child,
}

impl Guard {
    pub(super) fn set_up() -> Self {
        let (network, lock) = take_network();
        let directory = temporary_directory().keep();
        let mut guard = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers/cassandra/guard"));
        // It alone holds the lock: the network is free when it has ended, and not before.
        guard.arg(&directory).stdin(Stdio::piped()).stdout(OwnedFd::from(lock)).stderr(Stdio::null());
        Self { network, directory, process: guard.spawn().unwrap() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The address of a node, counted from 0.
    pub(super) fn addr(&self, node: usize) -> Ipv4Addr {
        addr(self.network, u8::try_from(node + 1).unwrap())
    }

    pub(super) fn jmx_port(&self, node: usize) -> u16 {
        FIRST_JMX_PORT + 4 * u16::from(self.network) + u16::try_from(node).unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn addr(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, network, host)
}

/// A socket that listens there is the lock of a network: the kernel gives it to one process at a time, and takes it back.
fn take_network() -> (u8, TcpListener) {
    let first = std::process::id();
    let mut networks = (0..NETWORKS).map(|n| u8::try_from((first + u32::from(n)) % u32::from(NETWORKS) + 1).unwrap());
    let free = networks.find_map(|network| Some((network, TcpListener::bind((addr(network, 254), 7000)).ok()?)));
    free.expect("a network of loopback is free")
}
