//! How a pod is, and what to do about it.

mod crash_loop;

use jiff::Timestamp;

use crate::{
    conditions::Finding,
    facts::{Container, Ended, Pod, State},
};

/// The reason of a server that ends again and again.
const CRASHING: &str = "Crashing";

/// Whether the server takes requests, and why not.
pub(super) fn assess(pod: &Pod, now: Timestamp) -> Finding {
    if pod.is_deleted {
        return assess_ending(pod, now);
    }
    let server = &pod.container;
    if crash_loop::lasts(pod, now) {
        return Finding::no(CRASHING, crashing(server));
    }
    if pod.is_ready {
        return Finding::yes("Serving", with_last_end(server, "the server takes requests"));
    }
    if let Some((reason, message)) = obstacle(pod) {
        return Finding::no(reason, message);
    }
    if !matches!(server.state, State::Running(_)) {
        return Finding::no("Starting", with_last_end(server, "the pod starts"));
    }
    if let Some(other) = pod.waits_for.as_ref().filter(|_| server.is_ready) {
        let message = format!("the server is ready, and the container {other} beside it is not: see its log");
        return Finding::no("NotReady", message);
    }
    let message =
        "the server runs and does not take requests: it may be opening its data or waiting for the KMS; see its log";
    Finding::no("NotReady", with_last_end(server, message))
}

/// Whether the server ends again and again.
pub(super) fn is_crash_looping(pod: &Pod, now: Timestamp) -> bool {
    crash_loop::lasts(pod, now) || obstacle(pod).is_some_and(|(reason, _)| reason == CRASHING)
}

/// That the server ran out of memory is said for as long as its pod lives: it will again.
fn with_last_end(server: &Container, message: &str) -> String {
    match server.last_end().and_then(out_of_memory) {
        Some(cause) => format!("{message}; before, {cause}"),
        None => message.to_owned(),
    }
}

/// What to do about a container that the kernel ended for want of memory; `None` if it ended otherwise.
pub(super) fn out_of_memory(ended: &Ended) -> Option<String> {
    let message = "it took more memory than its limit allows and was ended (OOMKilled): raise \
                   spec.resources.limits.memory, or lower storage.memory in spec.settings to about half of it";
    ended.is_out_of_memory.then(|| message.to_owned())
}

/// A pod that ends is waited for. Nobody forces it: on a node that cannot be seen it may still write.
fn assess_ending(pod: &Pod, now: Timestamp) -> Finding {
    match &pod.node {
        Some((node, false)) if pod.deleted_at.is_some_and(|at| at < now) => Finding::no(
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
pub(super) fn obstacle(pod: &Pod) -> Option<(&'static str, String)> {
    if let Some(message) = &pod.unschedulable {
        return Some(("Unschedulable", format!("no node can take the pod: {message}")));
    }
    let State::Waiting(reason, message) = &pod.container.state else { return None };
    match reason.as_str() {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => Some((
            "ImagePullFailed",
            format!(
                "the image {} cannot be pulled: correct spec.image or spec.imagePullSecrets: {message}",
                pod.container.image
            ),
        )),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(("ContainerCannotStart", format!("the container cannot start: {message}")))
        }
        "CrashLoopBackOff" => Some((CRASHING, crashing(&pod.container))),
        _ => None,
    }
}

/// With what the container said when it ended last. It says the same in every phase of a crash loop.
fn crashing(container: &Container) -> String {
    let ended = container.last_end().cloned().unwrap_or_default();
    format!("the server ends again and again: {}", termination_message(&ended))
}

fn termination_message(ended: &Ended) -> String {
    if let Some(message) = out_of_memory(ended) {
        return message;
    }
    let code = ended.exit_code.unwrap_or_default();
    let last = ended.last_line.as_deref().unwrap_or("see its log with kubectl logs --previous");
    format!("exit code {code}: {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(state: State) -> Pod {
        Pod { container: Container { state, ..Container::default() }, ..Pod::default() }
    }

    fn waiting(reason: &str) -> Pod {
        server(State::Waiting(reason.into(), String::new()))
    }

    fn deleted_at(second: i64, node: &str, is_ready: bool) -> Pod {
        let deleted_at = Some(Timestamp::from_second(second).unwrap());
        Pod { is_deleted: true, deleted_at, node: Some((node.into(), is_ready)), ..Pod::default() }
    }

    #[test]
    fn a_pod_is_assessed_by_what_its_node_says() {
        let cases = [
            (Pod { is_ready: true, ..Pod::default() }, "Serving"),
            (waiting("ContainerCreating"), "Starting"),
            (waiting("ErrImagePull"), "ImagePullFailed"),
            (waiting("CrashLoopBackOff"), "Crashing"),
            (server(State::Running(None)), "NotReady"),
            (deleted_at(600, "n", true), "Stopping"),
            (deleted_at(600, "n", false), "NodeLost"),
            (deleted_at(3_600, "n", false), "Stopping"),
        ];
        for (pod, reason) in cases {
            assert_eq!(assess(&pod, Timestamp::from_second(1_000).unwrap()).reason, reason, "{pod:?}");
        }
    }

    #[test]
    fn a_server_that_waits_for_a_container_beside_it_says_so() {
        let container = Container { is_ready: true, state: State::Running(None), ..Container::default() };
        let pod = Pod { container, waits_for: Some("a-proxy".into()), ..Pod::default() };
        let found = assess(&pod, Timestamp::UNIX_EPOCH);
        assert_eq!(found.reason, "NotReady");
        assert!(found.message.contains("the container a-proxy beside it is not"), "{}", found.message);
    }

    #[test]
    fn a_server_that_ran_out_of_memory_says_so_in_every_state() {
        let ended = Ended { is_out_of_memory: true, exit_code: Some(137), ..Ended::default() };
        let crashing = State::Waiting("CrashLoopBackOff".into(), String::new());
        for (state, is_ready) in [(crashing, false), (State::Running(None), false), (State::Running(None), true)] {
            let container = Container { state, ended_before: Some(ended.clone()), ..Container::default() };
            let found = assess(&Pod { container, is_ready, ..Pod::default() }, Timestamp::UNIX_EPOCH);
            assert!(found.message.contains("OOMKilled"), "{}", found.message);
            assert!(found.message.contains("spec.resources.limits.memory"), "{}", found.message);
        }
    }
}
