//! Epoch keys: made, wrapped by the KMS, unwrapped once a start, renewed, and retired when nothing needs them.
//!
//! ```text
//! K epoch  →  created, commitment, the key as one provider or two have wrapped it
//! ```
//!
//! Every change of a row expects what it replaces, so of two processes that renew at once one wins and the other takes
//! over what it finds. A row goes only when the last data key of its epoch was wrapped anew.

use super::detached::Detached;
use super::edit::{Settled, commit};
use super::walk::Partitions;
use super::{Db, Error, decode};
use crate::crypt::kms::{self, Context, Kms, Wrapped};
use crate::crypt::seal::{Commitment, random_key};
use crate::crypt::{Crypt, KeyBytes};
use crate::keys::{Key, Partition, PartitionKind};
use crate::rows::{EVERY_FORMAT, EpochKey, Row};
use crate::store::{Commit, Store};

/// The most epochs that are alive at one time; a renewal beyond them waits for the job that retires old ones.
pub(super) const LIVE_EPOCHS: usize = 64;

/// What went wrong with an epoch's key.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The KMS did not do it.
    #[error("epoch {epoch}")]
    Kms {
        /// Which epoch.
        epoch: u32,
        /// What the KMS said.
        #[source]
        error: kms::Error,
    },
    /// Wrapped by providers other than the configured one.
    #[error(
        "the key of epoch {epoch} is wrapped by {found}, but {configured} is configured: configure {found}, or move with `progressdb kms migrate`"
    )]
    OtherProvider {
        /// Which epoch.
        epoch: u32,
        /// The providers that have wrapped it.
        found: String,
        /// The one that is configured.
        configured: kms::ProviderKind,
    },
    /// The KMS gave another key than the one that was wrapped.
    #[error("the KMS unwrapped another key than that of epoch {epoch}")]
    NotCommitted {
        /// Which epoch.
        epoch: u32,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The epochs of a store, oldest first.
pub(super) async fn list_epochs(store: &Store) -> Result<Vec<(u32, EpochKey, Vec<u8>)>, Error> {
    let (mut epochs, mut walk) = (Vec::new(), Partitions::all(&[PartitionKind::Epoch]));
    while let Some(page) = walk.next_page(store).await? {
        for partition in page {
            if let Partition::Epoch(epoch) = partition
                && let Some(bytes) = store.get(&Key::Epoch(epoch)).await?
            {
                epochs.push((epoch, decode(Key::Epoch(epoch), &bytes)?, bytes));
            }
        }
    }
    Ok(epochs)
}

/// Takes the keys of all epochs into the keyring, one unwrapping each; makes the first epoch if there is none.
/// `now` is when it is made, then.
pub(super) async fn open_epochs(
    store: &Store,
    crypt: &Crypt,
    database_id: [u8; 16],
    now: u64,
) -> Result<(), EpochError> {
    let known = crypt.keyring.epochs();
    let epochs = list_epochs(store).await?;
    if epochs.is_empty() {
        return create_epoch(store, crypt, Context { database_id, epoch: 1 }, now).await;
    }
    for (epoch, row, _) in epochs {
        if !known.contains(&epoch) {
            crypt.keyring.add_epoch(epoch, &unwrap(crypt, Context { database_id, epoch }, &row).await?);
        }
    }
    Ok(())
}

/// Makes the key of an epoch, or takes over what another process made of it.
async fn create_epoch(store: &Store, crypt: &Crypt, context: Context, created: u64) -> Result<(), EpochError> {
    let (epoch, key) = (context.epoch, random_key());
    let wrapped = crypt.kms.wrap(&key, context).await.map_err(|error| EpochError::Kms { epoch, error })?;
    let row = EpochKey { created, commitment: Commitment::of(&key), wraps: vec![wrapped] };
    match replace(store, epoch, None, &row).await? {
        Settled::Committed => {
            tracing::info!(target: "audit", event = "encryption.epoch_created", epoch, kms_key = row.wraps[0].key_id);
            crypt.keyring.begin_epoch(epoch, &key).await;
        }
        Settled::Conflict { current } => {
            let current = current.ok_or(Error::Corrupt { key: Key::Epoch(epoch).to_string() })?;
            let row = decode(Key::Epoch(epoch), &current)?;
            crypt.keyring.begin_epoch(epoch, &unwrap(crypt, context, &row).await?).await;
        }
    }
    Ok(())
}

/// The key of an epoch, by the configured provider.
pub(super) async fn unwrap(crypt: &Crypt, context: Context, row: &EpochKey) -> Result<KeyBytes, EpochError> {
    unwrap_by(&crypt.kms, context, row).await
}

/// The key of an epoch, by one KMS. While keys move from one KMS to another of the same kind there are two to try.
pub(super) async fn unwrap_by(kms: &Kms, context: Context, row: &EpochKey) -> Result<KeyBytes, EpochError> {
    let epoch = context.epoch;
    let mut failed = wrapped_by(row, kms.kind(), epoch).err();
    for wrapped in row.wraps.iter().rev().filter(|wrapped| wrapped.provider == kms.kind()) {
        match kms.unwrap(wrapped, context).await {
            Ok(key) if row.commitment.is_of(&key) => return Ok(key),
            Ok(_) => failed = Some(EpochError::NotCommitted { epoch }),
            Err(error) => failed = Some(EpochError::Kms { epoch, error }),
        }
    }
    Err(failed.expect("there was no wrap, or the last one failed"))
}

fn wrapped_by(row: &EpochKey, configured: kms::ProviderKind, epoch: u32) -> Result<&Wrapped, EpochError> {
    row.wraps.iter().find(|wrapped| wrapped.provider == configured).ok_or_else(|| {
        let found: Vec<_> = row.wraps.iter().map(|wrapped| wrapped.provider.as_str()).collect();
        EpochError::OtherProvider { epoch, found: found.join(" and "), configured }
    })
}

/// Replaces the row of an epoch if it still is what it was.
pub(super) async fn replace(
    store: &Store,
    epoch: u32,
    before: Option<Vec<u8>>,
    row: &EpochKey,
) -> Result<Settled, Error> {
    let key = Key::Epoch(epoch);
    commit(store, Commit::replace(key, before, row.encode(EVERY_FORMAT))).await
}

impl Db {
    /// Takes the key of an epoch that another process began into the keyring.
    pub(super) async fn load_epoch(&self, crypt: &Crypt, epoch: u32) -> Result<(), Error> {
        let key = Key::Epoch(epoch);
        let bytes = self.0.store.get(&key).await?;
        let row = decode(key, &bytes.ok_or_else(|| Error::Corrupt { key: key.to_string() })?)?;
        let context = Context { database_id: self.0.database_id, epoch };
        let bytes = unwrap(crypt, context, &row).await?;
        crypt.keyring.add_epoch(epoch, &bytes);
        Ok(())
    }

    /// Begins a new epoch: what is created from now on is wrapped under it. [`Db::run_sealing_job`] moves the rest.
    pub async fn begin_epoch(&self) -> Result<u32, Error> {
        let db = self.clone();
        // Who stops waiting must not keep the line of the audit log from being written.
        Detached::new(async move { db.make_next_epoch().await }).await
    }

    async fn make_next_epoch(&self) -> Result<u32, Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?;
        let epochs = crypt.keyring.epochs();
        if epochs.len() >= LIVE_EPOCHS {
            return Err(Error::Busy);
        }
        let epoch = epochs.last().map_or(1, |epoch| epoch + 1);
        let context = Context { database_id: self.0.database_id, epoch };
        create_epoch(&self.0.store, crypt, context, self.0.clock.now()).await?;
        Ok(epoch)
    }

    /// Asks the KMS for its current key: epoch keys that another one wrapped are wrapped anew, and an epoch that is
    /// too old is followed by the next. True if one was begun.
    pub async fn renew_epochs(&self) -> Result<bool, Error> {
        let db = self.clone();
        Detached::new(async move { db.renew_or_begin_epochs().await }).await
    }

    async fn renew_or_begin_epochs(&self) -> Result<bool, Error> {
        let Some(crypt) = self.crypt() else { return Ok(false) };
        let current = crypt.kms.describe().await?;
        let epochs = list_epochs(&self.0.store).await?;
        let newest = epochs.last().map_or(0, |(_, row, _)| row.created);
        for (epoch, row, bytes) in epochs {
            let wrapped = wrapped_by(&row, crypt.kms.kind(), epoch)?;
            if wrapped.key_id != current {
                self.rewrap_epoch(crypt, epoch, row, bytes).await?;
            }
        }
        if !self.0.clock.is_over(newest, self.0.settings.epoch_age) {
            return Ok(false);
        }
        self.make_next_epoch().await.map(|_| true)
    }

    async fn rewrap_epoch(&self, crypt: &Crypt, epoch: u32, mut row: EpochKey, before: Vec<u8>) -> Result<(), Error> {
        let context = Context { database_id: self.0.database_id, epoch };
        let key = unwrap(crypt, context, &row).await?;
        let wrapped = crypt.kms.wrap(&key, context).await?;
        let kms_key = wrapped.key_id.clone();
        row.wraps.retain(|other| other.provider != wrapped.provider);
        row.wraps.push(wrapped);
        if replace(&self.0.store, epoch, Some(before), &row).await? == Settled::Committed {
            tracing::info!(target: "audit", event = "encryption.epoch_rewrapped", epoch, kms_key);
        }
        Ok(())
    }

    /// Has the KMS open the key of the newest epoch: what it must be able to do for the next start.
    pub async fn probe_kms(&self) -> Result<(), Error> {
        let Some(crypt) = self.crypt() else { return Ok(()) };
        let epochs = list_epochs(&self.0.store).await?;
        let Some((epoch, row, _)) = epochs.last() else { return Ok(()) };
        let wrapped = wrapped_by(row, crypt.kms.kind(), *epoch)?;
        let context = Context { database_id: self.0.database_id, epoch: *epoch };
        Ok(crypt.kms.probe(Some((wrapped, context))).await?)
    }

    /// Removes the keys of all epochs before this one, which nothing is wrapped under any more.
    pub(super) async fn retire_epochs_before(&self, epoch: u32) -> Result<(), Error> {
        let Some(crypt) = self.crypt() else { return Ok(()) };
        for (old, _, bytes) in list_epochs(&self.0.store).await? {
            if old >= epoch {
                continue;
            }
            let key = Key::Epoch(old);
            if self.commit(Commit::remove(key, bytes)).await? == Settled::Committed {
                tracing::info!(target: "audit", event = "encryption.epoch_retired", epoch = old);
            }
        }
        crypt.keyring.drop_epochs_before(epoch);
        Ok(())
    }
}
