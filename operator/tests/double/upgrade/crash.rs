//! A crash at every call of an upgrade: before it, after its effect, and with its reply lost, with a cache that is fresh and
//! with one that lags. The end is always the same, and on the way no rule is broken.
//!
//! These are thousands of runs, of which a test makes some.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{NEW, OLD, Upgrading, finalizing, migrating, release};
use crate::{
    api::faults::Faults,
    cluster::Cluster,
    every_call::{self, Calls, assert_same},
    world::Image,
};

/// More seconds than any of these upgrades takes.
const LONGEST: usize = 300;

/// An upgrade, and what becomes of it.
struct Scenario {
    new: Image,
    /// What is wrong with the new image once its finalization has begun, until that is undone.
    late: fn(&mut Image),
    outcome: &'static str,
    runs: &'static str,
    claim: &'static str,
    /// How often the pod starts, the installation apart.
    starts: usize,
}

/// What of a record depends on when the crash was: times, what was measured, and what clients had written by then.
const OF_TIME: [&str; 19] = [
    "steps",
    "stepStartedAt",
    "drainedAt",
    "drainedPod",
    "endedAt",
    "downtimeMillis",
    "forecastDowntimeMillis",
    "timings",
    "startMillis",
    "migrateMillis",
    "oldDigest",
    "oldCounts",
    "newDigest",
    "finalDigest",
    "messages",
    "sequence",
    "message",
    "value",
    "threshold",
];

/// Volumes are named by uids.
const OF_VOLUMES: [&str; 2] = ["volumeName", "volumeHandle"];

/// Two states are the same if they are the same without these fields.
pub fn without(fields: &[&str], value: &Value) -> Value {
    match value {
        Value::Object(all) => {
            let same = all.iter().filter(|(name, _)| !fields.contains(&name.as_str()));
            same.map(|(name, value)| (name.clone(), without(fields, value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| without(fields, item)).collect(),
        other => other.clone(),
    }
}

/// All that is there and matters.
pub fn state(cluster: &Cluster) -> BTreeMap<String, Value> {
    let of_volume = |name: &str| name.starts_with("PersistentVolume ") || name.starts_with("VolumeAttachment ");
    let state = cluster.state().into_iter().filter(|(name, _)| !of_volume(name));
    state.map(|(name, object)| (name.clone(), comparable(&name, object))).collect()
}

fn comparable(name: &str, mut object: Value) -> Value {
    let is_report = name.starts_with("ConfigMap ") && name.ends_with("-report");
    if is_report {
        // It tells of times. That it is there, and final, is what counts.
        object.as_object_mut().unwrap().remove("data");
        object["metadata"].as_object_mut().unwrap().remove("annotations");
    }
    if name.starts_with("ProgressDB ") { without(&OF_TIME, &object) } else { without(&OF_VOLUMES, &object) }
}

async fn begin(scenario: &Scenario, lag: usize) -> Cluster {
    let Upgrading { mut cluster, .. } = Upgrading::installed(json!({}), json!({})).await;
    cluster.world.images.insert(NEW.into(), scenario.new.clone());
    cluster.lag = lag;
    cluster
}

/// The upgrade from its beginning until nothing changes any more, and the calls that were made for it.
async fn run(scenario: &Scenario, before: &Cluster, faults: Faults) -> (Upgrading, Vec<String>) {
    let mut upgrading = Upgrading::of(before.fork());
    upgrading.ask(NEW);
    upgrading.cluster.server.set_faults(faults);
    upgrading.cluster.server.take_calls();
    let mut is_late = false;
    for _ in 0..LONGEST {
        match &*upgrading.text("/step") {
            "FinalizeStart" if !is_late => {
                is_late = true;
                upgrading.program(scenario.late);
            }
            "RollbackStart" => upgrading.program(|image| *image = scenario.new.clone()),
            _ => {}
        }
        if !upgrading.record()["outcome"].is_null() {
            break;
        }
        upgrading.second().await;
    }
    upgrading.cluster.settle().await;
    let calls = upgrading.cluster.server.take_calls();
    (upgrading, calls)
}

async fn check(scenario: &Scenario, upgrading: &mut Upgrading) {
    assert_eq!(upgrading.text("/outcome"), scenario.outcome, "{:#}", upgrading.record());
    upgrading.runs(scenario.runs, scenario.claim).await;
    assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 1 + scenario.starts, "starts of the pod");
}

/// How many calls apart the faults of a test are.
const APART: usize = 113;

async fn crash_everywhere(scenario: Scenario, lag: usize, first_in_test: usize) {
    let before = begin(&scenario, lag).await;
    let run = async |faults| {
        let (mut upgrading, calls) = run(&scenario, &before, faults).await;
        check(&scenario, &mut upgrading).await;
        (state(&upgrading.cluster), calls)
    };
    let which = Calls::spread(first_in_test, APART);
    every_call::fails(which, &format!("with a lag of {lag}"), run, assert_same).await;
}

fn good() -> Scenario {
    let new = release("0.4.0");
    Scenario { new, late: |_| (), outcome: "Succeeded", runs: NEW, claim: "db-data-0", starts: 1 }
}

fn finalized() -> Scenario {
    Scenario { new: migrating(), starts: 2, ..good() }
}

fn failing_gate() -> Scenario {
    let new = Image { fails_smoke: true, rehearses_well: true, ..release("0.4.0") };
    Scenario { new, outcome: "RolledBack", runs: OLD, starts: 2, ..good() }
}

fn restored() -> Scenario {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    Scenario { new, claim: "db-data-1", ..failing_gate() }
}

fn failing_finalization() -> Scenario {
    Scenario { new: finalizing(), late: |new| new.fails_smoke = true, claim: "db-data-1", starts: 3, ..good() }
}

#[tokio::test]
async fn torture_a_good_upgrade_with_crashes() {
    crash_everywhere(good(), 0, 0).await;
}

#[tokio::test]
async fn torture_a_good_upgrade_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(good(), 3, 11).await;
}

#[tokio::test]
async fn torture_an_upgrade_with_a_finalization_with_crashes() {
    crash_everywhere(finalized(), 0, 23).await;
}

#[tokio::test]
async fn torture_an_upgrade_with_a_finalization_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(finalized(), 3, 37).await;
}

#[tokio::test]
async fn torture_an_upgrade_whose_gate_fails_with_crashes() {
    crash_everywhere(failing_gate(), 0, 47).await;
}

#[tokio::test]
async fn torture_an_upgrade_whose_gate_fails_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(failing_gate(), 3, 91).await;
}

#[tokio::test]
async fn torture_a_way_back_to_a_restored_claim_with_crashes() {
    crash_everywhere(restored(), 0, 59).await;
}

#[tokio::test]
async fn torture_a_way_back_to_a_restored_claim_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(restored(), 3, 71).await;
}

#[tokio::test]
async fn torture_a_finalization_that_fails_with_crashes() {
    crash_everywhere(failing_finalization(), 0, 83).await;
}

#[tokio::test]
async fn torture_a_finalization_that_fails_with_crashes_and_a_cache_that_lags() {
    crash_everywhere(failing_finalization(), 3, 101).await;
}
