//! The committer: the one place that writes, one group at a time.
//!
//! A thread of its own drains whatever waits, checks each commit's expectation against the rows that earlier commits
//! of the same group leave, writes one batch, syncs once, and only then answers: nothing is visible or acknowledged
//! before it is on disk. There is no artificial delay; while one group syncs, the next one gathers.
//!
//! The first failed write or sync ends it for good: what the page cache holds then is unknown, and a second try could
//! report success for data that is gone. Everything waiting is refused, the server reports and exits.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use metrics::Histogram;
use moka::sync::Cache;
use rocksdb::{BoundColumnFamily, ReadTier, WriteBatch, WriteOptions};
use tokio::sync::{oneshot, watch};

use super::family::Family;
use super::rocks::{Inner, ReadFailure};
use super::{Commit, Error, Op, Outcome, SecondaryWrite};
use crate::clock::monotonic;
use crate::keys::{Key, ThreadRow};
use crate::model::ThreadId;
use crate::rows::{CounterValue, EVERY_FORMAT, Number, Row as _};

const GROUP_BYTES: usize = 4 << 20;
const GROUP_COMMITS: usize = 4_096;
const QUEUE_BYTES: usize = 64 << 20;
const QUEUE_COMMITS: usize = 16_384;

/// The heads, as last written: what nearly every commit has a precondition about.
///
/// Only the committer fills it, after its write, so it can never hold an older value than the store.
pub(super) struct HeadCache(Cache<ThreadId, Arc<[u8]>>);

impl HeadCache {
    pub(super) fn new(bytes: u64) -> Self {
        const BYTES_AN_ENTRY: u64 = 256;
        Self(Cache::new(bytes / BYTES_AN_ENTRY))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        match key {
            Key::Thread(thread, ThreadRow::Head) => self.0.get(thread).map(|head| head.to_vec()),
            _ => None,
        }
    }

    fn note(&self, key: &Key, value: Option<&[u8]>) {
        if let Key::Thread(thread, ThreadRow::Head) = key {
            match value {
                Some(value) => self.0.insert(*thread, value.into()),
                None => self.0.invalidate(thread),
            }
        }
    }
}

pub(super) struct Committer {
    writer: Arc<Writer>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// The thread sleeps.
    idle: bool,
    closed: bool,
}

struct Waiting {
    commit: Commit,
    bytes: usize,
    since: Instant,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

impl Committer {
    pub(super) fn start(inner: Arc<Inner>) -> Self {
        let writer = Arc::new(Writer {
            inner,
            queue: Mutex::default(),
            arrival: Condvar::new(),
            stopped: watch::Sender::new(None),
            measures: Measures::new(),
        });
        let of_thread = writer.clone();
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || of_thread.run())
            .expect("a process that starts can start a thread");
        Self { writer, thread: Mutex::new(Some(thread)) }
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        let bytes = size_of_commit(&commit);
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { commit, bytes, since: monotonic(), answer };
        let wake = {
            let mut queue = self.writer.lock();
            if queue.closed {
                return Err(Error::Stopped(self.stopped().unwrap_or_else(|| "shutting down".into())));
            }
            if queue.waiting.len() >= QUEUE_COMMITS || queue.bytes + bytes > QUEUE_BYTES {
                metrics::counter!("progressdb_commit_queue_full_total").increment(1);
                return Err(Error::Busy);
            }
            queue.bytes += bytes;
            queue.waiting.push(waiting);
            std::mem::take(&mut queue.idle)
        };
        if wake {
            self.writer.arrival.notify_one();
        }
        answered.await.unwrap_or_else(|_| Err(Error::Stopped("the committer ended".into())))
    }

    /// Why it takes no more commits, after a failure.
    pub(super) fn stopped(&self) -> Option<String> {
        self.writer.stopped.borrow().clone()
    }

    pub(super) fn failed(&self) -> bool {
        self.writer.stopped.borrow().is_some()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.writer.stopped.subscribe()
    }

