//! `report`: everything that helps to understand a problem, or an upgrade. Secrets are left out.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, LogParams, TypeMeta},
};
use serde_json::{Map, Value, json};

use super::{get, servers, status_of};
use crate::{
    kind::Kind,
    objects::{LOG_FILE, REPORT_FILE, labels, names, report_text},
};

/// Lines of a log that a report holds.
const LOG_LINES: i64 = 500;
/// Servers of a fleet whose logs it holds.
const MOST_LOGS: usize = 10;

/// Writes the resource, its objects, its events and the end of its logs.
pub(super) async fn write(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let report = report(client, namespace, name).await?;
    out.write_all(serde_saphyr::to_string(&report)?.as_bytes()).context("writing")
}

/// Writes the report of an upgrade: the one of this id, or the last one.
pub(super) async fn write_upgrade(
    client: &Client,
    namespace: &str,
    name: &str,
    id: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let status = status_of(&get(client, namespace, name).await?);
    let last = status.upgrade.as_ref().map(|record| &*record.id).or(status.history.first().map(|entry| &*entry.id));
    let id = if id.is_empty() { last.with_context(|| format!("{name} was never upgraded"))? } else { id };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = names::of_upgrade(name, id, "report");
    let entries = maps.get_opt(&map).await.context("reading the report")?.and_then(|map| map.data);
    // What the operator wrote is of the time when it was held or ended; one that goes on is told as it is.
    let under_way = status.upgrade.as_ref().filter(|record| record.id == id && record.outcome.is_none());
    let written = entries.as_ref().and_then(|entries| entries.get(REPORT_FILE).cloned());
    let text = under_way.map(|record| report_text(namespace, name, record, None)).or(written);
    let text = text.with_context(|| {
        let known: Vec<&str> = status.history.iter().map(|entry| &*entry.id).collect();
        format!("there is no report of an upgrade {id}: those known are {}", known.join(", "))
    })?;
    write!(out, "{text}")?;
    let log = entries.and_then(|mut entries| entries.remove(LOG_FILE));
    if let Some(log) = log {
        let lines: String = log.lines().map(|line| format!("  {line}\n")).collect();
        write!(out, "log: |\n{lines}")?;
    }
    Ok(())
}

async fn report(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Value> {
    let resource = get(client, namespace, name).await?;
    let selector = ListParams::default().labels(&format!("{}={name}", labels::INSTANCE));
    let mut objects = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret) {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.api_resource());
        match api.list(&selector).await {
            // Items of lists do not say what they are.
            Ok(found) => objects.extend(found.into_iter().map(|mut object| {
                object.types =
                    Some(TypeMeta { api_version: kind.api_resource().api_version, kind: kind.name().into() });
                without_managed_fields(&object)
            })),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => objects.push(json!({ "kind": kind.name(), "error": error.to_string() })),
        }
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let events = events.list(&ListParams::default()).await.context("listing events")?;
    let is_about = |event: &Event| is_about(event, name, &objects);
    let events: Vec<Value> = events.iter().filter(|event| is_about(event)).map(without_managed_fields).collect();
    let mut logs = Map::new();
    for pod in servers(client, namespace, &resource).await?.into_iter().take(MOST_LOGS) {
        let pod = pod.name_any();
        let (now, before) = (log(client, namespace, &pod, false).await, log(client, namespace, &pod, true).await);
        logs.insert(pod, json!({ "log": now, "previousLog": before }));
    }
    Ok(json!({
        "operator": env!("CARGO_PKG_VERSION"),
        "resource": without_managed_fields(&resource.to_value()),
        "objects": objects,
        "events": events,
        "logs": logs,
    }))
}

/// Whether an Event is about the resource or something of its own; what it had before has gone, and only names are left.
fn is_about(event: &Event, instance: &str, objects: &[Value]) -> bool {
    let about = &event.involved_object;
    let Some(name) = about.name.as_deref() else { return false };
    let is_there = objects.iter().any(|object| about.uid.is_some() && object["metadata"]["uid"] == json!(about.uid));
    match about.kind.as_deref() {
        _ if is_there => true,
        Some("ProgressDB") => name == instance,
        Some(_) => names::is_of(instance, name),
        None => false,
    }
}

fn without_managed_fields(object: &impl serde::Serialize) -> Value {
    let mut object = serde_json::to_value(object).expect("an object is JSON");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

async fn log(client: &Client, namespace: &str, pod: &str, previous: bool) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = LogParams { previous, tail_lines: Some(LOG_LINES), ..LogParams::default() };
    pods.logs(pod, &params).await.unwrap_or_else(|error| format!("none: {error}"))
}
