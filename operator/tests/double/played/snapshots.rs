//! Snapshots, what they are cut from, and what is made from them.

use serde_json::{Value, json};

use super::{OLD, Stage};

/// A server that clients write to, and a snapshot of its data.
fn cut(prepare: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::new();
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.steps(3);
    prepare(&mut stage);
    stage.snapshot("cut", "data");
    stage
}

fn content(stage: &Stage) -> Value {
    let name = stage.get("VolumeSnapshot", "cut")["status"]["boundVolumeSnapshotContentName"].clone();
    stage.get("VolumeSnapshotContent", name.as_str().unwrap_or("none"))
}

/// A pod that uses a claim and does nothing.
fn consume(stage: &Stage, claim: &str) {
    stage.job(&format!("use-{claim}"), claim, OLD, &[("main", "sleep")]);
}

#[test]
fn a_snapshot_holds_what_was_there_when_it_was_cut() {
    let mut stage = cut(|stage| {
        stage.world.snapshots.cut_after = 5;
        stage.world.snapshots.ready_after = 10;
    });
    stage.steps(1);
    assert_eq!(stage.get("VolumeSnapshot", "cut")["status"]["readyToUse"], false);
    assert_eq!(content(&stage)["status"], Value::Null);
    stage.steps(3);
    let at_cut = stage.data("data");
    stage.steps(1);
    let (snapshot, bound) = (stage.get("VolumeSnapshot", "cut"), content(&stage));
    assert_eq!(bound["spec"]["volumeSnapshotRef"]["uid"], snapshot["metadata"]["uid"]);
    assert_eq!((&bound["spec"]["driver"], &bound["spec"]["volumeSnapshotClassName"]), (&json!("csi"), &json!("csi")));
    assert!(bound["status"]["snapshotHandle"].is_string() && bound["status"]["creationTime"].is_i64(), "{bound}");
    assert!(snapshot["status"]["creationTime"].is_string(), "{snapshot}");
    assert_eq!((&snapshot["status"]["restoreSize"], &bound["status"]["restoreSize"]), (&json!("1Gi"), &json!(1 << 30)));
    // A claim from it is bound when the copy is ready and a pod wants it, in whatever order.
    stage.claim_from("first", "cut");
    consume(&stage, "first");
    stage.steps(9);
    assert_eq!(stage.get("PersistentVolumeClaim", "first")["status"]["phase"], "Pending");
    stage.steps(2);
    stage.claim_from("second", "cut");
    stage.steps(5);
    let phase = |stage: &Stage, claim: &str| stage.get("PersistentVolumeClaim", claim)["status"]["phase"].clone();
    assert_eq!((phase(&stage, "first"), phase(&stage, "second")), (json!("Bound"), json!("Pending")));
    consume(&stage, "second");
    stage.steps(2);
    for claim in ["first", "second"] {
        let copied = stage.data(claim);
        assert_eq!(
            (copied.writes.len(), copied.database_id),
            (at_cut.writes.len(), at_cut.database_id.clone()),
            "{claim}"
        );
    }
    assert!(stage.data("data").sequence > at_cut.sequence);
}

