//! The committer: the one place that writes, one group at a time.
//!
//! A thread of its own drains whatever waits, checks each commit's precondition against the rows that earlier commits
//! of the same group leave, builds one batch, writes and syncs it once, and only then answers: nothing is visible or
//! acknowledged before it is on disk. There is no artificial delay; while one group syncs, the next one gathers.
//!
//! Between two groups it runs what must not meet a write, such as the cut of a checkpoint.
//!
//! The first failed write or sync ends it for good: what the page cache holds then is unknown, and a second try could
//! report success for data that is gone. Everything that waits is refused.

mod group;
mod queue;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use metrics::Histogram;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::group::{Families, Group};
use self::queue::{Answer, Drained, Queue, Waiting};
use super::database::Database;
use crate::clock::monotonic;
use crate::store::{Commit, Error, Outcome};

/// The queue and the thread that empties it, which ends when this is dropped.
pub(super) struct Committer {
    writer: Arc<Writer>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(super) fn start(database: Arc<Database>) -> Self {
        let writer = Arc::new(Writer {
            database,
            queue: Queue::default(),
            runtime: Handle::try_current().ok(),
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

    /// Commits; the answer comes when it is on disk. A caller that goes away meanwhile changes nothing about that.
    pub(super) async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        let answer = self.writer.queue.push(commit)?;
        answer.await.unwrap_or_else(|_| Err(Error::Stopped("the committer ended".into())))
    }

    /// Runs `task` between two groups: what was acknowledged before is in the database, and nobody writes meanwhile. Blocks
    /// until it is done.
    pub(super) fn between_groups<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = mpsc::sync_channel(1);
        self.writer.queue.push_task(Box::new(move || {
            // Its caller waits, unless it panicked.
            let _ = done.send(task());
        }))?;
        result.recv().map_err(|_| Error::Stopped(self.stopped().unwrap_or_else(|| "shutting down".into())))
    }

    /// Why it takes no more commits, after a failure.
    pub(super) fn stopped(&self) -> Option<String> {
        self.writer.stopped.borrow().clone()
    }

    /// Waits for the failure, and says why.
    pub(super) async fn wait_for_failure(&self) -> String {
        let mut stopped = self.writer.stopped.subscribe();
        let reason = stopped.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.expect("the sender lives as long as the committer")
    }

    /// Takes no more, finishes what waits, and returns when the thread has ended.
    pub(super) fn close(&self) {
        self.writer.queue.close("shutting down");
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
    database: Arc<Database>,
    queue: Queue,
    /// Where the callers wait; none in tests that have no runtime of their own.
    runtime: Option<Handle>,
    stopped: watch::Sender<Option<String>>,
    measures: Measures,
}

/// Stops the store if the thread panics: what the batch left behind is unknown then, and nobody else would answer those
/// who wait.
struct StopOnPanic<'a>(&'a Writer);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the committer panicked", Vec::new());
        }
    }
}

impl Writer {
    /// The thread of the committer.
    fn run(&self) {
        let _guard = StopOnPanic(self);
        let families = Families::of(&self.database);
        while let Some(Drained { mut waiting, tasks }) = self.queue.drain() {
            tasks.into_iter().for_each(|task| task());
            while !waiting.is_empty() {
                let rest = waiting.split_off(group::length(&waiting));
                let group = std::mem::replace(&mut waiting, rest);
                if let Err(reason) = self.commit_group(group, &families) {
                    self.stop(&reason, waiting);
                    return;
                }
            }
        }
    }

    /// Checks, builds, writes and syncs, answers. An error is fatal; the group's callers have been told.
    fn commit_group(&self, waiting: Vec<Waiting>, families: &Families<'_>) -> Result<(), String> {
        let started = monotonic();
        self.measures.group.record(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        if let Some(oldest) = waiting.first() {
            self.measures.wait.record(started.duration_since(oldest.since));
        }
        if self.database.disk_full() {
            metrics::counter!("progressdb_commits_refused_total", "reason" => "disk_full")
                .increment(waiting.len() as u64);
            refuse(waiting, &Error::DiskFull);
            return Ok(());
        }

        let mut group = Group::with_capacity(&self.database, waiting.len());
        let mut answers = Vec::with_capacity(waiting.len());
        for Waiting { commit, caller, .. } in waiting {
            answers.push((caller, group.add(commit)));
        }
        let batch = group.build(families);
        let built = monotonic();
        self.measures.build.record(built.duration_since(started));

        // Commits that conflict leave nothing to write.
        if !batch.is_empty()
            && let Err(error) = self.database.write_and_sync(batch)
        {
            let reason = error.into_string();
            for (caller, _) in answers {
                let _ = caller.send(Err(Error::Stopped(reason.clone())));
            }
            return Err(reason);
        }
        self.measures.sync.record(built.elapsed());

        group.note_heads(&self.database.heads);
        self.answer(answers);
        Ok(())
    }

    /// Tells the callers what became of their commits. They are tasks of one runtime, where a further task wakes them all at
    /// little cost; from this thread each would be woken by itself, while the next group waits.
    fn answer(&self, answers: Vec<(oneshot::Sender<Answer>, Answer)>) {
        let send = move || {
            for (caller, answer) in answers {
                // A caller that no longer listens left after its commit was queued; the commit stands.
                let _ = caller.send(answer);
            }
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(async move { send() })),
            None => send(),
        }
    }

    /// Takes no more commits, and refuses those that wait.
    fn stop(&self, reason: &str, waiting: Vec<Waiting>) {
        tracing::error!(event = "store.stopped", reason, "a write failed; no further write is taken");
        let behind = self.queue.fail(reason);
        self.stopped.send_replace(Some(reason.to_owned()));
        refuse(waiting, &Error::Stopped(reason.to_owned()));
        refuse(behind, &Error::Stopped(reason.to_owned()));
    }
}

fn refuse(waiting: Vec<Waiting>, error: &Error) {
    for Waiting { caller, .. } in waiting {
        let _ = caller.send(Err(error.clone()));
    }
}
