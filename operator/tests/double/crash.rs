//! A crash at every call of what a single server goes through, with a cache that is fresh and with one that lags. The end is
//! always the same, and on the way no rule is broken.

use serde_json::{Value, json};

use crate::{
    api::{Key, faults::Faults},
    cluster::Cluster,
    every_call::{self, Calls, assert_same, begun},
};

/// What somebody does to a cluster in which `db` may already serve.
struct Scenario {
    installed: Option<Value>,
    act: fn(&Cluster),
    /// How often the pod starts, the installation apart.
    starts: usize,
    /// Whether the claim is there at the end.
    keeps_claim: bool,
}

async fn begin(scenario: &Scenario, lag: usize) -> Cluster {
    begun(scenario.installed.clone(), lag).await
}

fn check(scenario: &Scenario, cluster: &Cluster, started_before: usize) {
    assert_eq!(cluster.world.broken, Vec::<String>::new());
    assert_eq!(cluster.times_made("Pod", "db-0") - started_before, scenario.starts, "starts of the pod");
    assert_eq!(cluster.times_made("PersistentVolumeClaim", "db-data-0"), 1, "claims made");
    assert_eq!(cluster.times_made("Secret", "db-api-keys"), 1, "keys made");
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0").is_some(), scenario.keeps_claim, "the claim");
}

async fn run(scenario: &Scenario, before: &Cluster, faults: Faults) -> (Cluster, Vec<String>) {
    let mut cluster = before.fork();
    let started = cluster.times_made("Pod", "db-0");
    (scenario.act)(&cluster);
    cluster.server.set_faults(faults);
    cluster.settle().await;
    let calls = cluster.server.take_calls();
    check(scenario, &cluster, started);
    (cluster, calls)
}

async fn crash_everywhere(scenario: Scenario) {
    for lag in [0, 3] {
        let before = begin(&scenario, lag).await;
        let run = async |faults| run(&scenario, &before, faults).await;
        every_call::fails(Calls::ALL, &format!("with a lag of {lag}"), run, |calm, cluster| {
            assert_same(&calm.state(), &cluster.state());
        })
        .await;
    }
}

#[tokio::test]
async fn an_installation_ends_the_same_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.create("db", json!({}));
    crash_everywhere(Scenario { installed: None, act, starts: 1, keeps_claim: true }).await;
}

#[tokio::test]
async fn a_change_of_settings_restarts_once_wherever_the_operator_dies() {
    let act =
        |cluster: &Cluster| cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    crash_everywhere(Scenario { installed: Some(json!({})), act, starts: 1, keeps_claim: true }).await;
}

#[tokio::test]
async fn a_change_of_the_image_restarts_once_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.1"));
    crash_everywhere(Scenario { installed: Some(json!({})), act, starts: 1, keeps_claim: true }).await;
}

#[tokio::test]
async fn a_volume_grows_without_a_restart_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.change("db", |spec| spec["storage"]["embedded"]["size"] = json!("2Gi"));
    crash_everywhere(Scenario { installed: Some(json!({})), act, starts: 0, keeps_claim: true }).await;
}

#[tokio::test]
async fn a_deletion_retains_the_data_wherever_the_operator_dies() {
    let mut cluster =
        begin(&Scenario { installed: Some(json!({})), act: |_| (), starts: 0, keeps_claim: true }, 0).await;
    cluster.delete("db");
    cluster.settle().await;
    // There is no finalizer, so nobody needs the operator, and it does nothing.
    assert_eq!(cluster.server.take_calls(), Vec::<String>::new());
    let left: Vec<String> = cluster.state().into_keys().filter(|name| name.contains("db")).collect();
    assert_eq!(left, ["PersistentVolume pv-db-data-0", "PersistentVolumeClaim db-data-0", "Secret db-api-keys"]);
}

#[tokio::test]
async fn a_deletion_deletes_the_data_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.delete("db");
    let installed = Some(json!({ "deletionPolicy": "Delete" }));
    crash_everywhere(Scenario { installed, act, starts: 0, keeps_claim: false }).await;
}

#[tokio::test]
async fn a_deletion_leaves_one_snapshot_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| cluster.delete("db");
    let installed = Some(json!({ "deletionPolicy": "Snapshot" }));
    crash_everywhere(Scenario { installed, act, starts: 0, keeps_claim: false }).await;
    let mut cluster = begin(
        &Scenario { installed: Some(json!({ "deletionPolicy": "Snapshot" })), act, starts: 0, keeps_claim: false },
        0,
    )
    .await;
    cluster.delete("db");
    cluster.settle().await;
    let snapshots: Vec<String> =
        cluster.state().into_keys().filter(|name| name.starts_with("VolumeSnapshot ")).collect();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
}

/// Deletes the namespace and, as Kubernetes does, everything in it, while no operator reconciles.
fn end_namespace(cluster: &Cluster) {
    cluster.server.with(|store| {
        let namespace = Key::new("Namespace", "", "ns");
        store.edit(&namespace, |namespace| namespace["metadata"]["finalizers"] = json!(["kubernetes"]));
        store.delete(&namespace, &Value::Null).unwrap();
        let inside: Vec<Key> = store.keys().into_iter().filter(|key| key.namespace == "ns").collect();
        for key in inside {
            store.delete(&key, &Value::Null).unwrap();
            if key.kind.kind == "Pod" {
                store.end(&key);
            }
        }
    });
}

