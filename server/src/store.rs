//! The storage seam: (partition, clustering) → value, one partition a commit, durable before it returns.
//!
//! - A commit touches one partition, atomically. Its precondition names one of its rows and the value that it must still
//!   hold.
//! - Secondary writes are rows of other partitions: indexes (idempotent), counters and high-water marks. On an engine with
//!   transactions across partitions they are part of the commit; on another one, puts and raises are applied no later than
//!   the commit, and deletes no earlier.
//! - Values are opaque. Ids and times come from the caller; an engine makes none.
//! - No scan crosses partitions, and every scan has a limit.
//!
//! [`Engine`] opens and closes it; [`rocks`] is the engine of a server with its own disk, [`cassandra`] that of servers
//! which share one store. The suite in `contract` holds for every engine.

mod cassandra;
#[cfg(test)]
pub(crate) mod contract;
mod engine;
#[cfg(test)]
pub(crate) mod memory;
mod rocks;
mod room;

use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span};

use crate::keys::{Key, KeyRange, Partition, PartitionKind};

use cassandra::Cassandra;
pub use cassandra::{Applied, Credential, Credentials, Settings as SharedSettings, Tls};
pub use engine::{Engine, OpenError, Peer};
use rocks::Rocks;
pub use rocks::Settings;
use room::{Room, page_of};

/// A change to the committed partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a row.
    Put(Key, Vec<u8>),
    /// Removes a row, if it is there.
    Delete(Key),
    /// Removes every row of the range.
    DeleteRange(KeyRange),
}

/// A change to another partition, made with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondaryWrite {
    /// Sets a row.
    Put(Key, Vec<u8>),
    /// Removes a row, if it is there.
    Delete(Key),
    /// Adds to a counter; one that is absent counts as 0.
    Add(Key, i64),
    /// Raises a number; one that is as high or higher stays.
    Raise(Key, u64),
}

/// What a row must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// A row of the committed partition.
    pub key: Key,
    /// Its value; absent if `None`.
    pub value: Option<Vec<u8>>,
}

/// One atomic change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition that it changes.
    pub partition: Partition,
    /// What must hold for it to happen; nothing if `None`.
    pub precondition: Option<Precondition>,
    /// Changes in the partition, in order.
    pub ops: Vec<Op>,
    /// Changes in other partitions.
    pub secondary: Vec<SecondaryWrite>,
}

impl Commit {
    /// Changes a partition, whatever it holds.
    pub fn of(partition: Partition, ops: Vec<Op>) -> Self {
        Self { partition, precondition: None, ops, secondary: Vec::new() }
    }

    /// Sets a row that holds `before`, or that is absent if that is none.
    pub fn replace(key: Key, before: Option<Vec<u8>>, after: Vec<u8>) -> Self {
        let precondition = Some(Precondition { key, value: before });
        Self { precondition, ..Self::of(key.partition(), vec![Op::Put(key, after)]) }
    }

    /// Removes a row that holds `before`.
    pub fn remove(key: Key, before: Vec<u8>) -> Self {
        let precondition = Some(Precondition { key, value: Some(before) });
        Self { precondition, ..Self::of(key.partition(), vec![Op::Delete(key)]) }
    }

    /// The same, with changes in other partitions.
    pub fn with(mut self, secondary: impl IntoIterator<Item = SecondaryWrite>) -> Self {
        self.secondary.extend(secondary);
        self
    }

    /// Whether a row is put into a range that the same commit deletes: engines differ in which of the two wins.
    fn contradicts_itself(&self) -> bool {
        let puts_into =
            |range: &KeyRange| self.ops.iter().any(|op| matches!(op, Op::Put(key, _) if range.contains(&key.encode())));
        self.ops.iter().any(|op| matches!(op, Op::DeleteRange(range) if puts_into(range)))
    }
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Committed,
    /// Nothing changed: the expected row holds something else.
    Conflict {
        /// What it holds.
        current: Option<Vec<u8>>,
    },
    /// The engine cannot tell: all of it may be on disk, or become so, or nothing. Read what it would have changed before
    /// anything follows from it; never repeat it blindly. A read that follows is final: what it does not show will not
    /// happen any more. The commit is handed back for this. An engine on the disk of this process always knows.
    Unknown(Box<Commit>),
}

/// From which end a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A row as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key as bytes.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The rows, nearest to the end that was read from first.
    pub rows: Vec<Row>,
    /// The range holds more rows: the limit of rows or of bytes ended the scan.
    pub more: bool,
}

