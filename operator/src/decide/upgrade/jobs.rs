//! The Jobs of former steps go. An operator may die between the word that a step is done and the end of its Jobs, and what
//! a Job has found out is true for its own step only: both times that a server is stopped its data is looked at by a Job of
//! the same name.

use super::At;
use crate::{crd::UpgradeStep, decide::Write, objects::UpgradeJob};

/// Deletes the Jobs that are there and that this step has nothing to do with.
pub(super) fn former(at: At<'_>) -> Vec<Write> {
    let ours = of_step(at.record.step);
    let former: Vec<UpgradeJob> = UpgradeJob::ALL.into_iter().filter(|job| !ours.contains(job)).collect();
    at.without_jobs(&former)
}

fn of_step(step: UpgradeStep) -> &'static [UpgradeJob] {
    use UpgradeStep::*;
    match step {
        Preflight => &[UpgradeJob::Version, UpgradeJob::Schema, UpgradeJob::SchemaApply],
        SnapshotOnline => &[UpgradeJob::Backup],
        FinalizeSnapshot => &[UpgradeJob::FinalBackup],
        Rehearse => &[UpgradeJob::RehearseOld, UpgradeJob::RehearseNew, UpgradeJob::RehearseFinalize],
        Drain | FinalizeDrain => &[UpgradeJob::Inspect],
        MetricGate => &[UpgradeJob::Gate],
        FinalizeMigrate => &[UpgradeJob::Finalize],
        RollbackRestore => &[UpgradeJob::InspectBack, UpgradeJob::Identity],
        _ => &[],
    }
}
