//! The operator dies before and after each of its calls, and replies are lost, with a cache that is fresh and with one that
//! lags: a rollout comes to the same end, on the way no rule is broken, and it takes no more servers.
//!
//! `make torture` takes every call (it sets `PROGRESSDB_TORTURE_LOOPS`), and `make test` some that are spread over all of it.

use serde_json::json;

use super::*;
use crate::{
    api::faults::{Death, Faults},
    cluster::Cluster,
    upgrade::finalizing,
};

/// How many calls apart the faults of a test are.
const APART: usize = 61;
/// More seconds than any of these takes.
const LONGEST: usize = 300;

/// The new image, what becomes of it, and how the rollout ends.
struct Scenario {
    new: Image,
    outcome: &'static str,
    runs: &'static str,
}

async fn run(scenario: &Scenario, before: &Cluster, faults: Faults) -> (Upgrading, usize) {
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
    let calls = upgrading.cluster.server.take_calls().len();
    upgrading.cluster.settle().await;
    assert_eq!(upgrading.text("/outcome"), scenario.outcome, "{:#}", upgrading.record());
    runs(&upgrading, scenario.runs, 3);
    (upgrading, calls)
}

/// How many servers were ever started.
fn starts(upgrading: &Upgrading) -> usize {
    upgrading.cluster.server.with(|store| {
        let made =
            store.changes_since(0).iter().filter(|change| change.what == "ADDED" && change.key.kind.kind == "Pod");
        made.filter(|change| change.object["metadata"]["labels"]["progressdb.io/track"].is_string()).count()
    })
}

async fn crash_everywhere(scenario: Scenario, lag: usize, first_in_test: usize) {
    let is_torture = testing::variable("PROGRESSDB_TORTURE_LOOPS").is_some();
    let (first, apart) = if is_torture { (0, 1) } else { (first_in_test, APART) };
    let backup = json!({ "template": { "spec": { "containers": [{ "name": "medusa", "image": "medusa:1" }] } } });
    let mut begun = installed(json!({ "snapshot": { "job": backup } }), json!({})).await;
    begun.cluster.world.images.insert(NEW.into(), scenario.new.clone());
    begun.cluster.lag = lag;
    let (calm, calls) = run(&scenario, &begun.cluster, Faults::default()).await;
    assert!(first < calls, "{calls} calls are made");
    for call in (first..calls).step_by(apart) {
        let faults = [
            ("a death before", Faults::death(Death::Before(call))),
            ("a death after", Faults::death(Death::After(call))),
            ("a lost reply to", Faults::default().lose_reply(call)),
        ];
        for (what, faults) in faults {
            eprintln!("{what} call {call} of {calls}, with a lag of {lag}");
            let (upgrading, _) = run(&scenario, &begun.cluster, faults).await;
            assert_eq!(starts(&upgrading), starts(&calm), "starts of servers");
            for job in ["version", "schema", "backup"] {
                let made = |upgrading: &Upgrading| upgrading.cluster.times_made("Job", &upgrading.named(job));
                assert_eq!(made(&upgrading), made(&calm), "{job}");
            }
        }
    }
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
