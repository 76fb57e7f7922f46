//! Guarded upgrades while something that all databases depend on is disturbed: the operator, the storage driver, the node.

use progressdb_e2e::course::{STEPS, WAY_BACK};
use progressdb_e2e::{
    CLUSTER, Course, Database, Namespace, Writers, cluster_script, is_own_cluster, kubectl, wait_until,
};
use serde_json::{Value, json};
use testing::skip;

use crate::operator::Killer;

/// Whether `test` is skipped, because the cluster is somebody's and it does this there.
fn would_disturb(test: &str, what: &str) -> bool {
    if !is_own_cluster() {
        skip(test, &format!("it {what}, and this cluster is yours; unset KUBECONFIG to have one made"));
    }
    !is_own_cluster()
}

#[test]
fn an_operator_that_is_killed_every_five_seconds_upgrades_and_goes_back() {
    let namespace = Namespace::new("upgrade-killed");
    // A gate begins anew with each operator: these take less time than one lives.
    let short = json!({ "health": { "successes": 2, "period": "100ms" }, "metrics": { "minimumSamples": 100 } });
    let database = namespace.guarded("chat", json!({ "upgrade": { "gates": short } }));
    let writers = Writers::start(database.ready(), 2);
    let course = Course::of(&database);
    let killer = Killer::start();
    database.ask_for("next-plain");
    let record = course.ended("Succeeded");
    assert_eq!(course.steps(&record), STEPS);
    let in_good = killer.kills();
    assert!(in_good >= 3, "the operator was killed {in_good} times only");

    // A rollback, of which the copy of the data must be made once only.
    let long = json!({ "rehearsal": { "policy": "Skip" }, "gates": { "health": { "successes": 1_000 } } });
    database.change(json!({ "upgrade": long }));
    database.ask_for("next");
    let tried = course.at("HealthGate").record;
    database.change(json!({ "upgrade": { "gates": { "health": { "successes": 2 } } } }));
    database.annotate("progressdb.io/abort", tried["id"].as_str().unwrap());
    let record = course.ended("RolledBack");
    println!("the operator was killed {in_good} times in a good upgrade, {} in all", killer.kills());
    drop(killer);
    assert_eq!(course.steps(&record), [&STEPS[..8], &WAY_BACK].concat());
    assert_eq!(database.snapshots(&record).len(), 2);
    database.ask_for("next-plain");
    database.check_upgrades_left(&[("chat-data-0", "failed"), ("chat-data-1", "current")]);
    writers.check();
}

#[test]
fn a_slow_release_goes_back_beside_a_busy_database_that_is_upgraded() {
    let namespace = Namespace::new("upgrade-slow");
    // Here, where no other tests disturb, latency can be judged.
    let strict = json!({ "metrics": { "maxLatencyP99Increase": "50%", "failureLimit": 1, "minimumSamples": 100 } });
    let slow = namespace.guarded("chat", json!({ "upgrade": { "gates": strict } }));
    let busy = namespace.guarded("busy", json!({ "upgrade": { "snapshot": { "retainFor": "0s" } } }));
    let writers = [(&slow, 1), (&busy, 4)].map(|(database, count)| Writers::start(database.ready(), count));
    let courses = [&slow, &busy].map(Course::of);
    slow.ask_for("next-slow");
    busy.ask_for("next-plain");
    let record = courses[1].ended("Succeeded");
    assert_eq!(courses[1].steps(&record), STEPS);
    let ended = courses[1].entries(&record)[STEPS.len() - 1].1;
    busy.check_upgrades_left(&[("busy-data-0", "current")]);
    wait_until("no snapshot is kept for longer than was asked", || busy.snapshots(&record), Vec::is_empty);

    let record = courses[0].ended("RolledBack");
    let entries = courses[0].entries(&record);
    assert_eq!(courses[0].steps(&record), [&STEPS[..10], &WAY_BACK].concat());
    assert!(entries[0].1 < ended, "they were not upgraded at the same time");
    let metrics = record["gates"].as_array().unwrap().iter().find(|gate| gate["name"] == "Metrics").unwrap();
    let way_back = courses[0].time_from(&record, "RollbackStop").as_secs_f64();
    println!("a slow release: going back took {way_back:.1} s: {metrics}");
    assert_eq!((&metrics["verdict"], &record["rehearsal"]["passed"]), (&json!("Failed"), &json!(true)));
    assert!(metrics["why"].as_str().unwrap().contains("p99"), "{metrics}");
    slow.ask_for("dev");
    slow.check_upgrades_left(&[("chat-data-0", "current")]);
    assert_eq!(slow.get()["status"]["version"], record["from"]["version"]);
    for writers in writers {
        writers.wait_for_more(20);
        writers.check();
    }
}

/// A fault of the storage driver, until it is dropped.
struct Fault;

impl Fault {
    fn new(fault: &[&str]) -> Self {
        cluster_script("fault", &[&["CreateSnapshot"], fault].concat());
        Self
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        cluster_script("fault", &["CreateSnapshot"]);
    }
}

