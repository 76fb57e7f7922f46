//! The engine as the process that runs it sees it: opened, watched and closed. Everything above sees the [`Store`].
//!
//! What follows from an engine's kind stays behind this handle: whether it has a directory, how it is locked, what it
//! counts, and which of its complaints means what.

use std::path::Path;

use super::cassandra::{self, Applied, Cassandra, Settings as SharedSettings};
use super::rocks::{self, Rocks, Settings};
use super::{Error, Store};
use crate::keys::Key;

/// An open engine; clones share it.
#[derive(Clone)]
pub struct Engine(Store);

/// Another process that uses the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The number that it has.
    pub slot: u8,
    /// The version of its program.
    pub version: String,
    /// The formats in which it can work, first and last.
    pub formats: [u32; 2],
    /// The one that it writes, and no other any more; none while it has not said.
    pub follows: Option<u32>,
}

/// Why an engine does not open, by what the operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A newer version made parts of it that this one does not know.
    #[error("it has parts that a newer version made: {}", .0.join(", "))]
    TooNew(Vec<String>),
    /// Files that held acknowledged commits are gone.
    #[error("{0}")]
    LogMissing(String),
    /// It is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The tables that it needs are not there.
    #[error("{0}")]
    Schema(String),
    /// A certificate or key for the connection cannot be used.
    #[error("{0}")]
    Tls(String),
    /// A command works on it alone.
    #[error("a command works on the store alone")]
    Claimed,
    /// It is being raised to a format in which the program cannot work.
    #[error("a command raises the store to format {0}")]
    FormatRaised(u32),
    /// The system or the engine failed.
    #[error(transparent)]
    Failed(Error),
}

impl Engine {
    /// Opens the engine that keeps its data in a directory of this process.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Ok(Self(Store::Rocks(Rocks::open(settings)?)))
    }

    /// Connects to an engine that is shared with other processes.
    pub async fn connect(settings: &SharedSettings) -> Result<Self, OpenError> {
        Ok(Self(Store::Cassandra(Cassandra::open(settings).await?)))
    }

    /// Makes the tables that a shared engine lacks.
    pub async fn apply_schema(settings: &SharedSettings) -> Result<Applied, OpenError> {
        cassandra::apply_schema(settings).await
    }

    /// The version of the tables of a shared engine, if this program can work with them.
    pub async fn check_schema(settings: &SharedSettings) -> Result<i32, OpenError> {
        cassandra::check_schema(settings).await
    }

    /// The id of a database that is made in it, on which all servers agree; none if that is the caller's choice.
    pub fn birth_id(&self) -> Option<[u8; 16]> {
        match &self.0 {
            Store::Cassandra(shared) => shared.birth_id(),
            _ => None,
        }
    }

    /// How many servers use it at this moment, this one included; none if no other process can.
    pub async fn servers(&self) -> Result<Option<usize>, Error> {
        match &self.0 {
            Store::Cassandra(shared) => shared.servers().await.map(Some),
            #[cfg(test)]
            Store::Memory(memory) => Ok(Some(usize::from(memory.is_served()))),
            Store::Rocks(_) => Ok(None),
        }
    }

    /// Takes it for this process alone until it is closed, or says how many others use it. Servers that want to start wait
    /// meanwhile.
    pub async fn claim(&self) -> Result<usize, Error> {
        match &self.0 {
            Store::Cassandra(shared) => shared.claim().await,
            // No other process can.
            _ => Ok(0),
        }
    }

    /// Takes the right to raise the format to `to` until it is given back; false if another process has it. Servers that
    /// cannot work in that format do not start meanwhile.
    pub async fn claim_format(&self, to: u32) -> Result<bool, Error> {
        match &self.0 {
            Store::Cassandra(shared) => shared.claim_format(to).await,
            // No other process can.
            _ => Ok(true),
        }
    }

    /// Gives back what [`Self::claim_format`] took.
    pub async fn release_format(&self) -> Result<(), Error> {
        match &self.0 {
            Store::Cassandra(shared) => shared.release_format().await,
            _ => Ok(()),
        }
    }

    /// The other processes that use it.
    pub async fn peers(&self) -> Result<Vec<Peer>, Error> {
        match &self.0 {
            Store::Cassandra(shared) => shared.peers().await,
            // There can be none.
            _ => Ok(Vec::new()),
        }
    }

    /// Says which entry of a store's directory no store has or, if the store is to be `whole`, why it cannot open. Opens
    /// nothing.
    pub fn check_files(path: &Path, whole: bool) -> Result<(), String> {
        rocks::check_files(path, whole)
    }

    /// One that a test has made.
    #[cfg(test)]
    pub(crate) fn of(store: Store) -> Self {
        Self(store)
    }

    /// What it is called in `/readyz`.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Store::Rocks(_) => "rocksdb",
            Store::Cassandra(_) => "cassandra",
            #[cfg(test)]
            Store::Memory(_) => "memory",
        }
    }

    /// What a database stands on.
    pub fn store(&self) -> Store {
        self.0.clone()
    }

    /// Waits until it stops taking writes for good because one failed, and says why. One that takes none from the start
    /// does not stop.
    pub async fn stopped(&self) -> String {
        match &self.0 {
            Store::Rocks(rocks) => rocks.stopped().await,
            // What fails there may come back.
            Store::Cassandra(_) => std::future::pending().await,
            #[cfg(test)]
            Store::Memory(_) => std::future::pending().await,
        }
    }

    /// What it says of itself now, each by the name of a gauge.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        match &self.0 {
            Store::Rocks(rocks) => rocks.figures(),
            Store::Cassandra(shared) => shared.figures(),
            #[cfg(test)]
            Store::Memory(_) => Vec::new(),
        }
    }

    /// The names of the files in its directory that the store consists of, if it is opened read-only. Leftovers are not among
    /// them. Blocks.
    pub fn files(&self) -> Result<Vec<String>, Error> {
        match &self.0 {
            Store::Rocks(rocks) => rocks.files(),
            Store::Cassandra(_) => Ok(Vec::new()),
            #[cfg(test)]
            Store::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Makes the directory `path` a copy of the store as it is between two commits: every commit that was acknowledged
    /// before the call is in it. It opens like any store. `path` must not exist, and must lie on the store's file system:
    /// the two share files, which costs room only once the store rewrites its own. A failure leaves nothing. Returns the
    /// values that these rows have in it. Blocks, and commits wait meanwhile.
    pub fn checkpoint(&self, path: &Path, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match &self.0 {
            Store::Rocks(rocks) => rocks.checkpoint(path, keys),
            Store::Cassandra(_) => Err(Error::Unsupported),
            #[cfg(test)]
            Store::Memory(_) => Err(Error::Unsupported),
        }
    }

    /// Commits what waits, refuses what comes after, and leaves nothing for the next start to repeat. Blocks.
    pub fn close(&self) -> Result<(), Error> {
        match &self.0 {
            Store::Rocks(rocks) => rocks.close(),
            Store::Cassandra(shared) => shared.close(),
            #[cfg(test)]
            Store::Memory(_) => Ok(()),
        }
    }
}
