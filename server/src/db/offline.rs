//! What is done to the keys of a store that nobody serves: checking them, moving them to another KMS, giving them up.
//!
//! Each of these can be interrupted at any point and started again. While keys move, a row has the wraps of both, so
//! that the store opens with the old configuration as well as with the new one until the last step.

use std::collections::BTreeSet;

use serde::Serialize;

use super::edit::Settled;
use super::epochs::{EpochError, list_epochs, replace, unwrap, unwrap_by};
use super::open::unseal_secret;
use super::walk::{self, OWNERS, Partitions, Rows};
use super::{Db, Error, decode, decode_key};
use crate::crypt::Crypt;
use crate::crypt::keyring::{Missing, WrappedKey};
use crate::crypt::kms::{Context, Kms};
use crate::keys::{Key, KeyRange, Partition, StoreRow, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::rows::{EpochKey, Row as _};
use crate::store::{Commit, Op, Row, SecondaryWrite, Store};

const ROWS_A_COMMIT: usize = 500;
const KEYS_A_PAGE: usize = 1_000;
/// The most rows that a report names.
const MOST_NAMED: usize = 1_000;

/// What a check of all wrapped keys found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Epoch keys.
    pub epochs: u64,
    /// Data keys.
    pub data_keys: u64,
    /// How many do not open.
    pub failed: u64,
    /// Which they are, and why; the first thousand.
    pub failures: Vec<KeyFailure>,
}

/// A wrapped key that does not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyFailure {
    /// The row.
    pub key: String,
    /// In the words of the KMS, if it was one of its keys.
    pub why: String,
}

impl KeyReport {
    fn fail(&mut self, key: Key, why: impl std::fmt::Display) {
        self.failed += 1;
        if self.failures.len() < MOST_NAMED {
            self.failures.push(KeyFailure { key: key.to_string(), why: why.to_string() });
        }
    }
}

