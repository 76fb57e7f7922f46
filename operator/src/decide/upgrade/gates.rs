//! What the new server shows before clients reach it. A gate without a verdict has not passed.

use super::{At, Next, Turn, duration, swap, with_gate};
use crate::{
    crd::{Backing, GateStatus, HealthGate, Measured, MetricGate, UpgradeStatus, UpgradeStep, Verdict},
    decide::{GateRequest, gate::Gate},
    facts::GateOutcome,
    objects::UpgradeJob,
};

/// A load may be so much slower whatever the share is: between measurements that are this small chance decides.
const NOISE_MICROS: i64 = 2_000;

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
    match run(at, "Health", gate) {
        Ran::NoPod | Ran::Waits(_) if at.elapsed() > duration(&policy.deadline) => {
            at.turn(Next::GoBack(format!("the new server was not healthy and ready within {}", policy.deadline)))
        }
        ran => settle(at, "Health", ran, next),
    }
}

/// What a user does.
pub(super) fn smoke(at: At<'_>) -> Turn {
    let Some(gate) = Gate::smoke(at.policy().gates.smoke) else { return at.turn(Next::To(UpgradeStep::MetricGate)) };
    let ran = run(at, "Smoke", gate);
    settle(at, "Smoke", ran, UpgradeStep::MetricGate)
}

/// The load that the old server had, and the log.
pub(super) fn metrics(at: At<'_>) -> Turn {
    let Some(pod) = at.case.facts.pod.as_ref() else { return settle(at, "Logs", Ran::NoPod, UpgradeStep::MetricGate) };
    if !has_passed(at, "Logs") {
        let logs = run(at, "Logs", Gate::Logs { pod: pod.name.clone() });
        return settle(at, "Logs", logs, UpgradeStep::MetricGate);
    }
    let policy = &at.policy().gates.metrics;
    let load = Gate::load(policy).filter(|_| at.record.changes_image && !has_passed(at, "Metrics"));
    let Some(gate) = load else { return others(at) };
    // A load that fails is repeated: a neighbour may have been busy.
    let tries = i64::from(policy.failure_limit.max(1));
    let mut last = Ran::NoPod;
    for number in 1..=tries {
        let name = if number == 1 { "Metrics".to_owned() } else { format!("Metrics-{number}") };
        last = match run(at, &name, gate.clone()) {
            Ran::Ended(outcome) => {
                Ran::Ended(compare(&outcome, at.record.baseline.as_ref().filter(|load| load.requests > 0), policy))
            }
            other => other,
        };
        if !matches!(&last, Ran::Ended(outcome) if outcome.status.verdict != Verdict::Passed) {
            break;
        }
    }
    settle(at, "Metrics", last, UpgradeStep::MetricGate)
}

/// Whether a gate of this name stands as passed on record.
pub(super) fn has_passed(at: At<'_>, name: &str) -> bool {
    at.record.gates.iter().any(|gate| gate.name == name && gate.verdict == Verdict::Passed) || at.is_overridden(name)
}

/// What the owner of the resource wants to know beside that: a Prometheus, and a Job of their own.
fn others(at: At<'_>) -> Turn {
    if let Some(prometheus) = at.policy().gates.metrics.prometheus.as_ref().filter(|_| !has_passed(at, "Prometheus")) {
        let gate = Gate::Prometheus { address: prometheus.address.clone(), queries: prometheus.queries.clone() };
        return settle(at, "Prometheus", run(at, "Prometheus", gate), UpgradeStep::MetricGate);
    }
    let Some(policy) = at.policy().gates.job.as_ref().filter(|_| !has_passed(at, "Job")) else {
        return at.turn(Next::To(UpgradeStep::Promote)).writing(at.without_jobs(&[UpgradeJob::Gate]));
    };
    let (found, create) = at.job(UpgradeJob::Gate);
    let Some(found) = found else { return at.stay().writing(create) };
    let ended = |verdict: Verdict, why: String| {
        let status = GateStatus {
            verdict,
            value: found.job.name.clone(),
            threshold: "exit code 0".into(),
            why,
            ..GateStatus::default()
        };
        Ran::Ended(GateOutcome { status, has_ended: true, ..GateOutcome::default() })
    };
    let ran = match &found.job.failure {
        _ if found.job.is_complete => ended(Verdict::Passed, String::new()),
        Some(failure) => ended(Verdict::Failed, failure.message.clone()),
        None if at.elapsed() > duration(&policy.deadline) => {
            ended(Verdict::Failed, format!("it did not end within {}", policy.deadline))
        }
        None => return at.stay(),
    };
    settle(at, "Job", ran, UpgradeStep::MetricGate)
}

/// How far a gate is.
pub(super) enum Ran {
    /// There is no pod to try.
    NoPod,
    /// It runs, or has to be started.
    Waits(GateRequest),
    /// It has a verdict.
    Ended(GateOutcome),
}

/// Has a gate run against the pod of the server.
pub(super) fn run(at: At<'_>, name: &str, gate: Gate) -> Ran {
    let Some((pod, address)) = at.facts.server.clone() else { return Ran::NoPod };
    let request = GateRequest { name: format!("{:?}-{name}", at.record.step), pod_uid: pod, address, gate };
    match at.facts.gate(&request.name, &request.pod_uid).filter(|outcome| outcome.has_ended) {
        None => Ran::Waits(request),
        Some(outcome) => Ran::Ended(outcome.clone()),
    }
}

