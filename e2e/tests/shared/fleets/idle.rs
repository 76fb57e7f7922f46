//! A fleet that nobody uses: the backup of its engine, requests of the operator's own, and what a person has to decide.

use progressdb_e2e::fleet::engine;
use progressdb_e2e::{Course, Fleet, Namespace, image};
use serde_json::{Value, json};

use super::Before;

/// A Job that runs the server's program with this word.
fn job(word: &str) -> Value {
    let restricted = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    let container = json!({
        "name": "backup", "image": image("progressdb:dev"), "command": ["/usr/local/bin/progressdb", word],
        "securityContext": restricted,
    });
    json!({ "template": { "spec": { "containers": [container] } } })
}

#[test]
fn without_a_backup_nothing_is_tried_and_without_users_a_person_decides() {
    let Some(node) = engine("without_a_backup_nothing_is_tried_and_without_users_a_person_decides") else { return };
    let namespace = Namespace::new("fleet-idle");
    let snapshot = json!({ "policy": "Required", "job": job("no-such-command") });
    let fleet = Fleet::new(&namespace, node, json!({ "upgrade": { "snapshot": snapshot } }));
    fleet.ready();
    let (course, before) = (Course::of(&fleet), Before::of(&fleet));

    fleet.ask_for("next-plain");
    let held = course.held("SnapshotFailed");
    assert_eq!(held["step"], "SnapshotOnline");
    assert_eq!(namespace.find("Deployment", "chat-canary"), None, "{held}");
    fleet.wait_for("Upgraded", "False", "Held", &["made no backup of the engine", "exit code 2", "kubectl delete job"]);
    before.check_untouched(&fleet);
    fleet.change(json!({ "upgrade": { "snapshot": { "job": job("version") } } }));
    fleet.type_command_of(&held);

    let held = course.held("GateInconclusive");
    assert_eq!((&held["step"], &held["backing"]), (&json!("MetricGate"), &json!("EngineBackup")), "{held}");
    assert_eq!(Course::gate(&held, "Probes")["verdict"], "Passed", "{held}");
    let tracks = fleet.servers().into_iter().map(|server| server.track);
    assert_eq!(tracks.filter(|track| track == "canary").count(), 1, "the canary stays");
    let words = ["too little", "kubectl progressdb override chat Metrics"];
    fleet.wait_for("Upgraded", "False", "Held", &words);
    fleet.type_command_of(&held);
    let record = course.ended("Succeeded");
    assert_eq!(Course::gate(&record, "Metrics")["overridden"], true, "{record}");
    let all = fleet.settled(3);
    assert!(all.iter().all(|server| server.image == image("progressdb:next-plain")), "{all:?}");
}
