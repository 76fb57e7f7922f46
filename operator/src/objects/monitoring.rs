//! What the Prometheus operator is told, where there is one: whom to scrape, and when to raise an alarm.

use serde_json::{Value, json};

use super::{Inputs, labels, names, owned, pod};
use crate::crd::Storage;

/// Alarms about the volume of a single server, and what is kept on it; a fleet's store is watched by whoever runs it.
const OF_A_VOLUME: [&str; 4] =
    ["ProgressDBDiskFull", "ProgressDBStorageErrors", "ProgressDBWritesStopped", "ProgressDBBackupOld"];

/// Name of the alarm, what is true for how long, how bad it is and what to do.
type Alarm = (&'static str, &'static str, &'static str, &'static str, &'static str);

const ALARMS: [Alarm; 7] = [
    (
        "ProgressDBDown",
        "up{SELF} == 0",
        "2m",
        "critical",
        "The server does not answer: see kubectl describe of the resource.",
    ),
    (
        "ProgressDBErrors",
        "sum(rate(progressdb_http_requests_total{SELF,status=~\"5..\"}[5m])) > 0.01 * sum(rate(progressdb_http_requests_total{SELF}[5m]))",
        "10m",
        "warning",
        "More than 1 % of requests fail: see the server's log.",
    ),
    (
        "ProgressDBDiskFull",
        "increase(progressdb_commits_refused_total{SELF,reason=\"disk_full\"}[5m]) > 0",
        "0m",
        "critical",
        "Writes are refused because the volume is full: raise spec.storage.embedded.size.",
    ),
    (
        "ProgressDBStorageErrors",
        "progressdb_rocksdb_background_errors{SELF} > 0",
        "0m",
        "critical",
        "The storage engine failed in the background: see the server's log.",
    ),
    (
        "ProgressDBWritesStopped",
        "progressdb_rocksdb_writes_stopped{SELF} > 0",
        "5m",
        "warning",
        "Compaction falls behind: the volume is too slow for these writes.",
    ),
    (
        "ProgressDBKmsFailing",
        "progressdb_kms_seconds_since_success{SELF} > 120",
        "0m",
        "critical",
        "The KMS does not answer: writes end 180 s, reads 3600 s after its last success. Do not restart the pod.",
    ),
    (
        "ProgressDBBackupOld",
        // Without a schedule there is no interval. A server that never made a backup counts from its start.
        "time() - (progressdb_backup_last_success_timestamp_seconds{SELF} > 0 or process_start_time_seconds{SELF}) > 2 * progressdb_backup_interval_seconds{SELF}",
        "10m",
        "warning",
        "No scheduled backup succeeded for two intervals: see backup.failed in the server's log.",
    ),
];

/// Alarms about the store of a fleet, as its servers see it.
const OF_A_FLEET: [Alarm; 2] = [
    (
        "ProgressDBSlotLost",
        "progressdb_cassandra_slot_lost{SELF} > 0",
        "1m",
        "critical",
        "A server refuses writes, because the store does not answer it.",
    ),
    (
        "ProgressDBStoreNodesMissing",
        "progressdb_cassandra_nodes_connected{SELF} < progressdb_cassandra_nodes{SELF}",
        "5m",
        "warning",
        "A node of the store is down, or cut off from a server: with a majority of the replicas gone, nothing is served.",
    ),
];

/// The labels that people add, by which a Prometheus selects what it reads, and over them ours.
fn metadata(inputs: &Inputs<'_>) -> Value {
    let name = inputs.name();
    let own = labels::of(&name, labels::Component::Server);
    owned(inputs.resource, &name, pod::labels_over(&inputs.resource.spec.monitoring.labels, own))
}

/// Whom to scrape; `None` if it is not wanted.
pub fn service_monitor(inputs: &Inputs<'_>) -> Option<Value> {
    let name = inputs.name();
    inputs.resource.spec.monitoring.service_monitor.then(|| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": metadata(inputs),
            "spec": {
                "selector": { "matchLabels": labels::selector(&name, labels::Component::Server) },
                "endpoints": [{ "port": "management", "path": "/metrics" }],
            },
        })
    })
}

/// When to raise an alarm; `None` if it is not wanted.
pub fn prometheus_rule(inputs: &Inputs<'_>) -> Option<Value> {
    let name = inputs.name();
    let namespace = inputs.resource.metadata.namespace.as_deref().unwrap_or_default();
    let own = format!("namespace=\"{namespace}\",service=\"{}\"", names::headless_service(&name));
    let rule = |(alarm, expression, lasting, severity, advice): Alarm| {
        json!({
            "alert": alarm,
            "expr": expression.replace("SELF", &own),
            "for": lasting,
            "labels": { "severity": severity },
            "annotations": { "summary": format!("{namespace}/{name}: {advice}") },
        })
    };
    let alarms: Vec<Alarm> = match inputs.resource.spec.storage {
        Storage::Embedded(_) => ALARMS.into(),
        Storage::Cassandra(_) => {
            ALARMS.into_iter().filter(|(alarm, ..)| !OF_A_VOLUME.contains(alarm)).chain(OF_A_FLEET).collect()
        }
    };
    inputs.resource.spec.monitoring.prometheus_rule.then(|| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": metadata(inputs),
            "spec": { "groups": [{ "name": "progressdb", "rules": alarms.into_iter().map(rule).collect::<Vec<_>>() }] },
        })
    })
}