/// Whether any thread or user has a data key. Looks at all of them, so only who has reason to asks.
pub(super) async fn any_data_key(store: &Store) -> Result<bool, Error> {
    let mut owners = Partitions::all(OWNERS);
    while let Some(page) = owners.next_page(store).await? {
        for owner in page {
            if Rows::of(KeyRange::data_keys(owner), 1).next_page(store).await?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Opens every wrapped key of the store. One unwrapping an epoch by the KMS; changes nothing.
pub async fn verify_keys(store: &Store, crypt: &Crypt, database_id: [u8; 16]) -> Result<KeyReport, Error> {
    let (mut report, mut found) = (KeyReport::default(), BTreeSet::new());
    for (epoch, row, _) in list_epochs(store).await? {
        report.epochs += 1;
        found.insert(epoch);
        match unwrap(crypt, Context { database_id, epoch }, &row).await {
            Ok(key) => crypt.keyring.add_epoch(epoch, &key),
            Err(EpochError::Kms { error, .. }) => report.fail(Key::Epoch(epoch), error),
            Err(EpochError::Store(error)) => return Err(error),
            Err(error) => report.fail(Key::Epoch(epoch), error),
        }
    }
    let mut owners = Partitions::all(OWNERS);
    while let Some(page) = owners.next_page(store).await? {
        for owner in page {
            let mut keys = Rows::of(KeyRange::data_keys(owner), KEYS_A_PAGE);
            while let Some(rows) = keys.next_page(store).await? {
                rows.iter().try_for_each(|row| verify_data_key(crypt, row, &found, &mut report))?;
            }
        }
    }
    Ok(report)
}

/// Opens one wrapped data key; `epochs` are those whose key is in the store.
fn verify_data_key(crypt: &Crypt, row: &Row, epochs: &BTreeSet<u32>, report: &mut KeyReport) -> Result<(), Error> {
    report.data_keys += 1;
    let place = decode_key(&row.key)?;
    let opened = WrappedKey::decode(&row.value).map_err(|_| Missing::Damaged);
    match opened.and_then(|wrapped| crypt.keyring.open_data_key(place, 0, &wrapped)) {
        Ok(_) => {}
        Err(Missing::Epoch(epoch)) if epochs.contains(&epoch) => {
            report.fail(place, format!("the key of epoch {epoch} is in the store and does not open"));
        }
        Err(missing) => report.fail(place, missing),
    }
    Ok(())
}

/// Has every epoch key wrapped by `to`, and then forgets how others wrapped it. How many keys moved.
pub async fn migrate_keys(store: &Store, from: &Kms, to: &Kms, database_id: [u8; 16]) -> Result<u64, EpochError> {
    let mut moved = 0;
    for (epoch, mut row, before) in list_epochs(store).await? {
        let context = Context { database_id, epoch };
        if newest_opens(to, context, &row).await {
            continue;
        }
        let key = unwrap_by(from, context, &row).await?;
        row.wraps.push(to.wrap(&key, context).await.map_err(|error| EpochError::Kms { epoch, error })?);
        check_replaced(replace(store, epoch, Some(before), &row).await?, epoch)?;
        moved += 1;
        tracing::info!(target: "audit", event = "kms.epoch_moved", epoch, to = to.kind().as_str());
    }
    // From here on only the new KMS opens the store, so first make sure that it does.
    let epochs = list_epochs(store).await?;
    for (epoch, row, _) in &epochs {
        unwrap_by(to, Context { database_id, epoch: *epoch }, &with_newest(row)).await?;
    }
    for (epoch, row, before) in epochs.into_iter().filter(|(_, row, _)| row.wraps.len() > 1) {
        check_replaced(replace(store, epoch, Some(before), &with_newest(&row)).await?, epoch)?;
    }
    Ok(moved)
}

/// Whether the last wrap is one of this KMS.
async fn newest_opens(kms: &Kms, context: Context, row: &EpochKey) -> bool {
    let newest = row.wraps.last().is_some_and(|wrapped| wrapped.provider == kms.kind());
    newest && unwrap_by(kms, context, &with_newest(row)).await.is_ok()
}

fn with_newest(row: &EpochKey) -> EpochKey {
    EpochKey { wraps: row.wraps.last().cloned().into_iter().collect(), ..row.clone() }
}

fn check_replaced(settled: Settled, epoch: u32) -> Result<(), Error> {
    match settled {
        Settled::Committed => Ok(()),
        Settled::Conflict { .. } => Err(Error::Corrupt { key: Key::Epoch(epoch).to_string() }),
    }
}

impl Db {
    /// Writes everything plain and destroys all keys. Nobody else may use the store meanwhile. How many values that
    /// were.
    pub async fn decrypt(&self) -> Result<u64, Error> {
        let crypt = self.crypt().ok_or(Error::EncryptionDisabled)?;
        // Mixed rows are fine from here on, whatever becomes of this run; and the sealing job would start over.
        self.reseal_secret(false).await?;
        let sealing = vec![Op::Delete(Key::Store(StoreRow::Sealing))];
        self.commit_plain(Partition::Store, sealing, Vec::new()).await?;
        let (mut values, mut owners) = (0, Partitions::all(OWNERS));
        while let Some(page) = owners.next_page(&self.0.store).await? {
            for owner in page {
                values += self.decrypt_partition(owner).await?;
            }
        }
        let secret = Op::Put(Key::Store(StoreRow::Secret), unseal_secret(&self.0.store, crypt).await?);
        let epochs = list_epochs(&self.0.store).await?;
        if self.0.store.is_shared() {
            self.commit_plain(Partition::Store, vec![secret], Vec::new()).await?;
            // Each by itself: what is made under a condition is removed under one.
            for (epoch, _, bytes) in epochs {
                self.commit(Commit::remove(Key::Epoch(epoch), bytes)).await?;
            }
        } else {
            let epochs = epochs.into_iter().map(|(epoch, ..)| SecondaryWrite::Delete(Key::Epoch(epoch))).collect();
            self.commit_plain(Partition::Store, vec![secret], epochs).await?;
        }
        tracing::info!(target: "audit", event = "encryption.decrypted", values);
        Ok(values)
    }

    async fn decrypt_partition(&self, partition: Partition) -> Result<u64, Error> {
        let (mut values, mut walk) = (0, Rows::of(KeyRange::all(partition), ROWS_A_COMMIT));
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            let mut ops = Vec::new();
            for row in rows.into_iter().filter(|row| crate::crypt::seal::generation(&row.value).is_some()) {
                let key = decode_key(&row.key)?;
                if key.is_private() || key.is_reserved() {
                    ops.push(Op::Put(key, self.open_value(key, row.value).await?));
                }
            }
            values += ops.len() as u64;
            self.commit_plain(partition, ops, Vec::new()).await?;
        }
        self.give_up_keys(partition).await?;
        Ok(values)
    }

    /// Nothing in the partition is sealed any more.
    async fn give_up_keys(&self, partition: Partition) -> Result<(), Error> {
        let keys = walk::data_keys(&self.0.store, partition).await?;
        let mut ops: Vec<Op> = keys.into_iter().map(|(place, _)| Op::Delete(place)).collect();
        let writing = self.begin_write();
        match partition {
            Partition::Thread(thread) => ops.extend(self.plain_head(thread, writing.format()).await?),
            Partition::User(user) => ops.push(Op::Delete(Key::User(user, UserRow::Seals))),
            _ => {}
        }
        self.commit_plain(partition, ops, Vec::new()).await
    }

    async fn plain_head(&self, thread: ThreadId, format: u32) -> Result<Option<Op>, Error> {
        let key = Key::Thread(thread, ThreadRow::Head);
        let Some(bytes) = self.0.store.get(&key).await? else { return Ok(None) };
        let head: crate::rows::Head = decode(key, &bytes)?;
        let plain = crate::rows::Head { generation: 0, oldest: 0, seals: 0, revision: head.revision + 1, ..head };
        Ok(Some(Op::Put(key, plain.encode(format))))
    }

    async fn commit_plain(
        &self,
        partition: Partition,
        ops: Vec<Op>,
        secondary: Vec<SecondaryWrite>,
    ) -> Result<(), Error> {
        if ops.is_empty() && secondary.is_empty() {
            return Ok(());
        }
        self.commit(Commit::of(partition, ops).with(secondary)).await?;
        Ok(())
    }
}
