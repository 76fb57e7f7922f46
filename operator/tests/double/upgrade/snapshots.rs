//! Snapshots that are not made, under each policy.

use serde_json::json;

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::{api::Key, world::Snapshots};

fn faults() -> [(&'static str, Snapshots); 3] {
    let error = Some("the driver is out of order".to_owned());
    [
        ("never ready", Snapshots { never_ready: true, ..Snapshots::default() }),
        ("failing", Snapshots { error, ..Snapshots::default() }),
        ("bound elsewhere", Snapshots { misbound: true, ..Snapshots::default() }),
    ]
}

#[tokio::test]
async fn snapshots_that_are_required_and_not_made_stop_nothing() {
    for (what, fault) in faults() {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({ "snapshot": { "policy": "Required" } })).await;
        upgrading.cluster.world.snapshots = fault;
        upgrading.is_held("SnapshotFailed").await;
        upgrading.runs(OLD, "db-data-0").await;
        upgrading.annotate("progressdb.io/abort", "ID");
        upgrading.ends("Aborted").await;
        assert!(upgrading.left().iter().all(|name| !name.contains("Retain")), "{what}: {:?}", upgrading.left());
        upgrading.runs(OLD, "db-data-0").await;
    }
}

#[tokio::test]
async fn without_snapshots_an_upgrade_that_may_goes_on_and_says_what_it_rests_on() {
    for (what, fault) in faults() {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.cluster.world.snapshots = fault;
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
        let record = upgrading.record();
        assert_eq!((&record["backing"], &record["rehearsal"]), (&json!("Checkpoint"), &json!(null)), "{what}");
    }
}

#[tokio::test]
async fn without_snapshots_nothing_changes_data_at_its_start() {
    for (what, fault) in faults() {
        let mut upgrading = Upgrading::to(migrating(), json!({})).await;
        upgrading.cluster.world.snapshots = fault;
        upgrading.is_held("SnapshotFailed").await;
        upgrading.runs(OLD, "db-data-0").await;
        assert_eq!(upgrading.cluster.world.data("ns", "db-data-0").unwrap().prepared, 1, "{what}");
    }
    let mut upgrading = Upgrading::to(migrating(), json!({ "snapshot": { "policy": "Skip" } })).await;
    upgrading.is_held("Unprotected").await;
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn the_snapshot_at_rest_that_is_not_made_leads_back() {
    for (what, fault) in faults() {
        for new in [migrating(), release("0.4.0")] {
            let cut_is_enough = !new.start_migration && what == "never ready";
            let mut upgrading = Upgrading::to(new, json!({})).await;
            upgrading.reaches("Drain").await;
            upgrading.cluster.world.snapshots = fault.clone();
            upgrading.ends(if cut_is_enough { "Succeeded" } else { "RolledBack" }).await;
            upgrading.runs(if cut_is_enough { NEW } else { OLD }, "db-data-0").await;
        }
    }
}

#[tokio::test]
async fn without_a_class_the_policy_says_what_becomes_of_an_upgrade() {
    let class = Key::new("VolumeSnapshotClass", "", "csi");
    for (policy, held) in [("Required", "SnapshotsUnavailable"), ("BestEffort", ""), ("Skip", "")] {
        let mut upgrading = Upgrading::installed(json!({ "snapshot": { "policy": policy } }), json!({})).await;
        upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
        upgrading.cluster.server.with(|store| store.end(&class));
        upgrading.ask(NEW);
        if held.is_empty() {
            upgrading.ends("Succeeded").await;
            upgrading.runs(NEW, "db-data-0").await;
            assert_eq!(upgrading.left(), ["db-data-0 current"], "{policy}");
        } else {
            upgrading.is_held(held).await;
            upgrading.runs(OLD, "db-data-0").await;
        }
    }
    let named = json!({ "snapshot": { "policy": "Required", "className": "fast" } });
    let mut upgrading = Upgrading::to(release("0.4.0"), named).await;
    upgrading.is_held("SnapshotsUnavailable").await;
    upgrading.cluster.change("db", |spec| spec["upgrade"]["snapshot"]["className"] = json!("csi"));
    upgrading.ends("Succeeded").await;
}

#[tokio::test]
async fn a_snapshot_takes_its_time() {
    let mut upgrading = Upgrading::to(migrating(), json!({})).await;
    upgrading.cluster.world.snapshots = Snapshots { cut_after: 3, ready_after: 9, ..Snapshots::default() };
    upgrading.cluster.world.detach_after = 7;
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}
