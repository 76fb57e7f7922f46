//! `connect`: a local port that leads to the database.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{get, servers, status_of};
use crate::{conditions::ConditionType, objects::API_PORT, raw::Raw};

pub(super) async fn forward(
    client: &Client,
    namespace: &str,
    name: &str,
    port: u16,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let resource = get(client, namespace, name).await?;
    let runs = |pod: &Raw| pod.to_value().pointer("/status/phase") == Some(&json!("Running"));
    let pod = servers(client, namespace, &resource).await?.into_iter().find(runs);
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
