//! Another version of the operator, or somebody's hand, in the record of an upgrade that is under way.

use serde_json::{Value, json};

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::world::Image;

/// What upgrades work on: nobody touches it while the record cannot be read.
fn guarded(upgrading: &Upgrading) -> Vec<(String, Value)> {
    let kinds = ["StatefulSet ", "PersistentVolumeClaim ", "Service ", "Job ", "VolumeSnapshot ", "ConfigMap "];
    let spec = |object: Value| json!([object["spec"], object["metadata"]["labels"], object["data"]]);
    let state = upgrading.cluster.state().into_iter();
    state
        .filter(|(name, _)| kinds.iter().any(|kind| name.starts_with(kind)))
        .map(|(name, object)| (name, spec(object)))
        .collect()
}

#[tokio::test]
async fn what_a_newer_operator_began_is_left_alone_until_it_can_be_read() {
    let steps = ["SnapshotOnline", "Rehearse", "Drain", "SnapshotFinal", "Swap", "SmokeGate", "Promote", "Soak"];
    for step in steps.into_iter().chain(["FinalizeDrain", "FinalizeMigrate", "FinalizeGate"]) {
        let mut upgrading = Upgrading::to(migrating(), json!({ "soak": "400s" })).await;
        let waits = ["FinalizeDrain", "FinalizeMigrate", "FinalizeGate"].contains(&step);
        if waits {
            upgrading.reaches("Soak").await;
            upgrading.cluster.server.with(|store| store.advance(400));
        }
        upgrading.reaches(step).await;
        let record = upgrading.record();
        upgrading.edit("ProgressDB", "db", |resource| {
            resource["status"]["upgrade"]["revision"] = json!(2);
            resource["status"]["upgrade"]["later"] = json!({ "invented": true });
        });
        let (written, before) = (upgrading.record(), guarded(&upgrading));
        // Also one that has just started.
        for _ in 0..2 {
            upgrading.cluster.settle().await;
            upgrading.cluster.restart_operator();
        }
        assert_eq!(guarded(&upgrading), before, "{step}");
        assert_eq!(upgrading.record(), written, "{step}");
        assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "UpgradeUnreadable", "{step}");
        // The newer one is installed again, or the record is one that this one wrote.
        let now = upgrading.cluster.server.with(|store| store.now().to_string());
        upgrading.edit("ProgressDB", "db", |resource| {
            resource["status"]["upgrade"] = record;
            resource["status"]["upgrade"]["stepStartedAt"] = json!(now);
        });
        if !waits {
            upgrading.reaches("Soak").await;
            upgrading.cluster.server.with(|store| store.advance(400));
        }
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
    }
}

/// Whatever was done is done once more from what is seen, or left: nothing is lost.
#[tokio::test]
async fn a_record_that_somebody_removes_loses_no_data() {
    let steps = ["Preflight", "SnapshotOnline", "Rehearse", "Drain", "SnapshotFinal", "Swap", "SmokeGate", "Promote"];
    for step in steps.into_iter().chain(["Soak"]) {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.edit("ProgressDB", "db", |resource| {
            drop(resource["status"].as_object_mut().unwrap().remove("upgrade"));
        });
        for _ in 0..120 {
            upgrading.cluster.round().await;
        }
        upgrading.rests().await;
        assert_eq!(upgrading.cluster.world.broken, Vec::<String>::new(), "{step}");
        upgrading.runs(NEW, "db-data-0").await;
        // Stopped once and started once.
        assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 2, "{step}");
        let jobs: Vec<String> = upgrading.left().into_iter().filter(|name| name.starts_with("Job")).collect();
        assert_eq!(jobs, Vec::<String>::new(), "{step}");
    }
}

/// No operator runs for an hour, in which every deadline passes, and then another one goes on.
#[tokio::test]
async fn an_operator_that_was_away_for_an_hour_ends_what_it_began() {
    let on_the_way = ["Preflight", "SnapshotOnline", "Rehearse", "Drain", "SnapshotFinal", "Swap", "SmokeGate", "Soak"];
    let at_the_end = ["FinalizeDrain", "FinalizeSnapshot", "FinalizeMigrate", "FinalizeStart", "FinalizeGate"];
    let back = ["RollbackStop", "RollbackRestore", "RollbackStart", "RollbackGate"];
    for step in on_the_way.into_iter().chain(at_the_end).chain(back) {
        let goes_back = back.contains(&step);
        let new = Image { fails_smoke: goes_back, rehearses_well: true, ..migrating() };
        let mut upgrading = Upgrading::to(new, json!({})).await;
        upgrading.reaches(step).await;
        for _ in 0..20 {
            upgrading.cluster.world.step();
        }
        upgrading.cluster.server.with(|store| store.advance(3_600));
        upgrading.cluster.restart_operator();
        // What is late before the stop waits for a person; nothing that serves was touched.
        let is_held = |upgrading: &Upgrading| {
            let hold = upgrading.text("/hold/reason");
            assert_ne!(hold, "NotStopping", "{step}: the pod was only now asked to stop");
            ["SnapshotFailed", "RehearsalFailed"].contains(&&*hold)
        };
        upgrading.until("an end", |upgrading| !upgrading.record()["outcome"].is_null() || is_held(upgrading)).await;
        if is_held(&upgrading) {
            assert!(["SnapshotOnline", "Rehearse"].contains(&step), "{step}");
            upgrading.runs(OLD, "db-data-0").await;
            continue;
        }
        let outcome = upgrading.text("/outcome");
        upgrading.rests().await;
        let claim = upgrading.claim();
        let image = if outcome == "Succeeded" { NEW } else { OLD };
        upgrading.runs(image, &claim).await;
        assert!(outcome == "RolledBack" || outcome == "Succeeded" && !goes_back, "{step}: {outcome}");
    }
}
