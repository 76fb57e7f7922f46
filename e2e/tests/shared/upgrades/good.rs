//! Releases as they should be.

use progressdb_e2e::course::{FINALIZATION, STEPS};
use progressdb_e2e::{CLUSTER, Course, Namespace, Writers, image};
use serde_json::{Value, json};

use super::print_downtime;

#[test]
fn a_good_release_passes_every_step_and_settings_and_the_old_image_follow() {
    let namespace = Namespace::new("upgrade-good");
    let database = namespace.guarded("chat", json!({}));
    let writers = Writers::start(database.ready(), 3);
    let course = Course::of(&database);
    writers.silence();

    database.ask_for("next-plain");
    let record = course.ended("Succeeded");
    assert_eq!(course.steps(&record), STEPS);
    print_downtime("a good upgrade", &record, &writers);
    check_evidence(&record);
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    let status = database.get()["status"].clone();
    assert_eq!((&status["version"], &status["dataFormat"]), (&json!("0.4.0-next-plain"), &json!(1)));
    assert_eq!(status["image"], image("progressdb:next-plain"));
    let contents = database.snapshots(&record);
    assert_eq!(contents.len(), 2, "one of the data that served, and one of the data at rest");
    for snapshot in contents {
        let content = snapshot["status"]["boundVolumeSnapshotContentName"].as_str().unwrap();
        let policy = CLUSTER.get("VolumeSnapshotContent", content)["spec"]["deletionPolicy"].clone();
        assert_eq!(policy, "Delete", "the copy goes with its snapshot, now that the upgrade is over");
    }

    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    let record = course.ended("Succeeded");
    let short = STEPS.iter().filter(|step| !["SnapshotOnline", "Rehearse", "SnapshotFinal"].contains(step));
    assert_eq!(course.steps(&record), short.copied().collect::<Vec<_>>());
    print_downtime("a change of settings", &record, &writers);
    assert_eq!(database.snapshots(&record), [Value::Null; 0]);

    database.change(json!({ "image": image("progressdb:dev"), "upgrade": { "rehearsal": { "policy": "Skip" } } }));
    let record = course.ended("Succeeded");
    assert_eq!(course.steps(&record), STEPS);
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    database.check_still_runs(&database.pod_uid());
    let history = database.get()["status"]["history"].clone();
    let told = history.as_array().unwrap().iter().map(|entry| (&entry["to"], &entry["outcome"]));
    let (dev, next, good) = (json!(image("progressdb:dev")), json!(image("progressdb:next-plain")), json!("Succeeded"));
    assert_eq!(told.collect::<Vec<_>>(), [(&dev, &good), (&next, &good), (&next, &good)]);
    writers.check();
}

/// Each step has left what the next one rests on.
fn check_evidence(record: &Value) {
    let rehearsal = &record["rehearsal"];
    assert_eq!(rehearsal["passed"], true, "{rehearsal}");
    assert!(rehearsal["oldDigest"].is_string() && rehearsal["oldDigest"] == rehearsal["newDigest"], "{rehearsal}");
    assert!(rehearsal["messages"].as_i64() >= Some(30), "the messages of the clients: {rehearsal}");
    for name in ["Health", "Smoke", "Metrics"] {
        assert_eq!(Course::gate(record, name)["verdict"], "Passed", "{name}");
    }
    assert!(record["baseline"]["requests"].as_i64() >= Some(300), "{record}");
    assert_eq!((&record["backing"], &record["database"]["format"]), (&json!("Snapshots"), &json!(1)));
    assert!(record["forecastDowntimeMillis"].is_i64() && record["downtimeMillis"].as_i64() > Some(0), "{record}");
}

#[test]
fn a_release_that_changes_the_format_is_finalized_and_then_the_old_one_is_refused() {
    let namespace = Namespace::new("upgrade-format");
    let database = namespace.guarded("chat", json!({}));
    let writers = Writers::start(database.ready(), 3);
    let course = Course::of(&database);

    database.ask_for("next");
    let record = course.ended("Succeeded");
    assert_eq!(course.steps(&record), [&STEPS[..], &FINALIZATION].concat());
    print_downtime("an upgrade with another format", &record, &writers);
    assert_eq!(record["rehearsal"]["finalDigest"], record["rehearsal"]["oldDigest"], "{record}");
    assert!(record["rehearsal"]["oldDigest"].is_string(), "{record}");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    assert_eq!(database.get()["status"]["dataFormat"], 2);
    assert_eq!(database.snapshots(&record).len(), 3, "one more before the finalization");

    let (uid, failures) = (database.pod_uid(), writers.failures());
    database.ask_for("dev");
    let held = course.held("FormatNotReadable");
    assert_eq!(held["step"], "Preflight");
    assert!(held["hold"]["message"].as_str().unwrap().contains("format 2"), "{held}");
    database.wait_for("Upgraded", "False", "Held", &["format 2"]);
    writers.wait_for_more(50);
    database.ask_for("next");
    let ended = course.ended("Aborted");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    assert_eq!(database.snapshots(&ended), [Value::Null; 0]);
    database.check_still_runs(&uid);
    assert_eq!(writers.failures(), failures);
    writers.check();
}
