//! A fleet is made, scaled, deleted and made again.

use progressdb_e2e::fleet::{Server, engine};
use progressdb_e2e::{Fleet, Namespace, Writers, kubectl, wait_until};
use serde_json::json;

#[test]
fn a_fleet_serves_is_scaled_and_leaves_its_keyspace() {
    let Some(node) = engine("a_fleet_serves_is_scaled_and_leaves_its_keyspace") else { return };
    let namespace = Namespace::new("fleet-lives");
    let fleet = Fleet::new(&namespace, node, json!({}));
    fleet.ready();
    let three = fleet.settled(3);
    fleet.wait_for("StorageReady", "True", "SchemaApplied", &[]);
    let status = fleet.get()["status"].clone();
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(3), &json!(3)), "{status}");
    // Its label finds all of them, and one may go at a time.
    let budget = || namespace.get("PodDisruptionBudget", "chat")["status"].clone();
    let counted = wait_until("the budget counts three", budget, |status| status["expectedPods"] == 3);
    assert_eq!((&counted["desiredHealthy"], &counted["disruptionsAllowed"]), (&json!(2), &json!(1)), "{counted}");

    let writers = Writers::roaming(&fleet, 3);
    let scale = |replicas: &str| {
        kubectl(&["scale", "prdb/chat", &format!("--replicas={replicas}"), "-n", &namespace.name]);
    };
    scale("4");
    let four = fleet.settled(4);
    assert!(three.iter().all(|server| four.contains(server)), "who served serves on: {three:?}, {four:?}");
    let added = four.iter().find(|server| !three.contains(server)).unwrap().process();
    wait_until("users reach the new one", || writers.answers(), |answers| answers.contains_key(&added));
    scale("2");
    let two = fleet.settled(2);
    writers.wait_for_more(50);
    assert_eq!(writers.failures(), 0, "requests of users failed");
    fleet.ready();

    fleet.delete();
    let keyspaces =
        format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{}'", fleet.keyspace());
    assert_eq!(node.execute(&keyspaces).len(), 1, "the keyspace stays");
    let again = Fleet::new(&namespace, node, json!({ "replicas": 2 }));
    again.ready();
    let names = |servers: &[Server]| servers.iter().map(|server| server.uid.clone()).collect::<Vec<_>>();
    assert_ne!(names(&again.settled(2)), names(&two));
    writers.check_in(&again);
}
