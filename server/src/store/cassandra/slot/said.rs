//! What a server says of itself in the row of its slot, and until when the row is its own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::{MARGIN, TTL};
use crate::clock::uptime;

/// Stands for what a server has not said yet.
pub(super) const UNKNOWN: i64 = -1;

/// Something that changes for all servers, as far as this one follows it: the epoch that it seals with, the format that it
/// writes.
pub(super) struct Said {
    value: AtomicI64,
    /// For which of the times that a slot was taken it was said.
    term: AtomicU64,
}

impl Default for Said {
    fn default() -> Self {
        Self { value: AtomicI64::new(UNKNOWN), term: AtomicU64::new(0) }
    }
}

impl Said {
    /// For the row.
    pub(super) fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The slot is another one now, and what was followed may have changed since.
    pub(super) fn forget(&self) {
        self.value.store(UNKNOWN, Ordering::Relaxed);
    }

    pub(super) fn is_of(&self, term: u64) -> bool {
        self.term.load(Ordering::Relaxed) == term
    }

    /// The next renewal says it. False if it was said before in this term.
    pub(super) fn say(&self, value: u32, term: u64) -> bool {
        let before = self.value.swap(value.into(), Ordering::Relaxed);
        before != i64::from(value) || !self.is_of(term)
    }

    /// The others can read it.
    pub(super) fn confirm(&self, term: u64) {
        self.term.fetch_max(term, Ordering::Relaxed);
    }
}

/// A moment, as the machine's uptime in nanoseconds: a machine that slept is late like one that was slow.
#[derive(Default)]
pub(super) struct Deadline(AtomicU64);

impl Deadline {
    pub(super) fn is_ahead(&self) -> bool {
        uptime().as_nanos() < u128::from(self.0.load(Ordering::Relaxed))
    }

    /// Of a lease that was asked for then.
    pub(super) fn extend(&self, asked: Duration) {
        let until = u64::try_from((asked + TTL - MARGIN).as_nanos()).unwrap_or(u64::MAX);
        self.0.store(until, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
