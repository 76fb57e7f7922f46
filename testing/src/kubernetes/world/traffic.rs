//! What users ask of servers, and what each of those has counted of that since it started.

use std::collections::BTreeMap;

use super::model::{Model, Servers};

/// The upper edges of what is counted by duration, in microseconds.
const EDGES: [i64; 8] = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// What a server has counted.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// When its process started, in Unix seconds.
    pub started_at: i64,
    /// Requests.
    pub requests: i64,
    /// Those that failed.
    pub errors: i64,
    /// Those that took no longer than so many microseconds.
    pub within: BTreeMap<i64, i64>,
}

impl Model {
    /// Users ask a server so often, if it is ready.
    pub(super) fn ask(&mut self, address: &str, requests: i64) {
        let Some(server) = self.servers.get(address).filter(|server| server.is_ready) else { return };
        let counted = self.counted.entry(server.pod_uid.clone()).or_default();
        counted.requests += requests;
        counted.errors += requests * server.image.errors / 1_000;
        let slow = requests / 100;
        for edge in EDGES {
            // The slowest of a hundred take as long as the image says, and the others half of it.
            let slower = if edge >= server.image.p99_micros { 0 } else { slow };
            let others = if edge >= server.image.p99_micros / 2 { requests - slow } else { 0 };
            *counted.within.entry(edge).or_default() += (slow - slower) + others;
        }
    }

    /// A process starts, and counts from nothing.
    pub(super) fn starts(&mut self, pod_uid: &str, at: i64) {
        if self.counted.get(pod_uid).is_none_or(|counted| counted.started_at != at) {
            self.counted.insert(pod_uid.to_owned(), Counted { started_at: at, ..Counted::default() });
        }
    }
}

impl Servers {
    /// What the server at an address has counted; `None` if nobody listens there.
    pub fn counted(&self, address: &str) -> Option<Counted> {
        let model = self.lock();
        let server = model.servers.get(address).filter(|server| !server.is_silent)?;
        model.counted.get(&server.pod_uid).cloned()
    }
}
