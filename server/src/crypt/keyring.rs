//! The keys in memory: every live epoch key, and the data keys that are in use.
//!
//! Epoch keys stay for the life of the process: unwrapping one is a call to the KMS. Data keys come and go within a
//! limit; unwrapping one is a microsecond. Keys that leave memory are wiped, and one that was forgotten does not come
//! back by a read or a commit that overlapped with that. A new epoch begins when no new data key is on its way to the
//! store, so that a search for keys of older epochs finds all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use moka::sync::Cache;
use tokio::sync::{OwnedRwLockReadGuard, RwLock as AsyncRwLock};

use super::KeyBytes;
use super::seal::{Commitment, NotSealedHere, Sealer, random_key};
use crate::forgetting_cache::ForgettingCache;
pub use crate::forgetting_cache::Mark;
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
    /// When it was made.
    mark: Mark,
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
    data_keys: ForgettingCache<Key, NumberedKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// A keyring without keys that will hold at most this many data keys.
    pub fn new(capacity: usize) -> Self {
        let data_keys = ForgettingCache::new(Cache::builder().max_capacity(capacity as u64));
        Self { epochs: RwLock::default(), turn: Arc::default(), data_keys }
    }

    /// Begins an epoch, after all new data keys of the one before it have reached the store.
    pub async fn begin_epoch(&self, epoch: u32, key: &KeyBytes) {
        let _turn = self.turn.write().await;
        self.add_epoch(epoch, key);
    }

    /// Waits until every new data key that was made before is in the store, or will never be.
    pub async fn settle(&self) {
        drop(self.turn.write().await);
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

    /// A new data key for the row `place`, wrapped under the newest epoch. It is not kept until [`Keyring::keep_new`].
    pub async fn new_data_key(&self, place: Key, generation: u32) -> Result<NewKey, Missing> {
        let (mark, _same_epoch) = (self.mark(), self.turn.clone().read_owned().await);
        let epoch = self.current_epoch().ok_or(Missing::Epoch(0))?;
        let key = random_key();
        let wrapped = wrap(&epoch, place, &key);
        let key = NumberedKey { number: generation, sealer: Arc::new(Sealer::new(&key)) };
        Ok(NewKey { key, wrapped, mark, _same_epoch })
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

    /// The data key of the row `place`, if it is in memory.
    pub fn data_key(&self, place: Key) -> Option<NumberedKey> {
        self.data_keys.get(&place)
    }

    /// To be taken before the row of a data key is read.
    pub fn mark(&self) -> Mark {
        self.data_keys.mark()
    }

    /// Keeps a data key whose row was read since `mark`, unless one was forgotten since.
    pub fn keep(&self, mark: Mark, place: Key, key: NumberedKey) {
        self.data_keys.keep(mark, place, key);
    }

    /// Keeps a data key whose row is on disk now, unless one was forgotten since it was made.
    pub fn keep_new(&self, place: Key, new: &NewKey) {
        self.keep(new.mark, place, new.key.clone());
    }

    /// Forgets a data key, because its row is gone.
    pub fn forget(&self, place: Key) {
        self.data_keys.forget(&place);
    }

    /// How many data keys are in memory.
    pub fn cached(&self) -> u64 {
        self.data_keys.count()
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
    async fn a_key_that_was_forgotten_is_not_kept_by_who_overlapped_with_that() {
        let keyring = keyring();
        let read = keyring.mark();
        let new = keyring.new_data_key(place(1), 1).await.expect("there is an epoch");
        keyring.keep_new(place(1), &new);
        assert!(keyring.data_key(place(1)).is_some());
        // An erasure, whose commit was after that of the new key and whose caller was quicker.
        keyring.forget(place(1));
        keyring.keep_new(place(1), &new);
        assert!(keyring.data_key(place(1)).is_none(), "by the commit that brought it");
        keyring.keep(read, place(1), new.key.clone());
        assert!(keyring.data_key(place(1)).is_none(), "by a read of its row");
        keyring.keep(keyring.mark(), place(1), new.key.clone());
        assert!(keyring.data_key(place(1)).is_some());
    }
}
