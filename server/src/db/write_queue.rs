//! Write queues: writes to one thread, one commit after the other.
//!
//! A thread that is written to has a queue, and a task that drains it. While a commit of the thread is in flight, further
//! writes gather in its queue; appends that wait together become one commit, so that a busy thread costs no more
//! conflicts than a quiet one. The task is not the caller's: a write goes on when its client hangs up.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::detached::Detached;
use super::edit::Edited;
use super::idempotency::Token;
use super::write::{Answer, Write};
use super::{Caller, Db, Error, NewMessage, WriteOptions};
use crate::keys::Hash16;
use crate::model::ThreadId;

/// The most appends that one commit takes: enough for the device, few enough for a group of many threads.
const APPENDS_A_COMMIT: usize = 256;
const BYTES_A_COMMIT: usize = 1 << 20;
/// The most writes that wait for one thread.
const LONGEST_QUEUE: usize = 4_096;
const SHARDS: usize = 64;

/// A write that waits for its turn.
pub(super) struct PendingWrite {
    pub(super) caller: Caller,
    pub(super) user: Hash16,
    pub(super) write: Write,
    pub(super) options: WriteOptions,
    /// The idempotency key, hashed.
    pub(super) idempotency: Option<Token>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

impl PendingWrite {
    /// May share a commit with others of its kind.
    fn is_append(&self) -> bool {
        matches!(self.write, Write::CreateMessage(_))
    }

    fn bytes(&self) -> usize {
        match &self.write {
            Write::CreateMessage(NewMessage { content, .. }) => {
                content.body.get().len() + content.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
            }
            _ => 0,
        }
    }

    fn answer(self, answer: Result<Answer, Error>) {
        // A caller that no longer listens hung up after its write was taken.
        let _ = self.answer.send(answer);
    }
}

/// The queues of all threads that are being written to.
pub(super) struct WriteQueues([Mutex<HashMap<ThreadId, VecDeque<PendingWrite>>>; SHARDS]);

impl Default for WriteQueues {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl WriteQueues {
    fn shard(&self, thread: ThreadId) -> MutexGuard<'_, HashMap<ThreadId, VecDeque<PendingWrite>>> {
        // Thread ids are times; their low bits spread well enough after a multiplication.
        let index = thread.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let shard = &self.0[usize::try_from(index).expect("six bits")];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the write into its thread's queue; true if nobody drains that yet.
    fn push(&self, thread: ThreadId, pending: PendingWrite) -> Result<bool, Error> {
        match self.shard(thread).entry(thread) {
            Entry::Vacant(queue) => {
                queue.insert(VecDeque::from([pending]));
                Ok(true)
            }
            Entry::Occupied(mut queue) => {
                if queue.get().len() >= LONGEST_QUEUE {
                    metrics::counter!("progressdb_write_queue_full_total").increment(1);
                    return Err(Error::Busy);
                }
                queue.get_mut().push_back(pending);
                Ok(false)
            }
        }
    }

    /// What goes into the next commit: a run of appends, or one other write. Nothing left removes the queue.
    fn next(&self, thread: ThreadId) -> Option<Vec<PendingWrite>> {
        let mut shard = self.shard(thread);
        let queue = shard.get_mut(&thread)?;
        let mut bytes = 0;
        let fits = |pending: &&PendingWrite| {
            bytes += pending.bytes();
            pending.is_append() && bytes <= BYTES_A_COMMIT
        };
        let run = queue.iter().take(APPENDS_A_COMMIT).take_while(fits).count();
        let run: Vec<_> = queue.drain(..run.max(1).min(queue.len())).collect();
        if run.is_empty() {
            shard.remove(&thread);
            return None;
        }
        Some(run)
    }

    /// Removes the queue if nothing waits in it.
    fn close(&self, thread: ThreadId) -> bool {
        let mut shard = self.shard(thread);
        let is_empty = shard.get(&thread).is_none_or(VecDeque::is_empty);
        if is_empty {
            shard.remove(&thread);
        }
        is_empty
    }
}

/// Removes the queue if the task that drains it panics: who waits in it is refused, and the next write opens it anew.
struct OpenQueue<'a>(&'a WriteQueues, ThreadId);

impl Drop for OpenQueue<'_> {
    fn drop(&mut self) {
        // A queue that was found empty is gone already; the one of this thread may be another task's by now.
        if std::thread::panicking() {
            self.0.shard(self.1).remove(&self.1);
        }
    }
}

impl Db {
    /// Puts a write into the thread's queue and waits until it is on disk or refused.
    pub(super) async fn write(
        &self,
        caller: &Caller,
        thread: ThreadId,
        write: Write,
        options: WriteOptions,
    ) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let (user, idempotency) = (self.hash_user(&caller.user), self.token(caller, options.idempotency.as_ref()));
        let pending = PendingWrite { caller: caller.clone(), user, write, options, idempotency, answer };
        if self.0.write_queues.push(thread, pending)? {
            Detached::new(open_queue(self.clone(), thread)).await;
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }
}

/// Makes the first commit of a queue; what gathered meanwhile is another task's, so that the first caller gets its answer.
async fn open_queue(db: Db, thread: ThreadId) {
    if drain_once(&db, thread).await && !db.0.write_queues.close(thread) {
        tokio::spawn(async move { while drain_once(&db, thread).await {} });
    }
}

