//! A resource is deleted while its upgrade is under way.

use serde_json::json;

use super::{NEW, Upgrading, migrating};
use crate::api::Key;

/// What is left a while after the resource was deleted at a step.
async fn deleted_at(step: &str, policy: &str) -> (Upgrading, Vec<String>) {
    let mut upgrading = Upgrading::installed(json!({}), json!({ "deletionPolicy": policy })).await;
    upgrading.cluster.world.images.insert(NEW.into(), migrating());
    upgrading.ask(NEW);
    upgrading.reaches(step).await;
    let id = upgrading.text("/id");
    upgrading.cluster.delete("db");
    for _ in 0..60 {
        upgrading.cluster.round().await;
    }
    upgrading.cluster.settle().await;
    assert_eq!(upgrading.cluster.world.broken, Vec::<String>::new(), "{policy} in {step}");
    assert_eq!(upgrading.cluster.get("ProgressDB", "db"), None, "{policy} in {step}");
    let left = upgrading.left().into_iter().map(|name| name.replace(&id, "ID")).collect();
    (upgrading, left)
}

/// A resource that went with its data and its upgrade.
pub async fn with_its_data() -> Upgrading {
    deleted_at("Soak", "Delete").await.0
}

const STEPS: [&str; 8] =
    ["Preflight", "Rehearse", "Drain", "SnapshotFinal", "Swap", "MetricGate", "Soak", "FinalizeMigrate"];

#[tokio::test]
async fn a_deletion_that_retains_leaves_the_data_and_what_going_back_rests_on() {
    for step in STEPS {
        let (upgrading, left) = deleted_at(step, "Retain").await;
        assert_eq!(left[0], "db-data-0 current", "{step}: {left:?}");
        let is_kept = |name: &String| name.starts_with("db-data-0") || name.contains("-ID-");
        let is_work = |name: &String| name.starts_with("Job") || name.contains("staging");
        assert!(left.iter().all(|name| is_kept(name) && !is_work(name)), "{step}: {left:?}");
        assert_eq!(upgrading.cluster.world.lost("ns", "db-data-0"), Vec::<u64>::new(), "{step}");
        // Whoever makes it again finds all of it.
        let Upgrading { mut cluster, .. } = upgrading;
        cluster.create("db", json!({ "image": NEW, "upgrade": super::policy(json!({})) }));
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").0, "True", "{step}");
        Upgrading::of(cluster).runs(NEW, "db-data-0").await;
    }
}

#[tokio::test]
async fn a_deletion_of_the_data_leaves_nothing_of_an_upgrade() {
    for step in STEPS {
        let (_, left) = deleted_at(step, "Delete").await;
        assert_eq!(left, Vec::<String>::new(), "{step}");
    }
}

#[tokio::test]
async fn a_deletion_with_a_snapshot_leaves_a_snapshot_of_all_that_was_written() {
    for step in STEPS {
        let (upgrading, left) = deleted_at(step, "Snapshot").await;
        assert!(left.iter().all(|name| !name.starts_with("db-data")), "{step}: {left:?}");
        let last = upgrading.cluster.server.with(|store| {
            let all = store.all("VolumeSnapshot");
            let names = all.iter().map(|snapshot| snapshot["metadata"]["name"].as_str().unwrap().to_owned());
            let last: Vec<String> = names.filter(|name| name.starts_with("db-final-")).collect();
            last
        });
        assert_eq!(last.len(), 1, "{step}: {left:?}");
        let snapshot =
            upgrading.cluster.server.with(|store| store.get(&Key::new("VolumeSnapshot", "ns", &last[0])).cloned());
        assert_eq!(snapshot.unwrap()["status"]["readyToUse"], true, "{step}");
    }
}