/// What the verdict of a gate leads to.
pub(super) fn settle(at: At<'_>, name: &str, ran: Ran, next: UpgradeStep) -> Turn {
    if let Some(why) = swap::hopeless(at) {
        return at.turn(Next::GoBack(why));
    }
    let outcome = match ran {
        Ran::NoPod => return swap::start_again(at).unwrap_or_else(|| at.stay()),
        Ran::Waits(request) => return at.stay().trying([request]),
        Ran::Ended(outcome) => outcome,
    };
    let mut record: UpgradeStatus = at.record.clone();
    let (verdict, why) = (outcome.status.verdict, outcome.status.why.clone());
    with_gate(&mut record, GateStatus { name: name.to_owned(), ..outcome.status });
    let next = match verdict {
        _ if at.is_overridden(name) => Next::To(next),
        Verdict::Passed => Next::To(next),
        Verdict::Failed if at.policy().rollback.before_promotion == crate::crd::BeforePromotion::Manual => {
            let message = format!("the gate {name} failed: {why}");
            Next::stuck("GateFailed", message, Some(format!("{} (to go back)", at.abort_command())))
        }
        Verdict::Failed => Next::GoBack(format!("the gate {name} failed: {why}")),
        Verdict::Inconclusive => {
            let message = format!("the gate {name} has too little to tell: {why}");
            Next::stuck("GateInconclusive", message, Some(at.override_command(name)))
        }
    };
    at.recording(record, next)
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
        period_millis: u64::try_from(millis(&policy.period)).unwrap_or(0),
        version,
        format,
        sequence,
    }
}

pub(super) fn millis(text: &str) -> i64 {
    i64::try_from(duration(text).as_millis()).unwrap_or(i64::MAX)
}

/// How a load compares with the one on the old server.
fn compare(outcome: &GateOutcome, baseline: Option<&Measured>, policy: &MetricGate) -> GateOutcome {
    let Some(load) = &outcome.load else { return outcome.clone() };
    let share = |text: &str| text.trim_end_matches('%').parse::<f64>().unwrap_or(0.0) / 100.0;
    let (errors, increase) = (share(&policy.max_error_rate), share(&policy.max_latency_p99_increase));
    let judged = |verdict: Verdict, why: String| GateOutcome {
        status: GateStatus {
            name: outcome.status.name.clone(),
            verdict,
            value: format!("{} of {} failed, p99 {} µs", load.errors, load.requests, load.p99_micros),
            threshold: match baseline {
                Some(before) => format!(
                    "{} failed, p99 {} µs + {}",
                    policy.max_error_rate, before.p99_micros, policy.max_latency_p99_increase
                ),
                None => format!("{} failed", policy.max_error_rate),
            },
            samples: load.requests,
            why,
        },
        ..outcome.clone()
    };
    if load.requests < i64::from(policy.minimum_samples) {
        return judged(
            Verdict::Inconclusive,
            format!("{} requests, and {} are needed", load.requests, policy.minimum_samples),
        );
    }
    if load.errors as f64 > errors * load.requests as f64 {
        return judged(Verdict::Failed, format!("{} of {} requests failed", load.errors, load.requests));
    }
    let Some(before) = baseline.filter(|before| before.errors * 2 < before.requests) else {
        return judged(Verdict::Passed, "the old server could not be measured, so only errors are judged".into());
    };
    let most = before.p99_micros as f64 * (1.0 + increase) + NOISE_MICROS as f64;
    match load.p99_micros as f64 > most {
        true => judged(Verdict::Failed, format!("p99 is {} µs, and was {} µs", load.p99_micros, before.p99_micros)),
        false => judged(Verdict::Passed, "as fast and as right as the old server".into()),
    }
}

/// How the way back is told apart: what the data can be given to.
pub(super) fn is_protected(record: &UpgradeStatus) -> bool {
    record.backing == Some(Backing::Snapshots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(requests: i64, errors: i64, p99_micros: i64) -> Measured {
        Measured { requests, errors, p50_micros: 1, p99_micros }
    }

    #[test]
    fn a_load_is_judged_by_its_errors_and_by_the_load_before() {
        let policy = MetricGate::default();
        let verdict = |now: Measured, before: Option<Measured>| {
            let outcome = GateOutcome { load: Some(now), ..GateOutcome::default() };
            compare(&outcome, before.as_ref(), &policy).status.verdict
        };
        let before = || Some(load(1_000, 0, 10_000));
        assert_eq!(verdict(load(1_000, 0, 16_000), before()), Verdict::Passed);
        assert_eq!(verdict(load(1_000, 0, 17_001), before()), Verdict::Failed);
        assert_eq!(verdict(load(1_000, 10, 9_000), before()), Verdict::Passed);
        assert_eq!(verdict(load(1_000, 11, 9_000), before()), Verdict::Failed);
        assert_eq!(verdict(load(999, 0, 9_000), before()), Verdict::Inconclusive);
        // Without a measurement of before nothing can be said about latency.
        assert_eq!(verdict(load(1_000, 0, 90_000), None), Verdict::Passed);
        assert_eq!(verdict(load(1_000, 0, 90_000), Some(load(1_000, 900, 1))), Verdict::Passed);
    }
}
