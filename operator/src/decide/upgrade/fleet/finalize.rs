//! The format of the data is changed, after which older images refuse it: once every pod runs the new image, which reads both,
//! and while it serves. What was begun is not undone, so a failure is held; the new image goes on with either format.
//!
//! An image may refuse to change the format of a store that servers run on. Nothing stops for it: the upgrade ends with the
//! format as it is.

use jiff::SignedDuration;

use super::{
    super::{
        At, Next, Turn,
        gates::{self as of_one, Ran},
        with_gate,
    },
    gates, promote, tracks,
};
use crate::{
    crd::{GateStatus, UpgradeStatus, UpgradeStep, Verdict},
    gate::Gate,
    objects::{MAIN, UpgradeJob, labels::Track},
};

/// Its gates, as they are told and let pass.
const HEALTH: &str = "Finalize-Health";
const SMOKE: &str = "Finalize-Smoke";
/// How long the Job may wait to be placed.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// So the Job ends where the image changes the format only of a store that no server runs on; nothing was changed then.
const IN_USE: i64 = 75;
/// After so long somebody is told that it runs.
const LONG: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn migrate(at: At<'_>) -> Turn {
    let Some(to) = &at.planned.to else { return at.turn(promote::gone(at)) };
    let (found, create) = at.job(UpgradeJob::Finalize);
    let Some(found) = found else {
        // An old pod that came back meanwhile could not go on with the new format.
        let create = create.filter(|_| tracks::is_rolled_out(at, to));
        return at.stay().writing(create);
    };
    let job = &found.job.name;
    let fails = |why: &str| {
        let message = format!("the format could not be changed: {why}; the new image serves on");
        at.turn(Next::hold("FinalizeFailed", message, Some(format!("kubectl delete job {job} (to try again)"))))
    };
    if let Some(ended) = found.ended.get(MAIN) {
        return match ended.passed {
            true => at.turn(Next::To(UpgradeStep::FinalizeGate)),
            false if ended.exit_code == Some(IN_USE) => leave(at, &ended.message),
            false => fails(&ended.message),
        };
    }
    if let Some(failure) = &found.job.failure {
        return fails(&failure.message);
    }
    match () {
        () if at.elapsed() > PATIENCE && found.pod.is_none() => fails("its Job has no pod"),
        () if at.elapsed() > LONG => {
            let message = format!("the Job {job} has been changing the format for more than 10 minutes; it goes on");
            at.turn(Next::hold("FinalizeSlow", message, Some(format!("kubectl logs job/{job}"))))
        }
        () => at.stay(),
    }
}

/// It is over, with the format of before.
fn leave(at: At<'_>, said: &str) -> Turn {
    let why = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let record = UpgradeStatus { finalizing: false, data_mutation_started: false, ..at.record.clone() };
    let more = format!(
        "the format of the data is still the old one, because {} changes it only while no server runs: {why}",
        at.record.to.image
    );
    at.recording(record, promote::success(at, &more))
}

/// Every pod is healthy on the new format, and a user can work with it.
pub(super) fn gate(at: At<'_>) -> Turn {
    let policy = &at.policy().gates;
    let pods = tracks::pods(at, Track::Stable, &at.record.to.roll);
    if !of_one::has_passed(at, HEALTH) {
        let gate = of_one::health_of(&policy.health, at.record.to.version.clone(), at.record.to.newest_format, None);
        let late = at.elapsed() > super::super::duration(&policy.health.deadline);
        return settle(at, HEALTH, gates::on_each(at, &pods, "Health", &|_| gate.clone()), late);
    }
    match Gate::smoke(policy.smoke).filter(|_| !of_one::has_passed(at, SMOKE)) {
        Some(smoke) => settle(at, SMOKE, gates::on_one(at, &pods, "Smoke", smoke), false),
        None => promote::succeed(at, ""),
    }
}

/// Nothing leads back from here, so what does not pass is held.
fn settle(at: At<'_>, name: &str, ran: Ran, late: bool) -> Turn {
    let hold = |why: &str| {
        let message = format!("the gate {name} has not passed after the format was changed: {why}");
        Next::stuck("GateFailed", message, Some(at.override_command(name)))
    };
    let (found, again) = match ran {
        Ran::Ended(found) => (found, None),
        Ran::Open(found, again) => (found, again),
        Ran::Waits(request) => {
            let seen = at.facts.gate(&request.name, &request.pod_uid).cloned();
            if let Some(found) = seen.filter(|_| late && at.is_overridden(name)) {
                return told(at, name, &found);
            }
            let why = "not every pod is healthy and ready on the new format in time";
            return at.turn(if late { hold(why) } else { Next::Stay }).trying([request]);
        }
        Ran::NoPod => return at.turn(if late { hold("a pod is missing") } else { Next::Stay }),
    };
    match found.verdict {
        Verdict::Passed => told(at, name, &found),
        _ if at.is_overridden(name) => told(at, name, &found),
        _ => {
            let mut record = at.record.clone();
            with_gate(&mut record, found.named(name));
            at.recording(record, hold(&found.why)).trying(again)
        }
    }
}

fn told(at: At<'_>, name: &str, found: &crate::gate::GateResult) -> Turn {
    let mut record = at.record.clone();
    let overridden = found.verdict != Verdict::Passed;
    with_gate(&mut record, GateStatus { overridden, ..found.named(name) });
    at.recording(record, Next::Stay)
}
