//! What a shared store holds beside the truth, and puts right where it is read: rows of lists that no head agrees with, entries
//! for what was never deleted, counters that a server which died has left wrong. None of it leaves the store: a store in a
//! directory takes its lists and counters at their word.

use super::{Held, Item};
use crate::crypt::seal;
use crate::db::integrity::rows_of;
use crate::db::{Error, decode};
use crate::keys::{Counter, ExpiryKind, Key, StoreRow, ThreadRow, UserRow};
use crate::rows::{Head, MessageName, Row as _};
use crate::store::Store;

/// Those of the rows that the threads agree with.
pub(super) async fn without_stale(store: &Store, items: Vec<Item>) -> Result<Vec<Item>, Error> {
    let mut agreed = Vec::with_capacity(items.len());
    let claims = items.iter().map(Claim::of).collect::<Result<Vec<_>, Error>>()?;
    let asked: Vec<Key> = claims.iter().flatten().flat_map(Claim::asks).collect();
    let mut answers = store.get_many(asked).await?.into_iter();
    for (item, claim) in items.into_iter().zip(claims) {
        let Some(claim) = claim else {
            agreed.push(item);
            continue;
        };
        let mut answer = || answers.next().expect("one for each that was asked for");
        let (head, row) = (answer(), answer());
        let head = head.map(|value| decode::<Head>(claim.head, &value)).transpose()?;
        if claim.holds(&item.key, head.as_ref(), row.is_some()) {
            agreed.push(item);
        }
    }
    Ok(agreed)
}

/// What a row says of a thread.
struct Claim {
    head: Key,
    /// The row that has to be there, if that tells; else the head again.
    row: Key,
}

impl Claim {
    /// None for a row that stands for itself.
    fn of(item: &Item) -> Result<Option<Self>, Error> {
        let head = |thread| Key::Thread(thread, ThreadRow::Head);
        Ok(match (item.key, &item.held) {
            (
                Key::User(_, UserRow::Created(thread) | UserRow::Active { thread, .. } | UserRow::Wrote(thread))
                | Key::Expiry { thread, kind: ExpiryKind::Thread | ExpiryKind::Erasure, .. },
                _,
            ) => Some(Self { head: head(thread), row: head(thread) }),
            (Key::Expiry { thread, kind: ExpiryKind::Message, .. }, Held::Value(value)) => {
                let MessageName(id) = decode(item.key, value)?;
                Some(Self { head: head(thread), row: Key::Thread(thread, ThreadRow::Deleted(id)) })
            }
            _ => None,
        })
    }

    fn asks(&self) -> [Key; 2] {
        [self.head, self.row]
    }

    /// An entry about a thread that is gone is nobody's concern: it goes with its day.
    fn holds(&self, key: &Key, head: Option<&Head>, has_row: bool) -> bool {
        match (key, head) {
            (Key::User(..), head) => head.is_some_and(|head| rows_of(thread_of(self.head), head).contains(key)),
            (_, None) => true,
            (Key::Expiry { kind: ExpiryKind::Message, .. }, Some(_)) => has_row,
            (_, Some(head)) => head.deleted != 0,
        }
    }
}

fn thread_of(head: Key) -> crate::model::ThreadId {
    let Key::Thread(thread, _) = head else { unreachable!("heads are rows of threads") };
    thread
}

/// What the rows of a user say of the user's counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    threads: i64,
    sealed: i64,
}

impl Tally {
    pub(super) fn note(&mut self, item: &Item) {
        self.threads += i64::from(matches!(item.key, Key::User(_, UserRow::Created(_))));
        let sealed = matches!(&item.held, Held::Value(value) if seal::generation(value).is_some());
        self.sealed += i64::from(sealed);
    }

    /// What the counter should count that counts `count`.
    pub(super) fn put_right(&self, key: &Key, count: i64) -> i64 {
        match key {
            Key::User(_, UserRow::LiveThreads) => self.threads,
            // Keys that are used up count as well.
            Key::User(_, UserRow::Seals) => count.max(self.sealed),
            _ => count,
        }
    }
}

/// What the rows of a whole store say of its counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recount {
    threads: i64,
    live: i64,
    messages: i64,
    users: i64,
}

impl Recount {
    pub(super) fn note(&mut self, item: &Item) {
        let Held::Value(value) = &item.held else { return };
        match item.key {
            // What does not decode is found by whoever opens the database.
            Key::Thread(_, ThreadRow::Head) => {
                let Ok(head) = Head::decode(value) else { return };
                self.threads += 1;
                self.live += i64::from(head.deleted == 0);
                self.messages += i64::try_from(head.next_seq).unwrap_or(0);
            }
            Key::User(_, UserRow::Profile) => self.users += 1,
            _ => {}
        }
    }

    /// Puts the counters of the store right. Of messages and writes, those of threads that are gone are in the counters only.
    pub(super) fn put_right(&self, items: &mut Vec<Item>) {
        let mut messages = 0;
        for item in &mut *items {
            let Held::Count(count) = &mut item.held else { continue };
            match item.key {
                Key::Store(StoreRow::Counter(Counter::Threads)) => *count = self.live,
                Key::Store(StoreRow::Counter(Counter::Users)) => *count = self.users,
                Key::Store(StoreRow::Counter(Counter::Messages)) => {
                    *count = (*count).max(self.messages);
                    messages = *count;
                }
                // Each message and each thread was a write. It comes behind the one before: counters are in the order of `ALL`.
                Key::Store(StoreRow::Counter(Counter::Sequence)) => *count = (*count).max(messages + self.threads),
                _ => {}
            }
        }
        items.retain(|item| item.held != Held::Count(0));
    }
}
