//! What only Events say is in the conditions of the resource, and checks are assessed by their own container.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{api::Key, cluster::Cluster};

#[tokio::test]
async fn a_check_that_is_not_admitted_is_told_at_once_and_stalls_after_a_minute() {
    let mut cluster = Cluster::new();
    cluster.create("db", json!({ "priorityClassName": "high" }));
    let is_told = |cluster: &Cluster| cluster.condition("db", "ConfigurationValid").1 == "PodRefused";
    cluster.until("the words of admission", is_told).await;
    let (status, _, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!((status.as_str(), cluster.condition("db", "Stalled").0.as_str()), ("Unknown", "False"));
    assert!(
        message.contains("no PriorityClass with name high") && message.contains("make the priority class"),
        "{message}"
    );
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Stalled").1, "PodRefused");
    let class = Key::new("PriorityClass", "", "high");
    cluster.server.with(|store| store.create(&class, json!({ "value": 1 }), BTreeMap::new()).unwrap());
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn a_server_that_is_not_admitted_says_why() {
    let mut cluster = Cluster::new();
    cluster.create("db", json!({ "resources": { "limits": { "memory": "1Gi" } } }));
    let quota = Key::new("ResourceQuota", "ns", "quota");
    let hard = json!({ "spec": { "hard": { "requests.memory": "512Mi" } } });
    cluster.server.with(|store| store.create(&quota, hard, BTreeMap::new()).unwrap());
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "PodRefused"), "{message}");
    assert!(message.contains("StatefulSet db") && message.contains("exceeded quota"), "{message}");
    cluster.server.with(|store| store.delete(&quota, &json!({})).unwrap());
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn a_driver_that_cannot_make_the_volume_is_quoted() {
    let mut cluster = Cluster::new();
    let class = json!({ "storage": { "embedded": { "size": "1Gi", "storageClassName": "full" } } });
    cluster.create("db", class);
    let has_claim = |cluster: &Cluster| cluster.get("PersistentVolumeClaim", "db-data-0").is_some();
    cluster.until("the claim", has_claim).await;
    let claim = cluster.get("PersistentVolumeClaim", "db-data-0").unwrap();
    cluster.server.with(|store| {
        let event = json!({
            "type": "Warning", "reason": "ProvisioningFailed", "message": "no space in the pool",
            "involvedObject": { "uid": claim["metadata"]["uid"] },
            "firstTimestamp": store.now().to_string(), "lastTimestamp": store.now().to_string(),
        });
        store.create(&Key::new("Event", "ns", "full"), event, BTreeMap::new()).unwrap();
        // A class that is there and makes nothing.
        store.create(&Key::new("StorageClass", "", "full"), json!({ "provisioner": "none" }), BTreeMap::new()).unwrap();
    });
    cluster.world.broken_classes.push("full".into());
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "StorageReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "VolumeNotMade"), "{message}");
    assert!(message.contains("no space in the pool"), "{message}");
    assert_eq!(cluster.condition("db", "Stalled").1, "VolumeNotMade");
}

#[tokio::test]
async fn a_container_beside_a_check_neither_hides_its_outcome_nor_runs_on() {
    let mut cluster = Cluster::new();
    cluster.world.injects = true;
    cluster.create("db", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    assert_eq!(cluster.checks_made("config-check"), 1);
    let pods = cluster.state().into_keys().filter(|name| name.starts_with("Pod ")).collect::<Vec<_>>();
    assert_eq!(pods, ["Pod db-0"], "the pod of the check is gone");
    cluster.world.failing_jobs.insert("config-check".into(), "error: no such setting".into());
    cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "loud" } }));
    cluster.settle().await;
    let (_, reason, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!(reason, "SettingsRefused");
    assert!(message.contains("no such setting"), "{message}");
    assert_eq!(cluster.condition("db", "Available").0, "True");
}

#[tokio::test]
async fn what_the_image_warns_of_is_told_once() {
    let mut cluster = Cluster::new();
    let warning = "logging.levl is not known: did you mean logging.level?";
    let report = json!({ "valid": true, "errors": [], "warnings": [{ "message": warning }] });
    cluster.world.job_messages.insert("config-check".into(), report.to_string());
    cluster.create("db", json!({ "settings": { "logging": { "levl": "debug" } } }));
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "AcceptedWithWarnings"));
    assert!(message.contains(warning), "{message}");
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    let told = |cluster: &Cluster| {
        let events = cluster.server.with(|store| store.all("Event"));
        events.iter().filter(|event| event["message"].as_str().is_some_and(|text| text.contains("levl"))).count()
    };
    assert_eq!(told(&cluster), 1);
    // The pod of the check may go; what it said stays.
    let pod = cluster.server.with(|store| store.keys().into_iter().find(|key| key.name.ends_with("-pod")).unwrap());
    cluster.server.with(|store| {
        store.delete(&pod, &json!({})).unwrap();
        store.end(&pod);
    });
    cluster.settle().await;
    assert!(cluster.condition("db", "ConfigurationValid").2.contains(warning));
    assert_eq!(told(&cluster), 1);
}
