//! Reads every row of a store, in pages, one kind of partitions after the other.
//!
//! A few partitions are read ahead, because an engine on other machines answers slowly and many at one time. What that
//! takes in memory is bounded by [`AHEAD`] and [`crate::store::SCAN_BYTES`].

use std::collections::VecDeque;

use tokio::task::JoinHandle;

use super::exact::{Recount, Tally, without_stale};
use super::{Content, Held, IMPORT, Item, KINDS};
use crate::db::walk::{Partitions, Rows};
use crate::db::{Error, decode, decode_key};
use crate::keys::{Counter, Key, KeyRange, Partition, StoreRow, UserRow};
use crate::rows::{CounterValue, EVERY_FORMAT, JobProgress, MigrationProgress, Row as _};
use crate::store::{Row, Store};

const ROWS_A_PAGE: usize = 1_000;
/// Partitions that are read at one time.
const AHEAD: usize = 8;

/// Rows of one partition: all of them, or a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The partition.
    pub partition: Partition,
    /// The rows.
    pub items: Vec<Item>,
}

/// A walk over all rows of a store. The portions of a partition come one behind the other, its counters last.
#[derive(Debug)]
pub struct Reading {
    partitions: Partitions,
    listed: VecDeque<Partition>,
    ahead: VecDeque<JoinHandle<Result<(Portion, Rest), Error>>>,
    /// What is left of the partition that was begun.
    rest: Option<Rest>,
    /// What was read so far says of the counters of the store, if they are to be put right.
    recount: Option<Recount>,
}

/// A partition that was begun.
#[derive(Debug)]
struct Rest {
    partition: Partition,
    rows: Rows,
    /// What was read of it says of its counters, if they are to be put right.
    tally: Option<Tally>,
}

impl Reading {
    /// From behind a partition; from the beginning if there is none. Rows as they are.
    pub fn behind(position: Option<Partition>) -> Self {
        let partitions = Partitions::behind(KINDS, position);
        Self { partitions, listed: VecDeque::new(), ahead: VecDeque::new(), rest: None, recount: None }
    }

    /// Leaves out what a shared store passes over, and puts counters right. `before` is what was read in front of it.
    pub fn exact(self, before: &Content) -> Self {
        Self { recount: Some(before.recount), ..self }
    }

    /// The next rows; none at the end.
    pub async fn next_portion(&mut self, store: &Store) -> Result<Option<Portion>, Error> {
        let (mut portion, rest) = match self.rest.take() {
            Some(mut rest) => (rest.next_portion(store).await?, rest),
            None => {
                self.read_ahead(store).await?;
                let Some(begun) = self.ahead.pop_front() else { return Ok(None) };
                begun.await.map_err(|_| Error::Stopped)??
            }
        };
        self.rest = (!rest.rows.is_at_end()).then_some(rest);
        if let Some(recount) = &mut self.recount {
            portion.items.iter().for_each(|item| recount.note(item));
            if portion.partition == Partition::Store {
                recount.put_right(&mut portion.items);
            }
        }
        Ok(Some(portion))
    }

    async fn read_ahead(&mut self, store: &Store) -> Result<(), Error> {
        while self.ahead.len() < AHEAD {
            if self.listed.is_empty() {
                let Some(page) = self.partitions.next_page(store).await? else { return Ok(()) };
                self.listed = page.into();
            }
            if let Some(partition) = self.listed.pop_front() {
                let rows = Rows::of(KeyRange::all(partition), ROWS_A_PAGE);
                let mut rest = Rest { partition, rows, tally: self.recount.map(|_| Tally::default()) };
                let store = store.clone();
                self.ahead.push_back(tokio::spawn(async move { Ok((rest.next_portion(&store).await?, rest)) }));
            }
        }
        Ok(())
    }
}

impl Rest {
    async fn next_portion(&mut self, store: &Store) -> Result<Portion, Error> {
        let page = self.rows.next_page(store).await?.unwrap_or_default();
        let mut items = page.into_iter().filter_map(|row| item(row).transpose()).collect::<Result<Vec<_>, _>>()?;
        if let Some(tally) = &mut self.tally {
            items = without_stale(store, items).await?;
            items.iter().for_each(|item| tally.note(item));
        }
        if self.rows.is_at_end() {
            items.extend(self.counters(store).await?);
        }
        Ok(Portion { partition: self.partition, items })
    }

    /// The counters of the partition. One that is absent counts as 0, and one that stands at 0 may be absent.
    async fn counters(&self, store: &Store) -> Result<Vec<Item>, Error> {
        let keys: Vec<Key> = match self.partition {
            Partition::Store => Counter::ALL.map(|counter| Key::Store(StoreRow::Counter(counter))).into(),
            Partition::User(user) => [UserRow::LiveThreads, UserRow::Seals].map(|row| Key::User(user, row)).into(),
            Partition::Thread(_) | Partition::Expiry(_) | Partition::Epoch(_) => return Ok(Vec::new()),
        };
        // Those of the store are put right by what all others say.
        let is_done = self.tally.is_none() || self.partition != Partition::Store;
        let (mut counters, values) = (Vec::new(), store.get_many(keys.clone()).await?);
        for (key, value) in keys.into_iter().zip(values) {
            let CounterValue(count) = value.map_or(Ok(CounterValue(0)), |value| decode(key, &value))?;
            let count = self.tally.map_or(count, |tally| tally.put_right(&key, count));
            if count != 0 || !is_done {
                counters.push(Item { key, held: Held::Count(count) });
            }
        }
        Ok(counters)
    }
}

/// A row as it moves; none if it does not move as a row.
fn item(Row { key, value }: Row) -> Result<Option<Item>, Error> {
    let key = decode_key(&key)?;
    if key == Key::Store(StoreRow::Format) || key == IMPORT || Item::is_counter(&key) {
        return Ok(None);
    }
    let value = match key {
        Key::Store(StoreRow::Sealing) if decode::<JobProgress>(key, &value)?.finished == 0 => return Ok(None),
        Key::Store(StoreRow::Migration(_)) => without_position(key, &value)?,
        _ => value,
    };
    Ok(Some(Item { key, held: Held::Value(value) }))
}

/// Where another engine goes on is not where this one stopped: it begins at the first partition.
fn without_position(key: Key, value: &[u8]) -> Result<Vec<u8>, Error> {
    let progress: MigrationProgress = decode(key, value)?;
    Ok(MigrationProgress { position: None, ..progress }.encode(EVERY_FORMAT))
}
