//! Lanes: writes to one thread, one after the other; appends that wait go together.
//!
//! A thread that is written to has a lane, and a task that empties it. While a commit of the thread is in flight,
//! further writes gather in its lane and become the next commit, so that a busy thread costs no more conflicts than
//! a quiet one. The task is not the caller's: a client that hangs up in the middle harms nobody.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::change::{Change, Draft, commit_change};
use super::detached::Detached;
use super::{Caller, Db, Error, NewMessage, WriteOptions, Written, access, idempotency, messages};
use crate::keys::{Hash16, Key, ThreadRow};
use crate::model::{Message, MessageContent, MessageId, MessageKey, ThreadId};
use crate::rows::{self, MessageRow};
use crate::store::{Outcome, SecondaryWrite};

/// The most appends that one commit takes: enough for the device, few enough for a group of many threads.
const APPENDS_A_COMMIT: usize = 256;
const BYTES_A_COMMIT: usize = 1 << 20;
/// The most writes that wait for one thread.
const LANE_LIMIT: usize = 4_096;
const SHARDS: usize = 64;

/// What a write to a thread did: which message, if it was one, and its revision.
pub(super) type Answer = Written<Option<MessageId>>;

/// A write that waits for its turn.
pub(super) struct Job {
    pub(super) caller: Caller,
    pub(super) user: Hash16,
    pub(super) change: Change,
    pub(super) options: WriteOptions,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

impl Job {
    fn bytes(&self) -> usize {
        match &self.change {
            Change::Append(message) => message.content.body.get().len(),
            _ => BYTES_A_COMMIT,
        }
    }

    pub(super) fn answer(self, answer: Result<Answer, Error>) {
        // A caller that no longer listens hung up after its write was taken.
        let _ = self.answer.send(answer);
    }
}

/// The lanes of all threads that are being written to.
pub(super) struct Lanes([Mutex<HashMap<ThreadId, VecDeque<Job>>>; SHARDS]);

impl Default for Lanes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Lanes {
    fn shard(&self, thread: ThreadId) -> MutexGuard<'_, HashMap<ThreadId, VecDeque<Job>>> {
        // Thread ids are times; their low bits spread well enough after a multiplication.
        let index = thread.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let shard = &self.0[usize::try_from(index).expect("six bits")];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the job into its thread's lane; true if nobody empties the lane yet.
    fn push(&self, thread: ThreadId, job: Job) -> Result<bool, Error> {
        match self.shard(thread).entry(thread) {
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::from([job]));
                Ok(true)
            }
            Entry::Occupied(mut lane) => {
                if lane.get().len() >= LANE_LIMIT {
                    metrics::counter!("progressdb_lane_full_total").increment(1);
                    return Err(Error::Busy);
                }
                lane.get_mut().push_back(job);
                Ok(false)
            }
        }
    }

    /// What goes into the next commit: a run of appends, or one other write. None ends the lane.
    fn next(&self, thread: ThreadId) -> Option<Vec<Job>> {
        let mut shard = self.shard(thread);
        let lane = shard.get_mut(&thread)?;
        let mut bytes = 0;
        let fits = |job: &&Job| {
            bytes += job.bytes();
            matches!(job.change, Change::Append(_)) && bytes <= BYTES_A_COMMIT
        };
        let run = lane.iter().take(APPENDS_A_COMMIT).take_while(fits).count();
        let jobs: Vec<Job> = lane.drain(..run.max(1).min(lane.len())).collect();
        if jobs.is_empty() {
            shard.remove(&thread);
            return None;
        }
        Some(jobs)
    }

    /// Closes the lane if nothing waits in it.
    fn close(&self, thread: ThreadId) -> bool {
        let mut shard = self.shard(thread);
        let is_empty = shard.get(&thread).is_none_or(VecDeque::is_empty);
        if is_empty {
            shard.remove(&thread);
        }
        is_empty
    }
}