    /// Takes no more, finishes what waits, and returns when the thread has ended.
    pub(super) fn close(&self) {
        self.writer.lock().closed = true;
        self.writer.arrival.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            self.writer.stopped.send_replace(Some("the committer panicked".into()));
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

struct Measures {
    wait: Histogram,
    build: Histogram,
    sync: Histogram,
    group: Histogram,
}

impl Measures {
    fn new() -> Self {
        Self {
            wait: metrics::histogram!("progressdb_commit_queue_seconds"),
            build: metrics::histogram!("progressdb_commit_build_seconds"),
            sync: metrics::histogram!("progressdb_commit_sync_seconds"),
            group: metrics::histogram!("progressdb_commit_group_size"),
        }
    }
}

struct Writer {
    inner: Arc<Inner>,
    queue: Mutex<Queue>,
    arrival: Condvar,
    stopped: watch::Sender<Option<String>>,
    measures: Measures,
}

type Overlay = HashMap<Key, Option<Vec<u8>>>;

/// Stops the store if the thread panics: what the batch left behind is unknown then, and nobody else would answer those
/// who wait.
struct StopOnPanic<'a>(&'a Writer);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the committer panicked", Vec::new());
        }
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of the committer.
    fn run(&self) {
        let _guard = StopOnPanic(self);
        let families = Families::of(&self.inner);
        while let Some(mut waiting) = self.next() {
            while !waiting.is_empty() {
                let rest = waiting.split_off(group_length(&waiting));
                let group = std::mem::replace(&mut waiting, rest);
                if let Err(reason) = self.commit_group(group, &families) {
                    self.fail(&reason, waiting);
                    return;
                }
            }
        }
    }

    /// Everything that waits; none when the queue was closed and is empty.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.arrival.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.waiting))
    }

    fn commit_group(&self, group: Vec<Waiting>, families: &Families<'_>) -> Result<(), String> {
        let started = monotonic();
        self.measures.group.record(u32::try_from(group.len()).unwrap_or(u32::MAX));
        if let Some(oldest) = group.first() {
            self.measures.wait.record(started.duration_since(oldest.since));
        }
        if self.inner.disk_full() {
            metrics::counter!("progressdb_commits_refused_total", "reason" => "disk_full")
                .increment(group.len() as u64);
            answer_all(group, &Error::DiskFull);
            return Ok(());
        }
        let mut overlay = Overlay::with_capacity(group.len() * 6);
        let mut batch = WriteBatch::default();
        let mut answers = Vec::with_capacity(group.len());
        for waiting in group {
            let outcome = self.apply(waiting.commit, &mut overlay, &mut batch, families);
            answers.push((waiting.answer, outcome));
        }
        for (key, value) in &overlay {
            families.put(&mut batch, key, value.as_deref());
        }
        let built = monotonic();
        self.measures.build.record(built.duration_since(started));
        let mut sync = WriteOptions::default();
        sync.set_sync(true);
        if !batch.is_empty()
            && let Err(error) = self.inner.db.write_opt(batch, &sync).and_then(|()| self.inner.follow_log())
        {
            let reason = error.into_string();
            for (answer, _) in answers {
                let _ = answer.send(Err(Error::Stopped(reason.clone())));
            }
            return Err(reason);
        }
        self.measures.sync.record(built.elapsed());
        for (key, value) in &overlay {
            self.inner.heads.note(key, value.as_deref());
        }
        for (answer, outcome) in answers {
            // A caller that no longer listens left after its commit was queued; the commit stands.
            let _ = answer.send(outcome);
        }
        Ok(())
    }

    fn apply(
        &self,
        commit: Commit,
        overlay: &mut Overlay,
        batch: &mut WriteBatch,
        families: &Families<'_>,
    ) -> Result<Outcome, Error> {
        if let Some(precondition) = &commit.precondition {
            let current = self.current(&precondition.key, overlay)?;
            if current != precondition.value {
                return Ok(Outcome::Conflict { current });
            }
        }
        // Everything that can fail comes before the first change to the overlay.
        let mut counted = Vec::new();
        for write in &commit.secondary {
            match write {
                SecondaryWrite::Add(key, delta) => {
                    let current = self.current(key, overlay)?.map_or(Ok(CounterValue(0)), |v| CounterValue::decode(&v));
                    let current = current.map_err(|_| Error::Read(format!("counter {key} is damaged")))?;
                    counted.push((*key, CounterValue(current.0 + delta).encode(EVERY_FORMAT)));
                }
                SecondaryWrite::Raise(key, to) => {
                    let current = self.current(key, overlay)?.map_or(Ok(Number(0)), |v| Number::decode(&v));
                    let current = current.map_err(|_| Error::Read(format!("number {key} is damaged")))?;
                    counted.push((*key, Number(current.0.max(*to)).encode(EVERY_FORMAT)));
                }
                SecondaryWrite::Put(..) | SecondaryWrite::Delete(_) => {}
            }
        }
        for op in commit.ops {
            match op {
                Op::Put(key, value) => drop(overlay.insert(key, Some(value))),
                Op::Delete(key) => drop(overlay.insert(key, None)),
                // Alone in its group (`group_length`): what stands in the batch goes before what the overlay adds.
                Op::DeleteRange(range) => families.delete_range(batch, &range),
            }
        }
        for write in commit.secondary {
            match write {
                SecondaryWrite::Put(key, value) => drop(overlay.insert(key, Some(value))),
                SecondaryWrite::Delete(key) => drop(overlay.insert(key, None)),
                SecondaryWrite::Add(..) | SecondaryWrite::Raise(..) => {}
            }
        }
        overlay.extend(counted.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(Outcome::Committed)
    }

    fn current(&self, key: &Key, overlay: &Overlay) -> Result<Option<Vec<u8>>, Error> {
        if let Some(value) = overlay.get(key) {
            return Ok(value.clone());
        }
        if let Some(head) = self.inner.heads.get(key) {
            return Ok(Some(head));
        }
        self.inner.get(&key.encode(), ReadTier::All).map_err(|failure| match failure {
            ReadFailure::Engine(error) => error,
            ReadFailure::NotInMemory => Error::Read("a read of every tier was incomplete".into()),
        })
    }

    fn fail(&self, reason: &str, waiting: Vec<Waiting>) {
        tracing::error!(event = "store.stopped", reason, "a write failed; no further write is taken");
        let mut queue = self.lock();
        queue.closed = true;
        let behind = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.stopped.send_replace(Some(reason.to_owned()));
        answer_all(waiting, &Error::Stopped(reason.to_owned()));
        answer_all(behind, &Error::Stopped(reason.to_owned()));
    }
}

