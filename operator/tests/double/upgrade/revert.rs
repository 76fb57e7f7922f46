//! The resource asks for something else while an upgrade is under way.

use serde_json::json;

use super::{NEW, OLD, THIRD, Upgrading, migrating, release};
use crate::world::Image;

#[tokio::test]
async fn asking_for_the_old_image_again_goes_back_from_every_step() {
    let steps = ["Preflight", "SnapshotOnline", "Rehearse", "Drain", "SnapshotFinal", "Swap", "HealthGate", "Soak"];
    for (number, step) in steps.into_iter().enumerate() {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.ask(OLD);
        upgrading.ends(if number < 3 { "Aborted" } else { "RolledBack" }).await;
        upgrading.runs(OLD, "db-data-0").await;
        assert_eq!(upgrading.cluster.condition("db", "Stalled").0, "False", "{step}");
    }
}

#[tokio::test]
async fn asking_for_the_old_image_after_migrations_restores_what_was_there() {
    for step in ["Swap", "SmokeGate", "MetricGate"] {
        let mut upgrading = Upgrading::to(migrating(), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.ask(OLD);
        upgrading.ends("RolledBack").await;
        upgrading.runs(OLD, "db-data-1").await;
    }
}

/// Clients have written to data that was changed: only a person gives that up, and is told how much it is.
#[tokio::test]
async fn going_back_from_changed_data_while_clients_use_it_has_to_be_approved() {
    let policy = json!({ "soak": "30s", "rollback": { "afterPromotion": "Approve" } });
    let mut upgrading = Upgrading::to(migrating(), policy).await;
    upgrading.reaches("Soak").await;
    upgrading.ask(OLD);
    upgrading.is_held("RollbackRequiresApproval").await;
    assert!(upgrading.serves().await, "the new server serves meanwhile");
    // Whoever approved the upgrade has not approved that.
    upgrading.annotate("progressdb.io/approve", "ID");
    upgrading.is_held("RollbackRequiresApproval").await;
    upgrading.annotate("progressdb.io/approve", "ID/rollback");
    upgrading.until("an end", |upgrading| !upgrading.record()["outcome"].is_null()).await;
    assert_eq!(upgrading.text("/outcome"), "RolledBack");
    let (bound, claim) = (upgrading.record()["lossBound"].as_u64().unwrap(), upgrading.claim());
    let written = upgrading.cluster.world.data("ns", "db-data-0").unwrap().sequence;
    let cut = upgrading.record()["database"]["sequence"].as_u64().unwrap();
    assert_eq!(bound, written - cut, "also what clients wrote between the approval and the stop");
    upgrading.rests().await;
    assert!(upgrading.serves().await);
    let lost = upgrading.cluster.world.lost("ns", &claim);
    let all = upgrading.cluster.world.acknowledged();
    assert!(lost.iter().all(|number| all.iter().any(|write| write.number == *number && write.image == NEW)));
    assert!(!lost.is_empty() && lost.len() as u64 <= bound, "{} were lost, and {bound} were told", lost.len());
    assert_eq!(claim, "db-data-1");
}

#[tokio::test]
async fn another_image_replaces_what_has_stopped_nothing_and_waits_for_what_has() {
    for step in ["Preflight", "SnapshotOnline", "Rehearse", "Drain", "Swap", "Promote", "Soak"] {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        let first = upgrading.text("/id");
        upgrading.ask(THIRD);
        upgrading.until("the next upgrade", |upgrading| upgrading.text("/to/image") == THIRD).await;
        upgrading.ends("Succeeded").await;
        upgrading.runs(THIRD, "db-data-0").await;
        let history = upgrading.resource()["status"]["history"].clone();
        let early = ["Preflight", "SnapshotOnline", "Rehearse"].contains(&step);
        let wanted = if early { "Aborted" } else { "Succeeded" };
        assert_eq!((&history[1]["id"], &history[1]["outcome"]), (&json!(first), &json!(wanted)), "{step}");
        assert!(upgrading.left().iter().all(|name| !name.contains("Retain")), "{step}: {:?}", upgrading.left());
    }
}

#[tokio::test]
async fn another_image_after_one_that_goes_back_is_an_upgrade_of_what_ran() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..release("0.4.0") };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("SmokeGate").await;
    upgrading.ask(THIRD);
    upgrading.until("the next upgrade", |upgrading| upgrading.text("/to/image") == THIRD).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(THIRD, "db-data-0").await;
    assert_eq!(upgrading.resource()["status"]["history"][1]["outcome"], "RolledBack");
}

#[tokio::test]
async fn suspension_gives_up_what_has_stopped_nothing_and_waits_for_what_has() {
    for (step, outcome) in
        [("Rehearse", "Aborted"), ("Drain", "Succeeded"), ("Swap", "Succeeded"), ("Soak", "Succeeded")]
    {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.cluster.change("db", |spec| spec["suspend"] = json!(true));
        upgrading.until(outcome, |upgrading| upgrading.text("/outcome") == outcome).await;
        upgrading.cluster.settle().await;
        assert_eq!(upgrading.cluster.get("Pod", "db-0"), None, "{step}");
        upgrading.cluster.change("db", |spec| spec["suspend"] = json!(false));
        upgrading.until("a server", |upgrading| upgrading.cluster.condition("db", "Available").0 == "True").await;
        // What was given up for it begins anew, with the old server that runs again.
        upgrading.until("Succeeded", |upgrading| upgrading.text("/outcome") == "Succeeded").await;
        upgrading.rests().await;
        upgrading.runs(NEW, "db-data-0").await;
    }
}