/// Commits and answers what goes into one commit; false if nothing waits, which removes the queue.
async fn drain_once(db: &Db, thread: ThreadId) -> bool {
    let _open = OpenQueue(&db.0.write_queues, thread);
    let Some(run) = db.0.write_queues.next(thread) else { return false };
    match commit_run(db, thread, &run).await {
        Ok(answers) => run.into_iter().zip(answers).for_each(|(pending, answer)| pending.answer(answer)),
        Err(error) => run.into_iter().for_each(|pending| pending.answer(Err(error.clone()))),
    }
    true
}

/// Commits those of the writes that may happen; an answer to each.
async fn commit_run(db: &Db, thread: ThreadId, run: &[PendingWrite]) -> Result<Vec<Result<Answer, Error>>, Error> {
    let edited = db.edit_thread(thread, async |mut draft| {
        let mut answers = Vec::with_capacity(run.len());
        for pending in run {
            answers.push(draft.apply(pending).await);
        }
        let changed = draft.client_writes > 0;
        Ok(if changed { Edited::Changed(draft, answers) } else { Edited::Unchanged(answers) })
    });
    edited.await?.ok_or(Error::AccessDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::{json, message};
    use crate::model::UserId;

    fn pending() -> PendingWrite {
        pending_write(Write::DeleteThread)
    }

    /// An append whose body and metadata have so many bytes.
    fn append(body: usize, metadata: usize) -> PendingWrite {
        let mut new = message(&format!("\"{}\"", "b".repeat(body - 2)));
        new.content.metadata = (metadata > 0).then(|| json(&format!("{{\"\":\"{}\"}}", "m".repeat(metadata - 7))));
        pending_write(Write::CreateMessage(new))
    }

    fn pending_write(write: Write) -> PendingWrite {
        let caller = Caller { user: UserId::parse("ann").expect("a valid id") };
        let (user, options) = (Hash16([0; 16]), WriteOptions::default());
        let answer = oneshot::channel().0;
        PendingWrite { caller, user, write, options, idempotency: None, answer }
    }

    /// Between the removal of a queue and the end of its task another write may open a new one.
    #[test]
    fn the_end_of_a_task_leaves_the_queue_that_was_opened_since() {
        let (queues, thread) = (WriteQueues::default(), ThreadId(1));
        assert!(queues.push(thread, pending()).expect("there is room"), "the first write opens the queue");
        let open = OpenQueue(&queues, thread);
        assert!(!queues.push(thread, pending()).expect("there is room"), "the second one waits in it");
        assert_eq!([0; 3].map(|_| queues.next(thread).map_or(0, |run| run.len())), [1, 1, 0]);
        assert!(queues.push(thread, pending()).expect("there is room"), "a drained queue is opened anew");
        drop(open);
        assert_eq!(queues.next(thread).map(|run| run.len()), Some(1));
    }

    #[test]
    fn a_task_that_panics_leaves_no_queue_that_nobody_drains() {
        let (queues, thread) = (WriteQueues::default(), ThreadId(1));
        queues.push(thread, pending()).expect("there is room");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _open = OpenQueue(&queues, thread);
            panic!("as the test asked");
        }));
        assert!(panicked.is_err());
        assert!(queues.push(thread, pending()).expect("there is room"), "the next write opens the queue");
    }

    /// How many of these writes go into each commit.
    #[track_caller]
    fn check_runs(writes: Vec<PendingWrite>, lengths: &[usize]) {
        let (queues, thread) = (WriteQueues::default(), ThreadId(1));
        for write in writes {
            queues.push(thread, write).expect("there is room");
        }
        let runs: Vec<_> = std::iter::from_fn(|| queues.next(thread)).map(|run| run.len()).collect();
        assert_eq!(runs, lengths);
    }

    #[test]
    fn appends_share_a_commit_within_its_bounds_and_other_writes_share_none() {
        let appends = |count| (0..count).map(|_| append(10, 0));
        check_runs(appends(APPENDS_A_COMMIT).collect(), &[APPENDS_A_COMMIT]);
        check_runs(appends(APPENDS_A_COMMIT + 1).collect(), &[APPENDS_A_COMMIT, 1]);
        check_runs(vec![append(10, 0), append(10, 0), pending(), pending(), append(10, 0)], &[2, 1, 1, 1]);
        const QUARTER: usize = BYTES_A_COMMIT / 4;
        check_runs((0..5).map(|_| append(QUARTER, 0)).collect(), &[4, 1]);
        check_runs((0..5).map(|_| append(QUARTER, QUARTER)).collect(), &[2, 2, 1]);
        check_runs(vec![append(QUARTER, QUARTER), append(QUARTER, QUARTER + 1)], &[1, 1]);
        check_runs(vec![append(10, 0), append(BYTES_A_COMMIT + 1, 0), append(10, 0)], &[1, 1, 1]);
    }

    #[test]
    fn a_full_queue_refuses() {
        let (queues, thread) = (WriteQueues::default(), ThreadId(1));
        for _ in 0..LONGEST_QUEUE {
            queues.push(thread, pending()).expect("there is room");
        }
        assert!(matches!(queues.push(thread, pending()), Err(Error::Busy)));
    }
}
