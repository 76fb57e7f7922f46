//! The server, as its pod shows it.

use jiff::Timestamp;

use super::{delay::Delay, fleet, pods};
use crate::{
    conditions::Finding,
    crd::ProgressDBSpec,
    facts::{Facts, Pod},
};

/// Whether the server takes requests, and why not.
pub(super) fn assess(spec: &ProgressDBSpec, facts: &Facts, now: Timestamp) -> Finding {
    if let Some(fleet) = &facts.fleet {
        return fleet::assess(spec, fleet, now).0;
    }
    match (&facts.pod, &facts.stateful_set) {
        (Some(pod), _) => of_pod(pod, now),
        (None, _) if spec.suspend => Finding::no("Suspended", "the server is stopped because spec.suspend is true"),
        (None, set) => {
            let delay = set.as_ref().and_then(|set| Delay::of("StatefulSet", &set.name, set.warning.as_ref(), now));
            with_delay(Finding::no("Stopped", "the server does not run"), delay)
        }
    }
}

/// Whether the server of a pod takes requests, and why not.
pub(super) fn of_pod(pod: &Pod, now: Timestamp) -> Finding {
    with_delay(pods::assess(pod, now), Delay::of_pod(pod, now))
}

/// With what delays the start: at first only as something to know.
fn with_delay(found: Finding, delay: Option<Delay>) -> Finding {
    match delay.filter(|_| ["Stopped", "Starting"].contains(&found.reason)) {
        Some(Delay { reason, message, lasts: true }) => Finding::no(reason, message),
        Some(Delay { message, .. }) => Finding { message, ..found },
        None => found,
    }
}