fn volume(cluster: &Cluster) -> Option<Value> {
    cluster.server.with(|store| store.get(&Key::new("PersistentVolume", "", "pv-db-data-0")).cloned())
}

#[tokio::test]
async fn a_namespace_that_ends_keeps_the_volume_of_a_snapshot_policy_wherever_the_operator_dies() {
    let installed = Some(json!({ "deletionPolicy": "Snapshot" }));
    let scenario = Scenario { installed, act: end_namespace, starts: 0, keeps_claim: false };
    let before = begin(&scenario, 0).await;
    let (cluster, _) = run(&scenario, &before, Faults::default()).await;
    assert_eq!(volume(&cluster).expect("it is kept")["status"]["phase"], "Released");
    let inside: Vec<Key> =
        cluster.server.with(|store| store.keys().into_iter().filter(|key| key.namespace == "ns").collect());
    assert_eq!(inside, Vec::<Key>::new());
    crash_everywhere(scenario).await;
}

#[tokio::test]
async fn a_claim_that_somebody_deleted_keeps_its_volume_under_a_snapshot_policy() {
    let installed = Some(json!({ "deletionPolicy": "Snapshot" }));
    let mut cluster = begin(&Scenario { installed, act: |_| (), starts: 0, keeps_claim: true }, 0).await;
    cluster.server.with(|store| store.delete(&claim(), &Value::Null).unwrap());
    cluster.settle().await;
    let (_, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!(reason, "ClaimDeleted");
    assert!(message.ends_with("delete this ProgressDB, and its volume is kept"), "{message}");
    cluster.delete("db");
    cluster.settle().await;
    assert_eq!((cluster.get("ProgressDB", "db"), cluster.get("PersistentVolumeClaim", "db-data-0")), (None, None));
    assert_eq!(volume(&cluster).expect("it is kept")["status"]["phase"], "Released");
}

#[tokio::test]
async fn a_claim_is_held_as_long_as_the_policy_is_snapshot() {
    let holds = |cluster: &Cluster| {
        let claim = cluster.get("PersistentVolumeClaim", "db-data-0").unwrap();
        claim["metadata"]["finalizers"].as_array().is_some_and(|names| names.contains(&json!("progressdb.io/data")))
    };
    let mut cluster =
        begin(&Scenario { installed: Some(json!({})), act: |_| (), starts: 0, keeps_claim: true }, 0).await;
    let mut seen = vec![holds(&cluster)];
    for policy in ["Snapshot", "Delete", "Snapshot", "Retain"] {
        cluster.change("db", |spec| spec["deletionPolicy"] = json!(policy));
        cluster.settle().await;
        seen.push(holds(&cluster));
    }
    assert_eq!(seen, [false, true, false, true, false]);
    // Somebody deletes it, and the policy changes only then.
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Snapshot"));
    cluster.settle().await;
    cluster.server.with(|store| store.delete(&claim(), &Value::Null).unwrap());
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    cluster.settle().await;
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0"), None);
}

#[tokio::test]
async fn a_deletion_that_becomes_one_that_retains_lets_go_of_the_claim_wherever_the_operator_dies() {
    let act = |cluster: &Cluster| {
        cluster.delete("db");
        cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    };
    let installed = Some(json!({ "deletionPolicy": "Snapshot" }));
    let scenario = Scenario { installed, act, starts: 0, keeps_claim: true };
    let (cluster, _) = run(&scenario, &begin(&scenario, 0).await, Faults::default()).await;
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0").unwrap()["metadata"]["finalizers"], json!([]));
    crash_everywhere(scenario).await;
}

#[tokio::test]
async fn a_resource_that_goes_before_its_claim_was_let_go_of_waits_for_that() {
    let installed = Some(json!({ "deletionPolicy": "Snapshot" }));
    let mut cluster = begin(&Scenario { installed, act: |_| (), starts: 0, keeps_claim: true }, 0).await;
    cluster.server.set_faults(Faults::default().refuse("PATCH persistentvolumeclaims", 500, 5));
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Retain"));
    let was_refused = |cluster: &Cluster| {
        cluster.server.take_calls().iter().any(|call| call == "PATCH persistentvolumeclaims/db-data-0")
    };
    cluster.until("an attempt to let go of the claim", was_refused).await;
    cluster.delete("db");
    cluster.settle().await;
    assert_eq!(cluster.get("ProgressDB", "db"), None);
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0").unwrap()["metadata"]["finalizers"], json!([]));
}

fn claim() -> Key {
    Key::new("PersistentVolumeClaim", "ns", "db-data-0")
}

#[tokio::test]
async fn refusals_of_a_busy_server_change_nothing_but_the_time() {
    for code in [409, 429, 500] {
        let act = |cluster: &Cluster| cluster.create("db", json!({}));
        let scenario = Scenario { installed: None, act, starts: 1, keeps_claim: true };
        let before = begin(&scenario, 0).await;
        let (calm, _) = run(&scenario, &before, Faults::default()).await;
        let (cluster, _) = run(&scenario, &before, Faults::default().refuse("", code, 12)).await;
        assert_same(&calm.state(), &cluster.state());
    }
}
