//! A backup of the engine, by the Job of the resource's owner: nobody else knows how. Where there is no such Job the record says
//! so, and the way back rests on the format.

use super::{
    super::{At, Next, Turn, gates::Ran, own_job::OwnJob, with_gate},
    finalize,
};
use crate::{
    crd::{Backing, GateStatus, Need, UpgradeStatus, UpgradeStep, Verdict},
    gate::GateResult,
    objects::UpgradeJob,
};

/// The gates, as they are told.
const NAME: &str = "Snapshot";
const BEFORE_FINALIZATION: &str = "Finalize-Snapshot";

/// What the Job has come to.
enum Made {
    /// It runs, or has to be made.
    Waits(Box<Turn>),
    /// There is a backup.
    Yes(UpgradeStatus),
    /// There is none, for this reason.
    No(UpgradeStatus, String),
}

/// Before the new image meets the data.
pub(super) fn before_canaries(at: At<'_>) -> Turn {
    match make(at, UpgradeJob::Backup, NAME) {
        Made::Waits(turn) => *turn,
        Made::Yes(record) => {
            let record = UpgradeStatus { backing: Some(Backing::EngineBackup), ..record };
            at.recording(record, Next::To(UpgradeStep::Approval))
        }
        Made::No(record, why) => {
            if at.policy().snapshot.policy == Need::Required || !record.start_migrations.is_empty() {
                let next = held(at, UpgradeJob::Backup, &why);
                return at.recording(record, next);
            }
            let record = UpgradeStatus { backing: Some(Backing::NotApplicable), ..record };
            at.recording(record, Next::To(UpgradeStep::Approval))
        }
    }
}

/// Before the format is changed, after which no older image reads the data.
pub(super) fn before_finalization(at: At<'_>) -> Turn {
    let migrates = |record: UpgradeStatus| {
        let record = UpgradeStatus { data_mutation_started: true, ..record };
        at.recording(record, Next::To(UpgradeStep::FinalizeMigrate))
    };
    if finalize::is_left_out(at) {
        return finalize::leave(at, at.record, finalize::AS_ASKED);
    }
    match make(at, UpgradeJob::FinalBackup, BEFORE_FINALIZATION) {
        Made::Waits(turn) => *turn,
        Made::Yes(record) => migrates(record),
        Made::No(record, why) if at.policy().snapshot.policy == Need::Required => {
            let next = held(at, UpgradeJob::FinalBackup, &why);
            at.recording(record, next)
        }
        Made::No(record, _) => migrates(record),
    }
}

fn make(at: At<'_>, job: UpgradeJob, name: &str) -> Made {
    // Somebody deleted it, to have it tried again.
    let is_missing = !at.facts.jobs.contains_key(&job);
    if let Some(hold) = at.record.hold.as_ref().filter(|hold| hold.reason == "SnapshotFailed" && is_missing) {
        let (_, create) = at.job(job);
        return Made::Waits(Box::new(at.turn(Next::Hold(hold.clone())).writing(create)));
    }
    let own = OwnJob { job, name, deadline: &at.policy().snapshot.deadline };
    let found = match own.run(at) {
        Err(write) => return Made::Waits(Box::new(at.stay().writing(write))),
        Ok(Ran::Ended(found) | Ran::Open(found, _)) => found,
        Ok(Ran::NoPod | Ran::Waits(_)) => return Made::Waits(Box::new(at.stay())),
    };
    let mut record = at.record.clone();
    with_gate(&mut record, GateStatus { ..found.named(name) });
    let GateResult { verdict, why, value, .. } = found;
    match verdict {
        Verdict::Passed => Made::Yes(record),
        _ if why.is_empty() => Made::No(record, value),
        _ => Made::No(record, format!("{value}: {why}")),
    }
}

fn held(at: At<'_>, job: UpgradeJob, why: &str) -> Next {
    let name = at.planned.jobs.get(&job).map(|check| check.job.name.as_str()).unwrap_or_default();
    let again = format!("kubectl delete job {name}");
    let failed = format!("the Job {name} made no backup of the engine: {why}; mend it, and have it tried again");
    match job {
        UpgradeJob::FinalBackup => {
            let message = format!("{failed} ({again}), or leave the format as it is");
            Next::hold("SnapshotFailed", message, Some(finalize::leave_command(at)))
        }
        _ => Next::hold("SnapshotFailed", format!("{failed}, or give the upgrade up"), Some(again)),
    }
}
