//! One migration, from its beginning or from where it stopped: every partition that it concerns, page by page.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::clock::monotonic;
use crate::db::edit::Edited;
use crate::db::walk::{Partitions, Rows};
use crate::db::{Db, Error, decode_key};
use crate::format::{Change, Migration, MigrationTime};
use crate::keys::{Hash16, Partition};
use crate::model::ThreadId;
use crate::rows::MigrationProgress;
use crate::store::{Commit, Op, Row};

/// A commit holds what becomes of that many rows at most, and of about 4 MiB of them.
const ROWS_A_COMMIT: usize = 256;
/// How many rows a sample has.
const SAMPLE: u64 = 10_000;
const LOG_EVERY: Duration = Duration::from_secs(5);

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Migrated {
    /// Which.
    pub name: &'static str,
    /// When it runs.
    pub at: MigrationTime,
    /// Rows that were looked at.
    pub rows: u64,
    /// Rows that were written or removed.
    pub changed: u64,
    /// How long this run took.
    pub seconds: f64,
}

/// What a migration would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Foreseen {
    /// Which.
    pub name: &'static str,
    /// When it runs.
    pub at: MigrationTime,
    /// Rows that it looks at.
    pub rows: u64,
    /// Rows that it would write or remove.
    pub changes: u64,
    /// How many rows were timed.
    pub sample_rows: u64,
    /// How long it took to read and rewrite these, without writing.
    pub sample_seconds: f64,
}

impl Db {
    /// Runs the migration to its end.
    pub async fn migrate(&self, migration: &'static Migration) -> Result<Migrated, Error> {
        let (started, mut logged) = (monotonic(), monotonic());
        let mut record = self.record_of(migration).await?;
        let Migration { name, at, .. } = *migration;
        tracing::info!(event = "migration.started", migration = name, rows = record.progress.rows);
        let position = record.progress.position.as_deref().and_then(Partition::decode);
        let mut partitions = Partitions::behind(migration.kinds, position);
        while let Some(page) = partitions.next_page(&self.0.store).await? {
            let last = page.last().map(Partition::encode);
            let mut visits = JoinSet::new();
            for partition in page {
                let db = self.clone();
                visits.spawn(async move { db.migrate_partition(migration, partition).await });
            }
            while let Some(visit) = visits.join_next().await {
                let (rows, changed) = visit.map_err(|_| Error::Stopped)??;
                record.progress.rows += rows;
                record.progress.changed += changed;
            }
            record.progress.position = last;
            self.save_record(&mut record).await?;
            if logged.elapsed() >= LOG_EVERY {
                logged = monotonic();
                let MigrationProgress { rows, changed, .. } = record.progress;
                tracing::info!(event = "migration.progress", migration = name, rows, changed);
            }
        }
        record.progress.finished = self.0.clock.now();
        self.save_record(&mut record).await?;
        let MigrationProgress { rows, changed, .. } = record.progress;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(event = "migration.finished", migration = name, rows, changed, seconds);
        Ok(Migrated { name, at, rows, changed, seconds })
    }

    /// Says what the migration would do; changes nothing.
    pub async fn foresee(&self, migration: &'static Migration) -> Result<Foreseen, Error> {
        let started = monotonic();
        let Migration { name, at, .. } = *migration;
        // A finalize migration runs when the store was raised.
        let format = if at == MigrationTime::Finalize { self.0.formats.writes } else { self.0.format };
        let mut found = Foreseen { name, at, rows: 0, changes: 0, sample_rows: 0, sample_seconds: 0.0 };
        let mut partitions = Partitions::all(migration.kinds);
        while let Some(page) = partitions.next_page(&self.0.store).await? {
            for partition in page {
                let mut walk = Rows::of((migration.range)(partition), ROWS_A_COMMIT);
                while let Some(rows) = walk.next_page(&self.0.store).await? {
                    found.rows += rows.len() as u64;
                    found.changes += self.rewritten(migration, rows, format).await?.len() as u64;
                    if found.sample_rows < SAMPLE {
                        (found.sample_rows, found.sample_seconds) = (found.rows, started.elapsed().as_secs_f64());
                    }
                }
            }
        }
        Ok(found)
    }

    /// How many rows of the partition were looked at, and how many were changed.
    async fn migrate_partition(&self, migration: &Migration, partition: Partition) -> Result<(u64, u64), Error> {
        let (mut seen, mut changed) = (0, 0);
        let mut walk = Rows::of((migration.range)(partition), ROWS_A_COMMIT);
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            seen += rows.len() as u64;
            let changes = self.rewritten(migration, rows, self.0.format).await?;
            if changes.is_empty() {
                continue;
            }
            changed += changes.len() as u64;
            match partition {
                Partition::Thread(thread) => self.rewrite_thread(thread, &changes).await?,
                Partition::User(user) => self.rewrite_user(user, changes).await?,
                _ => self.rewrite_plain(partition, changes).await?,
            }
        }
        Ok((seen, changed))
    }

    /// What the migration makes of the rows. One whose key was destroyed has no content to change.
    async fn rewritten(&self, migration: &Migration, rows: Vec<Row>, format: u32) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        for Row { key, value } in rows {
            let key = decode_key(&key)?;
            let value = match self.open_value(key, value).await {
                Err(Error::Erased) => continue,
                opened => opened?,
            };
            let made = (migration.rewrite)(key, &value, format);
            changes.extend(made.map_err(|_| Error::Corrupt { key: key.to_string() })?);
        }
        Ok(changes)
    }

    async fn rewrite_thread(&self, thread: ThreadId, changes: &[Change]) -> Result<(), Error> {
        let edited = self.edit_thread(thread, |mut draft| async move {
            draft.rewrite(changes).await?;
            Ok(Edited::Changed(draft, ()))
        });
        edited.await.map(|_| ())
    }

    async fn rewrite_user(&self, user: Hash16, changes: Vec<Change>) -> Result<(), Error> {
        let seal = self.seal_for_user(user).await?;
        let (mut ops, mut counted) = (Vec::new(), Vec::new());
        for change in changes {
            ops.push(match change {
                Change::Put(key, value) if key.is_private() => {
                    counted.extend(seal.count_for_user(user));
                    Op::Put(key, seal.value(key, value))
                }
                change => plain_op(change),
            });
        }
        self.commit(Commit::of(Partition::User(user), ops).with(counted)).await.map(|_| ())
    }

    async fn rewrite_plain(&self, partition: Partition, changes: Vec<Change>) -> Result<(), Error> {
        let ops = changes.into_iter().map(plain_op).collect();
        self.commit(Commit::of(partition, ops)).await.map(|_| ())
    }
}

fn plain_op(change: Change) -> Op {
    match change {
        Change::Put(key, value) => Op::Put(key, value),
        Change::Delete(key) => Op::Delete(key),
    }
}
