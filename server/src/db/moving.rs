//! Moving a database from one store to another, row by row, as the rows are stored: what is sealed stays sealed.
//!
//! ```text
//! read     every row of a store that nobody writes to
//! exact    leaves what a shared store holds beside the truth behind
//! write    puts such rows into an empty store, and goes on after an interruption
//! ```
//!
//! What is the engine's own stays behind. Counters move as what they count: an engine may keep them as sums of parts. A job that
//! has not ended begins anew, because another engine lists partitions in another order. The row that says the format is not
//! among the rows: in the store that they go to, it is written when all others are there.
//!
//! A store with the row of an import ([`crate::keys::StoreRow::Import`]) is not whole, and nobody serves it.

mod exact;
mod read;
mod write;

use std::borrow::Cow;

use self::exact::Recount;
use super::inspect::stored_format;
use super::sum::Sum;
use super::{Error, OpenError, decode};
use crate::format::Formats;
use crate::keys::{Counter, Key, PartitionKind, StoreRow, UserRow};
use crate::rows::{CounterValue, EVERY_FORMAT, Format, Row as _};
use crate::store::Store;

pub use self::read::{Portion, Reading};
pub use self::write::{Begun, ImportError, Writing};

/// Keys first: who lacks the KMS that opens them learns it before anything else is written. The store last: its counters follow
/// from all others.
const KINDS: &[PartitionKind] =
    &[PartitionKind::Epoch, PartitionKind::Thread, PartitionKind::User, PartitionKind::Expiry, PartitionKind::Store];
/// What says that an import has not ended.
pub(super) const IMPORT: Key = Key::Store(StoreRow::Import);

/// A row on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub key: Key,
    /// What it holds.
    pub held: Held,
}

/// What a row on its way holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A value, as it is stored.
    Value(Vec<u8>),
    /// What a counter counts.
    Count(i64),
}

impl Item {
    /// Whether the key is that of a counter, which moves as what it counts.
    pub fn is_counter(key: &Key) -> bool {
        matches!(key, Key::Store(StoreRow::Counter(_)) | Key::User(_, UserRow::LiveThreads | UserRow::Seals))
    }

    /// Whether it is the wrapped key of an epoch.
    pub fn is_epoch_key(&self) -> bool {
        matches!(self.key, Key::Epoch(_))
    }

    fn value(&self) -> Cow<'_, [u8]> {
        match &self.held {
            Held::Value(value) => Cow::Borrowed(value),
            Held::Count(count) => Cow::Owned(CounterValue(*count).encode(EVERY_FORMAT)),
        }
    }
}

/// How much a number of rows holds, and a digest of all of it, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// How many.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Of each row: the length of its key, the key, the value.
    pub sum: Sum,
    /// What they say of the counters of the store.
    recount: Recount,
}

impl Content {
    /// Adds a row.
    pub fn add(&mut self, item: &Item) {
        let (key, value) = (item.key.encode(), item.value());
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.sum.add(&[&(key.len() as u64).to_be_bytes(), &key, &value]);
        self.recount.note(item);
    }

    /// What is read of a store. `each` is told of the bytes that were read, and may end it.
    pub async fn of<E: From<Error>>(
        store: &Store,
        mut reading: Reading,
        mut each: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut content = Self::default();
        while let Some(portion) = reading.next_portion(store).await? {
            let before = content.bytes;
            portion.items.iter().for_each(|item| content.add(item));
            each(content.bytes - before)?;
        }
        Ok(content)
    }
}

/// Which database a store holds, and how far it has come: as long as nobody serves it, this stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// What its own row says.
    pub format: Format,
    /// Client writes ever committed.
    pub sequence: i64,
}

impl Stand {
    /// That of a store which this version reads.
    pub async fn of(store: &Store, formats: &Formats) -> Result<Self, OpenError> {
        refuse_import(store).await?;
        let format = stored_format(store).await?;
        formats.check(format.format)?;
        let key = Key::Store(StoreRow::Counter(Counter::Sequence));
        let sequence = store.get(&key).await.map_err(Error::from)?;
        let sequence = sequence.map(|value| decode::<CounterValue>(key, &value)).transpose()?;
        Ok(Self { format, sequence: sequence.map_or(0, |counter| counter.0) })
    }
}

/// Whether no database was ever made in the store, nor begun to be imported.
pub async fn has_no_database(store: &Store) -> Result<bool, Error> {
    let rows = store.get_many(vec![Key::Store(StoreRow::Format), IMPORT]).await?;
    Ok(rows.iter().all(Option::is_none))
}

/// Refuses a store that is not whole.
pub(super) async fn refuse_import(store: &Store) -> Result<(), OpenError> {
    match store.get(&IMPORT).await.map_err(Error::from)? {
        Some(_) => Err(OpenError::Importing),
        None => Ok(()),
    }
}
