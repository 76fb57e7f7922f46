//! Migrations: which ones a store has before it, and how far each has come. Running one is in [`run`].
//!
//! Each migration has a row (`S 06`) with how far it is. A run visits one partition after the other, commits what it
//! rewrites in portions, and saves its position. It may end anywhere: the next run repeats at most a page of partitions,
//! and [`crate::format::Rewrite`] changes nothing the second time. Nobody else writes to a store in a directory meanwhile. To
//! a shared one servers do, and several may run one migration at once: each goes on where the furthest is.
//!
//! The row of a start migration is removed by every version that opens the store and does not know the migration, because
//! what that version writes lacks what the migration adds: the next version that knows it runs it again.
//!
//! Raising the format and noting that the finalize migrations have begun is one commit, so there is no moment in which an
//! older version would read rows that it does not know. On a shared store the start migrations of the format begin again with
//! it: older servers wrote beside them, and what is added is whole only when all write what the newer version does.

mod run;

use serde::Serialize;

use super::edit::{Settled, commit};
use super::inspect::stored_format;
use super::walk::Rows;
use super::{Db, Error, OpenError, decode, decode_key};
use crate::format::{Formats, Migration, MigrationTime};
use crate::keys::{Key, KeyRange, Partition, StoreRow};
use crate::rows::{EVERY_FORMAT, Format, MigrationProgress, Row as _};
use crate::store::{Commit, Op, Row, Store};

pub use run::{Foreseen, Migrated};

const RECORDS_A_PAGE: usize = 100;

/// What a store has before it until it is as this version would make it.
#[derive(Clone, Debug, Serialize)]
pub struct Pending {
    /// The format that it is to be raised to, if it has an older one.
    pub raise_to: Option<u32>,
    /// Start migrations, in the order in which they run.
    pub start: Vec<&'static Migration>,
    /// Finalize migrations, and start migrations that the change of format runs again, in the order in which they run.
    pub finalize: Vec<&'static Migration>,
    /// The store was raised, and the finalize migrations have not all come to their end.
    pub begun: bool,
}

impl Pending {
    /// The store is as this version would make it.
    pub fn is_empty(&self) -> bool {
        self.raise_to.is_none() && self.start.is_empty() && self.finalize.is_empty()
    }
}

/// The row of a migration that began.
struct Record {
    number: u32,
    progress: MigrationProgress,
    bytes: Vec<u8>,
}

async fn records(store: &Store) -> Result<Vec<Record>, Error> {
    let (mut found, mut rows) = (Vec::new(), Rows::of(KeyRange::migrations(), RECORDS_A_PAGE));
    while let Some(page) = rows.next_page(store).await? {
        for Row { key, value } in page {
            let key = decode_key(&key)?;
            let Key::Store(StoreRow::Migration(number)) = key else { continue };
            found.push(Record { number, progress: decode(key, &value)?, bytes: value });
        }
    }
    Ok(found)
}

/// What the store has before it; needs no keys.
pub async fn pending(store: &Store, formats: &Formats) -> Result<Pending, Error> {
    let format = stored_format(store).await?.format;
    let records = records(store).await?;
    let finished = |migration: &Migration| {
        let mut records = records.iter();
        records.find(|record| record.number == migration.number).map(|record| record.progress.finished != 0)
    };
    let start = formats.ahead(format, MigrationTime::Start).filter(|migration| finished(migration) != Some(true));
    let all = formats.migrations.iter();
    let all = all.filter(|migration| migration.at == MigrationTime::Finalize || migration.to <= format);
    let begun = all.clone().any(|migration| finished(migration) == Some(false));
    let finalize = all.filter(|migration| format < migration.to || finished(migration) == Some(false));
    Ok(Pending {
        raise_to: (format < formats.writes).then_some(formats.writes),
        start: start.collect(),
        finalize: finalize.collect(),
        begun,
    })
}

