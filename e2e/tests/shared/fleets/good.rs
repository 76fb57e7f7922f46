//! A release as it should be, while users write and read.

use progressdb_e2e::fleet::engine;
use progressdb_e2e::{Course, Fleet, Namespace, Writers, image};
use serde_json::{Value, json};

use super::Before;

#[test]
fn a_good_release_meets_more_and_more_users_and_then_all() {
    let Some(node) = engine("a_good_release_meets_more_and_more_users_and_then_all") else { return };
    let namespace = Namespace::new("fleet-good");
    let steps = json!({ "canary": { "steps": [1, "50%"] } });
    let fleet = Fleet::new(&namespace, node, json!({ "upgrade": steps }));
    let writers = Writers::roaming(fleet.ready(), 4);
    let (course, before) = (Course::of(&fleet), Before::of(&fleet));

    fleet.ask_for("next-plain");
    let step = ["Canary", "HealthGate", "SmokeGate", "MetricGate"];
    let met = [1, 2].map(|canaries| {
        let is_compared = |record: &Value| record["step"] == "MetricGate" && record["canary"]["replicas"] == canaries;
        course.wait_until(&format!("{canaries} canaries are compared"), is_compared);
        before.met_others(&writers).0
    });
    let record = course.ended("Succeeded");
    assert_eq!(course.steps(&record), [&["Preflight", "Approval"], &step[..], &step, &["Promote", "Soak"]].concat());
    assert!(met[1] > met[0], "users met the canary of the first step: {met:?}");
    for gate in ["Schema", "Health", "Smoke", "Logs", "Metrics"] {
        assert_eq!(Course::gate(&record, gate)["verdict"], "Passed", "{gate}: {record}");
    }
    assert_eq!(record["backing"], "NotApplicable", "{record}");

    let after = fleet.settled(3);
    for server in &after {
        assert_eq!((&server.image, server.restarts), (&image("progressdb:next-plain"), 0), "{server:?}");
        assert!(!before.servers.iter().any(|old| old.uid == server.uid), "{server:?} was there before");
    }
    fleet.ready();
    assert_eq!(fleet.get()["status"]["version"], "0.4.0-next-plain");
    writers.wait_for_more(50);
    // Every request was answered at the first time of asking, and each write was read by whom it had been acknowledged to.
    assert_eq!(writers.failures(), 0, "requests of users failed");
    writers.check();
}
