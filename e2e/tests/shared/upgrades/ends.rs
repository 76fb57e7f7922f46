//! What happens to a database in the middle of an upgrade: it is deleted, or its disk is full.

use progressdb_e2e::{Course, Namespace, Writers, cluster_script, is_own_cluster, wait_until};
use serde_json::json;
use testing::skip;

#[test]
fn a_resource_that_is_deleted_in_an_upgrade_leaves_what_its_policy_says() {
    let namespace = Namespace::new("upgrade-deleted");
    let lost = namespace.guarded("lost", json!({ "deletionPolicy": "Delete" }));
    // Its gate is not passed while the test goes on.
    let long = json!({ "rehearsal": { "policy": "Skip" }, "gates": { "health": { "successes": 1_000 } } });
    let kept = namespace.guarded("kept", json!({ "upgrade": long }));
    let writers = [&lost, &kept].map(|database| Writers::start(database.ready(), 2));
    let [of_lost, of_kept] = [&lost, &kept].map(Course::of);
    // One of them in its rehearsal, the other while its new server is tried.
    for database in [&lost, &kept] {
        database.ask_for("next-plain");
    }
    of_lost.wait_until("the copy is read", |record| record["rehearsal"]["oldDigest"].is_string());
    lost.delete();
    let of_instance = |kind: &str, name: &str| namespace.list(kind, &format!("app.kubernetes.io/instance={name}"));
    for kind in ["PersistentVolumeClaim", "Secret", "VolumeSnapshot", "Job", "ConfigMap", "Service", "NetworkPolicy"] {
        wait_until(&format!("no {kind} is left"), || of_instance(kind, "lost"), Vec::is_empty);
    }

    of_kept.at("HealthGate");
    kept.delete();
    for kind in ["Job", "NetworkPolicy", "Service", "ConfigMap"] {
        wait_until(&format!("no {kind} is left"), || of_instance(kind, "kept"), Vec::is_empty);
    }
    assert_eq!(kept.claims(), [("kept-data-0".to_owned(), "current".to_owned())]);
    let again = namespace.guarded("kept", json!({}));
    again.check_upgrades_left(&[("kept-data-0", "current")]);
    let [_gone, writers] = writers;
    writers.check_in(&again);
}

#[test]
fn a_full_disk_holds_an_upgrade_before_anything_is_stopped() {
    let test = "a_full_disk_holds_an_upgrade_before_anything_is_stopped";
    if !is_own_cluster() {
        return skip(test, "it fills a volume on its node, and only a cluster made here has its node at hand");
    }
    let namespace = Namespace::new("upgrade-full");
    let database = namespace.guarded("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let (course, uid) = (Course::of(&database), database.pod_uid());
    let volume = database.volume();
    cluster_script("fill", &[volume.name()]);
    database.ask_for("next-plain");
    let held = course.held("RehearsalFailed");
    println!("{}", held["hold"]["message"]);
    database.check_still_runs(&uid);
    cluster_script("fill", &[volume.name(), "free"]);
    database.type_command_of(&held);
    course.ended("Aborted");
    database.ask_for("dev");
    database.ready();
    writers.wait_for_more(50);
    database.ask_for("next-plain");
    course.ended("Succeeded");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    writers.wait_for_more(50);
    writers.check();
}
