//! Releases that are wrong: the servers that run are not touched, and few users meet the others or none.

use progressdb_e2e::fleet::engine;
use progressdb_e2e::{Course, Fleet, Namespace, Writers};
use serde_json::json;

use super::Before;

#[test]
fn a_release_that_never_gets_ready_is_met_by_nobody() {
    let Some(node) = engine("a_release_that_never_gets_ready_is_met_by_nobody") else { return };
    let namespace = Namespace::new("fleet-unready");
    let short = json!({ "gates": { "health": { "deadline": "15s" } } });
    let fleet = Fleet::new(&namespace, node, json!({ "upgrade": short }));
    let writers = Writers::roaming(fleet.ready(), 3);
    let (course, before) = (Course::of(&fleet), Before::of(&fleet));

    fleet.ask_for("next-unready");
    course.at("HealthGate");
    let record = course.ended("RolledBack");
    assert_eq!(course.steps(&record), ["Preflight", "Approval", "Canary", "HealthGate", "RollbackStop"]);
    assert!(record["message"].as_str().unwrap().contains("healthy and ready within 15s"), "{record}");
    fleet.wait_for("Upgraded", "False", "RolledBack", &[]);
    before.check_untouched(&fleet);
    writers.wait_for_more(50);
    let (met, all) = before.met_others(&writers);
    assert_eq!((met, writers.failures()), (0, 0), "of {all} requests the new version answered {met}");
    writers.check();
}
