//! What the new server shows before clients reach it. A gate without a verdict has not passed.

use std::time::Duration;

use jiff::SignedDuration;

use super::{At, Next, Turn, duration, own_job::OwnJob, swap, with_gate};
use crate::{
    crd::{GateStatus, HealthGate, UpgradeStatus, UpgradeStep, Verdict},
    facts::Pod,
    gate::{Expectation, Gate, GateRequest, GateResult, MetricLimits, compare},
    objects::UpgradeJob,
};

/// A gate that ended without a verdict is tried again after so many seconds, while somebody is called: clients wait.
const AGAIN: i64 = 60;

/// How long there may be no pod to try.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// `/healthz` and `/readyz` of the new server.
pub(super) fn health(at: At<'_>) -> Turn {
    let policy = &at.policy().gates.health;
    let record = at.record;
    let format = record.database.as_ref().map(|database| database.format);
    let sequence = record.database.as_ref().map(|database| database.sequence);
    let gate = health_of(policy, record.to.version.clone(), format, sequence);
    let next = if at.policy().gates.smoke == crate::crd::SmokeGate::Off {
        UpgradeStep::MetricGate
    } else {
        UpgradeStep::SmokeGate
    };
    match looked(at, "Health", run(at, "Health", gate)) {
        Ran::NoPod | Ran::Waits(_) if at.elapsed() > duration(&policy.deadline) => {
            at.turn(Next::GoBack(format!("the new server was not healthy and ready within {}", policy.deadline)))
        }
        ran => settle(at, "Health", ran, next),
    }
}

/// A health gate ends with its success only. One that a person lets pass ends with what it saw last, as soon as the server is
/// ready: before that nobody could use it.
pub(super) fn looked(at: At<'_>, name: &str, ran: Ran) -> Ran {
    let is_ready = at.case.facts.pod.as_ref().is_some_and(Pod::serves);
    match ran {
        Ran::Waits(request) if is_ready && at.is_overridden(name) => seen_last(at, request),
        ran => ran,
    }
}

/// Ends a gate that runs with what it saw last.
pub(super) fn seen_last(at: At<'_>, request: GateRequest) -> Ran {
    let seen = at.facts.gate(&request.name, &request.pod_uid).cloned();
    seen.map_or(Ran::Waits(request), Ran::Ended)
}

/// What a user does.
pub(super) fn smoke(at: At<'_>) -> Turn {
    let Some(gate) = Gate::smoke(at.policy().gates.smoke) else { return at.turn(Next::To(UpgradeStep::MetricGate)) };
    let ran = run(at, "Smoke", gate);
    settle(at, "Smoke", ran, UpgradeStep::MetricGate)
}

/// The load that the old server had, and the log.
pub(super) fn metrics(at: At<'_>) -> Turn {
    let Some(pod) = at.case.facts.pod.as_ref() else {
        return settle(at, "Logs", Ran::NoPod, UpgradeStep::MetricGate);
    };
    if !has_passed(at, "Logs") {
        let logs = run(at, "Logs", Gate::Logs { pod: pod.name.clone() });
        return settle(at, "Logs", logs, UpgradeStep::MetricGate);
    }
    let policy = &at.policy().gates.metrics;
    let load = Gate::load(policy).filter(|_| at.record.changes_image && !has_passed(at, "Metrics"));
    if let Some(gate) = load {
        return settle(at, "Metrics", load_of(at, &gate), UpgradeStep::MetricGate);
    }
    let settled = |name: &str, ran: Ran| settle(at, name, ran, UpgradeStep::MetricGate);
    others(at, |name, gate| run(at, name, gate), settled).unwrap_or_else(|| at.turn(Next::To(UpgradeStep::Promote)))
}

/// The load on the new server. One that does not pass is repeated, because a neighbour may have been busy, and the best
/// counts; a failure is told before what has no verdict, which would keep clients waiting.
fn load_of(at: At<'_>, gate: &Gate) -> Ran {
    let policy = &at.policy().gates.metrics;
    let limits = MetricLimits::of(policy);
    // What a person lets pass need not be repeated.
    let tries = if at.is_overridden("Metrics") { 1 } else { policy.failure_limit.max(1) };
    let judge = |found: GateResult| match &found.load {
        Some(figures) => compare(figures, at.record.baseline.as_ref(), &limits),
        None => found,
    };
    let mut found: Vec<GateResult> = Vec::new();
    for number in 1..=tries {
        let Some(request) = request(at, &numbered("Metrics", number), gate) else { return Ran::NoPod };
        let Some(judged) = ended(at, &request).map(judge) else { return Ran::Waits(request) };
        let has_passed = judged.verdict == Verdict::Passed;
        found.push(judged);
        if has_passed {
            break;
        }
    }
    let rank = |result: &GateResult| {
        let order = match result.verdict {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Inconclusive => 2,
        };
        (order, result.load.as_ref().map(|load| load.p99_micros))
    };
    match request(at, "Metrics", gate).zip(found.into_iter().min_by_key(rank)) {
        Some((request, best)) => or_again(at, request, best, judge),
        None => Ran::NoPod,
    }
}

/// The name of a try.
pub(super) fn numbered(name: &str, number: i32) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

/// Whether a gate of this name stands on record as passed, or as let pass by a person: that stays so when their time is over.
pub(super) fn has_passed(at: At<'_>, name: &str) -> bool {
    at.record.gates.iter().any(|gate| gate.name == name && (gate.overridden || gate.verdict == Verdict::Passed))
}

