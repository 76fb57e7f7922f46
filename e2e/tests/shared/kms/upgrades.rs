//! A KMS that is revoked in the middle of an upgrade. The operator sees another Secret within a minute, and so does the kubelet.

use progressdb_e2e::course::{STEPS, WAY_BACK};
use progressdb_e2e::{Course, Database, Namespace, Writers, wait_until};
use serde_json::{Value, json};

use crate::upgrades::check_untouched;

/// With another master key than `1` the KMS opens nothing that is there.
fn set_key(namespace: &Namespace, key: &str) {
    namespace.secret("master", json!({ "master.key": key.repeat(64) }));
}

/// A database whose upgrades are not rehearsed.
fn sealed<'a>(namespace: &'a Namespace, mut upgrade: Value) -> Database<'a> {
    set_key(namespace, "1");
    upgrade["rehearsal"] = json!({ "policy": "Skip" });
    let kms = json!({ "embedded": { "secretName": "master" } });
    namespace.guarded("chat", json!({ "kms": kms, "upgrade": upgrade }))
}

#[test]
fn a_kms_that_is_revoked_holds_an_upgrade_until_it_is_back() {
    let namespace = Namespace::new("upgrade-revoked");
    let database = sealed(&namespace, json!({ "approval": "Manual" }));
    let writers = Writers::start(database.ready(), 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());
    database.ask_for("next-plain");
    course.held("ApprovalNeeded");
    // Long after Preflight: the KMS is asked for as long as nothing is stopped.
    set_key(&namespace, "2");
    let held = course.held("KmsFailed");
    assert_eq!(held["step"], "Approval");
    check_untouched(&database, &uid, &writers);
    // Whoever lets it pass does not let that pass.
    database.annotate("progressdb.io/approve", held["id"].as_str().unwrap());
    database.wait_for("Upgraded", "False", "Held", &["the key was wrapped by master key"]);
    check_untouched(&database, &uid, &writers);
    set_key(&namespace, "1");
    course.ended("Succeeded");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    writers.check();
}

#[test]
fn a_kms_that_is_revoked_once_the_server_has_stopped_delays_the_way_back_and_loses_nothing() {
    let namespace = Namespace::new("upgrade-locked");
    let database = sealed(&namespace, json!({}));
    let writers = Writers::start(database.ready(), 2);
    let course = Course::of(&database);
    database.ask_for("next-plain");
    course.at("Drain");
    set_key(&namespace, "2");
    let message = course.at("RollbackGate").record["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the key was wrapped by master key"), "{message}");
    // The old server can open nothing either, and is started until it can.
    let pod = || namespace.find("Pod", &database.pod()).unwrap_or_default();
    let has_ended = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() > Some(0);
    wait_until("the old server ends", pod, has_ended);
    set_key(&namespace, "1");
    let record = course.ended("RolledBack");
    assert_eq!(course.steps(&record), [&STEPS[..8], &WAY_BACK].concat());
    println!("going back took {:.1} s", course.time_from(&record, "RollbackStop").as_secs_f64());
    database.ask_for("dev");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    writers.check();
}
