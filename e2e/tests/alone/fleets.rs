//! Upgrades of fleets where nothing else disturbs: latency can be judged, and the operator can be killed.

use progressdb_e2e::course::STEPS_OF_FLEET;
use progressdb_e2e::fleet::{Server, engine};
use progressdb_e2e::{Course, Fleet, Namespace, Writers, image};
use serde_json::json;

use crate::operator::Killer;

#[test]
fn a_slow_release_of_a_fleet_is_met_by_few_and_goes() {
    let Some(node) = engine("a_slow_release_of_a_fleet_is_met_by_few_and_goes") else { return };
    let namespace = Namespace::new("fleet-slow");
    let strict = json!({ "metrics": { "maxLatencyP99Increase": "50%" } });
    let fleet = Fleet::new(&namespace, node, json!({ "upgrade": { "gates": strict } }));
    let writers = Writers::roaming(fleet.ready(), 4);
    let (before, sets) = (fleet.settled(3), fleet.replica_sets());
    let course = Course::of(&fleet);
    let known: Vec<String> = before.iter().map(Server::process).collect();
    let asked: usize = writers.answers().values().sum();

    fleet.ask_for("next-slow");
    let record = course.ended("RolledBack");
    let answers = writers.answers();
    assert_eq!(course.steps(&record), [&STEPS_OF_FLEET[..6], &["RollbackStop"]].concat());
    let metrics = Course::gate(&record, "Metrics");
    println!("a slow release of a fleet: {metrics}");
    assert_eq!(metrics["verdict"], "Failed", "{record}");
    assert!(metrics["why"].as_str().unwrap().contains("longer than the slowest of the stable pods"), "{metrics}");
    assert_eq!((fleet.settled(3), fleet.replica_sets()), (before, sets), "what ran runs on");
    // One of four servers was slow, and as each user waits for it they asked it less often than the others.
    let met: usize = answers.iter().filter(|(process, _)| !known.contains(process)).map(|(_, count)| count).sum();
    let all = answers.values().sum::<usize>() - asked;
    println!("a slow release of a fleet: it answered {met} of {all} requests");
    assert!(met > 0 && met * 4 <= all, "it answered {met} of {all} requests");
    writers.wait_for_more(50);
    assert_eq!(writers.failures(), 0, "requests of users failed");
    writers.check();
}

#[test]
fn an_operator_that_is_killed_every_five_seconds_brings_a_fleet_to_a_new_image() {
    let Some(node) = engine("an_operator_that_is_killed_every_five_seconds_brings_a_fleet_to_a_new_image") else {
        return;
    };
    let namespace = Namespace::new("fleet-killed");
    // A gate begins anew with each operator: these take less time than one lives.
    let short = json!({ "health": { "successes": 2, "period": "100ms" } });
    let fleet = Fleet::new(&namespace, node, json!({ "upgrade": { "gates": short } }));
    let writers = Writers::roaming(fleet.ready(), 4);
    let course = Course::of(&fleet);
    let killer = Killer::start();
    fleet.ask_for("next-plain");
    let record = course.ended("Succeeded");
    let kills = killer.kills();
    drop(killer);
    println!("the operator was killed {kills} times while a fleet took a new image");
    assert_eq!(course.steps(&record), STEPS_OF_FLEET);
    assert!(kills >= 3, "the operator was killed {kills} times only");
    for server in fleet.settled(3) {
        assert_eq!((&server.image, server.restarts), (&image("progressdb:next-plain"), 0), "{server:?}");
    }
    writers.wait_for_more(50);
    assert_eq!(writers.failures(), 0, "requests of users failed");
    writers.check();
}