/// What the owner of the resource wants to know beside that: a Prometheus, and a Job of their own; `None` once it is known.
pub(super) fn others(
    at: At<'_>,
    run: impl FnOnce(&str, Gate) -> Ran,
    settle: impl FnOnce(&str, Ran) -> Turn,
) -> Option<Turn> {
    if let Some(prometheus) = at.policy().gates.metrics.prometheus.as_ref().filter(|_| !has_passed(at, "Prometheus")) {
        let gate = Gate::Prometheus { address: prometheus.address.clone(), queries: prometheus.queries.clone() };
        return Some(settle("Prometheus", run("Prometheus", gate)));
    }
    let policy = at.policy().gates.job.as_ref().filter(|_| !has_passed(at, "Job"))?;
    let test = OwnJob { job: UpgradeJob::Gate, name: "Job", deadline: &policy.deadline };
    Some(match test.run(at) {
        Ok(ran) => settle("Job", ran),
        Err(write) => at.stay().writing(write),
    })
}

/// How far a gate is.
pub(super) enum Ran {
    /// There is no pod to try.
    NoPod,
    /// It runs, or has to be started.
    Waits(GateRequest),
    /// It has ended.
    Ended(GateResult),
    /// It has ended without a verdict, and is tried again.
    Open(GateResult, Option<GateRequest>),
}

/// Has a gate run against the pod of the server.
pub(super) fn run(at: At<'_>, name: &str, gate: Gate) -> Ran {
    request(at, name, &gate).map_or(Ran::NoPod, |request| run_request(at, request))
}

/// Has this gate run.
pub(super) fn run_request(at: At<'_>, request: GateRequest) -> Ran {
    match ended(at, &request) {
        None => Ran::Waits(request),
        Some(found) => or_again(at, request, found, |found| found),
    }
}

fn request(at: At<'_>, name: &str, gate: &Gate) -> Option<GateRequest> {
    Some(request_on(at, at.facts.server.clone()?, name, gate))
}

/// A gate of this step, against the pod of this uid and address.
pub(super) fn request_on(at: At<'_>, (pod_uid, address): (String, String), name: &str, gate: &Gate) -> GateRequest {
    GateRequest { name: format!("{:?}-{name}", at.record.step), pod_uid, address, gate: gate.clone() }
}

/// What a gate has found, if it has ended.
pub(super) fn ended(at: At<'_>, request: &GateRequest) -> Option<GateResult> {
    at.facts.gate(&request.name, &request.pod_uid).filter(|found| found.has_ended()).cloned()
}

/// What a gate has found, or found when it was tried again for want of a verdict. Until there is one, the same is told.
fn or_again(at: At<'_>, request: GateRequest, found: GateResult, judge: impl Fn(GateResult) -> GateResult) -> Ran {
    if found.verdict != Verdict::Inconclusive {
        return Ran::Ended(found);
    }
    let later = GateRequest { name: format!("{}-{}", request.name, at.case.now.as_second() / AGAIN), ..request };
    match ended(at, &later).map(judge) {
        Some(other) if other.verdict != Verdict::Inconclusive => Ran::Ended(other),
        Some(_) => Ran::Open(found, None),
        None => Ran::Open(found, Some(later)),
    }
}

/// What the verdict of a gate leads to.
pub(super) fn settle(at: At<'_>, name: &str, ran: Ran, next: UpgradeStep) -> Turn {
    if let Some(why) = swap::hopeless(at) {
        return at.turn(Next::GoBack(why));
    }
    let (found, again) = match ran {
        Ran::NoPod => {
            let late = at.elapsed() > PATIENCE;
            let waits = || at.turn(if late { Next::GoBack("the server has no pod".into()) } else { Next::Stay });
            return swap::start_again(at).unwrap_or_else(waits);
        }
        Ran::Waits(request) => return at.stay().trying([request]),
        Ran::Ended(found) => (found, None),
        Ran::Open(found, again) => (found, again),
    };
    judged(at, name, found, again, next)
}

/// What follows from what a gate has found; without a verdict it is tried again meanwhile.
pub(super) fn judged(at: At<'_>, name: &str, found: GateResult, again: Option<GateRequest>, next: UpgradeStep) -> Turn {
    let mut record: UpgradeStatus = at.record.clone();
    let overridden = found.verdict != Verdict::Passed && at.is_overridden(name);
    with_gate(&mut record, GateStatus { overridden, ..found.named(name) });
    let GateResult { verdict, why, .. } = found;
    let next = match verdict {
        _ if overridden => Next::To(next),
        Verdict::Passed => Next::To(next),
        Verdict::Failed if at.policy().rollback.before_promotion == crate::crd::BeforePromotion::Manual => {
            let message = format!("the gate {name} failed: {why}");
            Next::stuck("GateFailed", message, Some(format!("{} (to go back)", at.abort_command())))
        }
        Verdict::Failed => Next::GoBack(format!("the gate {name} failed: {why}")),
        Verdict::Inconclusive => {
            let message = format!("the gate {name} has too little to tell: {why}");
            match at.is_of_fleet() {
                // Every pod that serves has been found good so far.
                true => Next::hold("GateInconclusive", message, Some(at.override_command(name))),
                false => Next::stuck("GateInconclusive", message, Some(at.override_command(name))),
            }
        }
    };
    let again = again.filter(|_| matches!(next, Next::Hold(_)));
    at.recording(record, next).trying(again)
}

/// The health gate of a policy.
pub(super) fn health_of(
    policy: &HealthGate,
    version: Option<String>,
    format: Option<i32>,
    sequence: Option<i64>,
) -> Gate {
    Gate::Health {
        successes: u32::try_from(policy.successes).unwrap_or(1).max(1),
        period: Duration::try_from(duration(&policy.period)).unwrap_or_default(),
        expect: Expectation { version, format, sequence_at_least: sequence },
    }
}

pub(super) fn millis(text: &str) -> i64 {
    i64::try_from(duration(text).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
