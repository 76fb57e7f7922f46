//! The operator dies before and after each of its calls, with a cache that is fresh and one that lags: the fleet ends the
//! same, no server is started twice for it, and fewer servers than are asked for take requests at no time.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::faults::{Death, Faults},
    crash::similar_asserts,
};

/// What somebody does to a cluster in which a fleet may already serve, and how many servers have to serve all along.
struct Scenario {
    installed: Option<Value>,
    act: fn(&Cluster),
    never_fewer: usize,
}

async fn begin(scenario: &Scenario, lag: usize) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.lag = lag;
    if let Some(more) = &scenario.installed {
        cluster.create("db", spec(more.clone()));
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").0, "True", "{:#?}", cluster.get("ProgressDB", "db"));
    }
    cluster.server.take_calls();
    cluster
}

async fn run(scenario: &Scenario, before: &Cluster, faults: Faults, what: &str) -> (Cluster, usize) {
    let mut cluster = before.fork();
    (scenario.act)(&cluster);
    cluster.server.set_faults(faults);
    let mut quiet = 0;
    for round in 0.. {
        assert!(round < 300, "{what}: it does not settle");
        quiet = if cluster.round().await { 0 } else { quiet + 1 };
        let serving = ready(&cluster);
        assert!(serving >= scenario.never_fewer, "{what}: {serving} servers take requests");
        // When a resource goes, its settings may go before its pods.
        if cluster.get("Deployment", "db").is_some() {
            assert!(centres(&cluster).len() < 2, "{what}: two data centres are written in");
        }
        if quiet > 4 + cluster.lag {
            break;
        }
    }
    cluster.settle().await;
    let calls = cluster.server.take_calls().len();
    assert_eq!(cluster.world.broken, Vec::<String>::new(), "{what}");
    assert_eq!(cluster.times_made("Secret", "db-api-keys"), 1, "{what}: keys made");
    (cluster, calls)
}

/// How many pods of servers were ever made.
fn starts(cluster: &Cluster) -> usize {
    cluster.server.with(|store| {
        let made =
            store.changes_since(0).iter().filter(|change| change.what == "ADDED" && change.key.kind.kind == "Pod");
        made.filter(|change| change.object["metadata"]["labels"]["progressdb.io/track"].is_string()).count()
    })
}

async fn crash_everywhere(scenario: Scenario) {
    for lag in [0, 3] {
        let before = begin(&scenario, lag).await;
        let (calm, calls) = run(&scenario, &before, Faults::default(), "no fault").await;
        assert!(calls > 0, "the scenario does something");
        for call in 0..calls {
            let deaths =
                [Death::Before(call), Death::After(call)].map(|death| (format!("{death:?}"), Faults::death(death)));
            let lost = (format!("lost reply {call}"), Faults::default().lose_reply(call));
            for (what, faults) in deaths.into_iter().chain([lost]) {
                let what = format!("lag {lag}, {what}");
                let (cluster, _) = run(&scenario, &before, faults, &what).await;
                assert_eq!(starts(&cluster), starts(&calm), "{what}: starts of servers");
                similar_asserts(&what, &calm, &cluster);
            }
        }
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
