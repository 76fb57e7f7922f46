//! Opening a database on a store: whose it is, in which format, under which secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use aws_lc_rs::{hmac, rand};
use moka::sync::Cache;

use super::edit::{Settled, commit, repeat};
use super::epochs::{EpochError, list_epochs, open_epochs};
use super::migrations::settle_records;
use super::moving::refuse_import;
use super::offline::any_data_key;
use super::receipts::Turns;
use super::recent::RecentMessages;
use super::totals::Totals;
use super::write_queue::WriteQueues;
use super::written_format::WrittenFormat;
use super::{Db, Error, Inner, Settings, decode};
use crate::clock::Clock;
use crate::crypt::{Crypt, seal};
use crate::format::{Formats, Identity, Unreadable};
use crate::keys::{Counter, Key, StoreRow};
use crate::model::Incarnation;
use crate::rows::{EVERY_FORMAT, Format, Number, Row, Secret};
use crate::store::{Commit, Op, Store};

/// How many users are remembered as known, which saves a read per thread created.
const KNOWN_USERS: u64 = 100_000;

/// Why a database does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A version wrote it whose format this one does not read.
    #[error(transparent)]
    Format(#[from] Unreadable),
    /// The marker beside the store names another database.
    #[error("the store belongs to another database")]
    Foreign,
    /// It holds sealed data, and no key is configured.
    #[error(
        "the store is encrypted: set encryption.enabled and the KMS that it was encrypted with, or run `progressdb decrypt` first"
    )]
    Sealed,
    /// It holds no keys, and none may be made.
    #[error("the store has no keys yet and a rehearsal makes none: rehearse with encryption.enabled: false")]
    NoKeys,
    /// Another version began to change its format, and this one does not know how to end that.
    #[error("version {version} began to change the format of the store and did not end")]
    Unfinished {
        /// The version that began it.
        version: String,
    },
    /// An import began there and did not end: it holds a part of a database.
    #[error("the store holds an import that did not end")]
    Importing,
    /// The keys of the store are not to be had.
    #[error("the keys of the store do not open")]
    Keys(#[from] EpochError),
    /// A row is damaged, or a read failed.
    #[error("the store could not be read")]
    Unreadable(#[from] Error),
}

impl Db {
    /// Opens the database `identity` on `store`, and creates it if the store is empty.
    ///
    /// It stays in the format in which it is; one that is created gets the newest of `formats`. With `crypt`, the keys of
    /// the store are fetched from the KMS, or made if there are none.
    pub async fn open(
        store: Store,
        identity: Identity,
        formats: &Formats,
        settings: Settings,
        crypt: Option<Arc<Crypt>>,
    ) -> Result<Self, OpenError> {
        refuse_import(&store).await?;
        Self::open_import(store, identity, formats, settings, crypt).await
    }

    /// The same where every row was imported, and the last step of the import is still to come. Only to read it.
    pub async fn open_import(
        store: Store,
        identity: Identity,
        formats: &Formats,
        settings: Settings,
        crypt: Option<Arc<Crypt>>,
    ) -> Result<Self, OpenError> {
        let highest = read::<Number>(&store, StoreRow::HighestTime).await?;
        let clock = Clock::system(highest.map_or(0, |highest| highest.0), settings.max_clock_jump);
        if settings.accept_clock {
            let accepted = clock.accept();
            tracing::warn!(target: "audit", event = "clock.accepted", by = "--accept-clock", accepted, to = clock.now());
        }
        Self::open_with_clock(store, identity, formats, settings, crypt, clock).await
    }

    /// The same, with a clock of the caller's.
    pub(super) async fn open_with_clock(
        store: Store,
        identity: Identity,
        formats: &Formats,
        settings: Settings,
        crypt: Option<Arc<Crypt>>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let format = read::<Format>(&store, StoreRow::Format).await?;
        if let Some(format) = &format {
            formats.check(format.format)?;
            if format.database_id != identity.database_id {
                return Err(OpenError::Foreign);
            }
            settle_records(&store, formats, settings.read_only).await?;
        }
        let database_id = identity.database_id;
        match &crypt {
            Some(_) if !settings.makes_epochs && list_epochs(&store).await?.is_empty() => {
                return Err(OpenError::NoKeys);
            }
            Some(crypt) => open_epochs(&store, crypt, database_id, clock.now()).await?,
            None if list_epochs(&store).await?.is_empty() => {}
            None => return Err(OpenError::Sealed),
        }
        let format = match format {
            Some(format) => format,
            None => create(&store, identity, formats.writes, clock.now(), crypt.as_deref()).await?,
        };
        let format = match settings.read_only {
            true => format,
            false => take_incarnation(&store, format, identity.incarnation).await?,
        };
        let secret = match settings.read_only {
            true => read_secret(&store, crypt.as_deref()).await?.0,
            false => open_secret(&store, crypt.as_deref()).await?,
        };
        let db = Self(Arc::new(Inner {
            store,
            clock,
            hasher: hmac::Key::new(hmac::HMAC_SHA256, &secret.bytes),
            database_id,
            incarnation: identity.incarnation,
            crypt,
            strict: AtomicBool::new(secret.strict),
            sealing_wanted: tokio::sync::Notify::new(),
            format: WrittenFormat::new(format.format),
            formats: *formats,
            settings,
            write_queues: WriteQueues::default(),
            erasing: Turns::default(),
            erasure_note: tokio::sync::Mutex::default(),
            oldest_backup: std::sync::Mutex::default(),
            recent: RecentMessages::new(settings.recent_bytes),
            known_users: Cache::new(KNOWN_USERS),
            totals: Totals::default(),
            sequence: AtomicU64::new(0),
            commit_ids: AtomicU64::new(u64::from_be_bytes(random()) >> 1),
        }));
        let sequence = db.counter(Key::Store(StoreRow::Counter(Counter::Sequence))).await?;
        db.note_writes(usize::try_from(sequence).unwrap_or(usize::MAX));
        Ok(db)
    }
}

pub(super) async fn read<R: Row>(store: &Store, row: StoreRow) -> Result<Option<R>, Error> {
    let key = Key::Store(row);
    let value = store.get(&key).await?;
    value.map(|value| decode(key, &value)).transpose()
}

const SECRET: Key = Key::Store(StoreRow::Secret);

/// The store secret; sealed at once if it is plain and there is a key. One that is plain while anything is sealed was put
/// there by somebody else.
async fn open_secret(store: &Store, crypt: Option<&Crypt>) -> Result<Secret, Error> {
    let (secret, epoch, _) = read_secret(store, crypt).await?;
    if let Some(crypt) = crypt.filter(|_| epoch.is_none()) {
        if any_data_key(store).await? {
            return Err(Error::Corrupt { key: SECRET.to_string() });
        }
        seal_secret(store, crypt, false).await?;
    }
    Ok(secret)
}

/// The store secret, the epoch whose key seals it, and its row as it is.
pub(super) async fn read_secret(store: &Store, crypt: Option<&Crypt>) -> Result<(Secret, Option<u32>, Vec<u8>), Error> {
    let corrupt = || Error::Corrupt { key: SECRET.to_string() };
    let value = store.get(&SECRET).await?.ok_or_else(corrupt)?;
    let Some(epoch) = seal::generation(&value) else { return Ok((decode(SECRET, &value)?, None, value)) };
    let sealer = crypt.and_then(|crypt| crypt.keyring.epoch(epoch)).ok_or_else(corrupt)?;
    let opened = sealer.open(&SECRET.encode(), &value).map_err(|_| corrupt())?;
    Ok((decode(SECRET, &opened)?, Some(epoch), value))
}

fn sealed_secret(crypt: &Crypt, secret: Secret) -> Result<Vec<u8>, Error> {
    let epoch = crypt.keyring.current_epoch().ok_or_else(|| Error::Corrupt { key: SECRET.to_string() })?;
    Ok(epoch.sealer.seal(epoch.number, &SECRET.encode(), &secret.encode(EVERY_FORMAT)))
}

/// Seals the store secret under the newest epoch.
pub(super) async fn seal_secret(store: &Store, crypt: &Crypt, strict: bool) -> Result<(), Error> {
    repeat(|| async {
        let (secret, _, before) = read_secret(store, Some(crypt)).await?;
        let sealed = sealed_secret(crypt, Secret { strict, ..secret })?;
        let change = Commit::replace(SECRET, Some(before), sealed);
        Ok((commit(store, change).await? == Settled::Committed).then_some(()))
    })
    .await
}

/// Writes the store secret plain.
pub(super) async fn unseal_secret(store: &Store, crypt: &Crypt) -> Result<Vec<u8>, Error> {
    let (secret, ..) = read_secret(store, Some(crypt)).await?;
    Ok(Secret { strict: false, ..secret }.encode(EVERY_FORMAT))
}

/// Makes the store say the incarnation that the marker of its directory says: a restore changes it there, in the step that
/// commits it, and a directory of an older layout had none.
async fn take_incarnation(store: &Store, format: Format, incarnation: Incarnation) -> Result<Format, Error> {
    if format.incarnation == incarnation {
        return Ok(format);
    }
    let (key, taken) = (Key::Store(StoreRow::Format), Format { incarnation, ..format });
    let change = Commit::replace(key, Some(format.encode(EVERY_FORMAT)), taken.encode(EVERY_FORMAT));
    match commit(store, change).await? {
        Settled::Committed => Ok(taken),
        Settled::Conflict { .. } => Err(Error::Corrupt { key: key.to_string() }),
    }
}

async fn create(
    store: &Store,
    identity: Identity,
    format: u32,
    now: u64,
    crypt: Option<&Crypt>,
) -> Result<Format, Error> {
    let Identity { database_id, incarnation } = identity;
    let format = Format { format, incarnation, created: now, database_id };
    let key = Key::Store(StoreRow::Format);
    let secret = Secret { bytes: random(), strict: crypt.is_some() };
    let secret = crypt.map_or_else(|| Ok(secret.encode(EVERY_FORMAT)), |crypt| sealed_secret(crypt, secret))?;
    let mut change = Commit::replace(key, None, format.encode(EVERY_FORMAT));
    change.ops.push(Op::Put(SECRET, secret));
    match commit(store, change).await? {
        Settled::Committed => Ok(format),
        // Somebody else created it since the read above.
        Settled::Conflict { current: Some(value) } => decode(key, &value),
        Settled::Conflict { current: None } => Err(Error::Corrupt { key: key.to_string() }),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}
