//! Bad releases: each is held before anything is touched if a rehearsal can show it, and goes back by itself if only clients
//! would have noticed.

use serde_json::json;

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::{api::faults::Faults, world::Image};

/// What fails on the copy holds the upgrade, and nothing that serves is touched. A person gives it up.
async fn fails_in_rehearsal(new: Image, said: &str) {
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.is_held("RehearsalFailed").await;
    let hold = upgrading.record()["hold"].clone();
    assert!(hold["message"].as_str().unwrap().contains(said), "{hold}");
    upgrading.runs(OLD, "db-data-0").await;
    assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 1);
    assert_eq!(upgrading.left()[0], "db-data-0 current", "the copy is gone: {:?}", upgrading.left());
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("Aborted").await;
    upgrading.runs(OLD, "db-data-0").await;
    assert_eq!(
        upgrading.left(),
        ["db-data-0 current", "db-ID-online", "content-db-ID-online Delete"],
        "the copy is gone"
    );
    assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "Aborted");
    // What was given up is not tried again by itself, and can be asked for again.
    upgrading.program(|new| *new = release("0.4.0"));
    upgrading.rests().await;
    upgrading.ask(OLD);
    upgrading.rests().await;
    upgrading.ask(NEW);
    upgrading.until("another upgrade", |upgrading| upgrading.record()["outcome"].is_null()).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_release_that_is_never_ready_stops_nothing() {
    let new = Image { never_ready: true, ..release("0.4.0") };
    fails_in_rehearsal(new, "not healthy and ready within 15s").await;
}

#[tokio::test]
async fn a_release_that_does_not_start_stops_nothing() {
    fails_in_rehearsal(Image { never_starts: true, ..release("0.4.0") }, "the server cannot start").await;
}

#[tokio::test]
async fn a_release_that_alters_rows_never_touches_the_data() {
    fails_in_rehearsal(Image { corrupts: true, ..migrating() }, "reads other data").await;
}

#[tokio::test]
async fn a_release_that_loses_edits_stops_nothing() {
    fails_in_rehearsal(Image { fails_smoke: true, ..release("0.4.0") }, "an edit is lost").await;
}

/// What shows only where clients would be goes back by itself, and no client has met it.
async fn goes_back(new: Image, gate: &str, said: &str) {
    let mut upgrading = Upgrading::to(Image { rehearses_well: true, ..new }, json!({})).await;
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-0").await;
    assert!(upgrading.text("/message").contains(said), "{}", upgrading.text("/message"));
    if !gate.is_empty() {
        assert_eq!(upgrading.gate(gate), "Failed");
    }
    assert!(upgrading.cluster.world.acknowledged().iter().all(|write| write.image != NEW));
    // Of the same node, without a registry.
    let pod = upgrading.cluster.get("Pod", "db-0").unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], upgrading.cluster.world.image_id(OLD));
    assert_eq!(
        upgrading.left(),
        ["db-data-0 current", "db-ID-last", "db-ID-online", "content-db-ID-last Delete", "content-db-ID-online Delete"]
    );
    // The same change is not tried again.
    assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 3);
    upgrading.cluster.server.with(|store| store.advance(80 * 3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), ["db-data-0 current"]);
    assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 3);
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn a_release_that_is_not_ready_where_clients_are_goes_back() {
    goes_back(Image { never_ready: true, ..release("0.4.0") }, "", "not healthy and ready within 15s").await;
}

#[tokio::test]
async fn a_release_that_does_not_start_where_clients_are_goes_back() {
    goes_back(Image { never_starts: true, ..release("0.4.0") }, "", "the server cannot start").await;
}

#[tokio::test]
async fn a_release_that_loses_edits_where_clients_are_goes_back() {
    goes_back(Image { fails_smoke: true, ..release("0.4.0") }, "Smoke", "an edit is lost").await;
}

#[tokio::test]
async fn a_release_that_is_slow_or_fails_requests_goes_back() {
    goes_back(Image { p99_micros: 9_000, ..release("0.4.0") }, "Metrics", "p99 9.00 ms").await;
    goes_back(Image { errors: 11, ..release("0.4.0") }, "Metrics", "11 of 1000 failed").await;
}

#[tokio::test]
async fn a_release_that_logs_a_storage_fault_goes_back() {
    let log = "{\"event\":\"server.ready\"}\n{\"event\":\"store.stopped\"}\n".to_owned();
    goes_back(Image { log, ..release("0.4.0") }, "Logs", "store.stopped").await;
}

#[tokio::test]
async fn settings_that_do_not_run_go_back_to_the_former_ones() {
    let mut upgrading = Upgrading::installed(json!({}), json!({})).await;
    let before = upgrading.cluster.get("StatefulSet", "db").unwrap()["spec"]["template"].clone();
    upgrading.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    upgrading.reaches("Swap").await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().never_ready = true;
    upgrading.reaches("RollbackStop").await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().never_ready = false;
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-0").await;
    let after = upgrading.cluster.get("StatefulSet", "db").unwrap()["spec"]["template"].clone();
    assert_eq!(after["spec"]["volumes"], before["spec"]["volumes"]);
    assert_eq!((upgrading.left(), upgrading.releases()), (vec!["db-data-0 current".to_owned()], 2));
}

