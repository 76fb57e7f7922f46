//! The keys in memory: every live epoch key, and the data keys that are in use.
//!
//! Epoch keys stay for the life of the process: unwrapping one is a call to the KMS. Data keys come and go within a
//! limit; unwrapping one is a microsecond. Keys that leave memory are wiped. A data key that many need at once is
//! fetched once. A new epoch begins when no new data key is on its way to the store, so that a search for keys of older
//! epochs finds all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use moka::future::Cache;
use tokio::sync::{OwnedRwLockReadGuard, RwLock as AsyncRwLock};

use super::KeyBytes;
use super::seal::{Commitment, NotSealedHere, Sealer, random_key};
use crate::keys::Key;
pub use crate::model::WrappedKey;

/// A key that is ready for use, and its number among the keys of its owner.
#[derive(Clone)]
pub struct NumberedKey {
    /// The generation of a data key, or the epoch of an epoch key.
    pub number: u32,
    /// What it seals and opens with.
    pub sealer: Arc<Sealer>,
}

/// A data key that has no row yet. No epoch begins before this is dropped, which is when the row is on disk or will
/// never be.
pub struct NewKey {
    /// The key.
    pub key: NumberedKey,
    /// What its row holds.
    pub wrapped: WrappedKey,
    _same_epoch: OwnedRwLockReadGuard<()>,
}

/// Why a data key is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It was wrapped in an epoch whose key is not in memory.
    #[error("the key of epoch {0} is not in the store")]
    Epoch(u32),
    /// It was not sealed in this place, or is damaged.
    #[error("the wrapped key is damaged")]
    Damaged,
}

impl From<NotSealedHere> for Missing {
    fn from(_: NotSealedHere) -> Self {
        Self::Damaged
    }
}

/// All keys of one store.
pub struct Keyring {
    epochs: RwLock<BTreeMap<u32, Arc<Sealer>>>,
    /// Read-locked while a new data key is on its way to the store, write-locked to begin an epoch.
    turn: Arc<AsyncRwLock<()>>,
    data_keys: Cache<Key, NumberedKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// A keyring without keys that will hold at most this many data keys.
    pub fn new(capacity: usize) -> Self {
        Self { epochs: RwLock::default(), turn: Arc::default(), data_keys: Cache::new(capacity as u64) }
    }

    /// Begins an epoch, after all new data keys of the one before it have reached the store.
    pub async fn begin_epoch(&self, epoch: u32, key: &KeyBytes) {
        let _turn = self.turn.write().await;
        self.add_epoch(epoch, key);
    }

    /// Adds the key of an epoch that began before.
    pub fn add_epoch(&self, epoch: u32, key: &KeyBytes) {
        self.epochs.write().unwrap_or_else(PoisonError::into_inner).insert(epoch, Arc::new(Sealer::new(key)));
    }

    /// Wipes the keys of all epochs before this one.
    pub fn drop_epochs_before(&self, epoch: u32) {
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        *epochs = epochs.split_off(&epoch);
    }

    /// The epochs whose keys are in memory.
    pub fn epochs(&self) -> Vec<u32> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The newest epoch, under which new data keys are wrapped; none before the first.
    pub fn current_epoch(&self) -> Option<NumberedKey> {
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.last_key_value().map(|(number, sealer)| NumberedKey { number: *number, sealer: sealer.clone() })
    }

    /// The key of one epoch.
    pub fn epoch(&self, epoch: u32) -> Option<Arc<Sealer>> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned()
    }

    /// A new data key for the row `place`, wrapped under the newest epoch. It is not kept until [`Keyring::keep`].
    pub async fn new_data_key(&self, place: Key, generation: u32) -> Result<NewKey, Missing> {
        let _same_epoch = self.turn.clone().read_owned().await;
        let epoch = self.current_epoch().ok_or(Missing::Epoch(0))?;
        let key = random_key();
        let wrapped = wrap(&epoch, place, &key);
        let key = NumberedKey { number: generation, sealer: Arc::new(Sealer::new(&key)) };
        Ok(NewKey { key, wrapped, _same_epoch })
    }

    /// The same key, wrapped under the newest epoch.
    pub fn rewrap(&self, place: Key, wrapped: &WrappedKey) -> Result<WrappedKey, Missing> {
        let epoch = self.current_epoch().ok_or(Missing::Epoch(0))?;
        Ok(wrap(&epoch, place, &self.unwrap(place, wrapped)?))
    }

    /// Unwraps the key of a row; nothing is kept.
    pub fn open_data_key(&self, place: Key, generation: u32, wrapped: &WrappedKey) -> Result<NumberedKey, Missing> {
        let key = self.unwrap(place, wrapped)?;
        Ok(NumberedKey { number: generation, sealer: Arc::new(Sealer::new(&key)) })
    }

    fn unwrap(&self, place: Key, wrapped: &WrappedKey) -> Result<KeyBytes, Missing> {
        let epoch = wrapped.epoch().ok_or(Missing::Damaged)?;
        let sealer = self.epoch(epoch).ok_or(Missing::Epoch(epoch))?;
        Ok(sealer.open_key(&place.encode(), &wrapped.sealed, &wrapped.commitment)?)
    }

    /// The data key of the row `place`, fetched if it is not in memory; concurrent calls share one fetch. True if this
    /// call fetched it.
    pub async fn data_key<E: Clone + Send + Sync + 'static>(
        &self,
        place: Key,
        fetch: impl Future<Output = Result<NumberedKey, E>>,
    ) -> Result<(NumberedKey, bool), E> {
        if let Some(key) = self.data_keys.get(&place).await {
            return Ok((key, false));
        }
        metrics::counter!("progressdb_data_keys_fetched_total").increment(1);
        let entry = self.data_keys.entry(place).or_try_insert_with(fetch).await;
        let entry = entry.map_err(|error: Arc<E>| (*error).clone())?;
        let fresh = entry.is_fresh();
        Ok((entry.into_value(), fresh))
    }

    /// Keeps a data key whose row is on disk.
    pub async fn keep(&self, place: Key, key: NumberedKey) {
        self.data_keys.insert(place, key).await;
    }

    /// Forgets a data key, because its row is gone.
    pub async fn forget(&self, place: Key) {
        self.data_keys.invalidate(&place).await;
    }

    /// How many data keys are in memory.
    pub fn cached(&self) -> u64 {
        self.data_keys.entry_count()
    }
}

