//! A restart that somebody asked for, with the annotation that `kubectl rollout restart` sets: on the StatefulSet, or on
//! the resource, from where it comes into the pod template. A pod without it is stopped as for a change, after the same
//! checks; one that was made anew for another reason has it, and is not stopped again.

use crate::{
    objects::labels::{RESTART, RESTARTED_AT},
    observe::Observed,
};

/// Whether the pod is an older one than somebody asked for.
pub(super) fn is_due(seen: &Observed) -> bool {
    let Some(pod) = seen.pod() else { return false };
    let template = seen.stateful_set().map(|set| set.at("/spec/template/metadata/annotations"));
    let on_set = template.and_then(|annotations| annotations[RESTARTED_AT].as_str());
    let on_resource = asked(seen);
    let is_missing = |name: &str, value: Option<&str>| value.is_some() && value != pod.annotation(name);
    is_missing(RESTARTED_AT, on_set) || is_missing(RESTART, on_resource)
}

fn asked(seen: &Observed) -> Option<&str> {
    seen.resource.metadata.annotations.as_ref()?.get(RESTARTED_AT).map(String::as_str)
}
