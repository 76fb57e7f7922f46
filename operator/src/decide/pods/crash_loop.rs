//! Whether a container is in a crash loop.
//!
//! Between two crashes it waits, starts, runs and may even be ready for a moment. All of that is one state here, so that
//! conditions do not change with every phase:
//!
//! ```text
//! waiting (CrashLoopBackOff) ─► running ─► terminated ─► waiting …
//!                                  └─► runs well: the loop is over
//! ```
//!
//! It is a loop from the second restart on, if the run before was short. Of a container of which times are not known
//! nothing is held against it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::observe::Live;

/// A container that was restarted less often may only have stumbled.
const RESTARTS: i64 = 2;
/// After a run of this length the kubelet forgets its back-off, and begins anew.
const RAN_WELL: SignedDuration = SignedDuration::from_secs(600);
/// A container that has been ready for so long does its work.
const READY_WELL: SignedDuration = SignedDuration::from_secs(60);

/// What a container that is about to be started waits for.
const PASSING: [&str; 3] = ["CrashLoopBackOff", "ContainerCreating", "PodInitializing"];

/// Whether the container of a pod, of which the node says `status`, is in a crash loop.
pub(super) fn lasts(pod: &Live, status: &Value, now: Timestamp) -> bool {
    let state = &status["state"];
    // Something else keeps it from starting, which is told instead.
    let waits = state["waiting"]["reason"].as_str().is_some_and(|reason| !PASSING.contains(&reason));
    if waits {
        return false;
    }
    let ended = last_end(status);
    let was_short = length(ended).is_some_and(|length| length < RAN_WELL);
    status["restartCount"].as_i64().unwrap_or(0) >= RESTARTS && was_short && !runs_well(pod, &state["running"], now)
}

/// How the container ended last; null if it never did.
pub(super) fn last_end(status: &Value) -> &Value {
    match &status["state"]["terminated"] {
        Value::Null => &status["lastState"]["terminated"],
        ended => ended,
    }
}

fn length(ended: &Value) -> Option<SignedDuration> {
    Some(time(&ended["finishedAt"])?.duration_since(time(&ended["startedAt"])?))
}

fn runs_well(pod: &Live, running: &Value, now: Timestamp) -> bool {
    let for_long = |since: Option<Timestamp>, long| since.is_none_or(|since| now.duration_since(since) >= long);
    let ready = pod.at("/status/conditions").as_array().into_iter().flatten();
    let ready = ready.into_iter().find(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let is_ready = ready.is_some_and(|ready| for_long(time(&ready["lastTransitionTime"]), READY_WELL));
    !running.is_null() && (is_ready || for_long(time(&running["startedAt"]), RAN_WELL))
}

fn time(text: &Value) -> Option<Timestamp> {
    text.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        decide::{conditions::Finding, pods::assess},
        objects::SERVER,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// A run of the server, from one second to another.
    fn run(from: i64, to: i64) -> Value {
        json!({ "terminated": {
            "exitCode": 1, "message": "cannot open", "startedAt": at(from).to_string(), "finishedAt": at(to).to_string(),
        } })
    }

    fn running(from: i64) -> Value {
        json!({ "running": { "startedAt": at(from).to_string() } })
    }

    fn back_off() -> Value {
        json!({ "waiting": { "reason": "CrashLoopBackOff" } })
    }

    /// What is found at this second of a server in this state after so many restarts; ready since then, if it is.
    fn found(restarts: u32, state: Value, last: Value, ready: Option<i64>, now: i64) -> Finding {
        let ready = json!({
            "type": "Ready", "status": if ready.is_some() { "True" } else { "False" },
            "lastTransitionTime": at(ready.unwrap_or(0)).to_string(),
        });
        let server = json!({ "name": SERVER, "restartCount": restarts, "state": state, "lastState": last });
        assess(&Live(json!({ "status": { "conditions": [ready], "containerStatuses": [server] } })), None, at(now))
    }

    #[test]
    fn a_crash_loop_is_one_finding_in_all_its_phases() {
        let first = found(1, back_off(), run(0, 2), None, 3);
        assert_eq!(first.reason, "Crashing");
        assert!(first.message.ends_with("exit code 1: cannot open"), "{}", first.message);
        let phases = [
            found(2, running(13), run(0, 2), None, 14),
            // Ready for a moment, which is no end of it.
            found(2, running(13), run(0, 2), Some(15), 20),
            found(2, run(13, 25), run(0, 2), None, 25),
            found(2, back_off(), run(13, 25), None, 26),
            found(2, json!({ "waiting": { "reason": "ContainerCreating" } }), run(13, 25), None, 45),
            found(3, running(45), run(13, 25), None, 46),
            found(3, running(45), run(13, 25), None, 45 + 599),
            // The clock of the node is ahead.
            found(3, running(45), run(13, 25), Some(60), 30),
        ];
        for (index, phase) in phases.into_iter().enumerate() {
            assert_eq!(phase, first, "phase {index}");
        }
    }

    #[test]
    fn it_is_over_when_the_server_runs_well() {
        let reason = |ready, now| found(3, running(45), run(13, 25), ready, now).reason;
        assert_eq!([reason(Some(50), 109), reason(Some(50), 110)], ["Crashing", "Serving"]);
        assert_eq!([reason(None, 644), reason(None, 645)], ["Crashing", "NotReady"]);
    }

    #[test]
    fn a_server_that_stumbled_once_or_long_ago_is_in_no_loop() {
        // Once.
        assert_eq!(found(1, running(3), run(0, 2), None, 4).reason, "NotReady");
        assert_eq!(found(1, running(3), run(0, 2), Some(4), 4).reason, "Serving");
        // For the third time, after ten minutes of work.
        assert_eq!(found(3, running(1_000), run(0, 900), None, 1_001).reason, "NotReady");
        assert_eq!(found(3, run(0, 900), run(0, 1), None, 901).reason, "Starting");
    }

    #[test]
    fn another_obstacle_is_told_instead() {
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
        assert_eq!(found(3, waiting("ErrImagePull"), run(0, 2), None, 3).reason, "ImagePullFailed");
        assert_eq!(found(3, waiting("CreateContainerConfigError"), run(0, 2), None, 3).reason, "ContainerCannotStart");
    }

    #[test]
    fn without_times_nothing_is_held_against_a_server() {
        let ended = json!({ "terminated": { "exitCode": 1 } });
        assert_eq!(found(3, json!({ "running": {} }), ended, None, 3).reason, "NotReady");
        assert_eq!(found(3, json!({ "running": {} }), run(0, 2), None, 3).reason, "NotReady");
    }
}
