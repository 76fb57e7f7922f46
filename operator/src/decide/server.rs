//! The server, as its pod shows it.

use jiff::Timestamp;

use super::{delay::Delay, pods};
use crate::{conditions::Finding, crd::ProgressDBSpec, facts::Facts};

/// Whether the server takes requests, and why not.
pub(super) fn assess(spec: &ProgressDBSpec, facts: &Facts, now: Timestamp) -> Finding {
    match (&facts.pod, &facts.stateful_set) {
        (Some(pod), _) => with_delay(pods::assess(pod, now), Delay::of_pod(pod, now)),
        (None, _) if spec.suspend => Finding::no("Suspended", "the server is stopped because spec.suspend is true"),
        (None, set) => {
            let delay = set.as_ref().and_then(|set| Delay::of("StatefulSet", &set.name, set.warning.as_ref(), now));
            with_delay(Finding::no("Stopped", "the server does not run"), delay)
        }
    }
}

/// With what delays the start: at first only as something to know.
fn with_delay(found: Finding, delay: Option<Delay>) -> Finding {
    match delay.filter(|_| ["Stopped", "Starting"].contains(&found.reason)) {
        Some(Delay { reason, message, lasts: true }) => Finding::no(reason, message),
        Some(Delay { message, .. }) => Finding { message, ..found },
        None => found,
    }
}
