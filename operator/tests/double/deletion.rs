//! Deletions rest on what the API server has, whatever the watches show, and say what is in their way.

use serde_json::{Value, json};

use crate::{
    api::{Key, faults::Faults},
    cluster::Cluster,
    successor::installed,
};

fn key(kind: &str, name: &str) -> Key {
    Key::new(kind, "ns", name)
}

/// Takes the label away by which the watches select: from now on they do not show the object.
fn hide(cluster: &Cluster, kind: &str, name: &str) {
    cluster.server.with(|store| {
        store.edit(&key(kind, name), |object| {
            object["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/managed-by");
        });
    });
}

/// Nothing goes on by itself any more, and much time passes.
async fn settle_for_long(cluster: &mut Cluster) {
    for _ in 0..3 {
        cluster.settle().await;
        cluster.server.with(|store| store.advance(600));
    }
}

#[tokio::test]
async fn a_server_that_no_watch_shows_keeps_its_data() {
    for policy in ["Delete", "Snapshot"] {
        for has_set in [true, false] {
            let what = format!("{policy}, {has_set}");
            let mut cluster = installed(json!({ "deletionPolicy": policy })).await;
            cluster.world.is_node_lost = true;
            hide(&cluster, "Pod", "db-0");
            cluster.delete("db");
            if !has_set {
                cluster.server.with(|store| store.end(&key("StatefulSet", "db")));
            }
            settle_for_long(&mut cluster).await;
            assert!(cluster.get("Pod", "db-0").is_some(), "{what}: it runs on a node that nobody sees");
            let claim = cluster.get("PersistentVolumeClaim", "db-data-0").expect("it is used");
            assert!(claim["metadata"]["deletionTimestamp"].is_null(), "{what}");
            assert_eq!(cluster.server.with(|store| store.all("VolumeSnapshot").len()), 0, "{what}");
            cluster.world.is_node_lost = false;
            cluster.settle().await;
            assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0"), None, "{what}");
            assert_eq!(cluster.get("ProgressDB", "db"), None, "{what}");
        }
    }
}

#[tokio::test]
async fn a_pod_that_only_its_stateful_set_counts_is_waited_for() {
    let mut cluster = installed(json!({ "deletionPolicy": "Delete" })).await;
    cluster.delete("db");
    let has_stopped = |cluster: &Cluster| cluster.get("StatefulSet", "db").unwrap()["spec"]["replicas"] == 0;
    cluster.until("the stop", has_stopped).await;
    cluster.server.with(|store| {
        store.end(&key("Pod", "db-0"));
        store.edit(&key("StatefulSet", "db"), |set| set["status"]["replicas"] = json!(1));
    });
    // The world, which would correct the count, stands still.
    for _ in 0..3 {
        cluster.pass().await;
    }
    let claim = cluster.get("PersistentVolumeClaim", "db-data-0").unwrap();
    assert!(claim["metadata"]["deletionTimestamp"].is_null());
    cluster.settle().await;
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0"), None);
}

#[tokio::test]
async fn a_claim_that_no_watch_shows_is_dealt_with_before_its_resource_goes() {
    for (policy, is_there) in [("Retain", true), ("Delete", false)] {
        let mut cluster = installed(json!({ "deletionPolicy": "Snapshot" })).await;
        hide(&cluster, "PersistentVolumeClaim", "db-data-0");
        cluster.delete("db");
        cluster.change("db", |spec| spec["deletionPolicy"] = json!(policy));
        settle_for_long(&mut cluster).await;
        assert_eq!(cluster.get("ProgressDB", "db"), None, "{policy}");
        let claim = cluster.get("PersistentVolumeClaim", "db-data-0");
        assert_eq!(claim.is_some(), is_there, "{policy}");
        assert!(claim.is_none_or(|claim| claim["metadata"]["finalizers"] == json!([])), "nobody is left to release it");
    }
}

