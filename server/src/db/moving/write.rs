//! Puts the rows of another store into an empty one.
//!
//! ```text
//! 1. the row of the import: from here on nobody serves the store
//! 2. rows and counters, many commits at one time; now and then the row says how far it is
//! 3. the row of the format
//! 4. the caller compares what is there with what was sent
//! 5. the row of the import goes
//! ```
//! It may end anywhere and is begun again with the same export: rows are put again as they were, a counter gets what it
//! lacks. A counter may get that twice where an engine does not know what became of a commit; the comparison of step 4 finds
//! it, and the next run starts from the beginning.

use tokio::task::JoinSet;

use super::{Held, IMPORT, Item, KINDS};
use crate::db::edit::{Settled, commit};
use crate::db::walk::Partitions;
use crate::db::{Error, decode};
use crate::keys::{Key, Partition, StoreRow};
use crate::rows::{CounterValue, EVERY_FORMAT, Format, ImportProgress, Number, Row as _};
use crate::store::{Commit, Op, SecondaryWrite, Store};

/// A commit holds that much, or one row.
const COMMIT_BYTES: usize = 1 << 20;
const COMMIT_ROWS: usize = 1_000;
/// Commits that wait for the disk at one time.
const AT_ONE_TIME: usize = 16;
/// The next run repeats at most about this much.
const SAVE_EVERY: u64 = 16 << 20;
const FORMAT: Key = Key::Store(StoreRow::Format);

/// Why a store takes no rows.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It holds a database, or rows of which nobody knows whose they are.
    #[error("the store is not empty")]
    Occupied {
        /// Its id, if it says it.
        database_id: Option<[u8; 16]>,
    },
    /// An import of another export has begun there.
    #[error("the store holds a part of another export")]
    OtherExport {
        /// The database of that one.
        database_id: [u8; 16],
        /// Which export.
        export: [u8; 16],
    },
    /// It does not read, or not write.
    #[error("the store failed")]
    Store(#[from] Error),
}

/// What an import begins with.
pub enum Begun {
    /// Rows are to be put.
    Writing(Box<Writing>),
    /// The database is there, from this export or another; nothing was changed.
    There(Format),
}

/// An import under way.
pub struct Writing {
    store: Store,
    progress: ImportProgress,
    /// The progress as it is stored.
    saved: Vec<u8>,
    /// Up to this partition everything is there.
    done: Option<Partition>,
    /// The partition that is being put, and what of it waits.
    partition: Option<Partition>,
    waiting: Commit,
    waiting_bytes: usize,
    commits: JoinSet<Result<(), Error>>,
    unsaved_bytes: u64,
    save_every: u64,
}

impl Writing {
    /// Begins to put rows of `database_id` from `export`, or goes on with it.
    pub async fn begin(store: &Store, database_id: [u8; 16], export: [u8; 16]) -> Result<Begun, ImportError> {
        let there = store.get_many(vec![FORMAT, IMPORT]).await.map_err(Error::from)?;
        let (progress, saved) = match (&there[0], &there[1]) {
            (_, Some(saved)) => {
                let progress: ImportProgress = decode(IMPORT, saved)?;
                if progress.export != export {
                    let ImportProgress { database_id, export, .. } = progress;
                    return Err(ImportError::OtherExport { database_id, export });
                }
                (progress, saved.clone())
            }
            (Some(format), None) => {
                let format: Format = decode(FORMAT, format)?;
                return match format.database_id == database_id {
                    true => Ok(Begun::There(format)),
                    false => Err(ImportError::Occupied { database_id: Some(format.database_id) }),
                };
            }
            (None, None) => {
                refuse_rows(store).await?;
                let progress = ImportProgress { database_id, export, position: None };
                let saved = progress.encode(EVERY_FORMAT);
                match commit(store, Commit::replace(IMPORT, None, saved.clone())).await? {
                    Settled::Committed => (progress, saved),
                    // Another import was first.
                    Settled::Conflict { .. } => return Err(ImportError::Occupied { database_id: None }),
                }
            }
        };
        let done = progress.position.as_deref().and_then(Partition::decode);
        Ok(Begun::Writing(Box::new(Self {
            store: store.clone(),
            progress,
            saved,
            done,
            partition: None,
            waiting: Commit::of(Partition::Store, Vec::new()),
            waiting_bytes: 0,
            commits: JoinSet::new(),
            unsaved_bytes: 0,
            save_every: SAVE_EVERY,
        })))
    }

    /// Says how far it is after that many bytes.
    #[cfg(test)]
    pub(in crate::db) fn saving_every(self, save_every: u64) -> Self {
        Self { save_every, ..self }
    }

    /// Whether it goes on where an earlier run stopped.
    pub fn goes_on(&self) -> bool {
        self.progress.position.is_some()
    }

