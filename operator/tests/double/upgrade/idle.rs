//! Upgrades that soak, wait for a person or have ended: no calls are made but watches, however long that lasts.

use serde_json::{Value, json};

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::{api::Key, running::Running, world::Image};

/// Longer than anything is remembered, and than anything waits that is tried again by time alone, in seconds.
const LONG: usize = 1_500;

/// Another operator takes over and looks around once.
async fn taken_over(upgrading: Upgrading) -> Running {
    let cluster = upgrading.cluster;
    cluster.server.with(|store| store.serve("VolumeSnapshot"));
    let mut running = Running::start(cluster);
    running.calls_in(90).await;
    running
}

/// From then on it makes no calls.
async fn is_idle(what: &str, upgrading: Upgrading) -> Running {
    let mut running = taken_over(upgrading).await;
    let told = running.status("db");
    assert_eq!(running.calls_in(LONG).await, Vec::<String>::new(), "{what}");
    assert_eq!(running.status("db"), told, "{what}");
    running
}

#[tokio::test(start_paused = true)]
async fn a_soak_makes_no_calls_and_ends() {
    for new in [release("0.4.0"), migrating()] {
        let mut upgrading = Upgrading::to(new, json!({ "soak": "1h" })).await;
        upgrading.reaches("Soak").await;
        let mut running = is_idle("a soak", upgrading).await;
        running.cluster.server.with(|store| store.advance(3_600));
        let has_ended = |status: &Value| status["upgrade"]["outcome"] == "Succeeded";
        running.until("an end", |cluster| has_ended(&cluster.get("ProgressDB", "db").unwrap()["status"])).await;
    }
}

/// It is held for this reason, and makes no calls.
async fn is_idle_while_held(reason: &str, new: Image, of_upgrade: Value, prepare: impl FnOnce(&mut Upgrading)) {
    let mut upgrading = Upgrading::to(new, of_upgrade).await;
    prepare(&mut upgrading);
    upgrading.is_held(reason).await;
    let running = is_idle(reason, upgrading).await;
    assert_eq!(running.status("db")["upgrade"]["hold"]["reason"], reason);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_waits_for_a_person_makes_no_calls() {
    let good = || release("0.4.0");
    let nothing = |_: &mut Upgrading| ();
    is_idle_while_held("ApprovalNeeded", good(), json!({ "approval": "Manual" }), nothing).await;
    is_idle_while_held("DowntimeTooLong", good(), json!({ "maxDowntime": "1s" }), nothing).await;
    let window = json!({ "window": { "schedule": "0 2 * * *", "duration": "1h" } });
    is_idle_while_held("WindowClosed", good(), window, nothing).await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_to_a_release_that_will_not_do_makes_no_calls() {
    let nothing = |_: &mut Upgrading| ();
    let fails = Image { fails_smoke: true, ..release("0.4.0") };
    is_idle_while_held("RehearsalFailed", fails, json!({}), nothing).await;
    let reads_other = Image { reads: (2, 3), writes: 3, ..release("0.4.0") };
    is_idle_while_held("FormatNotReadable", reads_other, json!({}), nothing).await;
    is_idle_while_held("VersionUnknown", release("0.4.0"), json!({}), |upgrading| {
        upgrading.cluster.world.failing_jobs.insert("-version-".into(), "exec: no such file".into());
    })
    .await;
    is_idle_while_held(
        "SnapshotFailed",
        release("0.4.0"),
        json!({ "snapshot": { "policy": "Required" } }),
        |upgrading| {
            upgrading.cluster.world.snapshots.never_ready = true;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_a_gate_holds_makes_no_calls() {
    let fails = Image { fails_smoke: true, rehearses_well: true, ..release("0.4.0") };
    let manual = json!({ "rollback": { "beforePromotion": "Manual" } });
    is_idle_while_held("GateFailed", fails, manual, |_| ()).await;
    let is_short = Image { load_is_short: true, rehearses_well: true, ..release("0.4.0") };
    is_idle_while_held("GateInconclusive", is_short, json!({}), |_| ()).await;
}

/// Nobody writes meanwhile: else what going back would lose grows, and the status tells that.
#[tokio::test(start_paused = true)]
async fn a_way_back_that_waits_for_a_person_makes_no_calls() {
    let policy = json!({ "soak": "3h", "rollback": { "afterPromotion": "Approve" } });
    let mut upgrading = Upgrading::to(migrating(), policy).await;
    upgrading.reaches("Soak").await;
    upgrading.cluster.world.writes_a_second = 0;
    upgrading.ask(OLD);
    upgrading.is_held("RollbackRequiresApproval").await;
    is_idle("RollbackRequiresApproval", upgrading).await;
}

#[tokio::test(start_paused = true)]
async fn upgrades_that_have_ended_make_no_calls() {
    let fails = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    for (new, outcome) in [(migrating(), "Succeeded"), (fails, "RolledBack")] {
        let mut upgrading = Upgrading::to(new, json!({})).await;
        upgrading.ends(outcome).await;
        is_idle(outcome, upgrading).await;
    }
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Rehearse").await;
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("Aborted").await;
    is_idle("Aborted", upgrading).await;
}

/// Nothing tells when there is room, or a class: that is looked for again, but seldom.
#[tokio::test(start_paused = true)]
async fn what_nothing_tells_of_is_looked_for_once_a_minute_and_goes_on_by_itself() {
    let mut upgrading = Upgrading::installed(json!({ "snapshot": { "policy": "Required" } }), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    let class = upgrading.cluster.server.with(|store| {
        let key = Key::new("VolumeSnapshotClass", "", "csi");
        let class = store.get(&key).cloned().unwrap();
        store.end(&key);
        class
    });
    upgrading.ask(NEW);
    upgrading.is_held("SnapshotsUnavailable").await;
    let mut running = taken_over(upgrading).await;
    let calls = running.calls_in(600).await;
    assert!(!calls.is_empty() && calls.len() <= 2 * 11, "{} calls: {calls:#?}", calls.len());
    crate::successor::make(&running.cluster, "VolumeSnapshotClass", "", "csi", class);
    running
        .until("going on", |cluster| cluster.get("ProgressDB", "db").unwrap()["status"]["upgrade"]["hold"].is_null())
        .await;
}

/// Before anything stops it is looked again whether the new pod can run, however long the upgrade has waited.
#[tokio::test]
async fn what_was_held_stops_nothing_for_a_pod_that_no_node_takes_any_more() {
    let changes: [fn(&mut Value); 2] = [
        |spec| spec["image"] = json!(NEW),
        // It is held to no load, after which it would be looked again.
        |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }),
    ];
    for change in changes {
        let window = json!({ "window": { "schedule": "0 2 * * *", "duration": "1h" } });
        let mut upgrading = Upgrading::installed(window, json!({})).await;
        upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
        upgrading.cluster.change("db", change);
        upgrading.is_held("WindowClosed").await;
        let cordon = |upgrading: &Upgrading, is_cordoned: bool| {
            let node = Key::new("Node", "", "node");
            upgrading
                .cluster
                .server
                .with(|store| store.edit(&node, |node| node["spec"]["unschedulable"] = json!(is_cordoned)));
        };
        cordon(&upgrading, true);
        upgrading.annotate("progressdb.io/override", "ID/Window@2030-01-01T01:00:00Z");
        upgrading.is_held("Unschedulable").await;
        assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 1);
        cordon(&upgrading, false);
        upgrading.cluster.server.with(|store| store.advance(61));
        upgrading.ends("Succeeded").await;
        assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 2);
    }
}
