//! The operator dies before and after each of its calls, and replies are lost, with a cache that is fresh and with one that
//! lags: a rollout comes to the same end, on the way no rule is broken, and it takes no more servers.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    api::faults::Faults,
    cluster::Cluster,
    every_call::{self, Calls, assert_same},
    upgrade::{self, finalizing},
};

/// How many calls apart the faults of a test are.
const APART: usize = 61;
/// More seconds than any of these takes.
const LONGEST: usize = 300;
/// What else of a rollout depends on when the crash was: what users had asked until then.
const OF_TIME: [&str; 4] = ["window", "failingSince", "samples", "why"];

/// The new image, what becomes of it, and how the rollout ends.
struct Scenario {
    new: Image,
    outcome: &'static str,
    runs: &'static str,
}

async fn run(scenario: &Scenario, before: &Cluster, faults: Faults) -> (Upgrading, Vec<String>) {
    let mut upgrading = Upgrading::of(before.fork());
    upgrading.ask(NEW);
    upgrading.cluster.server.set_faults(faults);
    upgrading.cluster.server.take_calls();
    for _ in 0..LONGEST {
        if !upgrading.record()["outcome"].is_null() {
            break;
        }
        upgrading.second().await;
    }
    upgrading.cluster.settle().await;
    let calls = upgrading.cluster.server.take_calls();
    assert_eq!(upgrading.text("/outcome"), scenario.outcome, "{:#}", upgrading.record());
    runs(&upgrading, scenario.runs, 3);
    (upgrading, calls)
}

async fn crash_everywhere(scenario: Scenario, lag: usize, first_in_test: usize) {
    let backup = json!({ "template": { "spec": { "containers": [{ "name": "medusa", "image": "medusa:1" }] } } });
    let mut begun = installed(json!({ "snapshot": { "job": backup } }), json!({})).await;
    begun.cluster.world.images.insert(NEW.into(), scenario.new.clone());
    begun.cluster.lag = lag;
    let run = async |faults| Box::pin(run(&scenario, &begun.cluster, faults)).await;
    let which = Calls::spread(first_in_test, APART);
    let name = format!("with a lag of {lag}");
    let fails = every_call::fails(which, &name, run, |calm, upgrading| {
        assert_eq!(fleet::starts(&upgrading.cluster), fleet::starts(&calm.cluster), "starts of servers");
        for job in ["version", "schema", "backup"] {
            let made = |upgrading: &Upgrading| upgrading.cluster.times_made("Job", &upgrading.named(job));
            assert_eq!(made(upgrading), made(calm), "{job}");
        }
        assert_same(&end(calm), &end(upgrading));
    });
    Box::pin(fails).await;
}

/// All that is there in the end, without what depends on when the crash was.
fn end(upgrading: &Upgrading) -> BTreeMap<String, Value> {
    let state = upgrade::crash::state(&upgrading.cluster).into_iter();
    state.map(|(name, object)| (name, upgrade::crash::without(&OF_TIME, &object))).collect()
}

fn good() -> Scenario {
    Scenario { new: finalizing(), outcome: "Succeeded", runs: NEW }
}

fn slow() -> Scenario {
    let new = Image { p99_micros: 400_000, ..release("0.4.0") };
    Scenario { new, outcome: "RolledBack", runs: OLD }
}

#[tokio::test]
async fn torture_a_good_rollout_with_crashes() {
    crash_everywhere(good(), 0, 0).await;
}

#[tokio::test]
async fn torture_a_good_rollout_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(good(), 3, 17).await;
}

#[tokio::test]
async fn torture_a_slow_rollout_with_crashes() {
    crash_everywhere(slow(), 0, 5).await;
}

#[tokio::test]
async fn torture_a_slow_rollout_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(slow(), 3, 29).await;
}