/// Forgets the start migrations that this version does not know, unless nothing may be changed. An error if the store was
/// left in the middle of a change of format that this version cannot end.
pub(super) async fn settle_records(store: &Store, formats: &Formats, read_only: bool) -> Result<(), OpenError> {
    let is_known = |record: &Record| formats.migrations.iter().any(|migration| migration.number == record.number);
    let mut forgotten = Vec::new();
    for record in records(store).await?.into_iter().filter(|record| !is_known(record)) {
        if !record.progress.finalizes {
            forgotten.push(Op::Delete(Key::Store(StoreRow::Migration(record.number))));
        } else if record.progress.finished == 0 {
            return Err(OpenError::Unfinished { version: record.progress.version });
        }
    }
    if !forgotten.is_empty() && !read_only {
        commit(store, Commit::of(Partition::Store, forgotten)).await?;
    }
    Ok(())
}

fn begun(migration: &Migration, finalizes: bool, version: &str, now: u64) -> MigrationProgress {
    MigrationProgress {
        finalizes,
        to: migration.to,
        version: version.to_owned(),
        started: now,
        ..MigrationProgress::default()
    }
}

impl Db {
    /// What the store has before it.
    pub async fn pending_migrations(&self) -> Result<Pending, Error> {
        pending(&self.0.store, &self.0.formats).await
    }

    /// Raises the store to the format that this version writes, and notes that the finalize migrations have begun. This
    /// handle still writes the former format: drop it and open the database again, or have it follow the others.
    pub async fn raise_format(self, pending: &Pending) -> Result<(), Error> {
        let Some(to) = pending.raise_to else { return Ok(()) };
        let key = Key::Store(StoreRow::Format);
        let before = stored_format(&self.0.store).await?;
        let raised = Format { format: to, ..before }.encode(EVERY_FORMAT);
        let mut change = Commit::replace(key, Some(before.encode(EVERY_FORMAT)), raised);
        let again = self.0.formats.ahead(before.format, MigrationTime::Start).filter(|_| self.0.store.is_shared());
        change.ops.extend(pending.finalize.iter().copied().chain(again).map(|migration| self.beginning(migration)));
        match self.commit(change).await? {
            Settled::Committed => {
                tracing::info!(target: "audit", event = "format.raised", from = before.format, to);
                Ok(())
            }
            Settled::Conflict { .. } => Err(Error::Corrupt { key: key.to_string() }),
        }
    }

    /// Notes that a change of format has begun this migration, and that it is not done before that has come to its end.
    fn beginning(&self, migration: &Migration) -> Op {
        let progress = begun(migration, true, self.0.formats.version, self.0.clock.now());
        Op::Put(Key::Store(StoreRow::Migration(migration.number)), progress.encode(EVERY_FORMAT))
    }

    async fn record_of(&self, migration: &Migration) -> Result<Record, Error> {
        let mut records = records(&self.0.store).await?.into_iter();
        match records.find(|record| record.number == migration.number) {
            Some(record) => Ok(record),
            None => Ok(Record {
                number: migration.number,
                progress: begun(
                    migration,
                    migration.at == MigrationTime::Finalize,
                    self.0.formats.version,
                    self.0.clock.now(),
                ),
                bytes: Vec::new(),
            }),
        }
    }

    /// False if another server saved it meanwhile.
    async fn save_record(&self, record: &mut Record) -> Result<bool, Error> {
        let key = Key::Store(StoreRow::Migration(record.number));
        let before = std::mem::replace(&mut record.bytes, record.progress.encode(EVERY_FORMAT));
        let change = Commit::replace(key, (!before.is_empty()).then_some(before), record.bytes.clone());
        match self.commit(change).await? {
            Settled::Committed => Ok(true),
            Settled::Conflict { .. } if self.0.store.is_shared() => Ok(false),
            Settled::Conflict { .. } => Err(Error::Corrupt { key: key.to_string() }),
        }
    }
}