/// A scan ends with the row with which its values reach this many bytes, whatever its limit of rows.
pub const SCAN_BYTES: usize = 4 << 20;

/// Why an engine failed. A commit that failed changed nothing, unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The queue of commits is full: try again later.
    #[error("too many commits are waiting")]
    Busy,
    /// Less than the reserve is free on the disk.
    #[error("less disk is free than storage.reserve")]
    DiskFull,
    /// The engine takes no more commits: a write or a sync failed, or the process is shutting down. A commit in progress
    /// may or may not be on disk.
    #[error("the store stopped: {0}")]
    Stopped(String),
    /// The commit deletes a range and puts a row into it: a bug of the caller. Nothing was changed.
    #[error("a commit puts a row into a range that it deletes")]
    Contradiction,
    /// The engine did not answer in time; nothing was changed.
    #[error("the engine does not answer: {0}")]
    Unavailable(String),
    /// The engine did not answer in time, and not even whether the commit was made: it may become visible.
    #[error("the engine does not say what became of a commit: {0}")]
    Undecided(String),
    /// The commit carries more than the engine takes at once. Nothing was changed.
    #[error("the commit carries {bytes} bytes, and the engine takes {most}")]
    TooLarge {
        /// What it carries.
        bytes: usize,
        /// The most that it may.
        most: usize,
    },
    /// A read failed.
    #[error("read failed: {0}")]
    Read(String),
    /// Files are left that a compaction should have replaced, and with them what was removed.
    #[error("the compaction failed: {0}")]
    Compaction(String),
    /// A checkpoint could not be made; nothing is left of it.
    #[error("no checkpoint could be made: {0}")]
    Checkpoint(String),
    /// The engine cannot do this, or not as it was opened.
    #[error("the engine cannot do this")]
    Unsupported,
}

/// How much a compaction rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// The log, and what holds wrapped keys.
    Keys,
    /// Every file of the store.
    Rows,
    /// Every file; checkpoints are deleted, and with them the way back to an earlier version.
    Everything,
}

/// A handle on an open engine; clones are cheap and share it.
#[derive(Clone)]
pub enum Store {
    /// RocksDB.
    Rocks(Rocks),
    /// Cassandra or ScyllaDB. Its futures are boxed where they are awaited, so that those of the other engine stay small.
    Cassandra(Cassandra),
    /// In memory, with a fault switch.
    #[cfg(test)]
    #[allow(private_interfaces, reason = "no public function makes one, and outside of tests there is none")]
    Memory(memory::Memory),
}

