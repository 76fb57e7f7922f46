//! How many threads and messages there are.
//!
//! A counter says it, and where it changes with the commit that it counts, that is all. Where it does not, a server that
//! dies between the two leaves it wrong. There the threads are counted now and then, and between two counts the counter says
//! what was added since.

use std::time::Duration;

use moka::sync::Cache;

use super::lists::listed;
use super::walk::{Partitions, Rows};
use super::{Db, Error};
use crate::keys::{Counter, Hash16, Key, KeyRange, Partition, PartitionKind, StoreRow, UserRow};
use crate::rows::{CounterValue, Head};
use crate::store::{Commit, SecondaryWrite};

/// For how long a count is good.
const GOOD_FOR: Duration = Duration::from_secs(30);
const REMEMBERED: u64 = 10_000;
/// Of a user with more threads than this the counter alone is believed.
const MOST_COUNTED: i64 = 2_000;
const ROWS_A_PAGE: usize = 256;

/// What was counted, and what the counter said then.
#[derive(Clone, Copy, Debug)]
struct Counted {
    threads: i64,
    counter: i64,
}

/// The last counts of users.
pub(super) struct Totals(Cache<Hash16, Counted>);

impl Default for Totals {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED).time_to_live(GOOD_FOR).build())
    }
}

impl Db {
    /// Counts the threads and messages of a shared store, and puts the counters right that a server which died has left wrong.
    /// Nothing is changed where something was written meanwhile: the next run counts again. True if something was wrong.
    pub async fn recount_store(&self) -> Result<bool, Error> {
        let before = self.stats().await?;
        let (mut threads, mut messages, mut walk) = (0, 0, Partitions::all(&[PartitionKind::Thread]));
        while let Some(page) = walk.next_page(&self.0.store).await? {
            let page = page.into_iter().filter_map(|partition| match partition {
                Partition::Thread(thread) => Some(thread),
                _ => None,
            });
            for head in self.heads(&page.collect::<Vec<_>>()).await?.into_iter().flatten() {
                threads += u64::from(head.deleted == 0);
                messages += head.next_seq;
            }
        }
        if self.stats().await? != before {
            return Ok(false);
        }
        // Messages of threads that are gone are in the counter only.
        let wrong = [
            (Counter::Threads, difference(threads, before.threads)),
            (Counter::Messages, difference(messages, before.messages).max(0)),
        ];
        let additions = wrong.into_iter().filter(|(_, by)| *by != 0);
        let additions: Vec<_> =
            additions.map(|(counter, by)| SecondaryWrite::Add(Key::Store(StoreRow::Counter(counter)), by)).collect();
        if additions.is_empty() {
            return Ok(false);
        }
        self.commit(Commit::of(Partition::Store, Vec::new()).with(additions)).await?;
        Ok(true)
    }

    /// How many live threads the user has.
    pub(super) async fn live_threads(&self, user: Hash16) -> Result<u64, Error> {
        let counter = self.thread_counter(user).await?;
        let threads = match self.0.store.is_shared() && counter <= MOST_COUNTED {
            true => self.recount(user, counter).await?,
            false => counter,
        };
        Ok(u64::try_from(threads).unwrap_or(0))
    }

    async fn thread_counter(&self, user: Hash16) -> Result<i64, Error> {
        Ok(self.row::<CounterValue>(Key::User(user, UserRow::LiveThreads)).await?.map_or(0, |counter| counter.0))
    }

    async fn recount(&self, user: Hash16, counter: i64) -> Result<i64, Error> {
        if let Some(counted) = self.0.totals.0.get(&user) {
            return Ok(counted.threads + counter - counted.counter);
        }
        let (mut threads, mut walk) = (0, Rows::of(KeyRange::created_threads(user), ROWS_A_PAGE));
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            let heads = self.heads(&listed(&rows)?).await?;
            let mine = |head: &&Head| head.owner == user && head.deleted == 0;
            threads += heads.iter().flatten().filter(mine).count() as i64;
        }
        // What changed meanwhile may be in the one and not in the other.
        if self.thread_counter(user).await? == counter {
            self.0.totals.0.insert(user, Counted { threads, counter });
        }
        Ok(threads)
    }
}

fn difference(there: u64, counted: u64) -> i64 {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    number(there) - number(counted)
}
