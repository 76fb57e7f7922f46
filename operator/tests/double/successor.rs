//! A server is not stopped for a pod that could not start. If it was stopped all the same, what ran before is started again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster};

pub async fn installed(more: Value) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create("db", more);
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").0, "True");
    cluster
}

pub fn make(cluster: &Cluster, kind: &str, namespace: &str, name: &str, object: Value) {
    let key = Key::new(kind, namespace, name);
    cluster.server.with(|store| store.create(&key, object, BTreeMap::new()).unwrap());
}

pub fn destroy(cluster: &Cluster, kind: &str, namespace: &str, name: &str) {
    cluster.server.with(|store| store.delete(&Key::new(kind, namespace, name), &json!({})).unwrap());
}

/// Asks for something that cannot run: the server runs on, the condition says why, and a spec that can run heals it.
async fn refused(more: Value, reason: &str, said: &str) {
    let mut cluster = installed(json!({})).await;
    let before = cluster.get("Pod", "db-0").unwrap()["metadata"]["uid"].clone();
    cluster.change("db", |spec| spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone()));
    cluster.settle().await;
    let (status, found, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), found.as_str()), ("True", reason), "{more}: {message}");
    assert!(message.contains(said), "{more}: {message}");
    assert_eq!(cluster.condition("db", "Available").0, "True", "{more}");
    assert_eq!(cluster.get("Pod", "db-0").unwrap()["metadata"]["uid"], before, "{more}");
    cluster.change("db", |spec| {
        more.as_object().unwrap().keys().for_each(|key| drop(spec.as_object_mut().unwrap().remove(key)))
    });
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{more}");
    assert_eq!(cluster.times_made("Pod", "db-0"), 1, "{more}");
}

#[tokio::test]
async fn what_the_api_server_finds_invalid_stops_nothing() {
    let memory = |request: &str, limit: &str| json!({ "resources": { "requests": { "memory": request }, "limits": { "memory": limit } } });
    refused(memory("1Gb", "2Gi"), "PodRefused", "quantities must match").await;
    refused(memory("2Gi", "1Gi"), "PodRefused", "must be less than or equal to memory limit").await;
    refused(json!({ "podLabels": { "a b": "c" } }), "PodRefused", "\"a b\"").await;
    refused(json!({ "podAnnotations": { "a b": "c" } }), "PodRefused", "\"a b\"").await;
}

#[tokio::test]
async fn what_admission_forbids_stops_nothing() {
    refused(json!({ "priorityClassName": "high" }), "PodRefused", "make the priority class").await;
}

#[tokio::test]
async fn what_no_node_can_take_stops_nothing() {
    refused(json!({ "resources": { "limits": { "memory": "64Gi" } } }), "Unschedulable", "1 with too little memory")
        .await;
    refused(json!({ "nodeSelector": { "pool": "none" } }), "Unschedulable", "spec.nodeSelector").await;
}

#[tokio::test]
async fn a_server_that_has_half_the_node_needs_no_room_for_two() {
    let mut cluster = installed(json!({ "resources": { "limits": { "memory": "7Gi" } } })).await;
    cluster.change("db", |spec| spec["resources"]["limits"]["memory"] = json!("7500Mi"));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{:?}", cluster.condition("db", "Stalled"));
    assert_eq!(cluster.times_made("Pod", "db-0"), 2);
}

