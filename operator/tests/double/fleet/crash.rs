//! The operator dies before and after each of its calls, with a cache that is fresh and one that lags: the fleet ends the
//! same, no server is started twice for it, and fewer servers than are asked for take requests at no time.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::faults::Faults,
    every_call::{self, Calls, assert_same, begun},
};

/// What somebody does to a cluster in which a fleet may already serve, and how many servers have to serve all along.
struct Scenario {
    installed: Option<Value>,
    act: fn(&Cluster),
    never_fewer: usize,
}

async fn run(scenario: &Scenario, before: &Cluster, faults: Faults) -> (Cluster, Vec<String>) {
    let mut cluster = before.fork();
    (scenario.act)(&cluster);
    cluster.server.set_faults(faults);
    let mut quiet = 0;
    for round in 0.. {
        assert!(round < 300, "it does not settle");
        quiet = if cluster.round().await { 0 } else { quiet + 1 };
        let serving = ready(&cluster);
        assert!(serving >= scenario.never_fewer, "{serving} servers take requests");
        // When a resource goes, its settings may go before its pods.
        if cluster.get("Deployment", "db").is_some() {
            assert!(centres(&cluster).len() < 2, "two data centres are written in");
        }
        if quiet > 4 + cluster.lag {
            break;
        }
    }
    cluster.settle().await;
    let calls = cluster.server.take_calls();
    assert_eq!(cluster.world.broken, Vec::<String>::new());
    assert_eq!(cluster.times_made("Secret", "db-api-keys"), 1, "keys made");
    (cluster, calls)
}

async fn crash_everywhere(scenario: Scenario) {
    for lag in [0, 3] {
        let before = begun(scenario.installed.clone().map(spec), lag).await;
        let run = async |faults| run(&scenario, &before, faults).await;
        every_call::fails(Calls::ALL, &format!("with a lag of {lag}"), run, |calm, cluster| {
            assert_eq!(starts(cluster), starts(calm), "starts of servers");
            assert_same(&calm.state(), &cluster.state());
        })
        .await;
    }
}

#[tokio::test]
async fn a_fleet_is_made_the_same_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.create("db", spec(json!({})));
    crash_everywhere(Scenario { installed: None, act, never_fewer: 0 }).await;
}

#[tokio::test]
async fn settings_change_without_a_gap_wherever_the_operator_dies() {
    let act =
        |cluster: &Cluster| cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    crash_everywhere(Scenario { installed: Some(json!({})), act, never_fewer: 3 }).await;
}

#[tokio::test]
async fn a_fleet_grows_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.change("db", |spec| spec["replicas"] = json!(5));
    crash_everywhere(Scenario { installed: Some(json!({})), act, never_fewer: 3 }).await;
}

#[tokio::test]
async fn a_stop_for_another_data_centre_ends_the_same_wherever_the_operator_dies() {
    let act =
        |cluster: &Cluster| cluster.change("db", |spec| spec["storage"]["cassandra"]["datacenter"] = json!("dc2"));
    crash_everywhere(Scenario { installed: Some(json!({ "replicas": 2 })), act, never_fewer: 0 }).await;
}

#[tokio::test]
async fn a_fleet_goes_with_its_keys_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.delete("db");
    let installed = Some(json!({ "deletionPolicy": "Delete", "replicas": 2 }));
    crash_everywhere(Scenario { installed, act, never_fewer: 0 }).await;
}
