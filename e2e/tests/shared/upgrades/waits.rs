//! What an upgrade waits for before anything is stopped, and what lets it go on.

use progressdb_e2e::{CLUSTER, Course, Namespace, Writers};
use serde_json::json;

use super::{check_untouched, print_downtime};

#[test]
fn an_upgrade_waits_for_the_forecast_a_person_and_the_window_and_then_goes_on() {
    let namespace = Namespace::new("upgrade-waits");
    // The window was open once, and will be in some years.
    let window = json!({ "schedule": "0 0 29 2 *", "duration": "1m" });
    let policy =
        json!({ "approval": "Manual", "maxDowntime": "1s", "window": window, "rehearsal": { "policy": "Skip" } });
    let database = namespace.guarded("chat", json!({ "upgrade": policy }));
    let writers = Writers::start(database.ready(), 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());
    let untouched = || check_untouched(&database, &uid, &writers);
    database.ask_for("next-plain");

    let held = course.held("DowntimeTooLong");
    assert_eq!(held["step"], "Approval");
    assert!(held["hold"]["message"].as_str().unwrap().contains("maxDowntime is 1000 ms"), "{held}");
    database.wait_for("Upgraded", "False", "Held", &["maxDowntime is 1000 ms", "kubectl progressdb override"]);
    untouched();
    let snapshots = database.snapshots(&held);
    assert_eq!(snapshots.len(), 1);
    let content = snapshots[0]["status"]["boundVolumeSnapshotContentName"].as_str().unwrap();
    let kept = CLUSTER.get("VolumeSnapshotContent", content)["spec"]["deletionPolicy"].clone();
    assert_eq!(kept, "Retain", "the copy outlives its snapshot while the upgrade may need it");
    database.type_command_of(&held);

    let held = course.held("ApprovalNeeded");
    let id = held["id"].as_str().unwrap();
    database.annotate("progressdb.io/approve", "another");
    database.wait_for("Upgraded", "False", "Held", &["progressdb.io/approve", id]);
    untouched();
    database.type_command_of(&held);

    let held = course.held("WindowClosed");
    database.wait_for("Upgraded", "False", "Held", &["0 0 29 2 *", "kubectl progressdb override"]);
    untouched();
    writers.silence();
    database.type_command_of(&held);
    let record = course.ended("Succeeded");
    print_downtime("an upgrade that had to wait", &record, &writers);
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    assert_eq!(database.get()["status"]["version"], "0.4.0-next-plain");
    writers.check();
}
