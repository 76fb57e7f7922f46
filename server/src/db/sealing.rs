//! Rows are sealed on their way to the store and opened on their way back.
//!
//! [`Key::is_private`] says which. Each is sealed with a data key of its owner, a thread or a user, whose wrapped form
//! lies in the owner's partition. Without encryption everything passes as it is. Nothing falls back to plain text: a
//! key that is not to be had is an error. Rows that were written before encryption was turned on are read as they are
//! until the job of [`super::sealing_job`] has sealed the last one; from then on a plain one is a forgery.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::edit::Settled;
use super::{Db, Error, decode, decode_key};
use crate::crypt::Crypt;
use crate::crypt::keyring::{Missing, NewKey, NumberedKey, WrappedKey};
use crate::crypt::seal::{self, SEALS_A_KEY};
use crate::keys::{Hash16, Key, Partition, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::rows::{Head, Row as _};
use crate::store::{Commit, Op, Row, SecondaryWrite};

/// What the private rows of a commit are sealed with.
pub(super) enum Seal {
    /// Nothing: encryption is off.
    Plain,
    /// A key whose row is in the store.
    Known(NumberedKey),
    /// A key whose row the commit has to carry.
    New(Key, NewKey),
}

impl Seal {
    /// The value as the store gets it.
    pub(super) fn value(&self, key: Key, value: Vec<u8>) -> Vec<u8> {
        match self.key() {
            Some(data_key) if key.is_private() || key.is_reserved() => {
                data_key.sealer.seal(data_key.number, &key.encode(), &value)
            }
            _ => value,
        }
    }

    fn key(&self) -> Option<&NumberedKey> {
        match self {
            Self::Plain => None,
            Self::Known(key) => Some(key),
            Self::New(_, new) => Some(&new.key),
        }
    }

    /// The generation of the key; 0 if encryption is off.
    pub(super) fn generation(&self) -> u32 {
        self.key().map_or(0, |key| key.number)
    }

    /// Counts one value that a user's key sealed.
    pub(super) fn count_for_user(&self, user: Hash16) -> impl Iterator<Item = SecondaryWrite> + use<> {
        self.key().is_some().then_some(SecondaryWrite::Add(Key::User(user, UserRow::Seals), 1)).into_iter()
    }

    /// The row of the key, if it is new.
    pub(super) fn new_row(&self, format: u32) -> Option<Op> {
        match self {
            Self::New(place, new) => Some(Op::Put(*place, new.wrapped.encode(format))),
            _ => None,
        }
    }
}

impl Db {
    /// The keys, if this database encrypts.
    pub(super) fn crypt(&self) -> Option<&Arc<Crypt>> {
        self.0.crypt.as_ref()
    }

    /// The keys for writing; an error if the KMS has been gone for too long.
    fn crypt_for_writing(&self) -> Result<Option<&Arc<Crypt>>, Error> {
        let Some(crypt) = self.crypt() else { return Ok(None) };
        let health = crypt.kms.health();
        if health.may_seal { Ok(Some(crypt)) } else { Err(Error::kms_gone(health)) }
    }

    /// An error if the KMS has been gone for so long that nothing may be read.
    pub(super) fn check_readable(&self) -> Result<(), Error> {
        let Some(crypt) = self.crypt() else { return Ok(()) };
        let health = crypt.kms.health();
        if health.may_open { Ok(()) } else { Err(Error::kms_gone(health)) }
    }

    /// What the next commit to a thread seals with: the newest key, or a new one if there is none or it is used up.
    pub(super) async fn seal_for_thread(&self, thread: ThreadId, head: &Head) -> Result<Seal, Error> {
        if head.generation == 0 || head.seals >= SEALS_A_KEY {
            return self.new_seal_for_thread(thread, head.generation + 1).await;
        }
        if self.crypt().is_none() {
            return Err(Error::sealed_without_keys(thread));
        }
        self.known_seal(Key::Thread(thread, ThreadRow::DataKey(head.generation))).await
    }

    /// The key whose row is in the store at this place, used up or not.
    pub(super) async fn known_seal(&self, place: Key) -> Result<Seal, Error> {
        match self.crypt_for_writing()? {
            Some(crypt) => Ok(Seal::Known(self.data_key(crypt, place).await?)),
            None => Err(Error::EncryptionDisabled),
        }
    }

    /// A key that the thread does not have yet.
    pub(super) async fn new_seal_for_thread(&self, thread: ThreadId, generation: u32) -> Result<Seal, Error> {
        let Some(crypt) = self.crypt_for_writing()? else { return Ok(Seal::Plain) };
        let place = Key::Thread(thread, ThreadRow::DataKey(generation));
        let new = crypt.keyring.new_data_key(place, generation).await.map_err(|missing| damaged(place, missing))?;
        Ok(Seal::New(place, new))
    }

    /// Keeps the key that a commit carried, and forgets those whose rows it removed.
    pub(super) fn swap_keys(&self, seal: Option<&Seal>, forgotten: &[Key]) {
        let Some(crypt) = self.crypt() else { return };
        if let Some(Seal::New(place, new)) = seal {
            crypt.keyring.keep_new(*place, new);
        }
        for place in forgotten {
            crypt.keyring.forget(*place);
        }
    }

    /// What a user's rows are sealed with; the key is made if there is none.
    pub(super) async fn seal_for_user(&self, user: Hash16) -> Result<Seal, Error> {
        let Some(crypt) = self.crypt_for_writing()? else { return Ok(Seal::Plain) };
        let seals = self.counter(Key::User(user, UserRow::Seals)).await?;
        let generation = u32::try_from(1 + seals / SEALS_A_KEY).expect("a user seals fewer than 2^62 values");
        let place = Key::User(user, UserRow::DataKey(generation));
        match self.data_key(crypt, place).await {
            Err(Error::Erased) => {}
            found => return found.map(Seal::Known),
        }
        let new = crypt.keyring.new_data_key(place, generation).await.map_err(|missing| damaged(place, missing))?;
        let writing = self.begin_write();
        let commit = Commit::replace(place, None, new.wrapped.encode(writing.format()));
        if self.commit(commit).await? == Settled::Committed {
            crypt.keyring.keep_new(place, &new);
            return Ok(Seal::Known(new.key));
        }
        // Another request of the same user was first.
        drop(new);
        Ok(Seal::Known(self.data_key(crypt, place).await?))
    }

    /// The value as it was before it was sealed.
    pub(super) async fn open_value(&self, key: Key, value: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut memo = None;
        self.open_with(&mut memo, key, &key.encode(), value).await
    }

    /// The rows with their values as they were before they were sealed.
    pub(super) async fn open_rows(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        let mut memo = None;
        for row in &mut rows {
            let value = std::mem::take(&mut row.value);
            row.value = self.open_with(&mut memo, decode_key(&row.key)?, &row.key, value).await?;
        }
        Ok(rows)
    }

    /// `memo` is the last key used: rows of one page have the same.
    pub(super) async fn open_with(
        &self,
        memo: &mut Option<(Key, NumberedKey)>,
        key: Key,
        key_bytes: &[u8],
        value: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let corrupt = || Error::Corrupt { key: key.to_string() };
        let Some(generation) = seal::generation(&value) else {
            let forged = key.is_private() && self.0.strict.load(Ordering::Relaxed);
            return if forged { Err(corrupt()) } else { Ok(value) };
        };
        let crypt = self.crypt().ok_or_else(corrupt)?;
        let place = match key.partition() {
            Partition::Thread(thread) => Key::Thread(thread, ThreadRow::DataKey(generation)),
            Partition::User(user) => Key::User(user, UserRow::DataKey(generation)),
            _ => return Err(corrupt()),
        };
        let known = memo.take().filter(|(known, _)| *known == place);
        let (place, data_key) = match known {
            Some(known) => known,
            None => match self.data_key(crypt, place).await {
                Err(Error::Erased) => return Box::pin(self.open_anew(key, generation)).await,
                found => (place, found?),
            },
        };
        let opened = data_key.sealer.open(key_bytes, &value).map_err(|_| corrupt());
        *memo = Some((place, data_key));
        opened
    }

    /// A row whose key went after it was read: it may have been sealed anew with a newer one.
    async fn open_anew(&self, key: Key, generation: u32) -> Result<Vec<u8>, Error> {
        let value = self.0.store.get(&key).await?.ok_or(Error::Erased)?;
        if seal::generation(&value) == Some(generation) {
            return Err(Error::Erased);
        }
        self.open_value(key, value).await
    }

    /// The data key whose row is `place`. [`Error::Erased`] if there is no such row.
    pub(super) async fn data_key(&self, crypt: &Arc<Crypt>, place: Key) -> Result<NumberedKey, Error> {
        self.check_readable()?;
        if let Some(key) = crypt.keyring.data_key(place) {
            return Ok(key);
        }
        metrics::counter!("progressdb_data_keys_fetched_total").increment(1);
        let generation = match place {
            Key::Thread(_, ThreadRow::DataKey(generation)) | Key::User(_, UserRow::DataKey(generation)) => generation,
            _ => return Err(damaged(place, Missing::Damaged)),
        };
        loop {
            let mark = crypt.keyring.mark();
            let row = self.0.store.get(&place).await?.ok_or(Error::Erased)?;
            let wrapped: WrappedKey = decode(place, &row)?;
            match crypt.keyring.open_data_key(place, generation, &wrapped) {
                Ok(key) => {
                    crypt.keyring.keep(mark, place, key.clone());
                    return Ok(key);
                }
                // Another process on the same store may have begun it.
                Err(Missing::Epoch(epoch)) => self.load_epoch(crypt, epoch).await?,
                Err(missing) => return Err(damaged(place, missing)),
            }
        }
    }
}

fn damaged(place: Key, _: Missing) -> Error {
    Error::Corrupt { key: place.to_string() }
}
