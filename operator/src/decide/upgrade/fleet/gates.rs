//! What the canaries show: each of them is healthy and ready, one of them does what a user does, none logs a grave fault, and
//! together they compare with the stable pods. Users meet them meanwhile, so what fails takes them away at once.

use super::{
    super::{
        At, Next, Turn, duration,
        gates::{self, Ran},
    },
    PATIENCE, canary, compare, tracks,
};
use crate::{
    crd::{SmokeGate, UpgradeStep, Verdict},
    facts::{FleetPod, Pod},
    gate::{Gate, GateRequest, GateResult},
};

/// `/healthz` and `/readyz` of each canary, and that the cluster takes it for ready.
pub(super) fn health(at: At<'_>) -> Turn {
    let policy = &at.policy().gates.health;
    let format = at.case.facts.before.data_format;
    let gate = gates::health_of(policy, at.record.to.version.clone(), format, None);
    let next = if at.policy().gates.smoke == SmokeGate::Off { UpgradeStep::MetricGate } else { UpgradeStep::SmokeGate };
    let pods = tracks::canary_pods(at);
    let ran = match are_all_there(at, &pods) {
        true => on_each(at, &pods, "Health", &|_| gate.clone()),
        false => Ran::NoPod,
    };
    let ran = looked(at, "Health", &pods, ran);
    let is_awaited = matches!(ran, Ran::NoPod | Ran::Waits(_));
    match is_awaited && at.elapsed() > duration(&policy.deadline) && tracks::trouble(at, &pods).is_none() {
        true => at.turn(Next::GoBack(format!("the canaries were not healthy and ready within {}", policy.deadline))),
        false => settle(at, "Health", &pods, ran, next),
    }
}

/// What a user does, on one canary: the store is the same for all.
pub(super) fn smoke(at: At<'_>) -> Turn {
    let Some(gate) = Gate::smoke(at.policy().gates.smoke) else { return at.turn(Next::To(UpgradeStep::MetricGate)) };
    let pods = tracks::canary_pods(at);
    settle(at, "Smoke", &pods, on_one(at, &pods, "Smoke", gate), UpgradeStep::MetricGate)
}

/// The log of each canary, the comparison with the stable pods, and what the owner of the resource wants to know beside that.
pub(super) fn metrics(at: At<'_>) -> Turn {
    let pods = tracks::canary_pods(at);
    if let Some(why) = tracks::trouble(at, &pods) {
        return at.turn(Next::GoBack(why));
    }
    if !gates::has_passed(at, "Logs") {
        let of = |pod: &Pod| Gate::Logs { pod: pod.name.clone() };
        return settle(at, "Logs", &pods, on_each(at, &pods, "Logs", &of), UpgradeStep::MetricGate);
    }
    if !gates::has_passed(at, compare::NAME) {
        return compare::compare(at, &pods);
    }
    let settled = |name: &str, ran: Ran| settle(at, name, &pods, ran, UpgradeStep::MetricGate);
    let others = gates::others(at, |name, gate| on_one(at, &pods, name, gate), settled);
    others.unwrap_or_else(|| canary::begin(at, at.record.canary.as_ref().map_or(1, |canary| canary.step + 1)))
}

/// Whether there are as many pods as there are to be.
pub(super) fn are_all_there(at: At<'_>, pods: &[FleetPod]) -> bool {
    let wanted = at.record.canary.as_ref().map_or(0, |canary| canary.replicas);
    i32::try_from(pods.len()).is_ok_and(|there| there >= wanted) && pods.iter().all(|pod| pod.address.is_some())
}

/// A gate of this step, against one pod.
pub(super) fn request(at: At<'_>, pod: &FleetPod, name: &str, gate: &Gate) -> Option<GateRequest> {
    let on = (pod.pod.uid.clone(), pod.address.clone()?);
    Some(gates::request_on(at, on, name, gate))
}

/// Has a gate run against the first pod that serves.
pub(super) fn on_one(at: At<'_>, pods: &[FleetPod], name: &str, gate: Gate) -> Ran {
    let pod = pods.iter().find(|pod| pod.pod.serves());
    match pod.and_then(|pod| request(at, pod, name, &gate)) {
        Some(request) => gates::run_request(at, request),
        None => Ran::NoPod,
    }
}

/// Has a gate run against each pod: it has passed when all have, and what one of them shows is told in the name of all.
pub(super) fn on_each(at: At<'_>, pods: &[FleetPod], name: &str, gate: &dyn Fn(&Pod) -> Gate) -> Ran {
    let mut passed: Option<GateResult> = None;
    for pod in pods {
        let Some(request) = request(at, pod, name, &gate(&pod.pod)) else { return Ran::NoPod };
        let of_pod = |found: GateResult| {
            let why = if found.why.is_empty() { String::new() } else { format!("{}: {}", pod.pod.name, found.why) };
            GateResult { why, ..found }
        };
        match gates::run_request(at, request) {
            Ran::Ended(found) if found.verdict == Verdict::Passed => passed = Some(found),
            Ran::Ended(found) => return Ran::Ended(of_pod(found)),
            Ran::Open(found, again) => return Ran::Open(of_pod(found), again),
            waits => return waits,
        }
    }
    match passed {
        Some(last) => Ran::Ended(GateResult { value: format!("{}; {} pods", last.value, pods.len()), ..last }),
        None => Ran::NoPod,
    }
}

/// A health gate that a person lets pass ends with what it saw last, once the canaries are ready.
fn looked(at: At<'_>, name: &str, pods: &[FleetPod], ran: Ran) -> Ran {
    let are_ready = !pods.is_empty() && pods.iter().all(|pod| pod.pod.serves());
    match ran {
        // The cluster routes to what it takes for ready, and to nothing else.
        Ran::Ended(found) if found.verdict == Verdict::Passed && !are_ready => Ran::NoPod,
        Ran::Waits(request) if are_ready && at.is_overridden(name) => gates::seen_last(at, request),
        ran => ran,
    }
}

/// What the verdict of a gate on canaries leads to.
pub(super) fn settle(at: At<'_>, name: &str, pods: &[FleetPod], ran: Ran, next: UpgradeStep) -> Turn {
    if let Some(why) = tracks::trouble(at, pods) {
        return at.turn(Next::GoBack(why));
    }
    let (found, again) = match ran {
        // A pod that was taken away is made again.
        Ran::NoPod if at.elapsed() > PATIENCE.max(duration(&at.policy().gates.health.deadline)) => {
            return at.turn(Next::GoBack("the canaries have no pods".to_owned()));
        }
        Ran::NoPod => return at.stay(),
        Ran::Waits(request) => return at.stay().trying([request]),
        Ran::Ended(found) => (found, None),
        Ran::Open(found, again) => (found, again),
    };
    gates::judged(at, name, found, again, next)
}
