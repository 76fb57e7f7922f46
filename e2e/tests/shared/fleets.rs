//! Fleets: servers over a Cassandra node on this machine. Each test has a keyspace of its own.

use std::collections::BTreeSet;

use progressdb_e2e::fleet::Server;
use progressdb_e2e::{Fleet, Writers};

mod bad;
mod good;
mod idle;
mod lives;

/// The servers that run before a release is tried, and under what names they answer.
struct Before {
    servers: Vec<Server>,
    replica_sets: Vec<(String, i64)>,
    processes: BTreeSet<String>,
}

impl Before {
    #[track_caller]
    fn of(fleet: &Fleet<'_>) -> Self {
        let servers = fleet.settled(3);
        let processes = servers.iter().map(Server::process).collect();
        Self { servers, replica_sets: fleet.replica_sets(), processes }
    }

    /// What ran runs on: the same ReplicaSet with the same pods, none of which was started anew.
    #[track_caller]
    fn check_untouched(&self, fleet: &Fleet<'_>) {
        assert_eq!(fleet.settled(3), self.servers);
        assert_eq!(fleet.replica_sets(), self.replica_sets);
    }

    /// How many requests others than these servers have answered, and how many there were in all.
    fn met_others(&self, writers: &Writers) -> (usize, usize) {
        let answers = writers.answers();
        let others = answers.iter().filter(|(process, _)| !self.processes.contains(*process));
        (others.map(|(_, count)| count).sum(), answers.values().sum())
    }
}