    /// Puts a row. Rows of one partition come one behind the other, and partitions in the same order in every run.
    pub async fn put(&mut self, item: Item) -> Result<(), Error> {
        let partition = item.key.partition();
        if self.partition != Some(partition) {
            self.leave_partition().await?;
            self.partition = Some(partition);
            self.waiting.partition = partition;
        }
        if self.done.is_some() {
            return Ok(());
        }
        self.add(item).await
    }

    /// Behind the last row of a partition.
    async fn leave_partition(&mut self) -> Result<(), Error> {
        let Some(left) = self.partition else { return Ok(()) };
        if self.done == Some(left) {
            self.done = None;
            return Ok(());
        }
        self.send().await?;
        if self.unsaved_bytes >= self.save_every {
            self.finish_commits().await?;
            self.save(Some(left)).await?;
        }
        Ok(())
    }

    async fn add(&mut self, item: Item) -> Result<(), Error> {
        let Item { key, held } = item;
        match held {
            Held::Count(count) => return self.spawn(set_counter(self.store.clone(), key, count)).await,
            Held::Value(value) if key == Key::Store(StoreRow::HighestTime) => {
                self.waiting.secondary.push(SecondaryWrite::Raise(key, decode::<Number>(key, &value)?.0));
            }
            Held::Value(value) => {
                let bytes = key.encode().len() + value.len();
                if self.waiting_bytes + bytes > COMMIT_BYTES || self.waiting.ops.len() == COMMIT_ROWS {
                    self.send().await?;
                }
                self.waiting_bytes += bytes;
                self.unsaved_bytes += bytes as u64;
                self.waiting.ops.push(Op::Put(key, value));
            }
        }
        Ok(())
    }

    /// Has everything on disk that was put so far.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.send().await?;
        self.finish_commits().await
    }

    /// Commits what waits.
    async fn send(&mut self) -> Result<(), Error> {
        let next = Commit::of(self.waiting.partition, Vec::new());
        let full = std::mem::replace(&mut self.waiting, next);
        self.waiting_bytes = 0;
        if full.ops.is_empty() && full.secondary.is_empty() {
            return Ok(());
        }
        let store = self.store.clone();
        self.spawn(async move { commit(&store, full).await.map(drop) }).await
    }

    async fn spawn(&mut self, work: impl Future<Output = Result<(), Error>> + Send + 'static) -> Result<(), Error> {
        while self.commits.len() >= AT_ONE_TIME {
            self.finish_one().await?;
        }
        self.commits.spawn(work);
        Ok(())
    }

    async fn finish_commits(&mut self) -> Result<(), Error> {
        while !self.commits.is_empty() {
            self.finish_one().await?;
        }
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<(), Error> {
        match self.commits.join_next().await {
            None => Ok(()),
            Some(done) => done.map_err(|_| Error::Stopped)?,
        }
    }

    /// Notes how far it is. Everything up to there is on disk.
    async fn save(&mut self, position: Option<Partition>) -> Result<(), Error> {
        self.progress.position = position.map(|partition| partition.encode());
        let value = self.progress.encode(EVERY_FORMAT);
        match commit(&self.store, Commit::replace(IMPORT, Some(self.saved.clone()), value.clone())).await? {
            Settled::Committed => {
                (self.saved, self.unsaved_bytes) = (value, 0);
                Ok(())
            }
            // Two imports at one time: this one has to stop.
            Settled::Conflict { .. } => Err(Error::Busy),
        }
    }

    /// Every row was put: says what the store is. Nobody serves it before [`Self::complete`].
    pub async fn finish(&mut self, format: Format) -> Result<(), Error> {
        self.leave_partition().await?;
        self.finish_commits().await?;
        self.save(self.partition).await?;
        commit(&self.store, Commit::of(Partition::Store, vec![Op::Put(FORMAT, format.encode(EVERY_FORMAT))])).await?;
        Ok(())
    }

    /// What is there is not what was sent: the next run puts everything again.
    pub async fn start_over(&mut self) -> Result<(), Error> {
        self.save(None).await
    }

    /// What is there is what was sent: the store is a database like any other.
    pub async fn complete(self) -> Result<(), Error> {
        match commit(&self.store, Commit::remove(IMPORT, self.saved)).await? {
            Settled::Committed => Ok(()),
            Settled::Conflict { .. } => Err(Error::Busy),
        }
    }
}

async fn refuse_rows(store: &Store) -> Result<(), ImportError> {
    match Partitions::all(KINDS).next_page(store).await? {
        Some(_) => Err(ImportError::Occupied { database_id: None }),
        None => Ok(()),
    }
}

/// Adds what a counter lacks.
async fn set_counter(store: Store, key: Key, count: i64) -> Result<(), Error> {
    let value = store.get(&key).await?;
    let CounterValue(now) = value.map_or(Ok(CounterValue(0)), |value| decode(key, &value))?;
    if now == count {
        return Ok(());
    }
    let missing = SecondaryWrite::Add(key, count - now);
    commit(&store, Commit::of(key.partition(), Vec::new()).with([missing])).await?;
    Ok(())
}
