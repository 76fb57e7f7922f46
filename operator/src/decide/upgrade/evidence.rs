//! What is left of an upgrade for people: its report, a ConfigMap, and in that the end of the log of what failed.

use crate::{
    crd::{UpgradeStatus, UpgradeStep},
    decide::{Case, Write, pods},
    drift,
    facts::{FleetPod, Pod},
    gate::{Gate, GateRequest},
    kind::Kind,
    objects::{MAIN, SERVER, UpgradeJob, labels::Track},
    status::Progress,
};

/// The gate that reads the log.
const LOG: &str = "Log";

/// The report of an upgrade that is held, goes back or has ended, if it is not there as it should be. One that has ended is
/// told once, and its report never changes.
pub(crate) fn report(case: Case<'_>, progress: &Progress) -> Vec<Write> {
    let facts = &case.facts.upgrade;
    let told = |id: &str| progress.history.iter().find(|entry| entry.id == id);
    let is_current = |id: &str| progress.record.as_ref().is_some_and(|record| record.id == id);
    let unneeded =
        facts.reports.values().filter(|report| told(&report.upgrade).is_none() && !is_current(&report.upgrade));
    let unneeded = unneeded.filter_map(|report| {
        let live = case.facts.object(Kind::ConfigMap, &report.name).filter(|live| !live.is_deleted)?;
        Some(Write::delete(Kind::ConfigMap, &report.name, live))
    });
    let mut writes: Vec<Write> = unneeded.collect();
    let Some(record) = progress.record.as_deref().filter(|record| is_worth_telling(record)) else { return writes };
    let live = facts.reports.get(&record.id);
    if live.is_some_and(|live| live.is_final) {
        return writes;
    }
    let read = facts.gates.iter().find(|((gate, _), _)| gate == LOG).and_then(|(_, outcome)| outcome.log.as_deref());
    let log = read.or_else(|| live.and_then(|live| live.log.as_deref()));
    let ended = told(&record.id).and_then(|entry| entry.ended_at);
    let wanted = case.desired.upgrade_report(case.name, record, ended, log);
    let uid = case.facts.object(Kind::ConfigMap, &wanted.name).map(|live| &*live.uid);
    let wanted = wanted.applied_to(uid);
    let is_there = live.is_some_and(|live| live.applied == drift::applied_hash(&wanted));
    writes.extend((!is_there).then_some(Write::Apply(wanted)));
    writes
}

fn is_worth_telling(record: &UpgradeStatus) -> bool {
    record.outcome.is_some() || record.hold.is_some() || record.step >= UpgradeStep::RollbackStop
}

/// Has the end of the log read of what has failed, while its pod is there: the next steps remove it.
pub(super) fn log_of_failure(case: Case<'_>, record: &UpgradeStatus) -> Option<GateRequest> {
    use UpgradeStep::*;
    let is_read = || case.facts.upgrade.gates.keys().any(|(gate, _)| gate == LOG);
    let has_failed = match record.step {
        Rehearse => record.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.passed == Some(false)),
        Swap | HealthGate | SmokeGate | MetricGate | Promote | Soak => record.hold.is_some(),
        FinalizeStart | FinalizeGate => record.hold.is_some(),
        RollbackStop => true,
        _ => false,
    };
    if !has_failed || is_read() {
        return None;
    }
    let (pod, uid, container) = match record.step {
        Rehearse => failed_rehearsal(case)?,
        _ => {
            let new = failed_server(case, &record.to.roll)?;
            (new.name.clone(), new.uid.clone(), SERVER.to_owned())
        }
    };
    let gate = Gate::Tail { pod, container };
    Some(GateRequest { name: LOG.to_owned(), pod_uid: uid, address: String::new(), gate })
}

/// The new server; of a fleet the one that looks worst, a canary rather than another.
fn failed_server<'a>(case: Case<'a>, roll: &str) -> Option<&'a Pod> {
    let Some(fleet) = &case.facts.fleet else { return case.facts.pod.as_ref().filter(|pod| is_of(pod, roll)) };
    let rank = |server: &&FleetPod| {
        let pod = &server.pod;
        let is_well = pod.is_ready && pod.container.restarts == 0 && !pods::is_crash_looping(pod, case.now);
        (is_well, server.track != Track::Canary, pod.name.clone())
    };
    let new = fleet.pods.iter().filter(|server| is_of(&server.pod, roll)).min_by_key(rank);
    new.map(|server| &server.pod)
}

fn is_of(pod: &Pod, roll: &str) -> bool {
    pod.roll.as_deref() == Some(roll)
}

/// The pod of the rehearsal and the container in it that failed, or serves.
fn failed_rehearsal(case: Case<'_>) -> Option<(String, String, String)> {
    let jobs = [UpgradeJob::RehearseOld, UpgradeJob::RehearseNew, UpgradeJob::RehearseFinalize];
    let found = jobs.iter().filter_map(|job| case.facts.upgrade.jobs.get(job));
    let (found, pod) = found.filter_map(|found| Some((found, found.job.pod.as_ref()?))).next_back()?;
    let failed = found.ended.iter().find(|(_, ended)| !ended.passed).map_or(MAIN, |(name, _)| name);
    Some((pod.name.clone(), pod.uid.clone(), failed.to_owned()))
}

#[cfg(test)]
mod tests;
