//! Releases that are wrong: what fails on the copy of the data never reaches the data, and what fails on the data goes back.

use progressdb_e2e::course::{STEPS, WAY_BACK};
use progressdb_e2e::{Course, Database, Namespace, Writers, image, wait_until};
use serde_json::{Value, json};

use super::{check_untouched, print_way_back};

/// Of the image that all begin with.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The steps until one of them fails, and the way back.
fn back_from(step: &str) -> Vec<&'static str> {
    let failed = STEPS.iter().position(|other| *other == step).unwrap();
    [&STEPS[..=failed], &WAY_BACK].concat()
}

#[test]
fn a_release_that_never_gets_ready_is_caught_on_the_copy_and_goes_back_where_that_is_ignored() {
    let namespace = Namespace::new("upgrade-unready");
    let database = namespace.guarded("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());
    database.ask_for("next-unready");
    course.wait_until("the old image has passed", |record| record["rehearsal"]["newDigest"].is_string());
    // From here on only the new image can use up the time.
    database.change(json!({ "upgrade": { "rehearsal": { "timeout": "1s" } } }));
    let held = course.held("RehearsalFailed");
    assert_eq!((&held["step"], &held["rehearsal"]["oldServed"]), (&json!("Rehearse"), &json!(true)), "{held}");
    assert!(held["hold"]["message"].as_str().unwrap().contains("in time"), "{held}");
    check_untouched(&database, &uid, &writers);

    let insist = json!({ "rehearsal": { "policy": "Skip" }, "gates": { "health": { "deadline": "5s" } } });
    database.change(json!({ "upgrade": insist }));
    let record = course.ended("RolledBack");
    assert_eq!(course.steps(&record), back_from("HealthGate"));
    let entries = course.entries(&record);
    let at = |step: &str| entries.iter().find(|(entered, _)| entered == step).unwrap().1;
    let noticed = (at("RollbackStop") - at("HealthGate")).as_secs_f64() - 5.0;
    println!("a release that never gets ready: noticed {noticed:.1} s after the deadline");
    assert!(noticed < 10.0, "noticed {noticed:.1} s after the deadline of the gate");
    print_way_back("a release that never gets ready", &course, &record);
    assert!(record["message"].as_str().unwrap().contains("healthy and ready within 5s"), "{record}");
    check_old_serves(&database, &record);
    database.wait_for("Upgraded", "False", "RolledBack", &[]);
    writers.wait_for_more(50);
    writers.check();
}

/// The old release serves again, on the data that it had.
#[track_caller]
fn check_old_serves(database: &Database<'_>, record: &Value) {
    wait_until(
        "the old version serves",
        || database.get()["status"].clone(),
        |status| status["version"] == VERSION && status["image"] == image("progressdb:dev"),
    );
    assert_eq!(record["from"]["version"], VERSION);
    assert_eq!(database.status_of("Available"), "True");
    assert_eq!(database.claims(), [("chat-data-0".to_owned(), "current".to_owned())]);
}

#[test]
fn releases_that_damage_or_lose_what_is_there_never_touch_it() {
    let namespace = Namespace::new("upgrade-damage");
    let database = namespace.guarded("chat", json!({}));
    let client = database.ready().client("ann");
    let thread = client.create_thread("old");
    client.append(&thread, json!({ "text": "hello" }));
    let writers = Writers::start(&database, 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());

    database.ask_for("next-corrupt");
    let held = course.held("RehearsalFailed");
    let (old, new) = (&held["rehearsal"]["oldDigest"], &held["rehearsal"]["newDigest"]);
    assert!(old.is_string() && new.is_string() && old != new, "{held}");
    for digest in [old, new] {
        let message = held["hold"]["message"].as_str().unwrap();
        assert!(message.contains(digest.as_str().unwrap()), "the message has the evidence: {message}");
    }
    check_untouched(&database, &uid, &writers);

    // Another image takes the place of one that is held.
    database.ask_for("next-smoke");
    course.ended("Aborted");
    let held = course.held("RehearsalFailed");
    assert_eq!(held["rehearsal"]["oldDigest"], held["rehearsal"]["newDigest"], "its data is right: {held}");
    assert_eq!(Course::gate(&held, "Rehearsal-old-Smoke")["verdict"], "Passed");
    assert_eq!(Course::gate(&held, "Rehearsal-new-Smoke")["verdict"], "Failed");
    check_untouched(&database, &uid, &writers);

    database.change(json!({ "upgrade": { "rehearsal": { "policy": "Skip" } } }));
    let record = course.ended("RolledBack");
    assert_eq!(course.steps(&record), back_from("SmokeGate"));
    print_way_back("a release that fails its smoke test", &course, &record);
    assert_eq!(Course::gate(&record, "Smoke")["verdict"], "Failed");
    check_old_serves(&database, &record);
    writers.wait_for_more(50);
    writers.check();
    assert_eq!(client.bodies(&thread), [json!({ "text": "hello" })]);

    // What was tried stays out until the resource asks for something else.
    database.ask_for("dev");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
}
