//! From the server that runs to the one that should: stop, wait until the pod is gone, start.
//!
//! What decides is an annotation of the pod template, the hash of all that a restart is for. A template that differs in
//! anything else is written and restarts nothing, because the StatefulSet replaces pods only when they are deleted. A
//! restart that somebody asks for takes the same way.

use serde_json::Value;

use super::{Case, Step, Write, restart, rollback};
use crate::{
    crd::ProgressDBSpec,
    desired::Desired,
    facts::{Facts, StatefulSet},
};

/// What would be applied in place of a server that runs, if another one should.
pub(super) fn successor(spec: &ProgressDBSpec, desired: &Desired, facts: &Facts) -> Option<Value> {
    let set = facts.stateful_set.as_ref().filter(|set| !set.is_deleted && set.runs() && !spec.suspend)?;
    let is_due = set.roll.as_ref() != Some(&desired.server.roll) || restart::is_due(facts);
    is_due.then(|| desired.server.workload.with_uid(&set.uid))
}

/// Brings the StatefulSet nearer to what it should be; finds whether it is not yet.
pub(super) fn roll(case: Case<'_>, may_start: bool) -> Step<bool> {
    let is_suspended = case.spec.suspend;
    let Some(set) = &case.facts.stateful_set else {
        let writes = if may_start && !is_suspended { start(case) } else { Vec::new() };
        return Step::found(!is_suspended).writing(writes);
    };
    let roll = &case.desired.running().roll;
    let is_current = set.roll.as_ref() == Some(roll);
    let restarts = restart::is_due(case.facts);
    let must_stop = is_suspended || ((!is_current || restarts) && may_start);
    if must_stop && set.runs() {
        return Step::found(!is_suspended).writing([Write::stop(set)]);
    }
    if is_suspended {
        return Step::found(false);
    }
    let pod = case.facts.pod.as_ref();
    let pod_is_former = pod.and_then(|pod| pod.roll.as_ref()).is_some_and(|of_pod| of_pod != roll);
    let mut step = Step::found(!is_current || !set.runs() || restarts || pod_is_former);
    if may_start && ((is_current && !restarts) || has_stopped(case.facts, set)) {
        let keep = (!is_current).then(|| rollback::keep(case)).flatten();
        step = step.writing(keep).writing(start(case));
    }
    step
}

fn has_stopped(facts: &Facts, set: &StatefulSet) -> bool {
    facts.pod.is_none() && !set.has_pods
}

/// The settings first, then what reads them.
fn start(case: Case<'_>) -> Vec<Write> {
    let server = case.desired.running();
    [&server.config_map, &server.workload].into_iter().filter_map(|object| case.apply_if_needed(object)).collect()
}