#[tokio::test]
async fn a_quota_counts_what_runs_as_free_and_stops_nothing_when_it_is_too_small() {
    let memory = |amount: &str| json!({ "limits": { "memory": amount } });
    let mut cluster = installed(json!({ "resources": memory("1Gi") })).await;
    make(&cluster, "ResourceQuota", "ns", "quota", json!({ "spec": { "hard": { "requests.memory": "2Gi" } } }));
    cluster.change("db", |spec| spec["resources"] = memory("1900Mi"));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{:?}", cluster.condition("db", "Stalled"));
    assert_eq!(cluster.times_made("Pod", "db-0"), 2);
    cluster.change("db", |spec| spec["resources"] = memory("3Gi"));
    cluster.settle().await;
    let (_, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!(reason, "PodRefused");
    assert!(message.contains("exceeded quota: quota") && message.contains("raise the quota"), "{message}");
    assert_eq!((cluster.condition("db", "Available").0.as_str(), cluster.times_made("Pod", "db-0")), ("True", 2));
    destroy(&cluster, "ResourceQuota", "ns", "quota");
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

/// Asks for an image whose servers no node takes, which nothing shows beforehand.
async fn unplaceable() -> Cluster {
    let mut cluster = installed(json!({ "settings": { "logging": { "level": "warn" } } })).await;
    cluster.world.unplaceable_images.push("registry/progressdb:0.3.1".into());
    cluster.change("db", |spec| {
        spec["image"] = json!("registry/progressdb:0.3.1");
        spec["settings"] = json!({ "logging": { "level": "debug" } });
    });
    cluster
}

pub fn image(cluster: &Cluster) -> Value {
    cluster.get("Pod", "db-0").map(|pod| pod["spec"]["containers"][0]["image"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_successor_that_is_not_placed_within_a_minute_gives_way_to_what_ran_before() {
    let mut cluster = unplaceable().await;
    let settings = cluster.config_map("db")["data"].clone();
    cluster.settle().await;
    assert_eq!(image(&cluster), "registry/progressdb:0.3.0");
    assert_eq!(cluster.config_map("db")["data"], settings);
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "RolledBack"));
    assert!(message.contains("have no place for it"), "{message}");
    assert_eq!(cluster.condition("db", "Available").0, "True");
    // Not again, however much time passes.
    let made = cluster.times_made("Pod", "db-0");
    for _ in 0..5 {
        cluster.server.with(|store| store.advance(600));
        cluster.settle().await;
    }
    assert_eq!(cluster.times_made("Pod", "db-0"), made);
    assert_eq!(cluster.world.broken, Vec::<String>::new());
}

#[tokio::test]
async fn a_restart_after_a_rollback_happens_once() {
    let mut cluster = unplaceable().await;
    cluster.settle().await;
    let made = cluster.times_made("Pod", "db-0");
    cluster.server.with(|store| {
        store.edit(&Key::new("ProgressDB", "ns", "db"), |resource| {
            resource["metadata"]["annotations"] =
                json!({ "kubectl.kubernetes.io/restartedAt": "2030-01-01T00:00:00Z" });
        });
    });
    for _ in 0..3 {
        cluster.server.with(|store| store.advance(600));
        cluster.settle().await;
    }
    assert_eq!(cluster.times_made("Pod", "db-0"), made + 1);
    assert_eq!(
        (image(&cluster), cluster.condition("db", "Available").0),
        (json!("registry/progressdb:0.3.0"), "True".into())
    );
}

#[tokio::test]
async fn another_change_after_a_rollback_is_tried_and_leaves_nothing_behind() {
    let mut cluster = unplaceable().await;
    cluster.settle().await;
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.2"));
    cluster.settle().await;
    assert_eq!(image(&cluster), "registry/progressdb:0.3.2");
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    assert_eq!(cluster.get("ConfigMap", "db-former"), None);
    // And what failed once may be asked for again.
    cluster.world.unplaceable_images.clear();
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.1"));
    cluster.settle().await;
    assert_eq!(
        (image(&cluster), cluster.condition("db", "Ready").1),
        (json!("registry/progressdb:0.3.1"), "Serving".into())
    );
}

#[tokio::test]
async fn another_change_before_the_minute_is_over_does_not_forget_what_ran() {
    let mut cluster = unplaceable().await;
    let waits = |cluster: &Cluster| image(cluster) == "registry/progressdb:0.3.1";
    cluster.until("the wait for a place", waits).await;
    cluster.world.unplaceable_images.push("registry/progressdb:0.3.2".into());
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.2"));
    cluster.settle().await;
    assert_eq!(image(&cluster), "registry/progressdb:0.3.0");
    assert_eq!(cluster.condition("db", "Stalled").1, "RolledBack");
}

#[tokio::test]
async fn the_rollback_happens_wherever_the_operator_dies() {
    use crate::api::faults::{Death, Faults};
    let before = unplaceable().await;
    let mut calm = before.fork();
    calm.settle().await;
    let calls = calm.server.take_calls().len();
    for call in (0..calls).step_by(2) {
        let mut cluster = before.fork();
        cluster.world.unplaceable_images = before.world.unplaceable_images.clone();
        cluster.server.set_faults(Faults::death(if call % 4 == 0 { Death::After(call) } else { Death::Before(call) }));
        cluster.settle().await;
        assert_eq!(image(&cluster), "registry/progressdb:0.3.0", "call {call}");
        assert_eq!(cluster.condition("db", "Stalled").1, "RolledBack", "call {call}");
        assert_eq!(cluster.world.broken, Vec::<String>::new(), "call {call}");
    }
}

#[tokio::test]
async fn a_pod_that_is_no_longer_admitted_after_the_stop_gives_way_to_what_ran_before() {
    let mut cluster = installed(json!({})).await;
    make(&cluster, "PriorityClass", "", "high", json!({ "value": 1000 }));
    cluster.change("db", |spec| spec["priorityClassName"] = json!("high"));
    let has_stopped = |cluster: &Cluster| cluster.get("StatefulSet", "db").unwrap()["spec"]["replicas"] == 0;
    cluster.until("the stop", has_stopped).await;
    destroy(&cluster, "PriorityClass", "", "high");
    cluster.settle().await;
    let (_, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!(reason, "RolledBack", "{message}");
    assert!(message.contains("PriorityClass"), "{message}");
    assert_eq!(cluster.condition("db", "Available").0, "True");
}
