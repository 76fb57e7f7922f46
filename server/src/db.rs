//! What is promised: threads, messages, users.
//!
//! Every write is checked against permissions, committed and on disk before it is answered; every read that follows
//! sees it. A write that is refused leaves nothing. Writes to one thread pass through its queue
//! ([`write_queue`]), which gives them their order; appends that wait together are committed together. This layer knows storage only through
//! the seam and leaves wire formats, keys of the API and signatures to `http`.

mod access;
mod admin_rows;
mod detached;
mod digest;
mod draft;
mod edit;
mod epochs;
mod erasure;
mod error;
mod idempotency;
mod inspect;
mod integrity;
mod lists;
mod messages;
mod migrations;
mod moving;
mod offline;
mod open;
mod others;
mod page;
mod progress;
mod receipts;
mod recent;
mod retention;
mod sealing;
mod sealing_job;
mod sum;
#[cfg(test)]
mod tests;
mod threads;
mod totals;
mod users;
mod walk;
mod wrapped_keys;
mod write;
mod write_queue;
mod written_format;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::sync::Cache;

use crate::clock::{self, Clock};
use crate::crypt::{Crypt, kms};
use crate::format::{Formats, MigrationTime};
use crate::keys::{Counter, Hash16, Key, StoreRow};
use crate::model::{Incarnation, UserId};
use crate::rows::{CounterValue, Row};
use crate::store::{SecondaryWrite, Store};

pub use crate::rows::JobProgress;
pub use admin_rows::{AdminRow, MessageFields, NamedRow, RowPage, RowRequest, RowStore};
pub use digest::{DIGEST_VERSION, Digest};
pub use epochs::EpochError;
pub use erasure::Receipt;
pub use error::Error;
pub use inspect::{Inspected, inspect_any};
pub use integrity::{Counts, Finding, Integrity, RootDigest, check_integrity};
pub use migrations::{Foreseen, Migrated, Pending, pending};
pub use moving::{Begun, Content, Held, ImportError, Item, Portion, Reading, Stand, Writing, has_no_database};
pub use offline::{KeyFailure, KeyReport, migrate_keys, verify_keys};
pub use open::OpenError;
pub use others::stored_identity;
pub use retention::Purged;
pub use sealing_job::{SealedThread, Visit};
pub use sum::Sum;
pub use users::UserPage;
pub use walk::{OWNERS, Partitions, Rows};
pub use wrapped_keys::{WrappedEpoch, WrappedKeys};
pub use write::{Caller, Idempotency, MessageUpdate, NewMessage, Revisions, ThreadUpdate, WriteOptions, Written};

/// The database; clones share it.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    hasher: hmac::Key,
    database_id: [u8; 16],
    incarnation: Incarnation,
    /// None if nothing is encrypted.
    crypt: Option<Arc<Crypt>>,
    /// Every private row is sealed; a plain one is a forgery.
    strict: AtomicBool,
    /// Told when the sealing job has something to do.
    sealing_wanted: tokio::sync::Notify,
    /// That of the store, in which all rows are encoded.
    format: written_format::WrittenFormat,
    formats: Formats,
    settings: Settings,
    write_queues: write_queue::WriteQueues,
    erasing: receipts::Turns,
    /// Held while the note of what waits for a compaction is changed.
    erasure_note: tokio::sync::Mutex<()>,
    /// See [`Db::know_oldest_backup`].
    oldest_backup: std::sync::Mutex<Option<String>>,
    recent: recent::RecentMessages,
    known_users: Cache<Hash16, ()>,
    totals: totals::Totals,
    sequence: AtomicU64,
    /// Distinguishes the commits of this process from those of any other.
    commit_ids: AtomicU64,
}

/// What the configuration says about the database.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How far the clock may step ahead before somebody has to confirm it.
    pub max_clock_jump: Duration,
    /// Believe the clock at the start, whatever it shows.
    pub accept_clock: bool,
    /// The store was opened read-only: opening the database changes nothing.
    pub read_only: bool,
    /// A store without epoch keys gets its first one when it is opened with a KMS.
    pub makes_epochs: bool,
    /// What the newest messages of threads that are read may take in memory.
    pub recent_bytes: u64,
    /// Deleted threads and messages are purged.
    pub retention: bool,
    /// How long a deleted message is kept.
    pub message_ttl: Duration,
    /// How long a deleted thread is kept.
    pub thread_ttl: Duration,
    /// After this long an epoch is followed by the next.
    pub epoch_age: Duration,
    /// How many rows a second the sealing job changes.
    pub rewrap_rate: u32,
    /// An erased key has left the files after this long, checkpoints and backups apart.
    pub erasure_horizon: Duration,
}

/// Counts of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Live threads.
    pub threads: u64,
    /// Messages ever created.
    pub messages: u64,
}

/// What a probe wants to know. Never touches the disk's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The version of the server.
    pub version: &'static str,
    /// The format of the store.
    pub format: u32,
    /// The formats that this version reads, first and last.
    pub reads: [u32; 2],
    /// The newest format that this version writes.
    pub writes: u32,
    /// What raises the store to that format, by name.
    pub pending: Vec<&'static str>,
    /// Changes with each restore.
    pub incarnation: Incarnation,
    /// Client writes ever committed.
    pub sequence: u64,
    /// Why writes are refused, if they are.
    pub refused: Option<&'static str>,
    /// No write will be taken any more.
    pub stopped: bool,
    /// The storage engine does not answer, so that nothing can be read either.
    pub unreachable: bool,
    /// The number that this server has among those that share its store.
    pub slot: Option<u8>,
}

