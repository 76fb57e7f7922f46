//! How a pod is, and what to do about it.

mod crash_loop;

use jiff::Timestamp;

use serde_json::Value;

use super::conditions::Finding;
use crate::{objects::SERVER, observe::Live};

/// The reason of a server that ends again and again.
const CRASHING: &str = "Crashing";

/// Whether the server takes requests, and why not.
pub(super) fn assess(pod: &Live, node: Option<&(String, bool)>, now: Timestamp) -> Finding {
    if pod.is_deleted() {
        return assess_ending(pod, node, now);
    }
    let server = pod.container(SERVER);
    if crash_loop::lasts(pod, server, now) {
        return Finding::no(CRASHING, crashing(server));
    }
    if pod.condition("Ready").is_some_and(|(status, ..)| status == "True") {
        return Finding::yes("Serving", with_last_end(server, "the server takes requests"));
    }
    if let Some((reason, message)) = obstacle(pod, SERVER) {
        return Finding::no(reason, message);
    }
    if server["state"]["running"].is_null() {
        return Finding::no("Starting", with_last_end(server, "the pod starts"));
    }
    if let Some(other) = waiting_for(pod).filter(|_| server["ready"] == true) {
        let message = format!("the server is ready, and the container {other} beside it is not: see its log");
        return Finding::no("NotReady", message);
    }
    let message =
        "the server runs and does not take requests: it may be opening its data or waiting for the KMS; see its log";
    Finding::no("NotReady", with_last_end(server, message))
}

/// Another container than the server's that is not ready, which keeps the pod from being so.
fn waiting_for(pod: &Live) -> Option<&str> {
    let containers = pod.at("/status/containerStatuses").as_array()?;
    containers.iter().find(|container| container["ready"] == false)?["name"].as_str()
}

/// That the server ran out of memory is said for as long as its pod lives: it will again.
fn with_last_end(server: &Value, message: &str) -> String {
    match out_of_memory(crash_loop::last_end(server)) {
        Some(cause) => format!("{message}; before, {cause}"),
        None => message.to_owned(),
    }
}

/// What to do about a container that the kernel ended for want of memory; `None` if it ended otherwise.
pub(super) fn out_of_memory(ended: &Value) -> Option<String> {
    let message = "it took more memory than its limit allows and was ended (OOMKilled): raise \
                   spec.resources.limits.memory, or lower storage.memory in spec.settings to about half of it";
    (ended["reason"] == "OOMKilled").then(|| message.to_owned())
}

/// A pod that ends is waited for. Nobody forces it: on a node that cannot be seen it may still write.
fn assess_ending(pod: &Live, node: Option<&(String, bool)>, now: Timestamp) -> Finding {
    match node {
        Some((node, false)) if pod.deleted_at().is_some_and(|at| at < now) => Finding::no(
            "NodeLost",
            format!(
                "the node {node} does not answer, and the server may still run there: make sure that the machine is off, \
                 then type: kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
        ),
        _ => Finding::no("Stopping", "the server finishes its requests and stops"),
    }
}

/// What keeps a pod from running that will not go away by waiting a moment.
pub(super) fn obstacle(pod: &Live, container: &str) -> Option<(&'static str, String)> {
    if let Some(("False", "Unschedulable", message)) = pod.condition("PodScheduled") {
        return Some(("Unschedulable", format!("no node can take the pod: {message}")));
    }
    let status = pod.container(container);
    let waiting = |name: &str| {
        status.pointer(&format!("/state/waiting/{name}")).and_then(|text| text.as_str()).unwrap_or_default()
    };
    let image = status["image"].as_str().unwrap_or_default();
    match waiting("reason") {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => Some((
            "ImagePullFailed",
            format!(
                "the image {image} cannot be pulled: correct spec.image or spec.imagePullSecrets: {}",
                waiting("message")
            ),
        )),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(("ContainerCannotStart", format!("the container cannot start: {}", waiting("message"))))
        }
        "CrashLoopBackOff" => Some((CRASHING, crashing(status))),
        _ => None,
    }
}

/// With what the container said when it ended last. It says the same in every phase of a crash loop.
fn crashing(container: &Value) -> String {
    format!("the server ends again and again: {}", termination_message(crash_loop::last_end(container)))
}

fn termination_message(ended: &Value) -> String {
    if let Some(message) = out_of_memory(ended) {
        return message;
    }
    let code = ended["exitCode"].as_i64().unwrap_or_default();
    let last = ended["message"].as_str().and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    format!("exit code {code}: {}", last.unwrap_or("see its log with kubectl logs --previous"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reason_of(status: Value, deleted: Option<&str>, node: Option<(String, bool)>) -> &'static str {
        let mut pod = json!({ "metadata": { "name": "db-0" }, "status": status });
        if let Some(at) = deleted {
            pod["metadata"]["deletionTimestamp"] = at.into();
        }
        assess(&Live(pod), node.as_ref(), Timestamp::from_second(1_000).unwrap()).reason
    }

    fn waiting(reason: &str) -> Value {
        json!({ "containerStatuses": [of_server(json!({ "state": { "waiting": { "reason": reason } } }))] })
    }

    fn of_server(mut status: Value) -> Value {
        status["name"] = SERVER.into();
        status
    }

    #[test]
    fn a_pod_is_assessed_by_what_its_node_says() {
        let early = Some("1970-01-01T00:10:00Z");
        let cases = [
            (reason_of(json!({ "conditions": [{ "type": "Ready", "status": "True" }] }), None, None), "Serving"),
            (reason_of(waiting("ContainerCreating"), None, None), "Starting"),
            (reason_of(waiting("ErrImagePull"), None, None), "ImagePullFailed"),
            (reason_of(waiting("CrashLoopBackOff"), None, None), "Crashing"),
            (
                reason_of(
                    json!({ "containerStatuses": [of_server(json!({ "state": { "running": {} } }))] }),
                    None,
                    None,
                ),
                "NotReady",
            ),
            (reason_of(waiting(""), early, Some(("n".into(), true))), "Stopping"),
            (reason_of(waiting(""), early, Some(("n".into(), false))), "NodeLost"),
            (reason_of(waiting(""), Some("1970-01-01T01:00:00Z"), Some(("n".into(), false))), "Stopping"),
        ];
        for (found, wanted) in cases {
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_container_that_stands_before_the_server_is_not_taken_for_it() {
        let sidecar =
            json!({ "name": "a-proxy", "ready": false, "state": { "waiting": { "reason": "ErrImagePull" } } });
        let server = of_server(json!({ "ready": true, "state": { "running": {} } }));
        let pod = Live(json!({ "status": { "containerStatuses": [sidecar, server] } }));
        let found = assess(&pod, None, Timestamp::UNIX_EPOCH);
        assert_eq!(found.reason, "NotReady");
        assert!(found.message.contains("the container a-proxy beside it is not"), "{}", found.message);
    }

    #[test]
    fn a_server_that_ran_out_of_memory_says_so_in_every_state() {
        let last = json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } });
        for (state, ready) in [
            (json!({ "waiting": { "reason": "CrashLoopBackOff" } }), "False"),
            (json!({ "running": {} }), "False"),
            (json!({ "running": {} }), "True"),
        ] {
            let pod = Live(json!({ "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [of_server(json!({ "state": state, "lastState": last }))],
            } }));
            let found = assess(&pod, None, Timestamp::UNIX_EPOCH);
            assert!(found.message.contains("OOMKilled"), "{}", found.message);
            assert!(found.message.contains("spec.resources.limits.memory"), "{}", found.message);
        }
    }
}
