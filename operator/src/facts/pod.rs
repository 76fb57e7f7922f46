//! What is known of a pod, of the server or of a check: by one of its containers, because admission may add others.

use jiff::Timestamp;
use serde_json::Value;

use super::{Warning, text, warning};
use crate::{
    objects::labels::{RESTART, RESTARTED_AT, ROLL},
    observe::{Live, Observed, has_run, image_id},
};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// The end of its grace period, if somebody deleted it.
    pub deleted_at: Option<Timestamp>,
    /// Its node, and whether that is ready; known only of the server's pod, after its grace period.
    pub node: Option<(String, bool)>,
    /// Whether the server in it runs, or ever ran.
    pub has_run: bool,
    /// Whether its condition Ready is true.
    pub is_ready: bool,
    /// Since when the condition Ready has been as it is.
    pub ready_since: Option<Timestamp>,
    /// Why no node can take it.
    pub unschedulable: Option<String>,
    /// The annotation `roll`.
    pub roll: Option<String>,
    /// The restarts that it has seen: the annotation of the StatefulSet, and that of the resource.
    pub restarts: (Option<String>, Option<String>),
    /// What the node runs as the server, with its digest.
    pub image_id: Option<String>,
    /// The container that matters.
    pub container: Container,
    /// Another container that is not ready.
    pub waits_for: Option<String>,
    /// Whether another container has not ended.
    pub others_run: bool,
    /// An init container that does not end.
    pub init: Option<InitContainer>,
    /// The last warning about it.
    pub warning: Option<Warning>,
}

/// The container that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its image.
    pub image: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// How often it was restarted.
    pub restarts: i64,
    /// What it does.
    pub state: State,
    /// How it ended the last time.
    pub ended_before: Option<Ended>,
}

/// What a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// The node says nothing about it.
    #[default]
    Unknown,
    /// It waits, for this reason and with this message.
    Waiting(String, String),
    /// It runs, since this moment.
    Running(Option<Timestamp>),
    /// It has ended.
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ended {
    /// When it had started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The exit code.
    pub exit_code: Option<i64>,
    /// Whether the kernel ended it for want of memory.
    pub is_out_of_memory: bool,
    /// The last line of its termination message.
    pub last_line: Option<String>,
    /// The errors in the JSON line of its termination message.
    pub errors: Option<String>,
    /// The warnings in that line.
    pub warnings: Option<Vec<String>>,
}

/// An init container that somebody put before the others and that does not end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InitContainer {
    /// Its name.
    pub name: String,
    /// Why it waits.
    pub reason: String,
    /// The message of the node.
    pub message: String,
}

impl Pod {
    /// Whether it is ready and stays.
    pub fn serves(&self) -> bool {
        self.is_ready && !self.is_deleted
    }

    /// A pod, by its container of this name.
    pub(super) fn of(seen: &Observed, pod: &Live, container: &str) -> Self {
        let node = seen.node.clone().filter(|_| seen.pod().is_some_and(|server| server.uid() == pod.uid()));
        Self { node, warning: warning(seen, pod), ..Self::from_live(pod, container) }
    }

    fn from_live(pod: &Live, container: &str) -> Self {
        let annotation = |name: &str| pod.annotation(name).map(str::to_owned);
        let statuses = || pod.at("/status/containerStatuses").as_array().into_iter().flatten();
        let mut others = statuses().filter(|other| other["name"] != container);
        Self {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            is_deleted: pod.is_deleted(),
            deleted_at: pod.deleted_at(),
            node: None,
            has_run: has_run(&pod.0),
            is_ready: pod.condition("Ready").is_some_and(|(status, ..)| status == "True"),
            ready_since: since(pod.at("/status/conditions"), "Ready"),
            unschedulable: match pod.condition("PodScheduled") {
                Some(("False", "Unschedulable", message)) => Some(message.to_owned()),
                _ => None,
            },
            roll: annotation(ROLL),
            restarts: (annotation(RESTARTED_AT), annotation(RESTART)),
            image_id: image_id(pod).map(str::to_owned),
            container: Container::of(pod.container(container)),
            waits_for: statuses().find(|status| status["ready"] == false).and_then(|status| text(&status["name"])),
            others_run: others.any(|other| other["state"]["terminated"].is_null()),
            init: pod.at("/status/initContainerStatuses").as_array().and_then(|all| InitContainer::of(all)),
            warning: None,
        }
    }
}

impl Container {
    fn of(status: &Value) -> Self {
        Self {
            image: text(&status["image"]).unwrap_or_default(),
            is_ready: status["ready"] == true,
            restarts: status["restartCount"].as_i64().unwrap_or_default(),
            state: State::of(&status["state"]),
            ended_before: Some(&status["lastState"]["terminated"]).filter(|ended| !ended.is_null()).map(Ended::of),
        }
    }

    /// How it ended last, now or before its last start.
    pub fn last_end(&self) -> Option<&Ended> {
        self.ended().or(self.ended_before.as_ref())
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }
}

impl State {
    fn of(state: &Value) -> Self {
        let (waiting, running) = (&state["waiting"], &state["running"]);
        match state {
            _ if !running.is_null() => Self::Running(time(&running["startedAt"])),
            _ if !state["terminated"].is_null() => Self::Ended(Ended::of(&state["terminated"])),
            _ if waiting.is_null() => Self::Unknown,
            _ => Self::Waiting(
                text(&waiting["reason"]).unwrap_or_default(),
                text(&waiting["message"]).unwrap_or_default(),
            ),
        }
    }
}