/// Closes the lane if the task that empties it panics: who waits in it is refused, and the next write opens it anew.
struct OpenLane<'a>(&'a Lanes, ThreadId);

impl Drop for OpenLane<'_> {
    fn drop(&mut self) {
        // A lane that was found empty is gone already; the one of this name may be somebody else's by now.
        if std::thread::panicking() {
            self.0.shard(self.1).remove(&self.1);
        }
    }
}

impl Db {
    /// Appends a message.
    pub async fn create_message(
        &self,
        caller: &Caller,
        thread: ThreadId,
        message: NewMessage,
        options: WriteOptions,
    ) -> Result<Written<MessageKey>, Error> {
        let answer = self.write(caller, thread, Change::Append(message), options).await?;
        message_written(thread, answer)
    }

    /// Puts a change into the thread's lane and waits until it is on disk or refused.
    pub(super) async fn write(
        &self,
        caller: &Caller,
        thread: ThreadId,
        change: Change,
        options: WriteOptions,
    ) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job { caller: caller.clone(), user: self.hash_user(&caller.user), change, options, answer };
        if self.0.lanes.push(thread, job)? {
            Detached::new(open_lane(self.clone(), thread)).await;
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }
}

/// The answer to a write that concerned a message.
pub(super) fn message_written(thread: ThreadId, answer: Answer) -> Result<Written<MessageKey>, Error> {
    let id = answer.key.ok_or(Error::IdempotencyMismatch)?;
    Ok(Written { key: MessageKey::new(thread, id), revision: answer.revision, replayed: answer.replayed })
}

/// Does the first commit of a lane; what gathered meanwhile is another task's, so that the first caller gets its answer.
async fn open_lane(db: Db, thread: ThreadId) {
    if empty_once(&db, thread).await && !db.0.lanes.close(thread) {
        tokio::spawn(empty_lane(db, thread));
    }
}

async fn empty_lane(db: Db, thread: ThreadId) {
    while empty_once(&db, thread).await {}
}

/// One commit of what waits in the lane; false if nothing did, which closes it.
async fn empty_once(db: &Db, thread: ThreadId) -> bool {
    let _open = OpenLane(&db.0.lanes, thread);
    let Some(mut jobs) = db.0.lanes.next(thread) else { return false };
    match jobs.pop() {
        Some(job) if !matches!(job.change, Change::Append(_)) => {
            let answer = commit_change(db, thread, &job).await;
            job.answer(answer);
        }
        Some(last) => {
            jobs.push(last);
            commit_appends(db, thread, jobs).await;
        }
        None => {}
    }
    true
}

/// Commits the appends that may happen and answers all.
async fn commit_appends(db: &Db, thread: ThreadId, mut jobs: Vec<Job>) {
    loop {
        let read = match db.head(thread).await {
            Ok(Some(read)) => read,
            Ok(None) => return answer_all(jobs, || Error::AccessDenied),
            Err(error) => return answer_first(jobs, error),
        };
        let mut batch = Batch::new(db, thread, Draft::new(db, thread, &read));
        for job in jobs {
            batch.take(job).await;
        }
        let Batch { draft, accepted, duplicates, .. } = batch;
        if accepted.is_empty() {
            return;
        }
        let after = draft.head;
        match draft.commit(accepted.len()).await {
            Ok(Outcome::Committed) => {
                let messages = accepted.iter().map(|accepted| accepted.message.clone());
                db.0.tails.append(thread, &read.head, &after, messages);
                return answer_batch(accepted, duplicates);
            }
            Ok(Outcome::Conflict { .. }) => {
                jobs = all_jobs(accepted, duplicates);
            }
            Ok(Outcome::Unknown) => return answer_first(all_jobs(accepted, duplicates), Error::Unavailable),
            Err(error) => return answer_first(all_jobs(accepted, duplicates), error),
        }
    }
}

/// An append that a commit carries.
struct Accepted {
    job: Job,
    message: Arc<Message>,
}

