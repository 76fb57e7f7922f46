//! What a store says of itself. The rows that it is read from are the same in every format, and none of them is sealed.

use serde::Serialize;

use super::moving::refuse_import;
use super::open::read;
use super::{Db, Error, OpenError, decode};
use crate::format::Formats;
use crate::keys::{Counter, Key, StoreRow};
use crate::rows::{CounterValue, Format};
use crate::store::Store;

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// Which database it is.
    #[serde(with = "hex")]
    pub database_id: [u8; 16],
    /// The format of its rows.
    pub format: u32,
    /// Client commits ever made.
    pub sequence: i64,
    /// Live threads.
    pub threads: i64,
    /// Messages ever created.
    pub messages: i64,
    /// Users ever seen.
    pub users: i64,
}

impl Db {
    /// What a store says of itself, if this version reads it.
    pub async fn inspect(store: &Store, formats: &Formats) -> Result<Inspected, OpenError> {
        refuse_import(store).await?;
        let inspected = inspect_any(store).await?;
        formats.check(inspected.format)?;
        Ok(inspected)
    }
}

impl Inspected {
    /// The rows that say it.
    pub const ROWS: [Key; 5] = [
        Key::Store(StoreRow::Format),
        Key::Store(StoreRow::Counter(Counter::Sequence)),
        Key::Store(StoreRow::Counter(Counter::Threads)),
        Key::Store(StoreRow::Counter(Counter::Messages)),
        Key::Store(StoreRow::Counter(Counter::Users)),
    ];

    /// From the values of [`Inspected::ROWS`], all of one moment, if this version reads the store.
    pub fn of(values: &[Option<Vec<u8>>], formats: &Formats) -> Result<Self, OpenError> {
        let inspected = Self::of_any(values)?;
        formats.check(inspected.format)?;
        Ok(inspected)
    }

    fn of_any(values: &[Option<Vec<u8>>]) -> Result<Self, Error> {
        let value = |at: usize| values.get(at).and_then(Option::as_deref);
        let missing = || Error::Corrupt { key: Self::ROWS[0].to_string() };
        let Format { database_id, format, .. } = decode(Self::ROWS[0], value(0).ok_or_else(missing)?)?;
        let count = |at: usize| {
            let counter = value(at).map(|value| decode::<CounterValue>(Self::ROWS[at], value)).transpose()?;
            Ok::<_, Error>(counter.map_or(0, |counter| counter.0))
        };
        let [sequence, threads, messages, users] = [count(1)?, count(2)?, count(3)?, count(4)?];
        Ok(Self { database_id, format, sequence, threads, messages, users })
    }
}

/// What a store of any format says of itself.
pub async fn inspect_any(store: &Store) -> Result<Inspected, Error> {
    Inspected::of_any(&store.get_many(Inspected::ROWS.into()).await?)
}

/// The row that says the format; every store has one.
pub(super) async fn stored_format(store: &Store) -> Result<Format, Error> {
    let missing = || Error::Corrupt { key: Key::Store(StoreRow::Format).to_string() };
    read::<Format>(store, StoreRow::Format).await?.ok_or_else(missing)
}
