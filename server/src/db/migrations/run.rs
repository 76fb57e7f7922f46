//! One migration, from its beginning or from where it stopped: every partition that it concerns, page by page.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use super::Record;
use crate::clock::monotonic;
use crate::db::edit::{Edited, Settled, repeat};
use crate::db::walk::{Partitions, Rows};
use crate::db::{Db, Error, decode_key};
use crate::format::{Change, Migration, MigrationTime};
use crate::keys::{Hash16, Key, Partition};
use crate::model::ThreadId;
use crate::rows::MigrationProgress;
use crate::store::{Commit, Op, Precondition, Row};

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

/// What a migration makes of a row.
struct Rewritten {
    key: Key,
    changes: Vec<Change>,
}

impl Db {
    /// Runs the migration to its end.
    pub async fn migrate(&self, migration: &'static Migration) -> Result<Migrated, Error> {
        let (started, mut logged) = (monotonic(), monotonic());
        let mut record = self.record_of(migration).await?;
        let Migration { name, at, .. } = *migration;
        tracing::info!(event = "migration.started", migration = name, rows = record.progress.rows);
        let mut partitions = rest(migration, &record);
        // Another server may have come to the end first.
        while record.progress.finished == 0 && self.may_run(migration, &record) {
            match partitions.next_page(&self.0.store).await? {
                Some(page) => self.migrate_page(migration, page, &mut record.progress).await?,
                None => record.progress.finished = self.0.clock.now(),
            }
            if !self.save_record(&mut record).await? {
                record = self.record_of(migration).await?;
                partitions = rest(migration, &record);
            }
            if logged.elapsed() >= LOG_EVERY {
                logged = monotonic();
                let MigrationProgress { rows, changed, .. } = record.progress;
                tracing::info!(event = "migration.progress", migration = name, rows, changed);
            }
        }
        let MigrationProgress { rows, changed, .. } = record.progress;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(event = "migration.finished", migration = name, rows, changed, seconds);
        Ok(Migrated { name, at, rows, changed, seconds })
    }

    /// What a change of format has begun is run by those who write the new format: what the others do may have to be done
    /// again, and would count.
    fn may_run(&self, migration: &Migration, record: &Record) -> bool {
        !record.progress.finalizes || migration.to <= self.format()
    }

    async fn migrate_page(
        &self,
        migration: &'static Migration,
        page: Vec<Partition>,
        progress: &mut MigrationProgress,
    ) -> Result<(), Error> {
        let last = page.last().map(Partition::encode);
        let mut visits = JoinSet::new();
        for partition in page {
            let db = self.clone();
            visits.spawn(async move { db.migrate_partition(migration, partition).await });
        }
        while let Some(visit) = visits.join_next().await {
            let (rows, changed) = visit.map_err(|_| Error::Stopped)??;
            progress.rows += rows;
            progress.changed += changed;
        }
        progress.position = last;
        Ok(())
    }

