//! The heads of threads as last written: what nearly every commit has a precondition about.
//!
//! Only the committer fills it, and only when its write is on disk. So it never holds an older value than the store, and
//! never one that a crash could take back.
//!
//! Every commit reads a head and writes one, so both are a lock and a look into a map; a general cache took six times as
//! long. Each shard has two generations. When the young one is full it becomes the old one, and what was in the old one
//! and not used since is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::keys::{Key, ThreadRow};
use crate::model::ThreadId;

const SHARDS: usize = 16;

/// A cache of heads, bounded by their number; heads are of nearly one size.
pub(super) struct HeadCache {
    shards: [Mutex<Shard>; SHARDS],
    /// The most heads in one generation of a shard.
    limit: usize,
}

/// A head is in one generation only.
#[derive(Default)]
struct Shard {
    young: HashMap<ThreadId, Vec<u8>>,
    old: HashMap<ThreadId, Vec<u8>>,
}

impl HeadCache {
    /// One that takes about so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        const BYTES_AN_ENTRY: u64 = 256;
        let entries = usize::try_from(bytes / BYTES_AN_ENTRY).unwrap_or(usize::MAX);
        Self { shards: Default::default(), limit: (entries / SHARDS / 2).max(1) }
    }

    /// The row, if it is a head and in memory.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let Key::Thread(thread, ThreadRow::Head) = key else { return None };
        let mut shard = self.shard(*thread);
        if let Some(head) = shard.young.get(thread) {
            return Some(head.clone());
        }
        let head = shard.old.remove(thread)?;
        shard.insert(*thread, head.clone(), self.limit);
        Some(head)
    }

    /// Takes note of what a row now holds, if it is a head; the committer's alone.
    pub(super) fn update(&self, key: &Key, value: Option<&[u8]>) {
        let Key::Thread(thread, ThreadRow::Head) = key else { return };
        let mut shard = self.shard(*thread);
        shard.old.remove(thread);
        match value {
            Some(value) => shard.insert(*thread, value.to_vec(), self.limit),
            None => drop(shard.young.remove(thread)),
        }
    }

    fn shard(&self, thread: ThreadId) -> MutexGuard<'_, Shard> {
        // Thread ids are times; their low bits spread well enough after a multiplication.
        let index = thread.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        let shard = &self.shards[usize::try_from(index).expect("four bits")];
        // It is consistent between any two statements, so a panic elsewhere does not spoil it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn insert(&mut self, thread: ThreadId, head: Vec<u8>, limit: usize) {
        if self.young.len() >= limit && !self.young.contains_key(&thread) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(thread, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(thread: u64) -> Key {
        Key::Thread(ThreadId(thread), ThreadRow::Head)
    }

    #[test]
    fn the_last_value_counts_in_whichever_generation_it_is() {
        // Two heads in each generation.
        let cache = HeadCache::new(256 * 2 * 2 * SHARDS as u64);
        for thread in 1..=200 {
            cache.update(&head(thread), Some(b"first"));
        }
        for thread in 1..=200 {
            cache.update(&head(thread), Some(b"second"));
            assert_eq!(cache.get(&head(thread)).as_deref(), Some(&b"second"[..]));
        }
        assert!((1..=200).all(|thread| cache.get(&head(thread)).is_none_or(|value| value == b"second")));
        for thread in 1..=200 {
            cache.update(&head(thread), None);
            assert_eq!(cache.get(&head(thread)), None);
        }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let cache = HeadCache::new(256 * 2 * 100 * SHARDS as u64);
        for thread in 1..=100_000 {
            cache.update(&head(thread), Some(b"head"));
            assert!(cache.get(&head(1)).is_some(), "it is read all the time: {thread}");
        }
        let kept = (1..=100_000).filter(|thread| cache.get(&head(*thread)).is_some()).count();
        assert!((1..=2 * 100 * SHARDS).contains(&kept), "{kept}");
    }

    #[test]
    fn other_rows_are_not_kept() {
        let cache = HeadCache::new(1 << 20);
        let object = Key::Thread(ThreadId(1), ThreadRow::Object);
        cache.update(&object, Some(b"object"));
        assert_eq!(cache.get(&object), None);
    }
}