fn all_jobs(accepted: Vec<Accepted>, duplicates: Vec<(Job, Answer)>) -> Vec<Job> {
    accepted.into_iter().map(|accepted| accepted.job).chain(duplicates.into_iter().map(|(job, _)| job)).collect()
}

fn answer_batch(accepted: Vec<Accepted>, duplicates: Vec<(Job, Answer)>) {
    for Accepted { job, message } in accepted {
        job.answer(Ok(Written { key: Some(message.id), revision: message.revision, replayed: false }));
    }
    for (job, answer) in duplicates {
        job.answer(Ok(Written { replayed: true, ..answer }));
    }
}

fn answer_all(jobs: Vec<Job>, error: impl Fn() -> Error) {
    for job in jobs {
        job.answer(Err(error()));
    }
}

/// The cause goes to the first; what the others need to know of it is whether to try again.
fn answer_first(jobs: Vec<Job>, error: Error) {
    let mut cause = Some(error);
    for job in jobs {
        let error = match &cause {
            Some(Error::Busy) => Error::Busy,
            Some(Error::DiskFull) => Error::DiskFull,
            Some(Error::ClockHeld(held)) => Error::ClockHeld(*held),
            Some(Error::Corrupt { key }) => Error::Corrupt { key: key.clone() },
            Some(Error::KmsUnavailable { message }) => Error::KmsUnavailable { message: message.clone() },
            _ => cause.take().unwrap_or(Error::Stopped),
        };
        job.answer(Err(error));
    }
}

/// The appends that one commit will carry.
struct Batch<'a> {
    db: &'a Db,
    thread: ThreadId,
    draft: Draft<'a>,
    accepted: Vec<Accepted>,
    /// Repetitions, within this batch, of an accepted one.
    duplicates: Vec<(Job, Answer)>,
    records: HashMap<Hash16, rows::Idempotency>,
}

impl<'a> Batch<'a> {
    fn new(db: &'a Db, thread: ThreadId, draft: Draft<'a>) -> Self {
        let (accepted, duplicates, records) = (Vec::new(), Vec::new(), HashMap::new());
        Self { db, thread, draft, accepted, duplicates, records }
    }

    /// Makes the job part of the commit, or answers it.
    async fn take(&mut self, job: Job) {
        match self.append(&job).await {
            Ok(Verdict::Accepted(message)) => self.accepted.push(Accepted { job, message }),
            Ok(Verdict::Repeated(answer)) => self.duplicates.push((job, answer)),
            Ok(Verdict::Answered(answer)) => job.answer(Ok(answer)),
            Err(error) => job.answer(Err(error)),
        }
    }

    async fn append(&mut self, job: &Job) -> Result<Verdict, Error> {
        let Change::Append(new) = &job.change else { unreachable!("a batch is made of appends") };
        access::check_access(&self.draft.head, job.user)?;
        if let Some(wanted) = &job.options.idempotency {
            let name = self.db.hash_idempotency(&job.caller, wanted);
            if let Some(record) = self.records.get(&name) {
                let same = self.db.check_record(Some(*record), wanted)?;
                return Ok(same.map_or(Verdict::Repeated(replay(record)), |record| Verdict::Repeated(replay(&record))));
            }
            let record = self.db.row(Key::Thread(self.thread, ThreadRow::Idempotency(name))).await?;
            if let Some(record) = self.db.check_record(record, wanted)? {
                return Ok(Verdict::Answered(replay(&record)));
            }
        }
        access::check_alive(&self.draft.head)?;
        self.draft.prepare().await?;
        let reply_to = self.find_parent(new.parent).await?;
        let ts = self.draft.next_message_timestamp()?;
        let id = MessageId { ts, seq: self.draft.head.next_seq };
        let content = MessageContent { reply_to, ..new.content.clone() };
        let row = MessageRow { revision: 1, updated: ts, author: job.caller.user.clone(), content };
        self.draft.append(id, &row);
        if let Some(wanted) = &job.options.idempotency {
            let name = self.db.hash_idempotency(&job.caller, wanted);
            let record = idempotency::record(wanted, self.thread, Some(id), 1, ts);
            self.draft.record(name, &record, ts);
            self.records.insert(name, record);
        }
        Ok(Verdict::Accepted(Arc::new(messages::assemble(self.thread, id, row))))
    }

