//! `connect`: a local port that leads to the database.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::{get, servers, status_of};
use crate::{
    conditions::ConditionType,
    objects::{
        API_PORT,
        labels::{TRACK, Track},
    },
    raw::Raw,
};

pub(super) async fn forward(
    client: &Client,
    namespace: &str,
    name: &str,
    port: u16,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let resource = get(client, namespace, name).await?;
    let pods = servers(client, namespace, &resource).await?;
    let pod = pods.into_iter().filter(|pod| rank(pod).is_some()).min_by_key(rank);
    let pod = pod.with_context(|| why_not(&resource))?.name_any();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("listening on port {port}"))?;
    writeln!(out, "http://{} is {name} until Ctrl-C", listener.local_addr()?)?;
    out.flush()?;
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(carry(pods, pod.clone(), connection));
    }
}

/// Where a server stands among those to connect to, if it runs: one that takes requests before others, and a canary last.
fn rank(pod: &Raw) -> Option<(bool, bool)> {
    let pod = pod.to_value();
    let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let is_ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let is_canary = pod["metadata"]["labels"][TRACK] == Track::Canary.as_str();
    (pod["status"]["phase"] == "Running").then_some((!is_ready, is_canary))
}

/// Why there is nothing to connect to.
fn why_not(resource: &Raw) -> String {
    let (name, status) = (resource.name_any(), status_of(resource));
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.name());
    let why = ready.filter(|ready| ready.status != "True").map(|ready| ready.message.as_str());
    format!("the server of {name} does not run: {}", why.unwrap_or("its pod has not started yet, try again"))
}

/// Carries one connection; each has its own way, so that one that breaks takes no other with it.
async fn carry(pods: Api<Pod>, pod: String, mut connection: TcpStream) {
    let result: anyhow::Result<()> = async {
        let mut forwarder = pods.portforward(&pod, &[API_PORT]).await?;
        let mut stream = forwarder.take_stream(API_PORT).context("the port was not forwarded")?;
        tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
        drop(stream);
        Ok(forwarder.join().await?)
    }
    .await;
    if let Err(error) = result {
        tracing::warn!(event = "forward.failed", %error);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_takes_requests_comes_before_others_and_a_canary_last() {
        let pod = |name: &str, phase: &str, ready: &str, track: &str| -> Raw {
            let status = json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] });
            let metadata = json!({ "name": name, "labels": { TRACK: track } });
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status });
            serde_json::from_str(&pod.to_string()).unwrap()
        };
        let all = [
            pod("waits", "Pending", "False", "stable"),
            pod("starts", "Running", "False", "stable"),
            pod("canary", "Running", "True", "canary"),
            pod("serves", "Running", "True", "stable"),
        ];
        let first = |pods: &[Raw]| pods.iter().filter(|pod| rank(pod).is_some()).min_by_key(|pod| rank(pod)).cloned();
        let names: Vec<_> = (1..=4).map(|count| first(&all[..count]).map(|pod| pod.name_any())).collect();
        assert_eq!(names, [None, Some("starts".into()), Some("canary".into()), Some("serves".into())]);
    }
}
