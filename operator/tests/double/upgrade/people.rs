//! What people have a say in: approval, abort, the window, the longest downtime, and what they let pass.

use serde_json::json;

use super::{NEW, OLD, Upgrading, release};

#[tokio::test]
async fn an_upgrade_that_is_to_be_approved_waits_for_that_of_its_own_id() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({ "approval": "Manual" })).await;
    upgrading.is_held("ApprovalNeeded").await;
    upgrading.annotate("progressdb.io/approve", "0123abcd");
    upgrading.is_held("ApprovalNeeded").await;
    upgrading.runs(OLD, "db-data-0").await;
    upgrading.annotate("progressdb.io/approve", "ID");
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn an_upgrade_can_be_given_up_at_any_step_and_loses_nothing() {
    let steps = ["Preflight", "SnapshotOnline", "Rehearse", "Approval", "Drain", "SnapshotFinal", "Swap", "HealthGate"];
    for (number, step) in steps.into_iter().chain(["SmokeGate", "MetricGate", "Soak"]).enumerate() {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.annotate("progressdb.io/abort", "ID");
        upgrading.ends(if number < 4 { "Aborted" } else { "RolledBack" }).await;
        upgrading.runs(OLD, "db-data-0").await;
        let left = upgrading.left();
        assert!(left.iter().all(|name| !name.contains("Retain") && !name.starts_with("Job")), "{step}: {left:?}");
    }
}

#[tokio::test]
async fn an_upgrade_waits_for_its_window_or_for_somebody_who_lets_it_pass() {
    // The world begins at midnight.
    let window = json!({ "window": { "schedule": "0 2 * * *", "duration": "1h" } });
    let mut upgrading = Upgrading::to(release("0.4.0"), window.clone()).await;
    upgrading.is_held("WindowClosed").await;
    upgrading.runs(OLD, "db-data-0").await;
    upgrading.cluster.server.with(|store| store.advance(2 * 3_600));
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;

    let mut upgrading = Upgrading::to(release("0.4.0"), window).await;
    upgrading.is_held("WindowClosed").await;
    upgrading.annotate("progressdb.io/override", "ID/Window@2029-12-31T23:59:59Z");
    upgrading.is_held("WindowClosed").await;
    upgrading.annotate("progressdb.io/override", "ID/Window@2030-01-01T01:00:00Z");
    upgrading.ends("Succeeded").await;

    let window = json!({ "window": { "schedule": "soonish 2 * * *", "duration": "1h" } });
    let mut upgrading = Upgrading::to(release("0.4.0"), window).await;
    upgrading.is_held("WindowUnreadable").await;
    upgrading.cluster.change("db", |spec| drop(spec["upgrade"].as_object_mut().unwrap().remove("window")));
    upgrading.ends("Succeeded").await;
}

#[tokio::test]
async fn an_upgrade_whose_forecast_is_too_long_stops_nothing() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({ "maxDowntime": "1s" })).await;
    upgrading.is_held("DowntimeTooLong").await;
    upgrading.runs(OLD, "db-data-0").await;
    // That of another upgrade lets nothing pass.
    upgrading.annotate("progressdb.io/override", "other/Downtime@2030-02-01T00:00:00Z");
    upgrading.is_held("DowntimeTooLong").await;
    upgrading.annotate("progressdb.io/override", "ID/Downtime@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
    let record = upgrading.record();
    assert!(record["forecastDowntimeMillis"].as_i64() > Some(1_000) && record["downtimeMillis"].as_i64() > Some(0));
}

#[tokio::test]
async fn a_rehearsal_that_failed_can_be_let_pass() {
    let new = crate::world::Image { fails_smoke: true, ..release("0.4.0") };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.is_held("RehearsalFailed").await;
    upgrading.program(|new| new.fails_smoke = false);
    upgrading.annotate("progressdb.io/override", "ID/Rehearsal@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}
