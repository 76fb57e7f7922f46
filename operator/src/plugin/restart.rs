//! `restart`: asks for a restart as `kubectl rollout restart` does for kinds that it knows.

use std::io::Write;

use jiff::Timestamp;
use kube::Client;
use serde_json::json;

use super::{annotate, get_readable, now};
use crate::objects::labels::RESTARTED_AT;

pub(super) async fn restart(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let resource = get_readable(client, namespace, name).await?;
    anyhow::ensure!(!resource.spec.suspend, "{name} is stopped: set spec.suspend to false to start it");
    let at: Timestamp = now()?;
    annotate(client, namespace, name, json!({ RESTARTED_AT: at.to_string() })).await?;
    let again = format!("kubectl progressdb -n {namespace} status {name}");
    let how = if resource.spec.storage.cassandra().is_some() { ", one server after the other," } else { "" };
    writeln!(out, "{name} is to restart{how} once its settings and keys are found good: {again}")?;
    Ok(())
}
