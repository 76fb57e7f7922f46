//! Edits: read, decide, commit, and again if somebody else was first.
//!
//! Every commit of this layer goes through [`commit`], which finds out what became of it where the engine cannot tell.
//! Every change that rests on something read is an edit: it is drafted anew from what is there until it is committed,
//! a limited number of times. Nothing else in this layer repeats a write.

use std::time::{Duration, Instant};

use aws_lc_rs::rand;

use super::draft::Draft;
use super::{Db, Error};
use crate::clock::monotonic;
use crate::keys::{Key, ThreadRow};
use crate::model::ThreadId;
use crate::store::{Commit, Direction, Op, Outcome, Precondition, Store};

/// How often an edit is drafted at least before it is given up. On one machine a thread's writes wait for one another, so
/// that more than two are rare.
const ATTEMPTS: u32 = 16;
/// And for how long: of several servers that write one thread without a pause, one may lose many times in a row.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pauses double from a millisecond up to this; each is shortened at random, so that those who collided part.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// What became of a commit, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is on disk.
    Committed,
    /// Nothing changed: the expected row holds something else.
    Conflict {
        /// What it holds.
        current: Option<Vec<u8>>,
    },
}

/// What an edit makes of the thread that it was shown.
#[allow(clippy::large_enum_variant, reason = "nearly every edit changes something, and a box would cost each of them")]
pub(super) enum Edited<'a, T> {
    /// There is nothing to write.
    Unchanged(T),
    /// This is to be committed.
    Changed(Draft<'a>, T),
}

/// The attempts that one edit may take.
struct Attempts {
    made: u32,
    began: Instant,
}

impl Attempts {
    fn begin() -> Self {
        Self { made: 0, began: monotonic() }
    }

    /// Waits for the turn of the next attempt; an error if there were enough.
    async fn next(&mut self) -> Result<(), Error> {
        if self.made >= ATTEMPTS && self.began.elapsed() >= PATIENCE {
            metrics::counter!("progressdb_edits_given_up_total").increment(1);
            return Err(Error::Busy);
        }
        if self.made > 0 {
            metrics::counter!("progressdb_edit_conflicts_total").increment(1);
            tokio::time::sleep(pause(self.made)).await;
        }
        self.made += 1;
        Ok(())
    }
}

/// How long to wait before attempt number `number`, counted from 0: anything up to twice as long each time.
fn pause(number: u32) -> Duration {
    let longest = Duration::from_millis(1 << number.min(6)).min(LONGEST_PAUSE);
    let mut random = [0; 1];
    rand::fill(&mut random).expect("the system's random source works, or nothing here is safe");
    longest * u32::from(random[0]) / 256
}

/// Makes attempts until one is done; one that was overtaken gives nothing.
pub(super) async fn repeat<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<Option<T>, Error>>,
{
    let mut attempts = Attempts::begin();
    loop {
        attempts.next().await?;
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
    }
}

/// Commits, and finds out what became of it where the engine could not tell; a commit that did not happen then happens.
pub(super) async fn commit(store: &Store, commit: Commit) -> Result<Settled, Error> {
    let (mut commit, mut attempts) = (commit, Attempts::begin());
    // What an earlier attempt asked for may be done late, by a node that hung: then this one finds its own change.
    let mut asked_before: Option<Commit> = None;
    loop {
        attempts.next().await?;
        match store.commit(commit).await? {
            Outcome::Committed => return Ok(Settled::Committed),
            Outcome::Conflict { current } => {
                return match asked_before {
                    Some(before) if settle(store, &before).await? == Some(Settled::Committed) => {
                        store.complete(&before).await;
                        Ok(Settled::Committed)
                    }
                    _ => Ok(Settled::Conflict { current }),
                };
            }
            Outcome::Unknown(unknown) => match settle(store, &unknown).await? {
                Some(settled) => {
                    store.complete(&unknown).await;
                    return Ok(settled);
                }
                None => {
                    asked_before = Some((*unknown).clone());
                    commit = *unknown;
                }
            },
        }
    }
}

