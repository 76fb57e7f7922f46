//! How a read finds its thread: what memory holds is read at once by the caller, anything that may touch the disk goes to
//! the blocking pool, so that no read holds up the runtime.

use std::sync::Arc;

use rocksdb::ReadTier;
use tokio::sync::Semaphore;

use super::database::{Database, ReadFailure};
use crate::store::Error;

/// Reads of one database; clones share its turns.
#[derive(Clone)]
pub(super) struct Reader {
    database: Arc<Database>,
    /// Turns of reads of many rows at the disk. What they found waits in memory for its request to go on, so without
    /// turns as much would wait there as there are requests.
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, turns: Arc::new(Semaphore::new(turns())) }
    }

    /// Reads what is small; `read` is called with each tier that is asked.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Database, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        match self.read_memory(&read)? {
            Some(found) => Ok(found),
            None => self.read_disk(read).await,
        }
    }

    /// The same for what may be large: what the disk is asked for waits for its turn, and keeps it until the caller goes
    /// on with what was found.
    pub(super) async fn read_many<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Database, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        if let Some(found) = self.read_memory(&read)? {
            return Ok(found);
        }
        let _turn = self.turns.acquire().await.map_err(|_| Error::Read("the store is closed".into()))?;
        self.read_disk(read).await
    }

    /// None if the disk would have to be asked.
    fn read_memory<T>(&self, read: impl Fn(&Database, ReadTier) -> Result<T, ReadFailure>) -> Result<Option<T>, Error> {
        match read(&self.database, ReadTier::BlockCache) {
            Ok(found) => Ok(Some(found)),
            Err(ReadFailure::NotInMemory) => Ok(None),
            Err(ReadFailure::Engine(error)) => Err(error),
        }
    }

    async fn read_disk<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Database, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || read(&database, ReadTier::All)).await;
        done.map_err(|_| Error::Read("the read was cancelled".into()))?.map_err(Error::from)
    }
}

/// Enough to keep a disk busy, few enough for their pages to fit into memory.
fn turns() -> usize {
    std::thread::available_parallelism().map_or(8, |processors| (2 * processors.get()).max(8))
}