/// How many of the commits make the next group: within the limits, and a range deletion by itself, because the
/// overlay knows single rows only.
fn group_length(waiting: &[Waiting]) -> usize {
    let deletes_range = |w: &Waiting| w.commit.ops.iter().any(|op| matches!(op, Op::DeleteRange(_)));
    let mut bytes = 0;
    for (index, next) in waiting.iter().enumerate().take(GROUP_COMMITS) {
        bytes += next.bytes;
        if deletes_range(next) {
            return index.max(1);
        }
        if bytes > GROUP_BYTES {
            return index.max(1);
        }
    }
    waiting.len().min(GROUP_COMMITS)
}

fn answer_all(waiting: Vec<Waiting>, error: &Error) {
    for waiting in waiting {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

fn size_of_commit(commit: &Commit) -> usize {
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

/// The handles of the families, looked up once.
struct Families<'a>(Vec<Arc<BoundColumnFamily<'a>>>);

impl<'a> Families<'a> {
    fn of(inner: &'a Inner) -> Self {
        Self(Family::ALL.map(|family| inner.family(family)).into())
    }

    fn handle(&self, family: Family) -> &Arc<BoundColumnFamily<'a>> {
        &self.0[family as usize]
    }

    fn put(&self, batch: &mut WriteBatch, key: &Key, value: Option<&[u8]>) {
        let key = key.encode();
        let handle = self.handle(Family::of(&key));
        match value {
            Some(value) => batch.put_cf(handle, key, value),
            None => batch.delete_cf(handle, key),
        }
    }

    fn delete_range(&self, batch: &mut WriteBatch, range: &crate::keys::KeyRange) {
        for (family, part) in Family::split(range) {
            batch.delete_range_cf(self.handle(family), part.start, part.end);
        }
    }
}