impl Db {
    /// Live threads and messages ever created; costs two reads.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let threads = self.counter(Key::Store(StoreRow::Counter(Counter::Threads))).await?;
        let messages = self.counter(Key::Store(StoreRow::Counter(Counter::Messages))).await?;
        Ok(Stats { threads, messages })
    }

    /// Which KMS wraps the keys, and how it is; none if nothing is encrypted.
    pub fn kms_health(&self) -> Option<(kms::ProviderKind, kms::Health)> {
        self.crypt().map(|crypt| (crypt.kms.kind(), crypt.kms.health()))
    }

    /// Every private row is sealed, and none that is plain is accepted.
    pub fn is_all_sealed(&self) -> bool {
        self.0.strict.load(Ordering::Relaxed)
    }

    /// Data keys in memory.
    pub fn cached_keys(&self) -> u64 {
        self.crypt().map_or(0, |crypt| crypt.keyring.cached())
    }

    /// The copies of the store beside it, by name.
    pub fn checkpoints(&self) -> Vec<String> {
        self.0.store.checkpoints()
    }

    /// What a probe wants to know.
    pub fn health(&self) -> Health {
        let refused = self.0.store.refused();
        let held = self.0.clock.state().held.map(|_| "the clock jumped ahead");
        Health {
            format: self.format(),
            version: self.0.formats.version,
            reads: self.0.formats.reads,
            writes: self.0.formats.writes,
            pending: self.0.formats.ahead(self.format(), MigrationTime::Finalize).map(|m| m.name).collect(),
            incarnation: self.0.incarnation,
            sequence: self.0.sequence.load(Ordering::Relaxed),
            stopped: matches!(refused, Some(crate::store::Error::Stopped(_))),
            unreachable: matches!(refused, Some(crate::store::Error::Unavailable(_))),
            slot: self.0.store.slot(),
            refused: refused
                .map(|error| match error {
                    crate::store::Error::DiskFull => "disk almost full",
                    crate::store::Error::Unavailable(_) => "the storage engine does not answer",
                    _ => "the store stopped",
                })
                .or(held),
        }
    }

    /// The format in which a write that begins now is written.
    fn format(&self) -> u32 {
        self.0.format.number()
    }

    /// Begins a write: to be kept until its commit is answered.
    fn begin_write(&self) -> written_format::Writing {
        self.0.format.begin_write()
    }

    /// The name under which a user's rows are found.
    fn hash_user(&self, user: &UserId) -> Hash16 {
        self.hash(&[user.as_str().as_bytes()])
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash16 {
        let mut context = hmac::Context::with_key(&self.0.hasher);
        parts.iter().for_each(|part| context.update(part));
        let tag = context.sign();
        Hash16(tag.as_ref()[..16].try_into().expect("a SHA-256 tag has 32 bytes"))
    }

    fn next_timestamp(&self) -> Result<u64, Error> {
        self.timestamp_above(0)
    }

    /// The same, above this time as well.
    fn timestamp_above(&self, floor: u64) -> Result<u64, Error> {
        let slot = self.0.store.slot();
        let next = self.0.clock.next(slot).map_err(Error::ClockHeld)?;
        Ok(if next > floor { next } else { clock::in_slot(floor + 1, slot) })
    }

    /// How the clock stands.
    pub fn clock(&self) -> clock::State {
        self.0.clock.state()
    }

    /// Believes the machine's clock. False if it shows what no clock can.
    pub fn accept_clock(&self) -> bool {
        self.0.clock.accept()
    }

    fn next_commit_id(&self) -> u64 {
        self.0.commit_ids.fetch_add(1, Ordering::Relaxed)
    }

    async fn row<R: Row>(&self, key: Key) -> Result<Option<R>, Error> {
        let Some(value) = self.0.store.get(&key).await? else { return Ok(None) };
        let value = self.open_value(key, value).await?;
        decode(key, &value).map(Some)
    }

    async fn counter(&self, key: Key) -> Result<u64, Error> {
        let counter = self.row::<CounterValue>(key).await?;
        Ok(counter.map_or(0, |counter| u64::try_from(counter.0).unwrap_or(0)))
    }

    /// The secondary writes that every client write has: how many there were, and how far time has come: at least to
    /// `used`.
    fn progress(&self, writes: usize, used: u64) -> [SecondaryWrite; 2] {
        let writes = i64::try_from(writes).expect("a commit holds a few thousand writes");
        // Another server may have taken the thread further than the clock of this one has come.
        let highest = self.0.clock.highest().max(used);
        [
            SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Sequence)), writes),
            // Two commits may reach the store in another order than they took their times.
            SecondaryWrite::Raise(Key::Store(StoreRow::HighestTime), highest),
        ]
    }

    fn note_writes(&self, writes: usize) {
        self.0.sequence.fetch_add(writes as u64, Ordering::Relaxed);
    }
}

/// The value of a row that was read; damaged ones stop the operation and are named.
fn decode<R: Row>(key: Key, value: &[u8]) -> Result<R, Error> {
    R::decode(value).map_err(|_| Error::Corrupt { key: key.to_string() })
}

fn decode_key(bytes: &[u8]) -> Result<Key, Error> {
    Key::decode(bytes).ok_or_else(|| Error::Corrupt { key: hex::encode(bytes) })
}
