//! The format of the data is changed, after which older images refuse it: a guarded step of its own, with a snapshot before
//! and the same way back, to the new image on the old format.

use jiff::SignedDuration;

use super::{
    At, Next, Turn, drain, duration,
    gates::{self, Ran},
    promote,
    snapshots::{self, Progress},
    swap,
};
use crate::{
    crd::{UpgradeStatus, UpgradeStep},
    gate::Gate,
    objects::{MAIN, UpgradeJob},
};

/// Its gates, as they are told and let pass.
const HEALTH: &str = "Finalize-Health";
const SMOKE: &str = "Finalize-Smoke";

/// How long the Job may wait to be placed; it has no deadline once it runs.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// After so long somebody is told that it runs.
const LONG: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn drain(at: At<'_>) -> Turn {
    drain::stop(at).unwrap_or_else(|| drain::look(at, UpgradeStep::FinalizeSnapshot, UpgradeStep::FinalizeMigrate))
}

pub(super) fn snapshot(at: At<'_>) -> Turn {
    let wanted = &at.copies().finalize_snapshot;
    let record = snapshots::noted(at, wanted);
    match snapshots::make(at, wanted) {
        Progress::Waits(write) => at.recording(record, Next::Stay).writing(write),
        Progress::Cut => at.recording(record, Next::Stay),
        Progress::Ready => {
            let record = UpgradeStatus { data_mutation_started: true, ..record };
            at.recording(record, Next::To(UpgradeStep::FinalizeMigrate))
        }
        Progress::Failed(why) => at.recording(record, Next::GoBack(why)),
    }
}

/// The server itself makes a checkpoint before it changes the format.
pub(super) fn migrate(at: At<'_>) -> Turn {
    if !at.record.data_mutation_started {
        let record = UpgradeStatus { data_mutation_started: true, ..at.record.clone() };
        return at.recording(record, Next::Stay);
    }
    let (found, create) = at.job(UpgradeJob::Finalize);
    let Some(found) = found else { return at.stay().writing(create.filter(|_| !at.is_data_in_use())) };
    if let Some(ended) = found.ended.get(MAIN) {
        return match ended.passed {
            true => at.turn(Next::To(UpgradeStep::FinalizeStart)),
            false => at.turn(Next::GoBack(format!("the format could not be changed: {}", ended.message))),
        };
    }
    if let Some(failure) = &found.job.failure {
        return at.turn(Next::GoBack(format!("the format could not be changed: {}", failure.message)));
    }
    let is_placed = found.pod.is_some();
    match () {
        () if at.elapsed() > PATIENCE && !is_placed => {
            at.turn(Next::GoBack("the Job that changes the format has no pod".into()))
        }
        () if at.elapsed() > LONG => {
            let job = &found.job.name;
            let message = format!("the Job {job} has been changing the format for more than 10 minutes; it goes on");
            at.turn(Next::stuck("FinalizeSlow", message, Some(format!("kubectl logs job/{job}"))))
        }
        () => at.stay(),
    }
}

pub(super) fn start(at: At<'_>) -> Turn {
    let Some(to) = &at.planned.to else {
        let message = format!(
            "the ConfigMap {} of the new release is gone: ask for its image and settings again, and it is made anew",
            at.record.to.config
        );
        return at.turn(Next::stuck("ReleaseGone", message, None));
    };
    swap::until_it_runs(at, to, "the server", PATIENCE, UpgradeStep::FinalizeGate, Next::GoBack)
}

pub(super) fn gate(at: At<'_>) -> Turn {
    let policy = &at.policy().gates;
    if !gates::has_passed(at, HEALTH) {
        let version = at.record.to.version.clone();
        let ran = gates::run(at, "Health", gates::health_of(&policy.health, version, at.record.to.newest_format, None));
        return match gates::looked(at, HEALTH, ran) {
            Ran::NoPod | Ran::Waits(_) if at.elapsed() > duration(&policy.health.deadline) => {
                at.turn(Next::GoBack("the server was not healthy and ready on the new format in time".into()))
            }
            ran => gates::settle(at, HEALTH, ran, UpgradeStep::FinalizeGate),
        };
    }
    match Gate::smoke(policy.smoke).filter(|_| !gates::has_passed(at, SMOKE)) {
        Some(smoke) => gates::settle(at, SMOKE, gates::run(at, "Smoke", smoke), UpgradeStep::FinalizeGate),
        None => promote::succeed(at),
    }
}