impl WrappedKey {
    /// The epoch under which it is wrapped; none if its bytes are damaged.
    pub fn epoch(&self) -> Option<u32> {
        super::seal::generation(&self.sealed)
    }
}

fn wrap(epoch: &NumberedKey, place: Key, key: &KeyBytes) -> WrappedKey {
    let sealed = epoch.sealer.seal(epoch.number, &place.encode(), key.as_slice());
    WrappedKey { commitment: Commitment::of(key), sealed }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::keys::ThreadRow;
    use crate::model::ThreadId;

    fn place(thread: u64) -> Key {
        Key::Thread(ThreadId(thread), ThreadRow::DataKey(1))
    }

    fn keyring() -> Keyring {
        let keyring = Keyring::new(10);
        keyring.add_epoch(1, &random_key());
        keyring
    }

    #[tokio::test]
    async fn an_epoch_begins_when_no_new_key_is_on_its_way() {
        let keyring = keyring();
        let new = keyring.new_data_key(place(1), 1).await.expect("there is an epoch");
        let key = random_key();
        let mut begun = std::pin::pin!(keyring.begin_epoch(2, &key));
        let waits = futures_poll(begun.as_mut()).await;
        assert!(waits, "a key of epoch 1 may still come to the store");
        assert_eq!((new.wrapped.epoch(), keyring.epochs()), (Some(1), vec![1]));
        drop(new);
        begun.await;
        assert_eq!(keyring.epochs(), [1, 2]);
    }

    /// Whether the future has to wait.
    async fn futures_poll(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn a_data_key_is_wrapped_for_its_row_and_by_its_epoch() {
        let keyring = keyring();
        let NewKey { key, wrapped, .. } = keyring.new_data_key(place(1), 1).await.expect("there is an epoch");
        let sealed = key.sealer.seal(1, b"place", b"value");
        let back = keyring.open_data_key(place(1), 1, &wrapped).expect("its own row");
        assert_eq!(back.sealer.open(b"place", &sealed), Ok(b"value".to_vec()));
        assert_eq!(keyring.open_data_key(place(2), 1, &wrapped).map(|_| ()), Err(Missing::Damaged));

        keyring.add_epoch(2, &random_key());
        let rewrapped = keyring.rewrap(place(1), &wrapped).expect("both epochs are here");
        assert_eq!((wrapped.epoch(), rewrapped.epoch()), (Some(1), Some(2)));
        assert_eq!(rewrapped.commitment, wrapped.commitment);
        keyring.drop_epochs_before(2);
        assert_eq!(keyring.epochs(), [2]);
        assert_eq!(keyring.open_data_key(place(1), 1, &wrapped).map(|_| ()), Err(Missing::Epoch(1)));
        let back = keyring.open_data_key(place(1), 1, &rewrapped).expect("rewrapped");
        assert_eq!(back.sealer.open(b"place", &sealed), Ok(b"value".to_vec()));
    }

    #[tokio::test]
    async fn a_key_that_many_want_is_fetched_once_and_failures_are_not_kept() {
        let keyring = keyring();
        let NewKey { key, .. } = keyring.new_data_key(place(1), 1).await.expect("there is an epoch");
        let fetches = AtomicUsize::new(0);
        let fetch = async || {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, Missing>(key.clone())
        };
        let (one, two) = tokio::join!(keyring.data_key(place(1), fetch()), keyring.data_key(place(1), fetch()));
        let fresh = [one, two].map(|found| found.expect("fetched").1);
        assert_eq!((fetches.load(Ordering::Relaxed), fresh.iter().filter(|fresh| **fresh).count()), (1, 1));

        keyring.forget(place(1)).await;
        let failed = keyring.data_key(place(1), async { Err(Missing::Damaged) }).await;
        assert_eq!(failed.map(|_| ()), Err(Missing::Damaged));
        assert!(keyring.data_key(place(1), fetch()).await.expect("fetched").1, "a failure is not remembered");
    }
}
