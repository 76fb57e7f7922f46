//! How far a long copy is, how fast it may go, and whether it shall stop.
//!
//! Who copies calls [`Progress::advance`] for each block; another thread may look and may stop it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Stopped;
use crate::clock::monotonic;

/// One copy, shared by who makes it and who watches it.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    state: Mutex<State>,
    stopped: Condvar,
    rate: Option<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    total: u64,
    stop: bool,
    /// When the next block may go, if the rate is limited.
    next: Option<Instant>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing yet.
    Waiting,
    /// An artefact is written.
    Writing,
    /// It is made to survive a loss of power.
    Syncing,
    /// It is read and its digests are compared.
    Checking,
    /// It is read, compared, and its files are written.
    Unpacking,
    /// An export is read, and its rows are put into a store.
    Importing,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of the store's files that this phase is through with.
    pub done: u64,
    /// All of them; 0 where that is not known.
    pub total: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Progress {
    /// One that goes at most this many bytes a second, if a rate is given.
    pub fn new(rate: Option<u64>) -> Self {
        let state = State { phase: Phase::Waiting, total: 0, stop: false, next: None };
        Self { done: AtomicU64::new(0), state: Mutex::new(state), stopped: Condvar::new(), rate }
    }

    /// Begins a phase of `total` bytes.
    pub fn begin(&self, phase: Phase, total: u64) {
        let mut state = self.state();
        (state.phase, state.total) = (phase, total);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Counts a block that was copied, and waits if that was too fast. Fails if it shall stop.
    pub fn advance(&self, bytes: u64) -> io::Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state();
        if let Some(rate) = self.rate {
            let now = monotonic();
            let next = state.next.unwrap_or(now).max(now) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            state.next = Some(next);
            state = self.wait_until(state, next);
        }
        if state.stop { Err(io::Error::other(Stopped)) } else { Ok(()) }
    }

    fn wait_until<'a>(&'a self, mut state: MutexGuard<'a, State>, until: Instant) -> MutexGuard<'a, State> {
        loop {
            let left = until.saturating_duration_since(monotonic());
            if left.is_zero() || state.stop {
                return state;
            }
            let waited = self.stopped.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the copy fail at its next block.
    pub fn stop(&self) {
        self.state().stop = true;
        self.stopped.notify_all();
    }

    /// Fails if it shall stop, and waits for nothing.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.state().stop { Err(io::Error::other(Stopped)) } else { Ok(()) }
    }

    /// How far it is.
    pub fn seen(&self) -> Seen {
        let State { phase, total, .. } = *self.state();
        Seen { phase, done: self.done.load(Ordering::Relaxed), total }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_rate_is_kept() {
        let progress = Progress::new(Some(1_000_000));
        let begin = monotonic();
        for _ in 0..10 {
            progress.advance(20_000).unwrap();
        }
        let took = monotonic() - begin;
        assert!((200..2_000).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn a_stop_ends_the_wait_and_the_copy() {
        let progress = Progress::new(Some(1));
        progress.begin(Phase::Writing, 10);
        thread::scope(|scope| {
            let copy = scope.spawn(|| progress.advance(1_000_000));
            progress.stop();
            assert!(copy.join().unwrap().is_err());
        });
        assert!(progress.advance(0).is_err());
        assert_eq!(progress.seen(), Seen { phase: Phase::Writing, done: 1_000_000, total: 10 });
    }
}
