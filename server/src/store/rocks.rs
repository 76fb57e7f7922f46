//! RocksDB, the engine of a server with its own disk.
//!
//! ```text
//! open         what is looked at before a store opens, and what a refusal means
//! database     the open database: reads of one row, the write, flush, compaction; every call may block
//! scan         reads of many rows
//! reader       a read from memory at once, or from the disk in the blocking pool
//! committer    the one thread that writes: checks, builds, syncs, answers
//! head_cache   the heads of threads as last written
//! family       the column families: which rows lie together
//! options      what RocksDB is told
//! logs         what is known of the write-ahead log outside of RocksDB
//! checkpoint   a copy of the store at one moment, by hard links
//! figures      what the engine says of itself in metrics
//! files        of which files a store consists
//! ```
//!
//! One write batch spans all families through their shared log. No iterator outlives a call. What RocksDB is told and why
//! is in `docs/storage.md`.

mod checkpoint;
mod committer;
mod database;
mod family;
mod figures;
mod files;
mod head_cache;
mod logs;
mod open;
mod options;
mod reader;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::committer::Committer;
use self::database::Database;
use self::reader::Reader;
use super::{Commit, Compaction, Direction, Error, OpenError, Outcome, Scan};
use crate::keys::{Key, KeyRange, Partition, PartitionKind};

/// How an engine with a directory of its own is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the store.
    pub path: PathBuf,
    /// Make it if it is absent; where a store should be, one that is gone is damage.
    pub create: bool,
    /// What block cache and memtables may use together.
    pub memory_bytes: u64,
    /// Commits are refused while less than this is free on the disk.
    pub reserve_bytes: u64,
    /// Tables that may be open at one time.
    pub max_tables: u64,
    /// Change nothing on disk; commits are refused.
    pub read_only: bool,
}

/// See [`super::Engine::check_files`].
pub(super) fn check_files(path: &Path, whole: bool) -> Result<(), String> {
    open::check_files(path, whole)
}

/// A handle on an open store; clones share it.
#[derive(Clone)]
pub struct Rocks {
    database: Arc<Database>,
    reader: Reader,
    committer: Option<Arc<Committer>>,
}

impl Rocks {
    /// Opens the store and starts its committer.
    pub(super) fn open(settings: Settings) -> Result<Self, OpenError> {
        open::check(&settings)?;
        let (path, read_only) = (settings.path.clone(), settings.read_only);
        let database = Database::open(settings).map_err(|error| open::diagnose(&path, error))?;
        let database = Arc::new(database);
        let committer = (!read_only).then(|| Arc::new(Committer::start(database.clone())));
        Ok(Self { reader: Reader::new(database.clone()), database, committer })
    }

    /// Waits until the committer stops because a write failed, and says why.
    pub(super) async fn stopped(&self) -> String {
        match &self.committer {
            Some(committer) => committer.wait_for_failure().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn figures(&self) -> Vec<(&'static str, u64)> {
        figures::of(&self.database)
    }

    pub(super) fn files(&self) -> Result<Vec<String>, Error> {
        files::of(&self.database)
    }

    /// Commits what is queued, refuses the rest, and flushes, so that the next start replays nothing.
    pub(super) fn close(&self) -> Result<(), Error> {
        let Some(committer) = &self.committer else { return Ok(()) };
        committer.close();
        match committer.stopped() {
            // What a failed write left is unknown: the next start finds out.
            Some(_) => Ok(()),
            None => self.database.flush_for_good(),
        }
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        let key = *key;
        self.reader.read(move |database, tier| database.get(&key, tier)).await
    }

    pub(super) async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.reader.read_many(move |database, tier| keys.iter().map(|key| database.get(key, tier)).collect()).await
    }

    pub(super) async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Scan, Error> {
        self.reader.read_many(move |database, tier| database.scan(&range, direction, limit, tier)).await
    }

    pub(super) async fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        self.reader.read(move |database, tier| database.partitions(kind, from, direction, limit, tier)).await
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        match &self.committer {
            Some(committer) => committer.commit(commit).await,
            None => Err(Error::Stopped("opened read-only".into())),
        }
    }

    pub(super) fn refused(&self) -> Option<Error> {
        let committer = self.committer.as_ref()?;
        committer.stopped().map(Error::Stopped).or_else(|| self.database.disk_full().then_some(Error::DiskFull))
    }

    pub(super) async fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || database.compact(compaction)).await;
        done.map_err(|error| Error::Read(error.to_string()))?
    }

    /// Blocks until the checkpoint is on disk.
    pub(super) fn checkpoint(&self, path: &Path, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let committer = self.committer.as_ref().ok_or(Error::Unsupported)?;
        let (database, path, keys) = (self.database.clone(), path.to_owned(), keys.to_owned());
        committer.between_groups(move || checkpoint::cut(&database, &path, &keys))?
    }

    pub(super) fn copies(&self) -> Vec<String> {
        self.database.copies()
    }

    pub(super) fn checkpoints(&self) -> Vec<String> {
        self.database.checkpoints()
    }
}