/// What became of a commit, by the rows that it would have written; none if it did not happen and may be made again.
///
/// The head of a thread names its last commit, so its value tells one commit from all others. Where another value took
/// its place since, a row beside it may still tell. Where none does, nobody can know: the client has to ask again.
async fn settle(store: &Store, commit: &Commit) -> Result<Option<Settled>, Error> {
    let Some(Precondition { key, value }) = &commit.precondition else {
        // Who expects nothing may write the same twice.
        return Ok(stands(store, &commit.ops).await?.then_some(Settled::Committed));
    };
    let current = store.get(key).await?;
    if current == *value {
        return Ok(None);
    }
    for op in &commit.ops {
        let tells = match op {
            // Of two changes to one object both may write these the same: they tell only where they are what was expected.
            Op::Put(put @ Key::Thread(_, ThreadRow::Version(..) | ThreadRow::Object), _) => put == key,
            Op::Put(..) => true,
            Op::Delete(deleted) => deleted == key,
            Op::DeleteRange(_) => false,
        };
        if tells && stands(store, std::slice::from_ref(op)).await? {
            return Ok(Some(Settled::Committed));
        }
    }
    Err(Error::Unavailable)
}

/// Whether the store holds what these would have left.
async fn stands(store: &Store, ops: &[Op]) -> Result<bool, Error> {
    for op in ops {
        let stands = match op {
            Op::Put(key, value) => store.get(key).await?.as_ref() == Some(value),
            Op::Delete(key) => store.get(key).await?.is_none(),
            Op::DeleteRange(range) => store.scan(range.clone(), Direction::Ascending, 1).await?.rows.is_empty(),
        };
        if !stands {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Db {
    /// Commits, for certain.
    pub(super) async fn commit(&self, change: Commit) -> Result<Settled, Error> {
        commit(&self.0.store, change).await
    }

    /// Changes a thread: `edit` is shown a draft of the next commit, and again after each time that another was first.
    /// None if there is no such thread.
    pub(super) async fn edit_thread<'a, T, F>(
        &'a self,
        thread: ThreadId,
        edit: impl Fn(Draft<'a>) -> F,
    ) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<Edited<'a, T>, Error>>,
    {
        repeat(|| async {
            let Some(read) = self.head(thread).await? else { return Ok(Some(None)) };
            match edit(Draft::new(self, thread, read)).await? {
                Edited::Unchanged(done) => Ok(Some(Some(done))),
                Edited::Changed(draft, done) => Ok(draft.commit().await?.then_some(Some(done))),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::keys::Partition;
    use crate::model::MessageId;
    use crate::store::memory::Memory;

    const THREAD: ThreadId = ThreadId(7);
    const HEAD: Key = Key::Thread(THREAD, ThreadRow::Head);
    const OBJECT: Key = Key::Thread(THREAD, ThreadRow::Object);
    const MESSAGE: Key = Key::Thread(THREAD, ThreadRow::Message(MessageId { ts: 8, seq: 0 }));

    fn change(expected: Option<&[u8]>, rows: &[(Key, &[u8])]) -> Commit {
        let precondition = expected.map(|value| Precondition { key: HEAD, value: Some(value.to_vec()) });
        let ops = rows.iter().map(|(key, value)| Op::Put(*key, value.to_vec())).collect();
        Commit { partition: Partition::Thread(THREAD), precondition, ops, secondary: Vec::new() }
    }

    /// What a store with these rows says of a commit that took the head from 1 to 2 and wrote a message.
    async fn settled(rows: &[(Key, &[u8])]) -> Result<Option<Settled>, Error> {
        let store = Store::Memory(Memory::default());
        store.commit(change(None, rows)).await.expect("committed");
        settle(&store, &change(Some(b"1"), &[(OBJECT, b"o"), (MESSAGE, b"m"), (HEAD, b"2")])).await
    }

    #[tokio::test]
    async fn the_rows_tell_what_became_of_a_commit() {
        assert!(matches!(settled(&[(HEAD, b"1")]).await, Ok(None)), "it did not happen");
        let happened = [
            settled(&[(HEAD, b"2"), (MESSAGE, b"m")]).await,
            // Another commit followed.
            settled(&[(HEAD, b"3"), (MESSAGE, b"m")]).await,
            // The message was changed since.
            settled(&[(HEAD, b"2"), (MESSAGE, b"n")]).await,
        ];
        for found in happened {
            assert!(matches!(found, Ok(Some(Settled::Committed))), "{found:?}");
        }
        for rows in [&[(HEAD, b"3".as_slice())][..], &[(HEAD, b"3"), (MESSAGE, b"n")], &[(HEAD, b"3"), (OBJECT, b"o")]]
        {
            let found = settled(rows).await;
            assert!(matches!(found, Err(Error::Unavailable)), "nobody can know: {found:?}");
        }
    }

    #[tokio::test]
    async fn an_edit_that_is_always_overtaken_is_given_up() {
        let tried = AtomicU32::new(0);
        let given_up = repeat::<(), _>(|| async {
            tried.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        });
        assert!(matches!(given_up.await, Err(Error::Busy)));
        assert!(tried.into_inner() >= ATTEMPTS);
    }
}
