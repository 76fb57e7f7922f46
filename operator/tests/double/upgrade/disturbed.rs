//! What is asked for, refused or undone in the middle of an upgrade, and must neither be forgotten nor waited for without end.

use serde_json::{Value, json};

use super::{NEW, OLD, Upgrading, finalizing, release};
use crate::world::Image;

#[tokio::test]
async fn settings_that_are_refused_in_the_middle_lose_no_upgrade() {
    for step in ["Rehearse", "Drain", "HealthGate", "Soak"] {
        let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
        upgrading.reaches(step).await;
        let id = upgrading.text("/id");
        upgrading.cluster.change("db", |spec| spec["settings"] = json!({ "server": { "port": 1 } }));
        upgrading.seconds(5).await;
        assert_eq!(upgrading.cluster.condition("db", "ConfigurationValid").1, "SettingOwnedByOperator", "{step}");
        assert_eq!((upgrading.text("/id"), upgrading.text("/step")), (id, step.to_owned()));
        upgrading.cluster.change("db", |spec| drop(spec.as_object_mut().unwrap().remove("settings")));
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
    }
}

/// How the upgrades have ended, the last one first.
fn outcomes(upgrading: &Upgrading) -> Vec<Value> {
    let history = upgrading.resource()["status"]["history"].as_array().cloned().unwrap_or_default();
    history.into_iter().map(|entry| entry["outcome"].clone()).collect()
}

#[tokio::test]
async fn asking_for_the_old_image_goes_back_whatever_else_is_asked_for() {
    let mut upgrading = Upgrading::to(finalizing(), json!({ "soak": "30s" })).await;
    upgrading.reaches("Soak").await;
    upgrading.cluster.change("db", |spec| {
        spec["image"] = json!(OLD);
        spec["podAnnotations"] = json!({ "commit": "another" });
    });
    upgrading.until("going back", |upgrading| outcomes(upgrading).contains(&json!("RolledBack"))).await;
    upgrading.until("the rest", |upgrading| outcomes(upgrading).len() == 2).await;
    upgrading.runs(OLD, "db-data-0").await;
    assert_eq!(upgrading.cluster.world.data("ns", "db-data-0").unwrap().format, 1);
}

#[tokio::test]
async fn a_format_is_not_changed_for_an_image_that_is_not_asked_for_any_more() {
    let mut upgrading =
        Upgrading::to(finalizing(), json!({ "soak": "30s", "rollback": { "afterPromotion": "Never" } })).await;
    upgrading.reaches("Soak").await;
    upgrading.ask(OLD);
    upgrading.until("an end", |upgrading| outcomes(upgrading).len() == 2).await;
    assert_eq!(outcomes(&upgrading), ["Succeeded", "Succeeded"]);
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn a_change_of_format_waits_for_the_window_too_and_its_stop_counts() {
    let window = json!({ "soak": "30s", "window": { "schedule": "0 0 * * *", "duration": "1h" } });
    let mut upgrading = Upgrading::to(finalizing(), window).await;
    upgrading.reaches("Soak").await;
    let first = upgrading.record()["downtimeMillis"].as_i64().unwrap();
    upgrading.cluster.server.with(|store| store.advance(2 * 3_600));
    upgrading.is_held("WindowClosed").await;
    assert!(upgrading.serves().await);
    upgrading.annotate("progressdb.io/override", "ID/Window@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    let both = upgrading.record()["downtimeMillis"].as_i64().unwrap();
    assert!((first + 1_000..first + 120_000).contains(&both), "{first} ms, and {both} ms with the second stop");
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_change_of_format_can_be_given_up() {
    for step in ["FinalizeDrain", "FinalizeSnapshot", "FinalizeMigrate", "FinalizeStart", "FinalizeGate"] {
        let mut upgrading = Upgrading::to(finalizing(), json!({})).await;
        upgrading.reaches(step).await;
        upgrading.annotate("progressdb.io/abort", "ID");
        upgrading.ends("Succeeded").await;
        let claim = upgrading.claim();
        upgrading.runs(NEW, &claim).await;
        assert_eq!(upgrading.cluster.world.data("ns", &claim).unwrap().format, 1, "{step}");
    }
}

#[tokio::test]
async fn a_change_of_format_that_takes_long_is_told_and_goes_on() {
    let mut upgrading = Upgrading::to(finalizing(), json!({})).await;
    upgrading.reaches("FinalizeSnapshot").await;
    upgrading.cluster.world.job_seconds.insert("-finalize".into(), 2_000);
    upgrading.reaches("FinalizeMigrate").await;
    upgrading.seconds(5).await;
    upgrading.cluster.server.with(|store| store.advance(601));
    upgrading.is_held("FinalizeSlow").await;
    upgrading.cluster.server.with(|store| store.advance(2_000));
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_new_server_that_the_cluster_refuses_is_gone_back_from() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("SnapshotFinal").await;
    upgrading.cluster.server.with(|store| {
        store.policy =
            Some(|key, object| match object["spec"]["template"]["spec"]["containers"][0]["image"].as_str() {
                Some(NEW) if key.kind.kind == "StatefulSet" => Err("no such image is allowed here"),
                _ => Ok(()),
            });
    });
    upgrading.ends("RolledBack").await;
    assert!(upgrading.text("/message").contains("no such image is allowed here"), "{}", upgrading.text("/message"));
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn a_stop_that_is_undone_calls_somebody_and_writes_no_status_without_end() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Approval").await;
    upgrading.cluster.server.with(|store| {
        store.policy = Some(|key, object| {
            if key.kind.kind == "StatefulSet" && object["spec"]["replicas"] == 0 {
                object["spec"]["replicas"] = json!(1);
            }
            Ok(())
        });
    });
    upgrading.reaches("Drain").await;
    upgrading.seconds(5).await;
    upgrading.cluster.server.with(|store| store.advance(600));
    upgrading.is_held("NotStopping").await;
    upgrading.cluster.server.with(|store| store.policy = None);
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn copies_stay_for_their_time_though_nothing_tells_of_the_upgrade_any_more() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..super::migrating() };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.ends("RolledBack").await;
    let left = upgrading.left();
    assert!(left.contains(&"db-data-0 failed".to_owned()) && left.contains(&"db-ID-last".to_owned()), "{left:?}");
    upgrading.edit("ProgressDB", "db", |resource| resource["status"]["history"] = json!([]));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), left);
    upgrading.cluster.server.with(|store| store.advance(170 * 3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), ["db-data-1 current"]);
}
