//! Opening a database on a store: whose it is, in which format, under which secret.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aws_lc_rs::{hmac, rand};
use moka::sync::Cache;

use super::append::Lanes;
use super::tail::Tails;
use super::{Db, Error, Inner, Settings, commit_error, decode};
use crate::clock::Clock;
use crate::keys::{Counter, Key, Partition, StoreRow};
use crate::rows::{FORMAT_WRITTEN, FORMATS_READ, Format, Number, Row, Secret};
use crate::store::{Commit, Expect, Op, Outcome, Store};

/// How many users are remembered as known, which saves a read per thread created.
const KNOWN_USERS: u64 = 100_000;

/// Why a database does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version wrote it.
    #[error("the store has format {found}, this version reads {} to {}", FORMATS_READ[0], FORMATS_READ[1])]
    TooNew {
        /// Its format.
        found: u32,
    },
    /// A version too old to be read wrote it.
    #[error("the store has format {found}, this version reads {} to {}", FORMATS_READ[0], FORMATS_READ[1])]
    TooOld {
        /// Its format.
        found: u32,
    },
    /// The marker beside the store names another database.
    #[error("the store belongs to another database")]
    Foreign,
    /// A row is damaged, or a read failed.
    #[error("the store could not be read")]
    Unreadable(#[from] Error),
}

impl Db {
    /// Opens the database `database_id` on `store`, and creates it if the store is empty.
    pub async fn open(store: Store, database_id: [u8; 16], settings: Settings) -> Result<Self, OpenError> {
        let highest = read::<Number>(&store, StoreRow::HighestTime).await?;
        let clock = Clock::system(highest.map_or(0, |highest| highest.0), settings.max_clock_jump);
        Self::open_with_clock(store, database_id, settings, clock).await
    }

    /// The same, with a clock of the caller's.
    pub(super) async fn open_with_clock(
        store: Store,
        database_id: [u8; 16],
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let format = match read::<Format>(&store, StoreRow::Format).await? {
            Some(format) => format,
            None => create(&store, database_id, clock.now()).await?,
        };
        if format.format > FORMATS_READ[1] {
            return Err(OpenError::TooNew { found: format.format });
        }
        if format.format < FORMATS_READ[0] {
            return Err(OpenError::TooOld { found: format.format });
        }
        if format.database_id != database_id {
            return Err(OpenError::Foreign);
        }
        let missing = |row| Error::Corrupt { key: Key::Store(row).to_string() };
        let secret = read::<Secret>(&store, StoreRow::Secret).await?.ok_or_else(|| missing(StoreRow::Secret))?;
        let db = Self(Arc::new(Inner {
            store,
            clock,
            hasher: hmac::Key::new(hmac::HMAC_SHA256, &secret.0),
            format: format.format,
            settings,
            lanes: Lanes::default(),
            tails: Tails::new(settings.tail_bytes),
            known_users: Cache::new(KNOWN_USERS),
            sequence: AtomicU64::new(0),
            commit_ids: AtomicU64::new(u64::from_be_bytes(random()) >> 1),
        }));
        let sequence = db.counter(Key::Store(StoreRow::Counter(Counter::Sequence))).await?;
        db.note_writes(usize::try_from(sequence).unwrap_or(usize::MAX));
        Ok(db)
    }

    /// What a stopped store says of itself.
    pub async fn inspect(store: &Store) -> Result<serde_json::Value, OpenError> {
        let count = async |counter| {
            let value = read::<crate::rows::CounterValue>(store, StoreRow::Counter(counter)).await?;
            Ok::<i64, Error>(value.map_or(0, |value| value.0))
        };
        let missing = || Error::Corrupt { key: Key::Store(StoreRow::Format).to_string() };
        let format = read::<Format>(store, StoreRow::Format).await?.ok_or_else(missing)?;
        Ok(serde_json::json!({
            "database_id": hex::encode(format.database_id),
            "incarnation": format.incarnation,
            "format": format.format,
            "sequence": count(Counter::Sequence).await?,
            "threads": count(Counter::Threads).await?,
            "messages": count(Counter::Messages).await?,
            "users": count(Counter::Users).await?,
        }))
    }
}

async fn read<R: Row>(store: &Store, row: StoreRow) -> Result<Option<R>, Error> {
    let key = Key::Store(row);
    let value = store.get(&key).await.map_err(Error::Store)?;
    value.map(|value| decode(key, &value)).transpose()
}

async fn create(store: &Store, database_id: [u8; 16], now: u64) -> Result<Format, Error> {
    let format = Format { format: FORMAT_WRITTEN, incarnation: 1, created: now, database_id };
    let key = Key::Store(StoreRow::Format);
    let commit = Commit {
        partition: Partition::Store,
        expect: Some(Expect { key, value: None }),
        ops: vec![Op::Put(key, format.encode()), Op::Put(Key::Store(StoreRow::Secret), Secret(random()).encode())],
        sides: Vec::new(),
    };
    match store.commit(commit).await.map_err(commit_error)? {
        Outcome::Committed => Ok(format),
        // Somebody else created it since the read above.
        Outcome::Conflict { current: Some(value) } => decode(key, &value),
        Outcome::Conflict { current: None } => Err(Error::Corrupt { key: key.to_string() }),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}