#[tokio::test]
async fn a_gate_that_a_person_is_to_judge_waits_for_that() {
    let new = || Image { fails_smoke: true, rehearses_well: true, ..release("0.4.0") };
    let manual = json!({ "rollback": { "beforePromotion": "Manual" } });
    let mut upgrading = Upgrading::to(new(), manual.clone()).await;
    upgrading.is_held("GateFailed").await;
    assert!(!upgrading.serves().await, "no client reaches it");
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-0").await;

    let mut upgrading = Upgrading::to(new(), manual).await;
    upgrading.is_held("GateFailed").await;
    // What nobody understands lets nothing pass, and is told.
    upgrading.annotate("progressdb.io/override", "ID/Smok@2030-02-01T00:00:00Z,ID/Smoke@tomorrow");
    upgrading.is_held("GateFailed").await;
    for said in ["\"Smok\" is no gate", "\"tomorrow\" is no time"] {
        assert!(upgrading.cluster.condition("db", "Upgraded").2.contains(said), "{said}");
    }
    assert_eq!(upgrading.events("OverrideNotUnderstood"), 1);
    upgrading.annotate("progressdb.io/override", "ID/Smoke@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    assert_eq!(upgrading.text("/oddOverride"), "");
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_gate_without_a_verdict_waits_for_a_person() {
    let new = Image { load_is_short: true, rehearses_well: true, ..release("0.4.0") };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.is_held("GateInconclusive").await;
    assert!(!upgrading.serves().await, "no client reaches it");
    upgrading.annotate("progressdb.io/override", "ID/Metrics@2029-12-31T00:00:00Z");
    upgrading.is_held("GateInconclusive").await;
    upgrading.annotate("progressdb.io/override", "ID/Metrics@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_server_that_cannot_be_measured_is_not_stopped_for_another() {
    let mut upgrading = Upgrading::installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().load_is_short = true;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.delete("Pod", "db-0");
    upgrading.cluster.settle().await;
    let mut upgrading = Upgrading::of(upgrading.cluster);
    upgrading.ask(NEW);
    upgrading.is_held("BaselineUnusable").await;
    upgrading.runs(OLD, "db-data-0").await;
    upgrading.annotate("progressdb.io/override", "ID/Baseline@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    assert_eq!((upgrading.gate("Baseline"), upgrading.gate("Metrics")), ("Inconclusive".into(), "Passed".into()));
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn a_test_of_ones_own_that_the_cluster_refuses_does_not_keep_clients_waiting() {
    let policy = json!({ "gates": { "job": { "template": { "spec": {} }, "deadline": "10m" } } });
    let mut upgrading = Upgrading::to(release("0.4.0"), policy).await;
    upgrading.reaches("SmokeGate").await;
    upgrading.cluster.server.set_faults(Faults::default().refuse("POST jobs", 422, usize::MAX));
    upgrading.reaches("RollbackStop").await;
    upgrading.cluster.server.set_faults(Faults::default());
    upgrading.ends("RolledBack").await;
    assert_eq!(upgrading.gate("Job"), "Failed");
    assert!(upgrading.text("/message").contains("the gate Job failed: creating"), "{}", upgrading.text("/message"));
    upgrading.runs(OLD, "db-data-0").await;
}

#[tokio::test]
async fn every_gate_can_be_let_pass() {
    let log = "{\"event\":\"store.stopped\"}\n".to_owned();
    let faults = [
        ("Smoke", Image { fails_smoke: true, ..release("0.4.0") }),
        ("Logs", Image { log, ..release("0.4.0") }),
        ("Metrics", Image { errors: 500, ..release("0.4.0") }),
    ];
    for (gate, new) in faults {
        let mut upgrading = Upgrading::to(Image { rehearses_well: true, ..new }, json!({})).await;
        upgrading.reaches("Drain").await;
        upgrading.annotate("progressdb.io/override", &format!("ID/{gate}@2030-02-01T00:00:00Z"));
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
    }
    // So can those of a finalization.
    let mut upgrading = Upgrading::to(super::finalizing(), json!({})).await;
    upgrading.reaches("FinalizeStart").await;
    upgrading.program(|new| new.fails_smoke = true);
    upgrading.annotate("progressdb.io/override", "ID/Finalize-Smoke@2030-02-01T00:00:00Z");
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}

#[tokio::test]
async fn an_image_that_is_none_or_cannot_read_the_data_stops_nothing() {
    let new = Image { reads: (2, 3), writes: 3, ..release("0.4.0") };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.is_held("FormatNotReadable").await;
    upgrading.runs(OLD, "db-data-0").await;
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("Aborted").await;
    assert_eq!(upgrading.left(), ["db-data-0 current"]);

    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.cluster.world.failing_jobs.insert("-version-".into(), "exec: no such file".into());
    upgrading.is_held("VersionUnknown").await;
    upgrading.runs(OLD, "db-data-0").await;
    upgrading.ask(OLD);
    upgrading.ends("Aborted").await;
    assert_eq!(upgrading.left(), ["db-data-0 current"]);
}
