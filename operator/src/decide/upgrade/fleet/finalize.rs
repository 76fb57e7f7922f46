//! The format of the data is changed, after which older images refuse it: once every pod runs the new image, which reads both,
//! and while it serves. What was begun is not undone, so a failure is held; the new image goes on with either format, and a
//! person may leave the format as it is.
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
    desired::Server,
    gate::{Gate, GateResult},
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
    if is_left_out(at) && is_at_rest(at) {
        return leave(at, at.record, AS_ASKED);
    }
    let Some(to) = &at.planned.to else { return at.turn(promote::gone(at)) };
    let (found, create) = at.job(UpgradeJob::Finalize);
    let Some(found) = found else {
        // An old pod that came back meanwhile, or that does not end, could not go on with the new format.
        return match tracks::is_rolled_out(at, to) && tracks::is_alone(at, to) {
            true => at.stay().writing(create),
            false => at.turn(waits(at, to)),
        };
    };
    let job = &found.job.name;
    let fails = |why: &str| {
        let message = format!(
            "the format could not be changed: {why}; the new image serves on, and the format may stay as it is; kubectl \
             delete job {job} has it tried again"
        );
        at.turn(Next::hold("FinalizeFailed", message, Some(leave_command(at))))
    };
    if let Some(ended) = found.ended.get(MAIN) {
        return match ended.passed {
            true => at.turn(Next::To(UpgradeStep::FinalizeGate)),
            false if ended.exit_code == Some(IN_USE) => refused(at, &ended.message),
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

/// Whether a person has the format stay as it is.
pub(super) fn is_left_out(at: At<'_>) -> bool {
    at.is_overridden("Finalize") || at.is_aborted()
}

/// How a person says that.
pub(super) fn leave_command(at: At<'_>) -> String {
    format!("{} (to leave the format as it is)", at.override_command("Finalize"))
}

/// How it ends then.
pub(super) const AS_ASKED: &str = "the format of the data was left as it is, as somebody asked";

/// Whether nothing changes the format: its Job is not there, was not started, or has failed.
fn is_at_rest(at: At<'_>) -> bool {
    at.facts.jobs.get(&UpgradeJob::Finalize).is_none_or(|found| {
        let has_failed = found.job.failure.is_some() || found.ended.get(MAIN).is_some_and(|ended| !ended.passed);
        let may_go_on = found.job.is_complete || found.job.is_deleted || found.pod.is_some();
        has_failed || !may_go_on
    })
}

/// The Job is not made before every pod is new.
fn waits(at: At<'_>, to: &Server) -> Next {
    if at.elapsed() <= promote::of_one_pod(at) {
        return Next::Stay;
    }
    let message = at.refused(&format!(
        "the format is not changed before all servers run the new image and take requests, and no other is left ({})",
        tracks::behind(at, to)
    ));
    Next::hold("RolloutSlow", message, Some(leave_command(at)))
}

/// Nothing was changed, and nothing stops for it.
fn refused(at: At<'_>, said: &str) -> Turn {
    let why = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let record = UpgradeStatus { data_mutation_started: false, ..at.record.clone() };
    let more = format!(
        "the format of the data is still the old one, because {} changes it only while no server runs: {why}",
        at.record.to.image
    );
    leave(at, &record, &more)
}

/// It is over, with the format as it is.
pub(super) fn leave(at: At<'_>, record: &UpgradeStatus, why: &str) -> Turn {
    at.recording(UpgradeStatus { finalizing: false, ..record.clone() }, promote::success(at, why))
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
        Some(smoke) => {
            let ran = gates::on_one(at, &pods, "Smoke", smoke);
            let late = matches!(ran, Ran::NoPod) && at.elapsed() > promote::of_one_pod(at);
            settle(at, SMOKE, ran, late)
        }
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
            if late && at.is_overridden(name) {
                let seen = at.facts.gate(&request.name, &request.pod_uid).cloned();
                return told(
                    at,
                    name,
                    &seen.unwrap_or_else(|| GateResult::nothing("no answer", "it was not waited for")),
                );
            }
            let why = "not every pod is healthy and ready on the new format in time";
            return at.turn(if late { hold(why) } else { Next::Stay }).trying([request]);
        }
        Ran::NoPod if late && at.is_overridden(name) => {
            return told(at, name, &GateResult::nothing("a pod is missing", "it was not waited for"));
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

fn told(at: At<'_>, name: &str, found: &GateResult) -> Turn {
    let mut record = at.record.clone();
    let overridden = found.verdict != Verdict::Passed;
    with_gate(&mut record, GateStatus { overridden, ..found.named(name) });
    at.recording(record, Next::Stay)
}
