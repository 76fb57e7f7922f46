//! A restart that somebody asked for, with the annotation that `kubectl rollout restart` sets: on the StatefulSet, or on
//! the resource, from where it comes into the pod template. A pod without it is stopped as for a change, after the same
//! checks; one that was made anew for another reason has it, and is not stopped again.

use crate::facts::Facts;

/// Whether the pod is an older one than somebody asked for.
pub(super) fn is_due(facts: &Facts) -> bool {
    let Some(pod) = &facts.pod else { return false };
    let on_set = facts.stateful_set.as_ref().and_then(|set| set.restarted_at.as_ref());
    let (of_set, of_resource) = (pod.restarts.0.as_ref(), pod.restarts.1.as_ref());
    let is_missing = |asked: Option<&String>, seen: Option<&String>| asked.is_some() && asked != seen;
    is_missing(on_set, of_set) || is_missing(facts.restart.as_ref(), of_resource)
}
