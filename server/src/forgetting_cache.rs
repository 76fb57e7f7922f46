//! A bounded cache from which something can be forgotten for good.
//!
//! What is kept was read, and between the read and [`ForgettingCache::keep`] it may have been destroyed. So whoever reads
//! takes a [`Mark`] first, and what was read before anything was forgotten is not kept after it. That costs those who
//! overlap with it one more read, also of what is still there.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use moka::sync::{Cache, CacheBuilder};

/// When a read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// See the module.
pub(crate) struct ForgettingCache<K, V> {
    cache: Cache<K, V>,
    /// How often something was forgotten; changed under `turn` only.
    forgotten: AtomicU64,
    /// Held by whoever keeps or forgets.
    turn: Mutex<()>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> ForgettingCache<K, V> {
    /// An empty one, bounded as the builder says.
    pub(crate) fn new(builder: CacheBuilder<K, V, Cache<K, V>>) -> Self {
        Self { cache: builder.build(), forgotten: AtomicU64::new(0), turn: Mutex::new(()) }
    }

    /// To be taken before what may be kept is read.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.forgotten.load(Ordering::Acquire))
    }

    /// What is kept of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// Keeps what was read since `mark`, unless anything was forgotten since.
    pub(crate) fn keep(&self, mark: Mark, key: K, value: V) {
        let _turn = self.turn();
        if self.mark() == mark {
            self.cache.insert(key, value);
        }
    }

    /// Forgets what is kept of `key`, and what of it is being read. Call it when it cannot be read any more.
    pub(crate) fn forget(&self, key: &K) {
        let _turn = self.turn();
        self.forgotten.fetch_add(1, Ordering::Release);
        self.cache.invalidate(key);
    }

    /// How many entries there are, about.
    pub(crate) fn count(&self) -> u64 {
        self.cache.entry_count()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_something_was_forgotten_is_not_kept_after_it() {
        let cache = ForgettingCache::new(Cache::builder().max_capacity(10));
        let before = cache.mark();
        cache.keep(before, 1, "one");
        assert_eq!(cache.get(&1), Some("one"));
        cache.forget(&1);
        assert_eq!(cache.get(&1), None);
        cache.keep(before, 1, "one");
        assert_eq!(cache.get(&1), None, "it was read before it was destroyed");
        cache.keep(cache.mark(), 1, "new");
        assert_eq!(cache.get(&1), Some("new"));
    }
}
