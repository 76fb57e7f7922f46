//! How a pod is, in words that say what to do.

use jiff::Timestamp;

use super::conditions::Finding;
use crate::observe::Live;

/// Whether the server takes requests, and why not.
pub(super) fn judge(pod: &Live, node: Option<&(String, bool)>, now: Timestamp) -> Finding {
    if pod.is_deleted() {
        return judge_ending(pod, node, now);
    }
    if pod.condition("Ready").is_some_and(|(status, ..)| status == "True") {
        return Finding::yes("Serving", "the server takes requests");
    }
    if let Some((reason, message)) = obstacle(pod) {
        return Finding::no(reason, message);
    }
    match pod.at("/status/containerStatuses/0/state/running").is_null() {
        true => Finding::no("Starting", "the pod starts"),
        false => Finding::no(
            "NotReady",
            "the server runs and does not take requests: it may be opening its data or waiting for the KMS; see its log",
        ),
    }
}

/// A pod that ends is waited for. Nobody forces it: on a node that cannot be seen it may still write.
fn judge_ending(pod: &Live, node: Option<&(String, bool)>, now: Timestamp) -> Finding {
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
pub(super) fn obstacle(pod: &Live) -> Option<(&'static str, String)> {
    if let Some(("False", "Unschedulable", message)) = pod.condition("PodScheduled") {
        return Some(("Unschedulable", format!("no node can take the pod: {message}")));
    }
    let status = pod.at("/status/containerStatuses/0").clone();
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
        "CrashLoopBackOff" => Some(("Crashing", format!("the server ends again and again: {}", last_words(&status)))),
        _ => None,
    }
}

fn last_words(status: &serde_json::Value) -> String {
    let ended = &status["lastState"]["terminated"];
    let code = ended["exitCode"].as_i64().unwrap_or_default();
    let last = ended["message"].as_str().and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    format!("exit code {code}: {}", last.unwrap_or("see its log with kubectl logs --previous"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(status: Value, deleted: Option<&str>, node: Option<(String, bool)>) -> &'static str {
        let mut pod = json!({ "metadata": { "name": "db-0" }, "status": status });
        if let Some(at) = deleted {
            pod["metadata"]["deletionTimestamp"] = at.into();
        }
        judge(&Live(pod), node.as_ref(), Timestamp::from_second(1_000).unwrap()).reason
    }

    fn waiting(reason: &str) -> Value {
        json!({ "containerStatuses": [{ "state": { "waiting": { "reason": reason } } }] })
    }

    #[test]
    fn a_pod_is_judged_by_what_its_node_says() {
        let early = Some("1970-01-01T00:10:00Z");
        let cases = [
            (judged(json!({ "conditions": [{ "type": "Ready", "status": "True" }] }), None, None), "Serving"),
            (judged(waiting("ContainerCreating"), None, None), "Starting"),
            (judged(waiting("ErrImagePull"), None, None), "ImagePullFailed"),
            (judged(waiting("CrashLoopBackOff"), None, None), "Crashing"),
            (judged(json!({ "containerStatuses": [{ "state": { "running": {} } }] }), None, None), "NotReady"),
            (judged(waiting(""), early, Some(("n".into(), true))), "Stopping"),
            (judged(waiting(""), early, Some(("n".into(), false))), "NodeLost"),
            (judged(waiting(""), Some("1970-01-01T01:00:00Z"), Some(("n".into(), false))), "Stopping"),
        ];
        for (found, wanted) in cases {
            assert_eq!(found, wanted);
        }
    }
}
