//! The load on the old server, by which the new one is judged. It is measured before anything is stopped: afterwards clients
//! wait, and nothing can be measured any more.
//!
//! What else the machine does makes a load slower, so the best of three counts. A server of which no load is usable holds the
//! upgrade while it serves: then either nothing can call it, which the gates of the new server could not either, or it is in
//! trouble. It is measured again every few minutes, and a person may go on without: then only errors of the new server are
//! judged.

use super::{
    At, Next, Turn,
    gates::{ended, numbered},
    with_gate,
};
use crate::{
    crd::{GateStatus, UpgradeStatus, UpgradeStep, Verdict},
    gate::{Gate, GateRequest, GateResult, MetricLimits, best, is_usable},
};

/// The gate, as it is told and let pass.
const NAME: &str = "Baseline";
/// Why an upgrade is held.
const UNUSABLE: &str = "BaselineUnusable";
/// The best of so many loads counts.
const LOADS: usize = 3;
/// While the upgrade is held, it is measured again after so many seconds.
const PAUSE: i64 = 300;

/// Measures; then the old server stops.
pub(super) fn measure(at: At<'_>, mut record: UpgradeStatus) -> Turn {
    // Whatever else it waited for, it goes on in the next pass.
    if record.hold.as_ref().is_some_and(|hold| hold.reason != UNUSABLE) {
        return at.recording(record, Next::Stay);
    }
    let policy = &at.policy().gates.metrics;
    let Some(gate) = Gate::load(policy).filter(|_| record.changes_image && record.baseline.is_none()) else {
        return drain(at, record);
    };
    let Some((pod, address)) = at.facts.server.clone() else {
        if !at.is_overridden(NAME) {
            let message = "the old server has no pod to be measured; the upgrade goes on once it has one, or, if you say so, \
                           only errors of the new server are judged";
            return at.recording(record, Next::hold(UNUSABLE, message, Some(at.override_command(NAME))));
        }
        let why = "there is no old server to measure, so only errors of the new one are judged";
        with_gate(
            &mut record,
            GateStatus { overridden: true, ..GateResult::nothing("a usable load", why).named(NAME) },
        );
        return drain(at, record);
    };
    let limits = MetricLimits::of(policy);
    let request =
        |name: String| GateRequest { name, pod_uid: pod.clone(), address: address.clone(), gate: gate.clone() };
    let mut all = Vec::new();
    for number in 1..=policy.failure_limit.max(LOADS as i32) {
        let request = request(numbered(NAME, number));
        let Some(load) = ended(at, &request) else { return at.recording(record, Next::Stay).trying([request]) };
        all.push(load);
        if usable(&all, &limits).count() == LOADS {
            break;
        }
    }
    // The same for some minutes, and then another one.
    let later = request(format!("{NAME}-{}", at.case.now.as_second() / PAUSE));
    let again = ended(at, &later);
    let is_awaited = again.is_none();
    let tries = all.len();
    all.extend(again);
    if let Some(load) = best(usable(&all, &limits).filter_map(|found| found.load.as_ref())).cloned() {
        let of = usable(&all, &limits).count();
        let fastest = all.iter().find(|found| found.load.as_ref() == Some(&load));
        let status = fastest.map(|found| GateStatus { verdict: Verdict::Passed, ..found.named(NAME) });
        record.timings.load_millis = fastest.and_then(|found| found.took_millis);
        with_gate(&mut record, GateStatus { why: format!("the best of {of}"), ..status.unwrap_or_default() });
        record.baseline = Some(load);
        return at.recording(record, Next::Stay);
    }
    // What is said stays the same while it waits.
    let why = said(&all[..tries]);
    let overridden = at.is_overridden(NAME);
    let told = GateResult::nothing("a usable load", &format!("{why}; only errors of the new server are judged"));
    if overridden {
        with_gate(&mut record, GateStatus { overridden, ..told.named(NAME) });
        return drain(at, record);
    }
    let message = format!(
        "the old server cannot be measured, and clients do not miss it yet: {why}; it is tried again every {} minutes, or \
         only errors of the new server are judged if you say so",
        PAUSE / 60
    );
    let held = at.recording(record, Next::hold("BaselineUnusable", message, Some(at.override_command(NAME))));
    held.trying(is_awaited.then_some(later))
}

fn usable<'a>(all: &'a [GateResult], limits: &MetricLimits) -> impl Iterator<Item = &'a GateResult> {
    all.iter().filter(|found| found.load.as_ref().is_some_and(|load| is_usable(load, limits)))
}

/// What the last load found.
fn said(all: &[GateResult]) -> String {
    let last = all.last().cloned().unwrap_or_default();
    let parts = [last.value, last.why].into_iter().filter(|part| !part.is_empty() && part != "nothing");
    parts.collect::<Vec<_>>().join(": ")
}

/// The old server stops, and clients wait. While the upgrade was held nobody looked whether the new pod can run: that comes
/// first.
fn drain(at: At<'_>, mut record: UpgradeStatus) -> Turn {
    if record.hold.is_some() {
        return at.recording(record, Next::Stay);
    }
    record.drained_pod = at.facts.server.as_ref().map(|(pod, _)| pod.clone());
    record.drained_at = Some(at.case.now);
    at.recording(record, Next::To(UpgradeStep::Drain))
}

#[cfg(test)]
mod tests;
