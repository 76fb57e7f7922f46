//! The old server stops. The client Service is closed from here on, so that nobody reaches a server that was not promoted.

use jiff::SignedDuration;

use super::{At, Next, Turn};
use crate::{
    crd::{Database, UpgradeStatus, UpgradeStep},
    decide::{Write, pods},
    facts::{State, StatefulSet, UpgradeJobFacts},
    objects::{MAIN, UpgradeJob},
};

/// How long a pod may take to end beyond its own grace period, and a Job to look at the data.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// How long a container that is being started is waited for before it is stopped.
const SETTLING: SignedDuration = SignedDuration::from_secs(5);
/// How long after its start a program surely has its handlers.
const STARTING: SignedDuration = SignedDuration::from_secs(2);

pub(super) fn drain(at: At<'_>) -> Turn {
    match stop(at) {
        Some(turn) => turn,
        None if !at.record.changes_image => at.turn(Next::To(UpgradeStep::Swap)),
        None => look(at, UpgradeStep::SnapshotFinal, UpgradeStep::Swap),
    }
}

/// Looks at what was stopped; then comes this step where snapshots are made, and else the other one.
pub(super) fn look(at: At<'_>, with_snapshots: UpgradeStep, without: UpgradeStep) -> Turn {
    let (found, create) = at.job(UpgradeJob::Inspect);
    match inspected(found) {
        None if looks_too_long(at, found) => {
            at.turn(Next::GoBack("the stopped data could not be looked at in time".into()))
        }
        None => at.stay().writing(create.filter(|_| !at.is_data_in_use())),
        Some(Err(why)) => at.turn(Next::GoBack(format!("the stopped data cannot be looked at: {why}"))),
        Some(Ok(database)) => {
            let record = UpgradeStatus { database: Some(database), ..at.record.clone() };
            let next = if record.has_snapshots() { with_snapshots } else { without };
            at.recording(record, Next::To(next))
        }
    }
}

/// Stops what runs; `None` once nothing is left of it.
pub(super) fn stop(at: At<'_>) -> Option<Turn> {
    let facts = at.case.facts;
    if at.record.step == UpgradeStep::RollbackStop && at.elapsed() < SETTLING && is_being_started(at) {
        return Some(at.stay());
    }
    if let Some(set) = facts.stateful_set.as_ref().filter(|set| set.runs()) {
        // An operator that was away begins late: from now on it has its time to end, but once only.
        let is_first = at.record.steps.last().is_some_and(|step| step.at == at.record.step_started_at);
        let begins_late = is_first && at.elapsed() > SETTLING;
        let since = if begins_late { Some(at.case.now) } else { at.record.step_started_at };
        let record = UpgradeStatus { step_started_at: since, ..at.record.clone() };
        let next = if !begins_late && is_late(at) { not_stopped(at, set) } else { Next::Stay };
        return Some(at.recording(record, next).writing([Write::stop(set)]));
    }
    // The Job that looks at the data attaches the volume again.
    let is_looked_at = at.record.step != UpgradeStep::RollbackStop && at.facts.jobs.contains_key(&UpgradeJob::Inspect);
    let has_left = facts.pod.is_none() && (is_looked_at || at.facts.has_left == Some(true));
    let still_counted = facts.stateful_set.as_ref().is_some_and(|set| set.has_pods);
    if has_left && !still_counted {
        return None;
    }
    // On a node that cannot be seen it may still write: nobody forces it.
    let lost = facts.pod.as_ref().map(|pod| pods::assess(pod, at.case.now)).filter(|found| found.reason == "NodeLost");
    Some(match lost {
        Some(found) => at.turn(Next::stuck("NodeLost", found.message, None)),
        None if is_late(at) => {
            let pod = crate::objects::names::pod(at.case.name);
            let message = format!("the pod {pod} does not end, and its volume stays attached");
            at.turn(Next::stuck("NotStopping", message, Some(format!("kubectl describe pod {pod}"))))
        }
        None => at.stay(),
    })
}

/// Somebody, or something, does not let it be stopped.
fn not_stopped(at: At<'_>, set: &StatefulSet) -> Next {
    let name = &set.name;
    let message = at.refused(&format!("the StatefulSet {name} does not stay at 0 replicas"));
    Next::stuck("NotStopping", message, Some(format!("kubectl describe statefulset {name}")))
}

/// Whether a container is just being started. Its program is the first process of the container, and the kernel drops a
/// SIGTERM for that until it has a handler: the pod would then take its whole grace period to end.
fn is_being_started(at: At<'_>) -> bool {
    let Some(pod) = at.case.facts.pod.as_ref().filter(|pod| !pod.is_deleted) else { return false };
    match &pod.container.state {
        State::Running(since) => since.is_some_and(|since| at.case.now.duration_since(since) < STARTING),
        State::Waiting(reason, _) => matches!(&**reason, "ContainerCreating" | "PodInitializing"),
        State::Unknown => true,
        State::Ended(_) => false,
    }
}

/// Whether the Job that looks at the stopped data has had its time. Before it there may have been a node that was lost: then
/// its time begins when it is made.
fn looks_too_long(at: At<'_>, found: Option<&UpgradeJobFacts>) -> bool {
    match found.and_then(|found| found.made_at) {
        Some(made) => at.case.now.duration_since(made) > PATIENCE,
        None => is_late(at) && at.record.hold.is_none(),
    }
}

/// How long a step may last that waits for the end of a pod or for what a Job finds out.
pub(super) fn is_late(at: At<'_>) -> bool {
    at.elapsed() > PATIENCE + grace(at)
}

pub(super) fn grace(at: At<'_>) -> SignedDuration {
    let drain = &at.case.spec.drain;
    super::duration(&drain.hold) + super::duration(&drain.timeout)
}

/// What a Job found out about data: `None` while it has not ended.
pub(super) fn inspected(found: Option<&UpgradeJobFacts>) -> Option<Result<Database, String>> {
    let found = found?;
    if let Some(ended) = found.ended.get(MAIN) {
        let report = ended.report();
        let read = || {
            Some(Database {
                id: report["database_id"].as_str()?.to_owned(),
                sequence: report["sequence"].as_i64()?,
                format: i32::try_from(report["format"].as_i64()?).ok()?,
            })
        };
        return Some(read().filter(|_| ended.passed).ok_or_else(|| ended.message.clone()));
    }
    found.job.failure.as_ref().map(|failure| Err(failure.message.clone()))
}