    /// The message that `parent` names; it may have been deleted since.
    async fn find_parent(&self, parent: Option<MessageKey>) -> Result<Option<MessageId>, Error> {
        let Some(parent) = parent else { return Ok(None) };
        if parent.thread != self.thread {
            return Err(Error::ParentNotFound);
        }
        for kind in [ThreadRow::Message, ThreadRow::Deleted] {
            if let Some((id, _)) = self.db.find_row(parent, kind).await? {
                return Ok(Some(id));
            }
        }
        Err(Error::ParentNotFound)
    }
}

enum Verdict {
    /// Part of the commit.
    Accepted(Arc<Message>),
    /// Answered with the commit, of which it repeats a part.
    Repeated(Answer),
    /// Was committed earlier.
    Answered(Answer),
}

/// The first answer again.
pub(super) fn replay(record: &rows::Idempotency) -> Answer {
    Written { key: record.message, revision: record.revision, replayed: true }
}

impl Draft<'_> {
    fn append(&mut self, id: MessageId, row: &MessageRow) {
        self.put(ThreadRow::Message(id), row);
        self.head.next_seq += 1;
        self.head.live += 1;
        self.head.last_message = id.ts;
        self.head.updated = id.ts;
        self.created_messages += 1;
    }

    /// Makes the answer part of the commit.
    pub(super) fn record(&mut self, name: Hash16, record: &rows::Idempotency, ts: u64) {
        self.put(ThreadRow::Idempotency(name), record);
        let side: SecondaryWrite = idempotency::expire_in_thread(self.format(), self.thread, ts, name);
        self.secondary.push(side);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    fn job() -> Job {
        let caller = Caller { user: UserId::parse("ann").expect("a valid id") };
        let (user, options) = (Hash16([0; 16]), WriteOptions::default());
        Job { caller, user, change: Change::DeleteThread, options, answer: oneshot::channel().0 }
    }

    /// Between the end of a lane and the end of its task another write may open the lane anew.
    #[test]
    fn the_end_of_a_task_leaves_the_lane_that_was_opened_since() {
        let (lanes, thread) = (Lanes::default(), ThreadId(1));
        assert!(lanes.push(thread, job()).expect("there is room"), "the first write opens the lane");
        let open = OpenLane(&lanes, thread);
        assert!(!lanes.push(thread, job()).expect("there is room"), "the second one waits in it");
        assert_eq!([0; 3].map(|_| lanes.next(thread).map_or(0, |jobs| jobs.len())), [1, 1, 0]);
        assert!(lanes.push(thread, job()).expect("there is room"), "an emptied lane is opened anew");
        drop(open);
        assert_eq!(lanes.next(thread).map(|jobs| jobs.len()), Some(1));
    }

    #[test]
    fn a_task_that_panics_leaves_no_lane_that_nobody_empties() {
        let (lanes, thread) = (Lanes::default(), ThreadId(1));
        lanes.push(thread, job()).expect("there is room");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _open = OpenLane(&lanes, thread);
            panic!("as the test asked");
        }));
        assert!(panicked.is_err());
        assert!(lanes.push(thread, job()).expect("there is room"), "the next write opens the lane");
    }

    #[test]
    fn a_full_lane_refuses() {
        let (lanes, thread) = (Lanes::default(), ThreadId(1));
        for _ in 0..LANE_LIMIT {
            lanes.push(thread, job()).expect("there is room");
        }
        assert!(matches!(lanes.push(thread, job()), Err(Error::Busy)));
    }
}
