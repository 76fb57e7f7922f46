//! The commits that wait for the committer: within bounds, in order of arrival, taken all at once; and the few tasks that
//! run between two groups.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::clock::monotonic;
use crate::store::{Commit, Error, Op, Outcome, SecondaryWrite};

const MAX_BYTES: usize = 64 << 20;
const MAX_COMMITS: usize = 16_384;

/// What the caller of a commit is told.
pub(super) type Answer = Result<Outcome, Error>;

/// A commit that waits, and its caller.
pub(super) struct Waiting {
    pub(super) commit: Commit,
    pub(super) bytes: usize,
    pub(super) since: Instant,
    pub(super) caller: oneshot::Sender<Answer>,
}

/// What runs on the committer's thread while nothing is written.
pub(super) type Task = Box<dyn FnOnce() + Send>;

/// All that waited.
pub(super) struct Drained {
    pub(super) waiting: Vec<Waiting>,
    /// They come before those commits.
    pub(super) tasks: Vec<Task>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrival: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    tasks: Vec<Task>,
    bytes: usize,
    /// The committer sleeps.
    idle: bool,
    /// Why nothing more is taken.
    closed: Option<String>,
}

impl Queue {
    /// Puts the commit behind the others; the answer comes when it is on disk.
    pub(super) fn push(&self, commit: Commit) -> Result<oneshot::Receiver<Answer>, Error> {
        let bytes = size_of(&commit);
        let (caller, answer) = oneshot::channel();
        let waiting = Waiting { commit, bytes, since: monotonic(), caller };
        let wake = {
            let mut state = self.lock();
            if let Some(why) = &state.closed {
                return Err(Error::Stopped(why.clone()));
            }
            if state.waiting.len() >= MAX_COMMITS || state.bytes + bytes > MAX_BYTES {
                metrics::counter!("progressdb_commit_queue_full_total").increment(1);
                return Err(Error::Busy);
            }
            state.bytes += bytes;
            state.waiting.push(waiting);
            std::mem::take(&mut state.idle)
        };
        if wake {
            self.arrival.notify_one();
        }
        Ok(answer)
    }

    /// Has the committer run the task before the commits that come later. Whoever has one run waits for it, and there are
    /// few of them.
    pub(super) fn push_task(&self, task: Task) -> Result<(), Error> {
        let wake = {
            let mut state = self.lock();
            if let Some(why) = &state.closed {
                return Err(Error::Stopped(why.clone()));
            }
            state.tasks.push(task);
            std::mem::take(&mut state.idle)
        };
        if wake {
            self.arrival.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, once there is something; none when the queue was closed and is empty.
    pub(super) fn drain(&self) -> Option<Drained> {
        let mut state = self.lock();
        while state.waiting.is_empty() && state.tasks.is_empty() {
            if state.closed.is_some() {
                return None;
            }
            state.idle = true;
            state = self.arrival.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.bytes = 0;
        let (waiting, tasks) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.tasks));
        Some(Drained { waiting, tasks })
    }

    /// Takes no more; what waits is still drained. An earlier reason stands.
    pub(super) fn close(&self, why: &str) {
        self.lock().closed.get_or_insert_with(|| why.to_owned());
        self.arrival.notify_one();
    }

    /// Takes no more, for a reason that goes before any other; what waits is handed over to be refused.
    pub(super) fn fail(&self, why: &str) -> Vec<Waiting> {
        let mut state = self.lock();
        state.closed = Some(why.to_owned());
        // Who waits for one sees that it is gone.
        state.tasks.clear();
        std::mem::take(&mut state.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what a commit takes in a batch.
fn size_of(commit: &Commit) -> usize {
    const BYTES_A_ROW: usize = 64;
    let ops = commit.ops.iter().map(|op| match op {
        Op::Put(_, value) => value.len(),
        Op::Delete(_) | Op::DeleteRange(_) => 0,
    });
    let secondary = commit.secondary.iter().map(|write| match write {
        SecondaryWrite::Put(_, value) => value.len(),
        SecondaryWrite::Delete(_) | SecondaryWrite::Add(..) | SecondaryWrite::Raise(..) => 0,
    });
    ops.chain(secondary).map(|bytes| bytes + BYTES_A_ROW).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Key, Partition, StoreRow};

    fn commit(bytes: usize) -> Commit {
        let ops = vec![Op::Put(Key::Store(StoreRow::HighestTime), vec![0; bytes])];
        Commit::of(Partition::Store, ops)
    }

    #[test]
    fn what_waits_is_drained_together_also_after_the_close() {
        let queue = Queue::default();
        let _answers = [1, 2, 3].map(|bytes| queue.push(commit(bytes)).expect("there is room"));
        queue.close("shutting down");
        assert!(matches!(queue.push(commit(4)), Err(Error::Stopped(why)) if why == "shutting down"));
        let drained = queue.drain().expect("three wait");
        let lengths: Vec<_> =
            drained.waiting.iter().map(|waiting| size_of(&waiting.commit) - size_of(&commit(0))).collect();
        assert_eq!(lengths, [1, 2, 3]);
        assert!(queue.drain().is_none());
    }

    #[test]
    fn a_commit_beyond_the_bounds_is_refused_until_the_queue_is_drained() {
        let queue = Queue::default();
        let _answers: Vec<_> = (0..MAX_COMMITS).map(|_| queue.push(commit(0)).expect("there is room")).collect();
        assert_eq!(queue.push(commit(0)).err(), Some(Error::Busy));
        assert_eq!(queue.drain().map(|drained| drained.waiting.len()), Some(MAX_COMMITS));
        let _half = queue.push(commit(MAX_BYTES / 2)).expect("there is room");
        assert_eq!(queue.push(commit(MAX_BYTES / 2)).err(), Some(Error::Busy));
        let _rest = queue.push(commit(MAX_BYTES / 4)).expect("there is room");
    }

    #[test]
    fn tasks_are_drained_with_the_commits_and_refused_after_the_close() {
        let queue = Queue::default();
        queue.push_task(Box::new(|| {})).expect("taken");
        let Drained { waiting, tasks } = queue.drain().expect("one task waits");
        assert_eq!((waiting.len(), tasks.len()), (0, 1));
        let (held, gone) = std::sync::mpsc::channel::<()>();
        queue.push_task(Box::new(move || drop(held))).expect("taken");
        queue.fail("a write failed");
        assert!(gone.recv().is_err(), "it will never run, and who waits for it is told");
        let refused = queue.push_task(Box::new(|| {})).err();
        assert_eq!(refused, Some(Error::Stopped("a write failed".into())));
        assert!(queue.drain().is_none());
    }

    #[test]
    fn the_first_reason_stands_unless_a_write_failed() {
        let why = |queue: &Queue| queue.push(commit(0)).err();
        let queue = Queue::default();
        let _waits = queue.push(commit(0)).expect("there is room");
        queue.close("first");
        queue.close("second");
        assert_eq!(why(&queue), Some(Error::Stopped("first".into())));
        assert_eq!(queue.fail("a write failed").len(), 1);
        queue.close("third");
        assert_eq!(why(&queue), Some(Error::Stopped("a write failed".into())));
        assert!(queue.drain().is_none());
    }
}
