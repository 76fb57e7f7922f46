//! The Secrets of a fleet's store: what happens while one is not there, and when it changes.

use serde_json::{Value, json};

use super::*;

fn with_secrets() -> Value {
    let mut with = spec(json!({}));
    with["storage"]["cassandra"]["credentialsSecretRef"] = json!({ "name": "credentials" });
    with["storage"]["cassandra"]["tlsSecretRef"] = json!({ "name": "certificates" });
    with
}

async fn serving() -> Running {
    let cluster = Cluster::new();
    make_secret(&cluster, "credentials", json!({ "username": "chat", "password": "first" }));
    make_secret(&cluster, "certificates", json!({ "ca.crt": "ca" }));
    let mut running = Running::start(cluster);
    running.cluster.create("db", with_secrets());
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.until("rest", |cluster| cluster.condition("db", "Reconciling").0 == "False").await;
    running
}

fn uids(cluster: &Cluster) -> Vec<Value> {
    servers(cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
}

fn change_secret(cluster: &Cluster, name: &str, entries: Value) {
    cluster.server.with(|store| {
        let key = Key::new("Secret", "ns", name);
        store.edit(&key, |secret| secret["stringData"] = entries);
        let filled = store.get(&key).unwrap().clone();
        store.update(&key, filled, BTreeMap::new()).unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_there_is_a_condition_and_nothing_is_made() {
    let mut running = Running::start(Cluster::new());
    running.cluster.create("db", with_secrets());
    running.until("a condition", |cluster| cluster.condition("db", "StorageReady").1 == "SecretMissing").await;
    let message = running.cluster.condition("db", "StorageReady").2;
    assert!(message.contains("spec.storage.cassandra.credentialsSecretRef names the Secret credentials"), "{message}");
    running.writes_in(120).await;
    assert_eq!(running.cluster.server.with(|store| store.all("Job")).len(), 0, "a Job would wait for it");
    assert_eq!(running.cluster.get("Deployment", "db"), None);
    make_secret(&running.cluster, "credentials", json!({ "username": "chat" }));
    make_secret(&running.cluster, "certificates", json!({ "ca.crt": "ca", "tls.crt": "a" }));
    running.until("a condition", |cluster| cluster.condition("db", "StorageReady").1 == "SecretEmpty").await;
    change_secret(&running.cluster, "credentials", json!({ "password": "first" }));
    running.until("a condition", |cluster| cluster.condition("db", "StorageReady").1 == "SecretIncomplete").await;
    change_secret(&running.cluster, "certificates", json!({ "tls.key": "b" }));
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    let release = servers(&running.cluster)[0]["metadata"]["annotations"]["progressdb.io/release"].clone();
    let settings = running.cluster.get("ConfigMap", release.as_str().unwrap()).unwrap();
    let text = settings["data"]["config.yaml"].as_str().unwrap();
    assert!(text.contains("certificate_file: /run/secrets/progressdb/cassandra-tls/tls.crt"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn another_password_restarts_nothing_and_is_tried() {
    let mut running = serving().await;
    let before = uids(&running.cluster);
    change_secret(&running.cluster, "credentials", json!({ "password": "second" }));
    for _ in 0..180 {
        running.step().await;
    }
    assert_eq!(uids(&running.cluster), before);
    assert_eq!(running.cluster.checks_made("-schema-"), 2, "the new password is tried on the tables");
    assert_eq!(running.cluster.condition("db", "StorageReady").0, "True");
}

#[tokio::test(start_paused = true)]
async fn another_certificate_is_a_rolling_update() {
    let mut running = serving().await;
    let before = uids(&running.cluster);
    change_secret(&running.cluster, "certificates", json!({ "ca.crt": "another" }));
    never_fewer(&mut running, 3, 180, "another certificate").await;
    let after = uids(&running.cluster);
    assert!(after.len() == 3 && after.iter().all(|uid| !before.contains(uid)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_goes_is_told_and_no_server_is_stopped_for_it() {
    let mut running = serving().await;
    let before = uids(&running.cluster);
    running.cluster.server.with(|store| store.delete(&Key::new("Secret", "ns", "credentials"), &Value::Null).unwrap());
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    running.until("a condition", |cluster| cluster.condition("db", "StorageReady").1 == "SecretMissing").await;
    for _ in 0..120 {
        running.step().await;
    }
    assert_eq!(uids(&running.cluster), before, "what could not start again is left alone");
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
    assert_eq!(running.cluster.condition("db", "Ready").1, "SecretMissing");
    make_secret(&running.cluster, "credentials", json!({ "username": "chat", "password": "third" }));
    running.until("the change", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
    assert!(uids(&running.cluster).iter().all(|uid| !before.contains(uid)));
}
