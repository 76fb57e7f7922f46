//! Why something has not started yet: what its node says, else the last warning among its Events. A warning may pass by
//! itself; after a minute it is taken to need somebody.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{conditions::Finding, pods};
use crate::observe::{Live, Observed, Warning, advice};

/// So long a warning may pass by itself.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hitch {
    /// One word, for programs.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// Whether it will not pass by itself.
    pub(super) lasts: bool,
}

impl Hitch {
    /// Why a pod does not start.
    pub(super) fn of_pod(seen: &Observed, pod: &Live, container: &str, now: Timestamp) -> Option<Self> {
        let lasting = |(reason, message)| Self { reason, message, lasts: true };
        let obstacle = pods::obstacle(pod, container).map(lasting);
        obstacle.or_else(|| init(pod).map(lasting)).or_else(|| Self::of("Pod", seen, pod, now))
    }

    /// Why something else does not get what it waits for.
    pub(super) fn of(kind: &str, seen: &Observed, object: &Live, now: Timestamp) -> Option<Self> {
        let Warning { reason, message, since } = seen.warnings.get(object.uid())?;
        let (reason, what_next) = match reason.as_str() {
            "FailedCreate" => ("PodRefused", advice(message)),
            "FailedScheduling" => ("Unschedulable", "correct the placement or spec.resources, or make room"),
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => {
                ("VolumeNotMounted", "make what it names, or see to the driver of the volume")
            }
            "ProvisioningFailed" | "ProvisioningCleanupFailed" => {
                ("VolumeNotMade", "see to the storage class and its driver; it is tried again by itself")
            }
            _ => ("CannotStart", "see its events"),
        };
        let message = format!("the {kind} {} waits: {message}; {what_next}", object.name());
        Some(Self { reason, message, lasts: now.duration_since(*since) >= PATIENCE })
    }

    /// A failure once it lasts, and until then only something to know.
    pub(super) fn finding(self) -> Finding {
        match self.lasts {
            true => Finding::no(self.reason, self.message),
            false => Finding::unknown(self.reason, self.message),
        }
    }
}

/// A container that somebody put before ours, and that does not end.
fn init(pod: &Live) -> Option<(&'static str, String)> {
    let containers = pod.at("/status/initContainerStatuses").as_array()?;
    let waiting = |container: &&Value| {
        let reason = container.pointer("/state/waiting/reason").and_then(Value::as_str).unwrap_or_default();
        !matches!(reason, "" | "PodInitializing" | "ContainerCreating")
    };
    let container = containers.iter().find(waiting)?;
    let name = container["name"].as_str().unwrap_or_default();
    let why =
        |part: &str| container.pointer(&format!("/state/waiting/{part}")).and_then(Value::as_str).unwrap_or_default();
    let message = format!(
        "the init container {name}, which somebody put into the pod {}, does not get through: {} {}",
        pod.name(),
        why("reason"),
        why("message"),
    );
    Some(("InitContainerFails", message.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_init_container_that_does_not_get_through_is_named() {
        let status =
            |reason: &str| json!({ "name": "mesh-init", "state": { "waiting": { "reason": reason, "message": "x" } } });
        let found = |reason: &str| {
            init(&Live(
                json!({ "metadata": { "name": "db-0" }, "status": { "initContainerStatuses": [status(reason)] } }),
            ))
        };
        assert_eq!(found("PodInitializing"), None);
        let (reason, message) = found("CrashLoopBackOff").unwrap();
        assert_eq!(reason, "InitContainerFails");
        assert!(message.contains("mesh-init") && message.ends_with("CrashLoopBackOff x"), "{message}");
    }
}
