//! From the server that runs to the one that should: stop, wait until the pod is gone, start.
//!
//! What decides is an annotation of the pod template, the hash of all that a restart is for. A template that differs in
//! anything else is written and restarts nothing, because the StatefulSet replaces pods only when they are deleted. A
//! restart that somebody asks for takes the same way.

use serde_json::Value;

use super::desired::Desired;
use super::{Write, apply_if_needed, restart};
use crate::{objects::labels::ROLL, observe::Observed};

/// What would be applied in place of a server that runs, if another one should.
pub(super) fn successor(seen: &Observed, desired: &Desired) -> Option<Value> {
    let set = seen.stateful_set().filter(|set| !set.is_deleted() && !seen.resource.spec.suspend)?;
    let runs = set.at("/spec/replicas").as_i64() != Some(0);
    let roll = set.at("/spec/template/metadata/annotations").get(ROLL).and_then(Value::as_str);
    let is_due = roll != Some(&desired.roll) || restart::is_due(seen);
    (runs && is_due).then(|| super::with_uid(desired.stateful_set.clone(), set))
}

/// Brings the StatefulSet nearer to what it should be; says whether it is not yet. `keep` remembers what ran before.
pub(super) fn roll(
    seen: &Observed,
    desired: &Desired,
    may_start: bool,
    writes: &mut Vec<Write>,
    keep: impl FnOnce() -> Option<Write>,
) -> bool {
    let is_suspended = seen.resource.spec.suspend;
    let Some(set) = seen.stateful_set() else {
        if may_start && !is_suspended {
            start(seen, desired, writes);
        }
        return !is_suspended;
    };
    let roll = set.at("/spec/template/metadata/annotations").get(ROLL).and_then(Value::as_str);
    let is_current = roll == Some(&desired.roll);
    let runs = set.at("/spec/replicas").as_i64() != Some(0);
    let restarts = restart::is_due(seen);
    let must_stop = is_suspended || ((!is_current || restarts) && may_start);
    if must_stop && runs {
        writes.push(Write::Stop { uid: set.uid().to_owned(), version: set.version().to_owned() });
        return !is_suspended;
    }
    if is_suspended {
        return false;
    }
    let has_stopped = seen.pod().is_none() && set.at("/status/replicas").as_i64().unwrap_or(0) == 0;
    if may_start && ((is_current && !restarts) || has_stopped) {
        writes.extend((!is_current).then(keep).flatten());
        start(seen, desired, writes);
    }
    let pod_roll = seen.pod().and_then(|pod| pod.annotation(ROLL));
    !is_current || !runs || restarts || pod_roll.is_some_and(|roll| roll != desired.roll)
}

/// The settings first, then what reads them.
fn start(seen: &Observed, desired: &Desired, writes: &mut Vec<Write>) {
    writes.extend(apply_if_needed(seen, &desired.config_map));
    writes.extend(apply_if_needed(seen, &desired.stateful_set));
}
