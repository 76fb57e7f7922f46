//! Why something has not started yet: what its node says, else the last warning among its Events. A warning may pass by
//! itself; after a minute it is taken to need somebody.

use jiff::{SignedDuration, Timestamp};

use super::pods;
use crate::{
    conditions::Finding,
    facts::{InitContainer, Pod, Warning, advice},
};

/// How long a warning may pass by itself.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delay {
    /// One word, for programs.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// Whether it will not pass by itself.
    pub(super) lasts: bool,
}

impl Delay {
    /// Why a pod does not start.
    pub(super) fn of_pod(pod: &Pod, now: Timestamp) -> Option<Self> {
        let lasting = |(reason, message)| Self { reason, message, lasts: true };
        let obstacle = pods::obstacle(pod).or_else(|| Some(init(&pod.name, pod.init.as_ref()?)));
        obstacle.map(lasting).or_else(|| Self::of("Pod", &pod.name, pod.warning.as_ref(), now))
    }

    /// Why the object of this kind and name does not get what it waits for, by the last warning about it.
    pub(super) fn of(kind: &str, name: &str, warning: Option<&Warning>, now: Timestamp) -> Option<Self> {
        let Warning { reason, message, since } = warning?;
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
        let message = format!("the {kind} {name} waits: {message}; {what_next}");
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

/// An init container that somebody put before ours, and that does not end.
fn init(pod: &str, container: &InitContainer) -> (&'static str, String) {
    let InitContainer { name, reason, message } = container;
    let message = format!(
        "the init container {name}, which somebody put into the pod {pod}, does not get through: {reason} {message}"
    );
    ("InitContainerFails", message.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_container_that_does_not_get_through_is_named() {
        let init = InitContainer { name: "mesh-init".into(), reason: "CrashLoopBackOff".into(), message: "x".into() };
        let pod = Pod { name: "db-0".into(), init: Some(init), ..Pod::default() };
        let delay = Delay::of_pod(&pod, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((delay.reason, delay.lasts), ("InitContainerFails", true));
        assert!(delay.message.contains("mesh-init") && delay.message.ends_with("CrashLoopBackOff x"), "{delay:?}");
    }

    #[test]
    fn a_warning_is_only_something_to_know_until_it_lasts() {
        let warning = Warning { reason: "FailedMount".into(), message: "no".into(), since: Timestamp::UNIX_EPOCH };
        let pod = Pod { warning: Some(warning), ..Pod::default() };
        let lasts = |second: i64| {
            let delay = Delay::of_pod(&pod, Timestamp::from_second(second).unwrap()).unwrap();
            (delay.lasts, delay.finding().fails())
        };
        assert_eq!((lasts(59), lasts(60)), ((false, false), (true, true)));
    }
}