impl Store {
    /// The value of one row.
    pub async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Rocks(rocks) => rocks.get(key).await,
            Self::Cassandra(shared) => shared.get(key).boxed().await,
            #[cfg(test)]
            Self::Memory(memory) => memory.get(key),
        }
    }

    /// The values of several rows, in the order of `keys`.
    pub async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match self {
            Self::Rocks(rocks) => rocks.get_many(keys).await,
            Self::Cassandra(shared) => shared.get_many(keys).boxed().await,
            #[cfg(test)]
            Self::Memory(memory) => keys.iter().map(|key| memory.get(key)).collect(),
        }
    }

    /// Up to `limit` rows and about [`SCAN_BYTES`] of `range`, which lies within one partition.
    pub async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Scan, Error> {
        match self {
            Self::Rocks(rocks) => rocks.scan(range, direction, limit).await,
            Self::Cassandra(shared) => shared.scan(range, direction, limit).boxed().await,
            #[cfg(test)]
            Self::Memory(memory) => memory.scan(&range, direction, limit),
        }
    }

    /// Commits; when this returns [`Outcome::Committed`], the change is on disk and visible to every read.
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        if commit.contradicts_itself() {
            return Err(Error::Contradiction);
        }
        // The only type of numbers that an attribute of a span can have.
        let rows = i64::try_from(commit.ops.len() + commit.secondary.len()).unwrap_or(i64::MAX);
        // Only as a part of a request's trace; jobs have none.
        let span = match Span::current().is_none() {
            true => Span::none(),
            false => tracing::info_span!("commit", otel.kind = "internal", progressdb.rows = rows),
        };
        match self {
            Self::Rocks(rocks) => rocks.commit(commit).instrument(span).await,
            Self::Cassandra(shared) => shared.commit(commit).instrument(span).boxed().await,
            #[cfg(test)]
            Self::Memory(memory) => memory.commit(commit),
        }
    }

    /// Does what goes with a commit whose outcome was unknown, once it is found to be made.
    pub async fn complete(&self, commit: &Commit) {
        // Other engines do all of a commit or nothing.
        if let Self::Cassandra(shared) = self {
            shared.write_after(commit).boxed().await;
        }
    }

    /// Up to `limit` partitions of `kind` beyond `from`, in an order that is the engine's own but stable.
    pub async fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        match self {
            Self::Rocks(rocks) => rocks.partitions(kind, from, direction, limit).await,
            Self::Cassandra(shared) => shared.partitions(kind, from, direction, limit).boxed().await,
            #[cfg(test)]
            Self::Memory(memory) => memory.partitions(kind, from, direction, limit),
        }
    }

    /// Rewrites files until nothing that was removed is left in them.
    pub async fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        match self {
            Self::Rocks(rocks) => rocks.compact(compaction).await,
            // The engine compacts when it likes: see [`Self::erasure_horizon`].
            Self::Cassandra(_) => Err(Error::Unsupported),
            #[cfg(test)]
            Self::Memory(memory) => memory.compact(),
        }
    }

    /// The copies of the store beside it, by name.
    pub fn checkpoints(&self) -> Vec<String> {
        match self {
            Self::Rocks(rocks) => rocks.checkpoints(),
            Self::Cassandra(_) => Vec::new(),
            #[cfg(test)]
            Self::Memory(_) => Vec::new(),
        }
    }

    /// Whatever in the data directory holds this store as it was: its checkpoints, also those for backups that are being made
    /// (`tmp/backup-<id>`), and former stores beside it.
    pub fn copies(&self) -> Vec<String> {
        match self {
            Self::Rocks(rocks) => rocks.copies(),
            Self::Cassandra(_) => Vec::new(),
            #[cfg(test)]
            Self::Memory(memory) => memory.copies(),
        }
    }

    /// Why writes are refused at the moment, if they are.
    pub fn refused(&self) -> Option<Error> {
        match self {
            Self::Rocks(rocks) => rocks.refused(),
            Self::Cassandra(shared) => shared.refused(),
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Removes rows that secondary writes of commits which were refused may have left. Where partitions are changed together
    /// there are none.
    pub async fn withdraw(&self, keys: Vec<Key>) -> Result<(), Error> {
        match self {
            Self::Cassandra(shared) => shared.withdraw(keys).boxed().await,
            _ => Ok(()),
        }
    }

    /// Other processes may use the store at the same time, each under a number of its own.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Cassandra(_))
    }

    /// The number that this process has and no other; none if the store is its own.
    pub fn slot(&self) -> Option<u8> {
        match self {
            Self::Cassandra(shared) => shared.slot(),
            _ => None,
        }
    }

    /// Whether jobs may run in this process now: in no other one that uses the store.
    pub fn has_turn(&self) -> bool {
        match self {
            Self::Cassandra(shared) => shared.has_turn(),
            _ => true,
        }
    }

    /// How often this process had to begin anew among the others. Until it has confirmed an epoch and a format that it read
    /// since, its commits are refused.
    pub fn term(&self) -> u64 {
        match self {
            Self::Cassandra(shared) => shared.term(),
            _ => 0,
        }
    }

    /// Says to the others that this process seals with that epoch from now on, as it read in that term.
    pub async fn confirm_epoch(&self, epoch: u32, term: u64) -> Result<(), Error> {
        match self {
            Self::Cassandra(shared) => shared.confirm_epoch(epoch, term).boxed().await,
            _ => Ok(()),
        }
    }

    /// Says to the others that this process writes no other format than this from now on, as it read in that term.
    pub async fn confirm_format(&self, format: u32, term: u64) -> Result<(), Error> {
        match self {
            Self::Cassandra(shared) => shared.confirm_format(format, term).boxed().await,
            _ => Ok(()),
        }
    }

    /// The oldest epoch that another process may still seal with; none while one has not said. `own` is that of this one.
    pub async fn oldest_epoch(&self, own: u32) -> Result<Option<u32>, Error> {
        match self {
            Self::Cassandra(shared) => shared.oldest_epoch().boxed().await,
            _ => Ok(Some(own)),
        }
    }

    /// For how long the engine's files hold what was removed; none if a compaction ends that.
    pub fn erasure_horizon(&self) -> Option<Duration> {
        match self {
            Self::Cassandra(shared) => Some(shared.gc_grace()),
            _ => None,
        }
    }
}
