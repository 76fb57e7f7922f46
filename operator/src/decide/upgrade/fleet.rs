//! The upgrade of a fleet. The store is shared and its servers keep nothing, so the new image serves some of the users beside
//! the old one before it serves all of them:
//!
//! ```text
//! Preflight → SnapshotOnline → Approval → Canary → HealthGate → SmokeGate → MetricGate ─┬→ Promote → Soak → Succeeded,
//!                                            ▲                                          │   or → FinalizeSnapshot
//!                                            └── the next of spec.upgrade.canary.steps ─┘      → FinalizeMigrate → FinalizeGate
//! ```
//!
//! Canaries are more pods: none of the old image is taken away for them, so whatever fails before Promote takes the canaries
//! away and touches nothing else. In Promote the old pods are replaced one after the other, each once its successor is ready;
//! going back from there is the same in the other direction, as long as the format is the old one. A finalization is not
//! undone: what fails there is held, while the new image serves both formats, and whoever does not want it any more leaves the
//! format as it is. Each wait has a limit, and then a hold with what to type.

mod backup;
mod canary;
mod compare;
mod finalize;
mod gates;
mod preflight;
mod promote;
mod rollback;
mod tracks;

use jiff::{SignedDuration, Timestamp};

use super::{At, Next, Turn, approval, begin, notes, promote as after_promotion};
use crate::{
    crd::{AfterPromotion, Approval, UpgradeStep},
    decide::{Write, delay::Delay, pods},
    facts::{Deployment, Fleet, Pod},
};

/// Takes a step.
pub(super) fn step(at: At<'_>) -> Turn {
    use UpgradeStep::*;
    let scaled = canary::with_scale(at);
    if scaled.canary != at.record.canary {
        let writes = kept(At { record: &scaled, ..at }, true);
        let next = at.record.hold.clone().map_or(Next::Stay, Next::Hold);
        return at.recording(scaled, next).writing(writes);
    }
    let turn = match at.record.step {
        Preflight => preflight::check(at),
        SnapshotOnline => backup::before_canaries(at),
        Approval => approve(at),
        Canary => canary::make(at),
        HealthGate => gates::health(at),
        SmokeGate => gates::smoke(at),
        MetricGate => gates::metrics(at),
        Promote => promote::roll(at),
        Soak => promote::soak(at),
        FinalizeSnapshot => backup::before_finalization(at),
        FinalizeMigrate => finalize::migrate(at),
        FinalizeGate => finalize::gate(at),
        RollbackStop => rollback::stop(at),
        RollbackStart => rollback::start(at),
        RollbackGate => rollback::gate(at),
        // A fleet has no such step.
        Rehearse | Drain | SnapshotFinal | Swap | FinalizeDrain | FinalizeStart | RollbackRestore => {
            at.turn(Next::GoBack("the record of the upgrade names a step that a fleet has not".to_owned()))
        }
    };
    match turn.found.1 {
        // What this step wanted is not made once more.
        Next::GoBack(_) | Next::End(..) => turn,
        Next::To(Canary | Promote) => turn.writing(kept(at, false)),
        _ => turn.writing(kept(at, at.record.has_canaries())),
    }
}

/// What serves stays as this step has it, also where somebody changed it; its number follows the resource.
fn kept(at: At<'_>, has_canaries: bool) -> Vec<Write> {
    use UpgradeStep::*;
    let (from, to) = (at.planned.from.as_ref(), at.planned.to.as_ref());
    let server = match at.record.step {
        // Whichever they are of by now.
        RollbackStop => from.into_iter().chain(to).find(|server| tracks::runs(at, server)),
        RollbackStart | RollbackGate => from,
        _ if at.record.promoted => to,
        _ => from,
    };
    let mut writes = server.map(|server| tracks::stable(at, server)).unwrap_or_default();
    writes.extend(to.filter(|_| has_canaries).map(|to| tracks::canaries(at, to)).unwrap_or_default());
    writes
}

/// A person and the window; then clients notice something.
fn approve(at: At<'_>) -> Turn {
    if let Some(turn) = super::preflight::obstacle(at) {
        return turn;
    }
    let is_approved = at.facts.approved.as_ref() == Some(&at.record.id);
    if at.record.changes_image && at.policy().approval == Approval::Manual && !is_approved {
        let command = at.approve_command("");
        let message = format!(
            "it waits to be approved; then the first canaries are made, and no client is without a server{}",
            notes::warning(at.record)
        );
        return at.turn(Next::hold("ApprovalNeeded", message, Some(command)));
    }
    match approval::window(at) {
        Some(next) => at.turn(next),
        // While it was held nobody looked whether the new pod can run: that comes first.
        None if at.record.hold.is_some() => at.stay(),
        None => canary::begin(at, 1),
    }
}

/// What a person, or a change of the resource, asks of an upgrade that has made canaries.
pub(super) fn interruption(at: At<'_>, asks: Asks) -> Option<Next> {
    use UpgradeStep::*;
    match at.record.step {
        // Nothing was touched: whoever asks for something else need not wait for this to end.
        Canary | HealthGate | SmokeGate | MetricGate => {
            let why = asks.for_old.or(asks.for_another).or(at.case.spec.suspend.then_some(begin::SUSPENDED));
            why.map(|why| Next::GoBack(why.to_owned()))
        }
        // Not all servers were replaced, so whoever says so ends it whatever the policy is.
        Promote if at.is_aborted() && at.policy().rollback.after_promotion == AfterPromotion::Never => {
            asks.for_old.map(|why| Next::GoBack(why.to_owned()))
        }
        Promote | Soak => asks.for_old.and_then(|why| after_promotion::go_back(at, why)),
        _ => None,
    }
}

/// What is asked for instead of what the upgrade leads to, and how that is said.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    /// What ran before, or nothing of this upgrade.
    pub(super) for_old: Option<&'static str>,
    /// Something else.
    pub(super) for_another: Option<&'static str>,
}

/// Whether all servers of a fleet are of this release and take requests: then another one may be tried beside them.
pub(super) fn serves(fleet: &Fleet, roll: &str) -> bool {
    let is_settled = fleet.stable.as_ref().is_some_and(Deployment::is_settled);
    let mut living = fleet.pods.iter().filter(|server| !server.pod.is_deleted);
    is_settled && living.all(|server| server.pod.roll.as_deref() == Some(roll) && server.pod.serves())
}

/// Whether a fleet that does not may do so any moment: one of which a server takes requests is never replaced untried.
pub(super) fn is_about_to_serve(fleet: &Fleet, now: Timestamp) -> bool {
    let is_hopeless = |pod: &Pod| {
        let has_lasted = pod.ready_since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
        let is_held_up = Delay::of_pod(pod, now).is_some_and(|delay| delay.lasts);
        pods::is_crash_looping(pod, now) || is_held_up || (!pod.is_ready && has_lasted)
    };
    let living: Vec<&Pod> = fleet.pods.iter().map(|server| &server.pod).filter(|pod| !pod.is_deleted).collect();
    living.is_empty() || !living.into_iter().all(is_hopeless)
}

/// How long pods may be kept from starting, or what is awaited from coming, before somebody is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

#[cfg(test)]
mod tests;
