//! Whether the server of a pod is in a crash loop.
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

use crate::facts::{Ended, Pod, State};

/// A container that was restarted less often may only have stumbled.
const RESTARTS: i64 = 2;
/// After a run of this length the kubelet forgets its back-off, and begins anew.
const RAN_WELL: SignedDuration = SignedDuration::from_secs(600);
/// A container that has been ready for so long does its work.
const READY_WELL: SignedDuration = SignedDuration::from_secs(60);

/// What a container that is about to be started waits for.
const PASSING: [&str; 3] = ["CrashLoopBackOff", "ContainerCreating", "PodInitializing"];

/// Whether the server of a pod is in a crash loop.
pub(super) fn lasts(pod: &Pod, now: Timestamp) -> bool {
    let server = &pod.container;
    // Something else keeps it from starting, which is told instead.
    if matches!(&server.state, State::Waiting(reason, _) if !PASSING.contains(&reason.as_str())) {
        return false;
    }
    let was_short = server.last_end().and_then(length).is_some_and(|length| length < RAN_WELL);
    server.restarts >= RESTARTS && was_short && !runs_well(pod, now)
}

fn length(ended: &Ended) -> Option<SignedDuration> {
    Some(ended.finished_at?.duration_since(ended.started_at?))
}

fn runs_well(pod: &Pod, now: Timestamp) -> bool {
    let State::Running(started_at) = pod.container.state else { return false };
    let for_long = |since: Option<Timestamp>, long| since.is_none_or(|since| now.duration_since(since) >= long);
    (pod.is_ready && for_long(pod.ready_since, READY_WELL)) || for_long(started_at, RAN_WELL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conditions::Finding, decide::pods::assess, facts::Container};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// A run of the server, from one second to another.
    fn run(from: i64, to: i64) -> Ended {
        Ended {
            exit_code: Some(1),
            last_line: Some("cannot open".into()),
            started_at: Some(at(from)),
            finished_at: Some(at(to)),
            ..Ended::default()
        }
    }

    fn running(from: i64) -> State {
        State::Running(Some(at(from)))
    }

    fn waiting(reason: &str) -> State {
        State::Waiting(reason.into(), String::new())
    }

    /// What is found at this second of a server in this state after so many restarts; ready since then, if it is.
    fn found(restarts: i64, state: State, last: Ended, ready: Option<i64>, now: i64) -> Finding {
        let container = Container { restarts, state, ended_before: Some(last), ..Container::default() };
        let ready_since = Some(at(ready.unwrap_or(0)));
        assess(&Pod { is_ready: ready.is_some(), ready_since, container, ..Pod::default() }, at(now))
    }

    #[test]
    fn a_crash_loop_is_one_finding_in_all_its_phases() {
        let first = found(1, waiting("CrashLoopBackOff"), run(0, 2), None, 3);
        assert_eq!(first.reason, "Crashing");
        assert!(first.message.ends_with("exit code 1: cannot open"), "{}", first.message);
        let phases = [
            found(2, running(13), run(0, 2), None, 14),
            // Ready for a moment, which is no end of it.
            found(2, running(13), run(0, 2), Some(15), 20),
            found(2, State::Ended(run(13, 25)), run(0, 2), None, 25),
            found(2, waiting("CrashLoopBackOff"), run(13, 25), None, 26),
            found(2, waiting("ContainerCreating"), run(13, 25), None, 45),
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
        assert_eq!(found(3, State::Ended(run(0, 900)), run(0, 1), None, 901).reason, "Starting");
    }

    #[test]
    fn another_obstacle_is_told_instead() {
        assert_eq!(found(3, waiting("ErrImagePull"), run(0, 2), None, 3).reason, "ImagePullFailed");
        assert_eq!(found(3, waiting("CreateContainerConfigError"), run(0, 2), None, 3).reason, "ContainerCannotStart");
    }

    #[test]
    fn without_times_nothing_is_held_against_a_server() {
        let ended = Ended { exit_code: Some(1), ..Ended::default() };
        assert_eq!(found(3, State::Running(None), ended, None, 3).reason, "NotReady");
        assert_eq!(found(3, State::Running(None), run(0, 2), None, 3).reason, "NotReady");
    }
}