#[test]
fn snapshots_that_never_get_ready_stop_nothing_that_needs_them() {
    if would_disturb("snapshots_that_never_get_ready_stop_nothing_that_needs_them", "makes the storage driver fail") {
        return;
    }
    let namespace = Namespace::new("upgrade-unsnapped");
    let snapshot = |policy: &str| json!({ "upgrade": { "snapshot": { "policy": policy, "deadline": "5s" } } });
    let [needs, takes] = [("needs", "Required"), ("takes", "BestEffort")]
        .map(|(name, policy)| namespace.guarded(name, snapshot(policy)));
    let writers = [&needs, &takes].map(|database| Writers::start(database.ready(), 1));
    let (courses, uid) = ([&needs, &takes].map(Course::of), needs.pod_uid());
    let untouched = || {
        needs.check_still_runs(&uid);
        assert_eq!(writers[0].failures(), 0, "requests of clients failed");
    };
    let fault = Fault::new(&["fail", "RESOURCE_EXHAUSTED", "the", "pool", "is", "full"]);
    for database in [&needs, &takes] {
        database.ask_for("next-plain");
    }
    let held = courses[0].held("SnapshotFailed");
    assert!(held["hold"]["message"].as_str().unwrap().contains("the pool is full"), "{held}");
    let record = courses[1].ended("Succeeded");
    assert_eq!(record["backing"], "Checkpoint");
    let without = |step: &&str| !["Rehearse", "SnapshotFinal"].contains(step);
    assert_eq!(courses[1].steps(&record), STEPS.into_iter().filter(without).collect::<Vec<_>>());

    // Neither an error nor a copy that is ever there: only time decides.
    drop(fault);
    let fault = Fault::new(&["notready", "600s"]);
    needs.type_command_of(&held);
    courses[0].ended("Aborted");
    try_again(&needs);
    let held = courses[0].held("SnapshotFailed");
    untouched();
    drop(fault);

    // The class is missing.
    needs.type_command_of(&held);
    courses[0].ended("Aborted");
    needs.change(json!({ "upgrade": { "snapshot": { "className": "absent" } } }));
    try_again(&needs);
    let held = courses[0].held("SnapshotsUnavailable");
    assert!(held["hold"]["message"].as_str().unwrap().contains("absent"), "{held}");
    untouched();
    needs.change(json!({ "upgrade": { "snapshot": { "className": null, "deadline": "30m" } } }));
    courses[0].ended("Succeeded");
    needs.check_upgrades_left(&[("needs-data-0", "current")]);
    takes.check_upgrades_left(&[("takes-data-0", "current")]);
    writers.into_iter().for_each(Writers::check);
}

/// As docs/upgrades.md says: back and forth.
fn try_again(database: &Database<'_>) {
    database.ask_for("dev");
    database.ready();
    database.ask_for("next-plain");
}

#[test]
fn a_node_that_is_cordoned_delays_an_upgrade_that_has_begun_and_holds_another() {
    let test = "a_node_that_is_cordoned_delays_an_upgrade_that_has_begun_and_holds_another";
    if would_disturb(test, "cordons a node") {
        return;
    }
    let namespace = Namespace::new("upgrade-cordoned");
    let database = namespace.guarded("chat", json!({ "upgrade": { "rehearsal": { "policy": "Skip" } } }));
    let writers = Writers::start(database.ready(), 2);
    let course = Course::of(&database);
    database.ask_for("next-plain");
    // Once the old server has been stopped there is nowhere for the Job that looks at its data.
    let id = course.at("Drain").record["id"].as_str().unwrap().to_owned();
    let cordon = Cordon::new();
    let pods = || namespace.list("Pod", &format!("progressdb.io/upgrade={id}"));
    let is_pending = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "Unschedulable";
    wait_until("the Job has no node", pods, |pods| pods.iter().any(is_pending));
    drop(cordon);
    course.ended("Succeeded");
    database.check_upgrades_left(&[("chat-data-0", "current")]);

    let (uid, failures) = (database.pod_uid(), writers.failures());
    let cordon = Cordon::new();
    database.ask_for("dev");
    assert_eq!(course.held("Unschedulable")["step"], "Preflight");
    writers.wait_for_more(50);
    drop(cordon);
    database.ask_for("next-plain");
    course.ended("Aborted");
    database.check_upgrades_left(&[("chat-data-0", "current")]);
    database.check_still_runs(&uid);
    assert_eq!(writers.failures(), failures, "requests of clients failed");
    writers.check();
}

/// The node takes no pods, until this is dropped.
struct Cordon(String);

impl Cordon {
    fn new() -> Self {
        let name = CLUSTER.list("Node", "")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        kubectl(&["cordon", &name]);
        Self(name)
    }
}

impl Drop for Cordon {
    fn drop(&mut self) {
        kubectl(&["uncordon", &self.0]);
    }
}