#[test]
fn what_goes_wrong_with_a_snapshot_is_told_and_nothing_is_restored_from_it() {
    type Prepare = fn(&mut Stage);
    let cases: [(&str, Prepare, &str); 6] = [
        ("never ready", |stage| stage.world.snapshots.never_ready = true, "snapshot cut is not Ready"),
        (
            "an error",
            |stage| stage.world.snapshots.error = Some("the disk is full".into()),
            "snapshot cut is not Ready",
        ),
        ("bound to another", |stage| stage.world.snapshots.misbound = true, "snapshot cut is not bound to content"),
        ("no class", |stage| stage.delete("VolumeSnapshotClass", "csi"), "not found"),
        ("larger", |stage| stage.edit("PersistentVolumeClaim", "data", grow), "is less than the size"),
        ("gone", |stage| stage.claim("cut-does-not-matter"), ""),
    ];
    fn grow(claim: &mut Value) {
        claim["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    }
    for (what, prepare, says) in cases {
        let mut stage = cut(|stage| {
            prepare(stage);
            stage.steps(2);
        });
        stage.steps(2);
        let snapshot = if what == "gone" { "absent" } else { "cut" };
        stage.claim_from("restored", snapshot);
        consume(&stage, "restored");
        stage.steps(5);
        assert_eq!(stage.get("PersistentVolumeClaim", "restored")["status"]["phase"], "Pending", "{what}");
        let events = stage.server.with(|store| store.all("Event"));
        let told = events.iter().find(|event| event["reason"] == "ProvisioningFailed").expect(what);
        assert!(told["message"].as_str().unwrap().contains(says), "{what}: {told}");
        let error = stage.get("VolumeSnapshot", "cut")["status"]["error"]["message"].clone();
        assert_eq!(error.is_string(), ["an error", "no class"].contains(&what), "{what}: {error}");
    }
}

#[test]
fn a_driver_is_asked_again_until_it_cuts() {
    let mut stage = cut(|stage| stage.world.snapshots.error = Some("busy".into()));
    stage.steps(3);
    let version = stage.server.with(|store| store.version());
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "none" }));
    stage.steps(2);
    let changes = stage.server.with(|store| store.changes_since(version).len());
    assert_eq!(changes, 2, "the Service and its slice only");
    stage.world.snapshots.error = None;
    stage.steps(1);
    let status = stage.get("VolumeSnapshot", "cut")["status"].clone();
    assert_eq!((&status["readyToUse"], &status["error"]), (&json!(true), &Value::Null));
}

#[test]
fn a_content_goes_with_its_snapshot_unless_it_is_retained() {
    for policy in ["Delete", "Retain"] {
        let mut stage = cut(|_| ());
        stage.steps(1);
        let name = content(&stage)["metadata"]["name"].as_str().unwrap().to_owned();
        stage.edit("VolumeSnapshotContent", &name, |content| content["spec"]["deletionPolicy"] = json!(policy));
        stage.delete("VolumeSnapshot", "cut");
        stage.steps(1);
        assert_eq!(stage.get("VolumeSnapshotContent", &name).is_null(), policy == "Delete");
        // Another snapshot of the name has a content of its own.
        stage.snapshot("cut", "data");
        stage.steps(1);
        let (snapshot, bound) = (stage.get("VolumeSnapshot", "cut"), content(&stage));
        assert_eq!(bound["spec"]["volumeSnapshotRef"]["uid"], snapshot["metadata"]["uid"], "{policy}");
    }
}

#[test]
fn a_volume_is_attached_while_a_pod_runs_and_a_second_longer() {
    let mut stage = cut(|_| ());
    let is_attached = |stage: &Stage| stage.get("VolumeAttachment", "csi-pv-data")["status"]["attached"] == true;
    assert!(is_attached(&stage));
    stage.server.with(|store| store.advance(600));
    stage.steps(1);
    assert!(is_attached(&stage));
    stage.scale("db", 0);
    stage.steps(1);
    assert_eq!((stage.get("Pod", "db-0"), is_attached(&stage)), (Value::Null, true));
    stage.steps(1);
    assert!(!is_attached(&stage));
    stage.world.detach_after = 20;
    stage.scale("db", 1);
    stage.steps(1);
    stage.scale("db", 0);
    stage.steps(20);
    assert!(is_attached(&stage));
    stage.steps(1);
    assert!(!is_attached(&stage));
}

#[test]
fn data_outlives_its_claim_only_on_a_retained_volume() {
    for policy in ["Delete", "Retain"] {
        let mut stage = cut(|_| ());
        stage.scale("db", 0);
        stage.steps(2);
        stage.edit("PersistentVolume", "pv-data", |volume| {
            volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
        });
        stage.delete("PersistentVolumeClaim", "data");
        stage.steps(1);
        assert_eq!(stage.get("PersistentVolume", "pv-data").is_null(), policy == "Delete");
        // A claim of the same name has another volume, with nothing on it.
        stage.claim("data");
        consume(&stage, "data");
        stage.steps(2);
        assert_eq!(stage.get("PersistentVolumeClaim", "data")["status"]["phase"], "Bound", "{policy}");
        assert_eq!(stage.world.data("ns", "data"), None, "{policy}");
    }
}