impl Ended {
    fn of(ended: &Value) -> Self {
        let message = ended["message"].as_str().unwrap_or_default();
        let mut lines = message.lines().rev().map(str::trim).filter(|line| !line.is_empty());
        let report = lines.clone().find_map(|line| serde_json::from_str(line).ok().filter(Value::is_object));
        Self {
            started_at: time(&ended["startedAt"]),
            finished_at: time(&ended["finishedAt"]),
            exit_code: ended["exitCode"].as_i64(),
            is_out_of_memory: ended["reason"] == "OOMKilled",
            last_line: lines.next().map(str::to_owned),
            errors: report.as_ref().and_then(errors),
            warnings: report.as_ref().and_then(|report| messages(&report["warnings"])),
        }
    }
}

fn time(text: &Value) -> Option<Timestamp> {
    text.as_str()?.parse().ok()
}

/// Since when the condition of this type has had its status.
pub(super) fn since(conditions: &Value, kind: &str) -> Option<Timestamp> {
    let condition = conditions.as_array()?.iter().find(|condition| condition["type"] == kind)?;
    time(&condition["lastTransitionTime"])
}

/// The error of a report, or all of them.
fn errors(report: &Value) -> Option<String> {
    let one = text(&report["error"]["message"]);
    one.or_else(|| messages(&report["errors"]).filter(|all| !all.is_empty()).map(|all| all.join("; ")))
}

fn messages(list: &Value) -> Option<Vec<String>> {
    Some(list.as_array()?.iter().filter_map(|item| text(&item["message"])).collect())
}

impl InitContainer {
    fn of(statuses: &[Value]) -> Option<Self> {
        let waiting = |status: &Value, part: &str| text(&status["state"]["waiting"][part]).unwrap_or_default();
        let is_stuck =
            |status: &&Value| !matches!(&*waiting(status, "reason"), "" | "PodInitializing" | "ContainerCreating");
        let status = statuses.iter().find(is_stuck)?;
        let name = text(&status["name"]).unwrap_or_default();
        Some(Self { name, reason: waiting(status, "reason"), message: waiting(status, "message") })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::SERVER;

    fn pod(status: Value) -> Pod {
        Pod::from_live(&Live(json!({ "metadata": { "name": "db-0" }, "status": status })), SERVER)
    }

    fn server(more: Value) -> Value {
        let mut status = json!({ "name": SERVER });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    }

    #[test]
    fn a_container_that_stands_before_the_server_is_not_taken_for_it() {
        let sidecar =
            json!({ "name": "a-proxy", "ready": false, "state": { "waiting": { "reason": "ErrImagePull" } } });
        let server = server(json!({ "ready": true, "state": { "running": {} } }));
        let pod = pod(json!({ "containerStatuses": [sidecar, server] }));
        assert_eq!(pod.container, Container { is_ready: true, state: State::Running(None), ..Container::default() });
        assert_eq!(pod.waits_for.as_deref(), Some("a-proxy"));
        assert!(pod.others_run);
    }

    #[test]
    fn a_container_has_one_state() {
        let cases = [
            (json!({}), State::Unknown),
            (json!({ "waiting": { "reason": "a", "message": "b" } }), State::Waiting("a".into(), "b".into())),
            (json!({ "running": {} }), State::Running(None)),
            (
                json!({ "terminated": { "exitCode": 1 } }),
                State::Ended(Ended { exit_code: Some(1), ..Ended::default() }),
            ),
        ];
        for (status, state) in cases {
            assert_eq!(
                pod(json!({ "containerStatuses": [server(json!({ "state": status }))] })).container.state,
                state
            );
        }
    }

    #[test]
    fn only_what_keeps_an_init_container_from_ending_is_told() {
        let init = |reason: &str| {
            let status = json!({ "name": "mesh-init", "state": { "waiting": { "reason": reason, "message": "x" } } });
            pod(json!({ "initContainerStatuses": [status] })).init
        };
        assert_eq!(init("PodInitializing"), None);
        let stuck = InitContainer { name: "mesh-init".into(), reason: "CrashLoopBackOff".into(), message: "x".into() };
        assert_eq!(init("CrashLoopBackOff"), Some(stuck));
    }

    #[test]
    fn the_report_of_a_program_is_the_last_json_line_of_its_message() {
        let of = |message: &str| Ended::of(&json!({ "message": message }));
        let config = r#"{"errors":[{"message":"server.port: too large"},{"message":"b"}],"valid":false,"warnings":[]}"#;
        assert_eq!(of(config).errors.as_deref(), Some("server.port: too large; b"));
        let kms = "{\"error\":{\"code\":\"denied\",\"message\":\"permission denied\"},\"ok\":false}\nerror: denied\n";
        assert_eq!(of(kms).errors.as_deref(), Some("permission denied"));
        let old = of("warning: a\nerror: no such command\n");
        assert_eq!((old.errors, old.last_line.as_deref()), (None, Some("error: no such command")));
        assert_eq!(of("\n"), Ended::default());
        let warned = r#"{"valid":true,"errors":[],"warnings":[{"message":"a is unknown: did you mean b?"}]}"#;
        assert_eq!(of(warned).warnings, Some(vec!["a is unknown: did you mean b?".into()]));
    }
}
