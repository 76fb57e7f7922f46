//! What others do to a cluster in the middle of an upgrade: nodes fail, and objects are deleted or labelled by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::{api::Key, cluster::Cluster, world::Image};

fn node_is_ready(upgrading: &Upgrading, status: &str) {
    let node = Key::new("Node", "", "node");
    let conditions = json!([{ "type": "Ready", "status": status }]);
    upgrading.cluster.server.with(|store| store.edit(&node, |node| node["status"]["conditions"] = conditions));
}

#[tokio::test]
async fn a_node_that_is_lost_in_the_stop_is_waited_for() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Drain").await;
    upgrading.cluster.world.is_node_lost = true;
    node_is_ready(&upgrading, "Unknown");
    upgrading.seconds(3).await;
    upgrading.cluster.server.with(|store| store.advance(400));
    upgrading.is_held("NodeLost").await;
    assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 1);
    upgrading.cluster.world.is_node_lost = false;
    node_is_ready(&upgrading, "True");
    // The time to look at the data begins once that is possible.
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_job_that_somebody_deletes_is_made_again() {
    for job in ["version", "old", "new", "final", "inspect", "finalize"] {
        let mut upgrading = Upgrading::to(migrating(), json!({})).await;
        let there = |upgrading: &Upgrading| upgrading.cluster.get("Job", &upgrading.named(job)).is_some();
        upgrading.until(job, there).await;
        let name = upgrading.named(job);
        upgrading.delete("Job", &name);
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
    }
    for job in ["back", "identity"] {
        let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
        let mut upgrading = Upgrading::to(new, json!({})).await;
        let there = |upgrading: &Upgrading| upgrading.cluster.get("Job", &upgrading.named(job)).is_some();
        upgrading.until(job, there).await;
        let name = upgrading.named(job);
        upgrading.delete("Job", &name);
        upgrading.ends("RolledBack").await;
        upgrading.runs(OLD, "db-data-1").await;
    }
}

#[tokio::test]
async fn a_copy_that_somebody_deletes_is_made_again_or_holds_the_upgrade() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Rehearse").await;
    let staging = upgrading.named("staging");
    upgrading.until("the copy", |upgrading| upgrading.cluster.get("PersistentVolumeClaim", &staging).is_some()).await;
    upgrading.delete("PersistentVolumeClaim", &staging);
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
    // Its online snapshot goes before it could be restored.
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Rehearse").await;
    let online = upgrading.named("online");
    upgrading.delete("VolumeSnapshot", &online);
    upgrading.is_held("RehearsalFailed").await;
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn a_last_snapshot_that_somebody_deletes_stops_the_way_back_and_destroys_nothing() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("SmokeGate").await;
    let last = upgrading.named("last");
    upgrading.delete("VolumeSnapshot", &last);
    upgrading.is_held("RollbackStuck").await;
    assert!(!upgrading.serves().await && upgrading.cluster.get("Pod", "db-0").is_none());
    let left = upgrading.left();
    // The copy is still there, without the object that names it, and so is the data.
    assert!(
        left.contains(&"content-db-ID-last Retain".into()) && left.contains(&"db-data-0 current".into()),
        "{left:?}"
    );

    // Where nothing has to be restored it is not missed.
    let new = Image { fails_smoke: true, rehearses_well: true, ..release("0.4.0") };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("SmokeGate").await;
    let last = upgrading.named("last");
    upgrading.delete("VolumeSnapshot", &last);
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-0").await;
}

fn label(upgrading: &Upgrading, claim: &str, role: &str) {
    upgrading
        .edit("PersistentVolumeClaim", claim, |claim| claim["metadata"]["labels"]["progressdb.io/role"] = json!(role));
}

/// A database whose last upgrade went back to a claim that was restored.
async fn with_two_claims() -> Upgrading {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.ends("RolledBack").await;
    upgrading.ask(OLD);
    upgrading.rests().await;
    upgrading
}

#[tokio::test]
async fn two_claims_with_the_data_or_none_are_never_resolved_by_guessing() {
    for (roles, reason) in [(["current", "current"], "ClaimAmbiguous"), (["failed", "previous"], "ClaimUnknown")] {
        let mut upgrading = with_two_claims().await;
        let before = upgrading.cluster.get("StatefulSet", "db").unwrap()["spec"].clone();
        label(&upgrading, "db-data-0", roles[0]);
        label(&upgrading, "db-data-1", roles[1]);
        upgrading.cluster.settle().await;
        assert_eq!(upgrading.cluster.condition("db", "StorageReady").1, reason);
        // Neither a change nor a crash makes it guess.
        upgrading.ask(NEW);
        upgrading.cluster.settle().await;
        upgrading.cluster.restart_operator();
        upgrading.cluster.settle().await;
        assert_eq!(upgrading.cluster.get("StatefulSet", "db").unwrap()["spec"], before, "{reason}");
        assert_eq!(upgrading.cluster.times_made("PersistentVolumeClaim", "db-data-2"), 0);
        upgrading.ask(OLD);
        label(&upgrading, "db-data-0", "failed");
        label(&upgrading, "db-data-1", "current");
        upgrading.rests().await;
        upgrading.runs(OLD, "db-data-1").await;
    }
}

#[tokio::test]
async fn a_database_that_was_retained_is_found_again_where_its_data_is() {
    let mut upgrading = with_two_claims().await;
    upgrading.cluster.delete("db");
    upgrading.cluster.settle().await;
    assert_eq!(upgrading.cluster.get("ProgressDB", "db"), None);
    upgrading.cluster.create("db", json!({ "upgrade": super::policy(json!({})) }));
    upgrading.cluster.settle().await;
    upgrading.runs(OLD, "db-data-1").await;
}

/// Objects with the names of an upgrade that somebody else has made are not taken for its own.
#[tokio::test]
async fn a_claim_of_another_with_the_next_name_is_passed_over() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("Swap").await;
    let labels = json!({ "app.kubernetes.io/managed-by": "progressdb-operator", "app.kubernetes.io/instance": "db",
        "app.kubernetes.io/name": "progressdb", "progressdb.io/role": "previous" });
    let status = json!({ "phase": "Bound" });
    let claim = json!({ "metadata": { "labels": labels }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
    }, "status": status });
    make(&upgrading.cluster, "PersistentVolumeClaim", "db-data-7", claim);
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-8").await;
}

fn make(cluster: &Cluster, kind: &str, name: &str, object: Value) {
    cluster.server.with(|store| store.create(&Key::new(kind, "ns", name), object, BTreeMap::new()).unwrap());
}
