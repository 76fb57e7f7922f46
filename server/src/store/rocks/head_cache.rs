//! The heads of threads as last written: what nearly every commit has a precondition about.
//!
//! Only the committer fills it, and only when its write is on disk. So it never holds an older value than the store, and
//! never one that a crash could take back.

use std::sync::Arc;

use moka::sync::Cache;

use crate::keys::{Key, ThreadRow};
use crate::model::ThreadId;

/// A cache of heads, bounded by their number; heads are of nearly one size.
pub(super) struct HeadCache(Cache<ThreadId, Arc<[u8]>>);

impl HeadCache {
    /// One that takes about so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        const BYTES_AN_ENTRY: u64 = 256;
        Self(Cache::new(bytes / BYTES_AN_ENTRY))
    }

    /// The row, if it is a head and in memory.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        match key {
            Key::Thread(thread, ThreadRow::Head) => self.0.get(thread).map(|head| head.to_vec()),
            _ => None,
        }
    }

    /// Takes note of what a row now holds, if it is a head; the committer's alone.
    pub(super) fn update(&self, key: &Key, value: Option<&[u8]>) {
        if let Key::Thread(thread, ThreadRow::Head) = key {
            match value {
                Some(value) => self.0.insert(*thread, value.into()),
                None => self.0.invalidate(thread),
            }
        }
    }
}