#[tokio::test]
async fn a_deletion_says_what_the_api_server_refuses_of_it() {
    let mut cluster = installed(json!({ "deletionPolicy": "Delete" })).await;
    cluster.server.set_faults(Faults::default().refuse("DELETE persistentvolumeclaims", 403, usize::MAX));
    cluster.delete("db");
    for _ in 0..30 {
        cluster.pass().await;
        cluster.world.step();
    }
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ApiRefuses"), "{message}");
    assert!(message.contains("deleting PersistentVolumeClaim db-data-0"), "{message}");
    assert!(message.contains("spec.deletionPolicy to Retain"), "{message}");
    // It is told as long as it stands, and no longer.
    let events = cluster.server.with(|store| store.all("Event"));
    let told = events.iter().filter(|event| event["reason"] == "ApiRefuses").count();
    assert_eq!(told, 1);
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    settle_for_long(&mut cluster).await;
    assert_eq!(cluster.get("ProgressDB", "db"), None);
    assert!(cluster.get("PersistentVolumeClaim", "db-data-0").is_some());
}

#[tokio::test]
async fn what_was_refused_before_is_not_said_of_a_deletion() {
    let mut cluster = installed(json!({ "deletionPolicy": "Delete" })).await;
    cluster.world.is_node_lost = true;
    cluster.server.set_faults(Faults::default().refuse("PATCH services", 403, usize::MAX));
    cluster.server.with(|store| store.edit(&key("Service", "db"), |service| service["spec"]["selector"] = json!({})));
    let is_refused = |cluster: &Cluster| cluster.condition("db", "Stalled").1 == "ApiRefuses";
    cluster.until("a refusal", is_refused).await;
    cluster.delete("db");
    for _ in 0..5 {
        cluster.pass().await;
        assert_eq!(cluster.condition("db", "Ready").1, "Deleting");
        assert_eq!(cluster.condition("db", "Stalled").0, "False", "{:?}", cluster.condition("db", "Stalled"));
        cluster.world.step();
    }
}

#[tokio::test]
async fn a_claim_that_somebody_deleted_is_released_whatever_else_is_refused() {
    let mut cluster = installed(json!({ "deletionPolicy": "Snapshot" })).await;
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    cluster.server.set_faults(Faults::default().refuse("PATCH services", 403, usize::MAX));
    cluster.server.with(|store| {
        store.edit(&key("Service", "db"), |service| service["spec"]["selector"] = json!({}));
        store.delete(&key("PersistentVolumeClaim", "db-data-0"), &Value::Null).unwrap();
    });
    let is_gone = |cluster: &Cluster| cluster.get("PersistentVolumeClaim", "db-data-0").is_none();
    cluster.until("the release of the claim", is_gone).await;
}

#[tokio::test]
async fn a_snapshot_that_is_being_deleted_is_no_last_snapshot() {
    for kind in ["VolumeSnapshot", "VolumeSnapshotContent"] {
        let mut cluster = installed(json!({ "deletionPolicy": "Snapshot" })).await;
        cluster.delete("db");
        let is_made = |cluster: &Cluster| cluster.server.with(|store| !store.all("VolumeSnapshotContent").is_empty());
        cluster.until("a snapshot", is_made).await;
        let name = cluster.server.with(|store| store.all(kind)[0]["metadata"]["name"].as_str().unwrap().to_owned());
        let namespace = if kind == "VolumeSnapshot" { "ns" } else { "" };
        let goes = Key::new(kind, namespace, &name);
        // Somebody deletes it, and something else holds it a while longer.
        cluster.server.with(|store| {
            store.edit(&goes, |object| object["metadata"]["finalizers"] = json!(["backup.example/keep"]));
            store.delete(&goes, &Value::Null).unwrap();
        });
        settle_for_long(&mut cluster).await;
        let claim = cluster.get("PersistentVolumeClaim", "db-data-0").expect("it is the only copy");
        assert!(claim["metadata"]["deletionTimestamp"].is_null(), "{kind}");
    }
}
