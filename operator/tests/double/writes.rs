//! Writes that come too late: what was decided on is no longer so, and nothing happens.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use progressdb_operator::{
    apply::Writer,
    clock::Clock,
    crd::ProgressDB,
    decide::Write,
    kind::Kind,
    lease::{Candidate, Leadership},
    observe::Cache,
};
use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster};

const FORMER: &str = "00000000-0000-4000-8000-000000009999";

async fn apply(cluster: &Cluster, leadership: Leadership, write: Write) -> &'static str {
    let writer = Writer { client: cluster.server.client(), leadership, cache: Arc::new(Cache::default()) };
    let resource: ProgressDB = serde_json::from_value(cluster.get("ProgressDB", "db").unwrap()).unwrap();
    let applied = writer.apply(&resource, &[&write], Timestamp::UNIX_EPOCH).await;
    applied.failures.first().map_or("done", |(_, error)| error.kind())
}

async fn installed(more: Value) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create("db", more);
    cluster.settle().await;
    cluster
}

/// What is left of an object after a write that should be refused.
async fn refused(cluster: &Cluster, kind: &str, name: &str, write: Write) {
    let before = cluster.get(kind, name);
    assert!(before.is_some(), "{kind} {name} is there");
    assert_eq!(apply(cluster, Leadership::alone(), write).await, "stale");
    assert_eq!(cluster.get(kind, name), before);
}

#[tokio::test]
async fn what_is_meant_for_a_former_object_does_not_touch_its_successor() {
    let cluster = installed(json!({})).await;
    let delete = Write::Delete { kind: Kind::Job, name: "other".into(), uid: FORMER.into() };
    let job = Key::new("Job", "ns", "other");
    cluster.server.with(|store| store.create(&job, json!({ "spec": {} }), BTreeMap::new()).unwrap());
    refused(&cluster, "Job", "other", delete).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "db", "namespace": "ns", "uid": FORMER }, "spec": { "type": "NodePort" },
    });
    refused(&cluster, "Service", "db", Write::Apply(service)).await;
    let version = cluster.get("StatefulSet", "db").unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    refused(
        &cluster,
        "StatefulSet",
        "db",
        Write::Stop { kind: Kind::StatefulSet, name: "db".into(), uid: FORMER.into(), version },
    )
    .await;
}

#[tokio::test]
async fn a_stop_that_was_decided_on_an_older_version_is_refused() {
    let cluster = installed(json!({})).await;
    let uid = cluster.get("StatefulSet", "db").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    refused(
        &cluster,
        "StatefulSet",
        "db",
        Write::Stop { kind: Kind::StatefulSet, name: "db".into(), uid, version: "1".into() },
    )
    .await;
}

#[tokio::test]
async fn an_object_that_somebody_made_a_moment_ago_is_not_taken() {
    let cluster = installed(json!({})).await;
    let key = Key::new("ConfigMap", "ns", "mine");
    cluster.server.with(|store| {
        store.create(&key, json!({}), BTreeMap::new()).unwrap();
        store.edit(&key, |object| object["data"] = json!({ "config.yaml": "mine" }));
    });
    let ours = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "mine", "namespace": "ns" }, "data": { "config.yaml": "ours" },
    });
    refused(&cluster, "ConfigMap", "mine", Write::Apply(ours)).await;
}

#[tokio::test]
async fn data_is_not_deleted_under_a_policy_that_has_changed() {
    let mut cluster = installed(json!({ "deletionPolicy": "Delete" })).await;
    cluster.lag = 3;
    // The first deletion fails after the status has told of it; then the owner thinks better of it.
    let refuse = crate::api::faults::Faults::default().refuse("DELETE persistentvolumeclaims", 500, 1);
    cluster.server.set_faults(refuse);
    cluster.delete("db");
    let was_refused = |cluster: &Cluster| {
        cluster.server.take_calls().iter().any(|call| call == "DELETE persistentvolumeclaims/db-data-0")
    };
    cluster.until("an attempt to delete the claim", was_refused).await;
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    cluster.settle().await;
    assert_eq!(cluster.get("ProgressDB", "db"), None);
    assert!(cluster.get("PersistentVolumeClaim", "db-data-0").is_some());
}

#[tokio::test]
async fn data_is_not_deleted_for_a_snapshot_whose_content_is_another_s() {
    let mut cluster = installed(json!({ "deletionPolicy": "Snapshot" })).await;
    cluster.lag = 3;
    cluster.delete("db");
    let contents = |cluster: &Cluster| {
        let all = cluster.server.with(|store| store.all("VolumeSnapshotContent"));
        all.first().map(|content| content["metadata"]["name"].as_str().unwrap().to_owned())
    };
    cluster.until("a snapshot", |cluster| contents(cluster).is_some()).await;
    let content = Key::new("VolumeSnapshotContent", "", &contents(&cluster).unwrap());
    let mut own = Value::Null;
    cluster.server.with(|store| {
        store.edit(&content, |content| {
            own = std::mem::replace(&mut content["spec"]["volumeSnapshotRef"]["uid"], json!(FORMER));
        });
    });
    cluster.settle().await;
    assert!(cluster.get("PersistentVolumeClaim", "db-data-0").is_some());
    cluster.server.with(|store| store.edit(&content, |content| content["spec"]["volumeSnapshotRef"]["uid"] = own));
    cluster.settle().await;
    assert_eq!((cluster.get("PersistentVolumeClaim", "db-data-0"), cluster.get("ProgressDB", "db")), (None, None));
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let cluster = installed(json!({})).await;
    let (_candidate, leadership) = Candidate::new(cluster.server.client(), "ns", "operator", "a", Clock::System);
    cluster.server.take_calls();
    let write = Write::Delete { kind: Kind::Service, name: "db".into(), uid: FORMER.into() };
    assert_eq!(apply(&cluster, leadership, write).await, "not_leading");
    assert_eq!(cluster.server.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_claim_is_written_once() {
    let cluster = installed(json!({})).await;
    let calls = cluster.server.take_calls();
    let writes: Vec<&String> =
        calls.iter().filter(|call| !call.starts_with("GET ") && call.contains("persistentvolumeclaims")).collect();
    assert_eq!(writes, ["PATCH persistentvolumeclaims/db-data-0"]);
}
