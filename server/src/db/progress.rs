//! How far the sealing job is: a row that the job saves and others take away to have it start over.
//!
//! A save replaces what this run saved last and nothing else, so a run whose row was taken away finds out with its next
//! save, and what somebody else asked for is not forgotten.

use super::edit::Settled;
use super::{Db, Error, decode};
use crate::keys::{Key, Partition, StoreRow};
use crate::rows::{JobProgress, Row as _};
use crate::store::{Commit, Op};

const PROGRESS: Key = Key::Store(StoreRow::Sealing);

/// A run of the job.
pub(super) struct Run {
    pub(super) progress: JobProgress,
    /// What the store holds of it.
    saved: Option<Vec<u8>>,
}

impl Db {
    /// How far the job has come.
    pub async fn sealing_progress(&self) -> Result<Option<JobProgress>, Error> {
        self.row(PROGRESS).await
    }

    /// The run that is on record, if there is one.
    pub(super) async fn recorded_run(&self) -> Result<Run, Error> {
        let saved = self.0.store.get(&PROGRESS).await?;
        let progress = saved.as_deref().map(|bytes| decode(PROGRESS, bytes)).transpose()?;
        Ok(Run { progress: progress.unwrap_or_default(), saved })
    }

    /// Records how far the run has come. False if its record was taken away or replaced meanwhile.
    pub(super) async fn save_run(&self, run: &mut Run) -> Result<bool, Error> {
        let (threads, users) = (run.progress.threads as f64, run.progress.users as f64);
        metrics::gauge!("progressdb_sealing_job_threads").set(threads);
        metrics::gauge!("progressdb_sealing_job_users").set(users);
        let writing = self.begin_write();
        let value = run.progress.encode(writing.format());
        let commit = Commit::replace(PROGRESS, run.saved.take(), value.clone());
        run.saved = Some(value);
        Ok(self.commit(commit).await? == Settled::Committed)
    }

    /// Has the job start over, also one that is under way.
    pub(super) async fn forget_run(&self) -> Result<(), Error> {
        self.commit(Commit::of(Partition::Store, vec![Op::Delete(PROGRESS)])).await?;
        Ok(())
    }
}

impl Db {
    /// The run has to visit it: a thread that was created since the run began was created in its epoch. The clocks of servers
    /// that share a store differ, so that there no time says so.
    pub(super) fn concerns(&self, run: &JobProgress, partition: Partition) -> bool {
        let is_newer = matches!(partition, Partition::Thread(thread) if thread.0 > run.started);
        !is_newer || self.0.store.is_shared()
    }
}

impl JobProgress {
    /// Counts a visit, behind which the next run goes on.
    pub(super) fn note(&mut self, partition: Partition, visit: super::Visit) {
        self.position = Some(partition.encode());
        match partition {
            Partition::Thread(_) => self.threads += 1,
            _ => self.users += 1,
        }
        self.values += visit.values;
        self.keys += visit.keys;
    }
}
