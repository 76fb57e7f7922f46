//! What a server learns from the others that share its store, and what it may do only when they agree.

use std::sync::atomic::Ordering;

use super::epochs::{list_epochs, unwrap};
use super::inspect::stored_format;
use super::open::{read, read_secret};
use super::{Db, Error};
use crate::crypt::kms::Context;
use crate::format::Identity;
use crate::keys::{Counter, Key, StoreRow};
use crate::rows::Format;
use crate::store::Store;

/// Whose store this is; none if no database was ever made in it.
pub async fn stored_identity(store: &Store) -> Result<Option<Identity>, Error> {
    let format = read::<Format>(store, StoreRow::Format).await?;
    Ok(format.map(|Format { database_id, incarnation, .. }| Identity { database_id, incarnation }))
}

impl Db {
    /// Takes over what other servers have changed since: the format, epochs that were begun or retired, whether all is sealed,
    /// and how many writes there were.
    pub async fn follow_others(&self) -> Result<(), Error> {
        self.follow_format().await?;
        self.follow_epochs().await?;
        let sequence = self.counter(Key::Store(StoreRow::Counter(Counter::Sequence))).await?;
        self.0.sequence.fetch_max(sequence, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the store is of a format that this version cannot go on with, and says which.
    pub async fn outdated(&self) -> u32 {
        self.0.format.unreadable().await
    }

    /// Writes in the format that the store has now. The others are told once no write in another one is on its way.
    pub(super) async fn follow_format(&self) -> Result<(), Error> {
        let term = self.0.store.term();
        let (stored, before) = (stored_format(&self.0.store).await?.format, self.format());
        if self.0.formats.check(stored).is_err() {
            self.0.format.refuse(stored);
            return Err(Error::Stopped);
        }
        self.0.format.follow(stored).await;
        if stored != before {
            tracing::info!(event = "format.followed", from = before, to = stored);
        }
        Ok(self.0.store.confirm_format(stored, term).await?)
    }

    async fn follow_epochs(&self) -> Result<(), Error> {
        let term = self.0.store.term();
        let Some(crypt) = self.crypt() else { return Ok(self.0.store.confirm_epoch(0, term).await?) };
        let epochs = list_epochs(&self.0.store).await?;
        let known = crypt.keyring.epochs();
        for (epoch, row, _) in epochs.iter().filter(|(epoch, ..)| !known.contains(epoch)) {
            let context = Context { database_id: self.0.database_id, epoch: *epoch };
            crypt.keyring.begin_epoch(*epoch, &unwrap(crypt, context, row).await?).await;
        }
        if let Some((oldest, ..)) = epochs.first() {
            crypt.keyring.drop_epochs_before(*oldest);
        }
        // Keys that were made under an epoch before, by whomever the newest was learned, are in the store by then.
        crypt.keyring.settle().await;
        let current = crypt.keyring.current_epoch().map_or(0, |epoch| epoch.number);
        self.0.store.confirm_epoch(current, term).await?;
        let (secret, ..) = read_secret(&self.0.store, Some(crypt)).await?;
        self.0.strict.store(secret.strict, Ordering::Relaxed);
        Ok(())
    }

    /// An error while another server may still wrap new keys under an epoch before this one: what the sealing job has passed
    /// over would not open once the older epochs are retired.
    pub(super) async fn check_all_seal_with(&self, epoch: u32) -> Result<(), Error> {
        self.follow_epochs().await?;
        match self.0.store.oldest_epoch(epoch).await? {
            Some(oldest) if oldest >= epoch => Ok(()),
            _ => Err(Error::Busy),
        }
    }
}
