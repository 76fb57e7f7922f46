//! Several servers that share one store: replicas, of which each may be killed, stopped and started again.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::command::Finished;
use crate::server::Server;
use crate::setup::Setup;

/// Some replicas, counted from 0.
pub struct Fleet {
    replicas: Vec<Replica>,
}

struct Replica {
    setup: Setup,
    server: RwLock<Option<Server>>,
    /// Where it listens, or did.
    addr: RwLock<SocketAddr>,
}

impl Fleet {
    /// Starts one replica with each setup and waits until all are ready.
    pub fn start(setups: Vec<Setup>) -> Self {
        let begun: Vec<_> = setups.into_iter().map(|setup| (Server::begin(setup.command(&["serve"])), setup)).collect();
        let ready = begun.into_iter().map(|(server, setup)| (server.listening().ready(), setup));
        let replicas = ready.map(|(server, setup)| {
            let addr = RwLock::new(server.addr);
            Replica { setup, server: RwLock::new(Some(server)), addr }
        });
        Self { replicas: replicas.collect() }
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.replicas.len()
    }

    /// Where a replica listens; nobody does there while it does not run.
    pub fn addr(&self, replica: usize) -> SocketAddr {
        *self.replicas[replica].addr.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a replica is set up.
    pub fn setup(&self, replica: usize) -> &Setup {
        &self.replicas[replica].setup
    }

    /// A replica that runs. It cannot be killed, stopped or started while this is held.
    pub fn replica(&self, replica: usize) -> impl Deref<Target = Server> {
        Running(self.replicas[replica].server.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// SIGKILL.
    pub fn kill_9(&self, replica: usize) {
        self.take(replica).kill();
    }

    /// SIGTERM, and its exit.
    #[track_caller]
    pub fn stop(&self, replica: usize) -> Finished {
        self.take(replica).stop()
    }

    /// Starts a replica that does not run and waits until it is ready.
    #[track_caller]
    pub fn restart(&self, replica: usize) {
        let one = &self.replicas[replica];
        let server = one.setup.start();
        *one.addr.write().unwrap_or_else(PoisonError::into_inner) = server.addr;
        let before = one.server.write().unwrap_or_else(PoisonError::into_inner).replace(server);
        assert!(before.is_none(), "replica {replica} runs already");
    }

    /// Stops all of them, each of which must end well.
    #[track_caller]
    pub fn stop_all(self) {
        for replica in 0..self.size() {
            self.stop(replica).check_code(0);
        }
    }

    fn take(&self, replica: usize) -> Server {
        let server = &self.replicas[replica].server;
        server.write().unwrap_or_else(PoisonError::into_inner).take().expect("the replica runs")
    }
}

struct Running<'a>(RwLockReadGuard<'a, Option<Server>>);

impl Deref for Running<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.0.as_ref().expect("the replica runs")
    }
}
