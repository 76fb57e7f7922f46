//! Counters: each slot keeps what it has added itself, as one number, and the sum of all slots counts.
//!
//! Only the process that has the slot writes its numbers, so no two writers ever change the same row, and writing the same
//! number again changes nothing. What waits together is written together.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use moka::sync::Cache;
use scylla::client::session::Session;
use scylla::value::CqlValue;
use tokio::sync::{mpsc, oneshot};

use super::layout::{big, blob};
use super::read::{rows, unreadable};
use super::session::failed;
use super::statements::Statements;
use crate::clock::Clock;
use crate::keys::Key;
use crate::store::Error;

/// Counters whose numbers are remembered; of others they are read again.
const REMEMBERED: u64 = 50_000;
const MOST_TOGETHER: usize = 4_096;
const AT_ONCE: usize = 32;

/// What a slot has added to a counter, and how the row that says so is dated.
#[derive(Clone, Copy, Debug)]
struct Added {
    sum: i64,
    dated: i64,
}

/// Additions that wait, and who waits for them.
struct Addition {
    by: Vec<(Key, i64)>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The counters of one slot. The task behind them ends when this is dropped.
pub(super) struct Counters(mpsc::Sender<Addition>);

/// Writes what is added.
struct Writer {
    session: Arc<Session>,
    statements: Arc<Statements>,
    slot: i32,
    known: Cache<Key, Added>,
}

impl Counters {
    pub(super) fn start(session: Arc<Session>, statements: Arc<Statements>, slot: i32) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Addition>(MOST_TOGETHER);
        let writer = Writer { session, statements, slot, known: Cache::new(REMEMBERED) };
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            while receiver.recv_many(&mut waiting, MOST_TOGETHER).await > 0 {
                let mut sums: HashMap<Key, i64> = HashMap::new();
                for (key, by) in waiting.iter().flat_map(|addition| &addition.by) {
                    *sums.entry(*key).or_default() += by;
                }
                let written = writer.add(sums).await;
                for addition in waiting.drain(..) {
                    // Who does not listen any more does not mind.
                    let _ = addition.done.send(written.clone());
                }
            }
        });
        Self(sender)
    }

    /// Adds to counters, and waits until that is written.
    pub(super) async fn add(&self, by: Vec<(Key, i64)>) -> Result<(), Error> {
        if by.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let gone = || Error::Stopped("the counters are closed".into());
        self.0.send(Addition { by, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Writer {
    async fn add(&self, sums: HashMap<Key, i64>) -> Result<(), Error> {
        let written = sums.into_iter().map(|(key, by)| self.add_to(key, by));
        // To the end, whatever becomes of one of them.
        let written = stream::iter(written).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        written.into_iter().collect()
    }

    async fn add_to(&self, key: Key, by: i64) -> Result<(), Error> {
        let name = key.encode();
        let before = match self.known.get(&key) {
            Some(known) => known,
            None => self.read(&name).await?,
        };
        let now = i64::try_from(Clock::wall() / 1_000).unwrap_or(i64::MAX / 2);
        // Another process had the slot before, perhaps one whose clock is ahead.
        let after = Added { sum: before.sum + by, dated: now.max(before.dated + 1) };
        let values = vec![big(after.dated), big(after.sum), blob(name), Some(CqlValue::Int(self.slot))];
        let put = &self.statements.slots.put_counter;
        match self.session.execute_unpaged(put, values).await {
            Ok(_) => self.known.insert(key, after),
            Err(error) => {
                // It may be written or not: the next addition reads which.
                self.known.invalidate(&key);
                return Err(failed(&error));
            }
        }
        Ok(())
    }

    async fn read(&self, name: &[u8]) -> Result<Added, Error> {
        let values = vec![blob(name), Some(CqlValue::Int(self.slot))];
        let found = rows(&self.session, &self.statements.slots.counter_of_slot, values).await;
        let found = found.map_err(|error| failed(&error))?;
        let row = found.maybe_first_row::<(Option<i64>, Option<i64>)>();
        let (sum, dated) = row.map_err(unreadable)?.unwrap_or_default();
        Ok(Added { sum: sum.unwrap_or(0), dated: dated.unwrap_or(0) })
    }
}
