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
use crate::rows::Head;
use crate::store::{Commit, SecondaryWrite};

/// How many writes of clients there were: it only grows.
const WRITES: Key = Key::Store(StoreRow::Counter(Counter::Sequence));
/// For how long after its commit something may still be added to a counter.
const LATE: Duration = Duration::from_secs(10);
/// How soon after its commit nearly everything is added.
const SOON: Duration = Duration::from_secs(1);
/// For how long a count is good.
const GOOD_FOR: Duration = Duration::from_secs(30);
const REMEMBERED: u64 = 10_000;
/// Of a user with more threads than this the counter alone is believed.
const MOST_COUNTED: u64 = 2_000;
const ROWS_A_PAGE: usize = 256;

/// What was counted, and what the counter said then.
#[derive(Clone, Copy, Debug)]
struct Counted {
    threads: u64,
    said: u64,
}

/// The last counts of users.
pub(super) struct Totals(Cache<Hash16, Counted>);

impl Default for Totals {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED).time_to_live(GOOD_FOR).build())
    }
}

impl Db {
    /// Counts what a shared store holds, and puts the counters right that a server which died has left wrong. Nothing is
    /// changed where something was written meanwhile: the next run counts again. True if something was wrong.
    pub async fn recount_store(&self) -> Result<bool, Error> {
        let writes = self.counter(WRITES).await?;
        Ok(self.recount_threads(writes).await? | self.recount_users(writes).await?)
    }

    async fn recount_threads(&self, writes: u64) -> Result<bool, Error> {
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
        let counts = [
            (Counter::Threads, before.threads, threads),
            // Messages of threads that are gone are in the counter only.
            (Counter::Messages, before.messages, messages.max(before.messages)),
        ];
        let counts = counts.map(|(counter, said, counted)| (Key::Store(StoreRow::Counter(counter)), said, counted));
        self.correct(Partition::Store, &counts, writes).await
    }

    /// Counts the users, and the threads of those of whom the counter alone is believed.
    async fn recount_users(&self, writes: u64) -> Result<bool, Error> {
        let counter = Key::Store(StoreRow::Counter(Counter::Users));
        let said = self.counter(counter).await?;
        let (mut counted, mut wrong) = (0, false);
        let mut walk = Partitions::all(&[PartitionKind::User]);
        while let Some(page) = walk.next_page(&self.0.store).await? {
            let page = page.into_iter().filter_map(|partition| match partition {
                Partition::User(user) => Some(user),
                _ => None,
            });
            let page: Vec<_> = page.collect();
            let profiles = page.iter().map(|user| Key::User(*user, UserRow::Profile)).collect();
            counted += self.0.store.get_many(profiles).await?.into_iter().flatten().count() as u64;
            for user in page {
                wrong |= self.recount_many(user, writes).await?;
            }
        }
        Ok(wrong | self.correct(Partition::Store, &[(counter, said, counted)], writes).await?)
    }

    async fn recount_many(&self, user: Hash16, writes: u64) -> Result<bool, Error> {
        let counter = Key::User(user, UserRow::LiveThreads);
        let said = self.counter(counter).await?;
        if said <= MOST_COUNTED {
            return Ok(false);
        }
        let counted = self.count_threads(user).await?;
        // It takes what the counter says for what was added since.
        self.0.totals.0.invalidate(&user);
        self.correct(Partition::User(user), &[(counter, said, counted)], writes).await
    }

    /// Corrects counters that say something else than was counted, if nobody has written since there were so many `writes`, and
    /// nothing is added late. A counter that says the same may have been added to and taken from.
    async fn correct(&self, partition: Partition, counts: &[(Key, u64, u64)], writes: u64) -> Result<bool, Error> {
        let wrong: Vec<_> = counts.iter().filter(|(_, said, counted)| said != counted).collect();
        if wrong.is_empty() {
            return Ok(false);
        }
        tokio::time::sleep(LATE).await;
        if self.counter(WRITES).await? != writes {
            return Ok(false);
        }
        let mut additions = Vec::new();
        for (counter, said, counted) in wrong {
            if self.counter(*counter).await? == *said {
                additions.push(SecondaryWrite::Add(*counter, difference(*counted, *said)));
            }
        }
        let is_wrong = !additions.is_empty();
        if is_wrong {
            self.commit(Commit::of(partition, Vec::new()).with(additions)).await?;
        }
        Ok(is_wrong)
    }

    /// How many live threads the user has.
    pub(super) async fn live_threads(&self, user: Hash16) -> Result<u64, Error> {
        let said = self.counter(Key::User(user, UserRow::LiveThreads)).await?;
        match self.0.store.is_shared() && said <= MOST_COUNTED {
            true => self.recount(user, said).await,
            false => Ok(said),
        }
    }

    async fn recount(&self, user: Hash16, said: u64) -> Result<u64, Error> {
        if let Some(before) = self.0.totals.0.get(&user) {
            return Ok(before.threads.saturating_add_signed(difference(said, before.said)));
        }
        let threads = self.count_threads(user).await?;
        let db = self.clone();
        tokio::spawn(async move {
            // What was counted may be added only now, and would then count twice.
            tokio::time::sleep(SOON).await;
            if db.counter(Key::User(user, UserRow::LiveThreads)).await.is_ok_and(|now| now == said) {
                db.0.totals.0.insert(user, Counted { threads, said });
            }
        });
        Ok(threads)
    }

    async fn count_threads(&self, user: Hash16) -> Result<u64, Error> {
        let (mut threads, mut walk) = (0, Rows::of(KeyRange::created_threads(user), ROWS_A_PAGE));
        while let Some(rows) = walk.next_page(&self.0.store).await? {
            let heads = self.heads(&listed(&rows)?).await?;
            let mine = |head: &&Head| head.owner == user && head.deleted == 0;
            threads += heads.iter().flatten().filter(mine).count() as u64;
        }
        Ok(threads)
    }
}

fn difference(there: u64, counted: u64) -> i64 {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    number(there) - number(counted)
}