    /// Says what the migration would do; changes nothing.
    pub async fn foresee(&self, migration: &'static Migration) -> Result<Foreseen, Error> {
        let started = monotonic();
        let Migration { name, at, .. } = *migration;
        // A finalize migration runs when the store was raised.
        let format = if at == MigrationTime::Finalize { self.0.formats.writes } else { self.format() };
        let mut found = Foreseen { name, at, rows: 0, changes: 0, sample_rows: 0, sample_seconds: 0.0 };
        let mut partitions = Partitions::all(migration.kinds);
        while let Some(page) = partitions.next_page(&self.0.store).await? {
            for partition in page {
                let mut walk = Rows::of((migration.range)(partition), ROWS_A_COMMIT);
                while let Some(rows) = walk.next_page(&self.0.store).await? {
                    found.rows += rows.len() as u64;
                    found.changes += count(&self.rewritten(migration, &rows, format).await?);
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
        if let Partition::Thread(thread) = partition
            && migration.to <= self.format()
        {
            changed += u64::from(self.shut_former_format_out(thread).await?);
        }
        let mut walk = Rows::of((migration.range)(partition), ROWS_A_COMMIT);
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            seen += rows.len() as u64;
            let writing = self.begin_write();
            let rewritten = self.rewritten(migration, &rows, writing.format()).await?;
            if rewritten.is_empty() {
                continue;
            }
            changed += count(&rewritten);
            match partition {
                Partition::Thread(thread) => self.rewrite_thread(thread, migration, &rewritten).await?,
                // Nothing is ever expected of what expires.
                Partition::User(_) | Partition::Epoch(_) | Partition::Store if self.0.store.is_shared() => {
                    for Rewritten { key, .. } in rewritten {
                        self.rewrite_row(key, migration).await?;
                    }
                }
                Partition::User(user) => self.rewrite_user(user, changes_of(rewritten)).await?,
                _ => self.rewrite_plain(partition, changes_of(rewritten)).await?,
            }
        }
        Ok((seen, changed))
    }

    /// What the migration makes of each row that it changes. One whose key was destroyed has no content to change.
    async fn rewritten(&self, migration: &Migration, rows: &[Row], format: u32) -> Result<Vec<Rewritten>, Error> {
        let mut rewritten = Vec::new();
        for Row { key, value } in rows {
            let key = decode_key(key)?;
            let value = match self.open_value(key, value.clone()).await {
                Err(Error::Erased) => continue,
                opened => opened?,
            };
            let changes =
                (migration.rewrite)(key, &value, format).map_err(|_| Error::Corrupt { key: key.to_string() })?;
            if !changes.is_empty() {
                rewritten.push(Rewritten { key, changes });
            }
        }
        Ok(rewritten)
    }

    /// Writes the head anew if its format is an older one; true if it was. Every commit to a thread expects its head, so none
    /// that was drafted before is made after that, not even by a server that stood still and is counted out. Where nobody
    /// else writes there is none.
    async fn shut_former_format_out(&self, thread: ThreadId) -> Result<bool, Error> {
        if !self.0.store.is_shared() {
            return Ok(false);
        }
        let edited = self.edit_thread(thread, |draft| async move {
            Ok(if draft.is_of_former_format() { Edited::Changed(draft, true) } else { Edited::Unchanged(false) })
        });
        Ok(edited.await?.unwrap_or(false))
    }

    /// Makes the changes in one commit of the thread. Where servers write meanwhile, they are made anew of what is there now.
    async fn rewrite_thread(
        &self,
        thread: ThreadId,
        migration: &Migration,
        rewritten: &[Rewritten],
    ) -> Result<(), Error> {
        let edited = self.edit_thread(thread, |mut draft| async move {
            if self.0.store.is_shared() {
                let again = self.rewritten_again(migration, rewritten, draft.format()).await?;
                draft.rewrite(&changes_of(again)).await?;
            } else {
                for Rewritten { changes, .. } in rewritten {
                    draft.rewrite(changes).await?;
                }
            }
            Ok(Edited::Changed(draft, ()))
        });
        edited.await.map(|_| ())
    }

    async fn rewritten_again(
        &self,
        migration: &Migration,
        before: &[Rewritten],
        format: u32,
    ) -> Result<Vec<Rewritten>, Error> {
        let keys: Vec<_> = before.iter().map(|row| row.key).collect();
        let values = self.0.store.get_many(keys.clone()).await?;
        let rows = keys.iter().zip(values).filter_map(|(key, value)| Some(Row { key: key.encode(), value: value? }));
        self.rewritten(migration, &rows.collect::<Vec<_>>(), format).await
    }

    /// Makes the changes of one row, if it is still what they were made of.
    async fn rewrite_row(&self, key: Key, migration: &Migration) -> Result<(), Error> {
        repeat(|| async {
            let Some(value) = self.0.store.get(&key).await? else { return Ok(Some(())) };
            let row = Row { key: key.encode(), value: value.clone() };
            let writing = self.begin_write();
            let changes = changes_of(self.rewritten(migration, &[row], writing.format()).await?);
            if changes.is_empty() {
                return Ok(Some(()));
            }
            let commit = match key.partition() {
                Partition::User(user) => self.of_user(user, changes).await?,
                partition => Commit::of(partition, changes.into_iter().map(plain_op).collect()),
            };
            let commit = Commit { precondition: Some(Precondition { key, value: Some(value) }), ..commit };
            Ok((self.commit(commit).await? == Settled::Committed).then_some(()))
        })
        .await
    }

    async fn rewrite_user(&self, user: Hash16, changes: Vec<Change>) -> Result<(), Error> {
        let commit = self.of_user(user, changes).await?;
        self.commit(commit).await.map(|_| ())
    }

    /// The commit that makes these changes.
    async fn of_user(&self, user: Hash16, changes: Vec<Change>) -> Result<Commit, Error> {
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
        Ok(Commit::of(Partition::User(user), ops).with(counted))
    }

    async fn rewrite_plain(&self, partition: Partition, changes: Vec<Change>) -> Result<(), Error> {
        let ops = changes.into_iter().map(plain_op).collect();
        self.commit(Commit::of(partition, ops)).await.map(|_| ())
    }
}

/// What is before a run that begins where the record says.
fn rest(migration: &Migration, record: &Record) -> Partitions {
    Partitions::behind(migration.kinds, record.progress.position.as_deref().and_then(Partition::decode))
}

fn count(rewritten: &[Rewritten]) -> u64 {
    rewritten.iter().map(|row| row.changes.len() as u64).sum()
}

fn changes_of(rewritten: Vec<Rewritten>) -> Vec<Change> {
    rewritten.into_iter().flat_map(|row| row.changes).collect()
}

fn plain_op(change: Change) -> Op {
    match change {
        Change::Put(key, value) => Op::Put(key, value),
        Change::Delete(key) => Op::Delete(key),
    }
}
