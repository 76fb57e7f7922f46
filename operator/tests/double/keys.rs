//! Keys of clients and keys of the data: what is ready accepts what the Secret holds, and what could not start again is
//! not stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use k8s_openapi::ByteString;
use progressdb_operator::observe::ApiRequest;
use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster};

const ENTRIES: [&str; 4] = ["admin", "backend", "frontend", "signing"];
const SETTINGS: &str = "logging";

/// A server that knows some keys, and shows its wrapped keys or does not.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    known: BTreeSet<String>,
    wrapped_keys: Option<(u16, String)>,
    is_away: bool,
}

impl Server {
    fn respond(&self, request: &ApiRequest) -> Option<(u16, String)> {
        let state = self.0.lock().unwrap();
        let key = &request.headers.iter().find(|(name, _)| *name == "X-API-Key").unwrap().1;
        match request.path {
            _ if state.is_away => None,
            _ if !state.known.contains(key) => Some((401, json!({ "code": "unauthorized" }).to_string())),
            "/admin/encryption/wrapped-keys" => state.wrapped_keys.clone(),
            "/admin/encryption/status" => {
                let epochs =
                    json!([{ "epoch": 1, "wrapped_by": "local:old" }, { "epoch": 2, "wrapped_by": "local:new" }]);
                Some((200, json!({ "kms": { "provider": "local" }, "epochs": epochs }).to_string()))
            }
            _ => Some((200, "{}".into())),
        }
    }

    /// Reads its key files again.
    fn reads(&self, cluster: &Cluster, secret: &str) {
        self.0.lock().unwrap().known = held(cluster, secret).into_values().collect();
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }
}

/// The keys in a Secret.
fn held(cluster: &Cluster, secret: &str) -> BTreeMap<String, String> {
    let data = cluster.get("Secret", secret).unwrap()["data"].clone();
    let entries: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap();
    entries.into_iter().map(|(name, value)| (name, String::from_utf8(value.0).unwrap())).collect()
}

fn hold(cluster: &Cluster, secret: &str, entries: &[(&str, &str)]) {
    let entries: BTreeMap<&str, ByteString> =
        entries.iter().map(|(name, text)| (*name, ByteString(text.as_bytes().to_vec()))).collect();
    let key = Key::new("Secret", "ns", secret);
    cluster.server.with(|store| {
        if store.get(&key).is_none() {
            store.create(&key, json!({}), BTreeMap::new()).unwrap();
        }
        store.edit(&key, |secret| secret["data"] = json!(entries));
    });
}

/// A database that serves, and its server.
async fn installed(more: Value) -> (Cluster, Server) {
    let server = Server::default();
    let responding = server.clone();
    let mut cluster = Cluster::with_servers(move |request| responding.respond(&request));
    hold(&cluster, "keys", &ENTRIES.map(|entry| (entry, entry)));
    hold(&cluster, "master", &[("master.key", "first")]);
    cluster.create("db", more.clone());
    let secret = if more["apiKeys"].is_null() { "db-api-keys" } else { "keys" };
    cluster.until("the keys are there", |cluster| cluster.get("Secret", secret).is_some()).await;
    server.reads(&cluster, secret);
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    (cluster, server)
}

fn change_settings(cluster: &Cluster) {
    cluster.change("db", |spec| spec["settings"][SETTINGS] = json!({ "level": "debug" }));
}

#[tokio::test]
async fn a_database_is_ready_again_when_it_accepts_the_keys_that_were_made_anew() {
    let (mut cluster, server) = installed(json!({})).await;
    let before = held(&cluster, "db-api-keys");
    cluster.server.with(|store| store.delete(&Key::new("Secret", "ns", "db-api-keys"), &Value::Null).unwrap());
    cluster.settle().await;
    assert_ne!(held(&cluster, "db-api-keys"), before);
    let (status, reason, message) = cluster.condition("db", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "KeysNotAccepted"));
    for words in ["admin, backend, frontend", "Secret db-api-keys", "kubectl progressdb restart db"] {
        assert!(message.contains(words), "{message}");
    }
    // It serves clients that have a former key, and is not restarted.
    assert_eq!((cluster.condition("db", "Available").0.as_str(), cluster.times_made("Pod", "db-0")), ("True", 1));
    assert_eq!(cluster.condition("db", "Stalled").0, "False");
    server.reads(&cluster, "db-api-keys");
    cluster.settle().await;
    assert_eq!((cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")), ("Serving", 1));
}

#[tokio::test]
async fn a_server_that_reads_keys_only_when_it_starts_needs_a_hand_after_a_while() {
    let (mut cluster, server) = installed(json!({})).await;
    hold(&cluster, "db-api-keys", &ENTRIES.map(|entry| (entry, "other")));
    cluster.settle().await;
    cluster.server.with(|store| store.advance(301));
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "KeysNotAccepted"), "{message}");
    server.reads(&cluster, "db-api-keys");
    cluster.server.with(|store| {
        store.edit(&Key::new("ProgressDB", "ns", "db"), |object| {
            object["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/restartedAt": "now" });
        });
    });
    cluster.settle().await;
    assert_eq!((cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")), ("Serving", 2));
    assert_eq!(cluster.condition("db", "Stalled").0, "False");
}

#[tokio::test]
async fn keys_that_are_accepted_are_not_asked_about_again() {
    let (mut cluster, server) = installed(json!({})).await;
    server.set(|server| server.known.clear());
    cluster.restart_operator();
    cluster.server.take_calls();
    assert!(cluster.pass().await.is_empty());
    assert_eq!(cluster.server.take_calls(), Vec::<String>::new());
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn a_server_that_the_operator_cannot_reach_is_judged_by_its_pod() {
    let server = Server::default();
    server.set(|server| server.is_away = true);
    let mut cluster = Cluster::with_servers(move |request| server.respond(&request));
    cluster.create("db", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn a_secret_that_lost_an_entry_restarts_nothing_and_says_which() {
    for named in [true, false] {
        let (more, secret) = match named {
            true => (json!({ "apiKeys": { "secretName": "keys" } }), "keys"),
            false => (json!({}), "db-api-keys"),
        };
        for lost in ENTRIES {
            let (mut cluster, server) = installed(more.clone()).await;
            let entries = held(&cluster, secret);
            let left: Vec<(&str, &str)> = entries
                .iter()
                .filter(|(name, _)| *name != lost)
                .map(|(name, key)| (name.as_str(), key.as_str()))
                .collect();
            hold(&cluster, secret, &left);
            cluster.settle().await;
            change_settings(&cluster);
            cluster.settle().await;
            let what = format!("{lost} of {secret}");
            for about in ["ConfigurationValid", "Stalled", "Ready"] {
                let (_, reason, message) = cluster.condition("db", about);
                assert_eq!(reason, "SecretEmpty", "{what}");
                assert!(
                    message.contains(lost) && message.contains(secret) && message.contains("add it again"),
                    "{message}"
                );
            }
            assert_eq!(
                (cluster.condition("db", "Available").0.as_str(), cluster.times_made("Pod", "db-0")),
                ("True", 1)
            );
            let all: Vec<(&str, &str)> = entries.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
            hold(&cluster, secret, &all);
            server.reads(&cluster, secret);
            cluster.settle().await;
            assert_eq!(
                (cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")),
                ("Serving", 2),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn an_entry_that_should_go_goes_while_the_server_is_stopped() {
    let (mut cluster, server) = installed(json!({ "apiKeys": { "secretName": "keys" } })).await;
    hold(&cluster, "keys", &[("admin", "admin"), ("backend", "backend")]);
    server.reads(&cluster, "keys");
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "ConfigurationValid").1, "SecretEmpty");
    for suspend in [true, false] {
        cluster.change("db", |spec| spec["suspend"] = json!(suspend));
        cluster.settle().await;
    }
    assert_eq!((cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")), ("Serving", 2));
    let settings = cluster.config_map("db")["data"]["config.yaml"].as_str().unwrap().to_owned();
    assert!(!settings.contains("signing_file"), "{settings}");
}

fn document() -> String {
    json!({ "database_id": "00", "keys": [{ "epoch": "1", "provider": "local", "wrapped": "d3JhcHBlZA==" }] })
        .to_string()
}

/// The wrapped keys that the last check of the KMS was given.
fn tried(cluster: &Cluster) -> Option<String> {
    let jobs = cluster.server.with(|store| store.all("Job"));
    let job = jobs.iter().find(|job| job["metadata"]["name"].as_str().unwrap().contains("kms-check")).unwrap();
    let template = &job["spec"]["template"];
    let keys = template["metadata"]["annotations"]["progressdb.io/wrapped-keys"].as_str();
    let arguments = template["spec"]["containers"][0]["args"].to_string();
    assert_eq!(keys.is_some(), arguments.contains("--wrapped-keys"), "{arguments}");
    keys.map(str::to_owned)
}

#[tokio::test]
async fn a_master_key_that_opens_nothing_of_the_data_restarts_nothing() {
    let (mut cluster, server) = installed(json!({ "kms": { "embedded": { "secretName": "master" } } })).await;
    assert_eq!(tried(&cluster), None, "there was no data yet");
    server.set(|server| server.wrapped_keys = Some((200, document())));
    let unopened = json!({ "error": { "message": "does not open 1 of 1 epoch keys" }, "failed": [{}], "ok": false });
    cluster.world.failing_jobs.insert("kms-check".into(), unopened.to_string());
    hold(&cluster, "master", &[("master.key", "second")]);
    cluster.until("the KMS fails", |cluster| cluster.condition("db", "KeyManagementReady").1 == "KmsFailed").await;
    let given: Value = serde_json::from_str(&tried(&cluster).unwrap()).unwrap();
    assert_eq!(given, serde_json::from_str::<Value>(&document()).unwrap());
    change_settings(&cluster);
    for _ in 0..100 {
        cluster.pass().await;
        cluster.world.step();
    }
    let (status, reason, message) = cluster.condition("db", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "KmsFailed"));
    assert!(message.contains("does not open 1 of 1 epoch keys"), "{message}");
    assert_eq!((cluster.condition("db", "Available").0.as_str(), cluster.times_made("Pod", "db-0")), ("True", 1));
    cluster.world.failing_jobs.clear();
    hold(&cluster, "master", &[("master.key", "first")]);
    cluster.settle().await;
    assert_eq!((cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")), ("Serving", 2));
}

#[tokio::test]
async fn a_kms_is_tried_without_the_data_where_the_server_does_not_show_its_keys() {
    for answer in [Some((404, "{}".into())), None, Some((503, String::new()))] {
        let (mut cluster, server) = installed(json!({ "kms": { "embedded": { "secretName": "master" } } })).await;
        server.set(|server| server.wrapped_keys = answer.clone());
        let before = cluster.checks_made("kms-check");
        hold(&cluster, "master", &[("master.key", "second")]);
        cluster.settle().await;
        cluster.server.with(|store| store.advance(61));
        cluster.settle().await;
        assert_eq!((cluster.checks_made("kms-check"), tried(&cluster)), (before + 1, None), "{answer:?}");
        assert_eq!(cluster.condition("db", "KeyManagementReady").1, "Answered", "{answer:?}");
    }
}

#[tokio::test]
async fn the_key_of_the_kms_is_in_the_status() {
    let (cluster, _) = installed(json!({ "kms": { "embedded": { "secretName": "master" } } })).await;
    assert_eq!(cluster.get("ProgressDB", "db").unwrap()["status"]["kms"]["keyId"], "new");
}

#[tokio::test]
async fn a_check_that_met_a_secret_without_an_entry_is_made_again_when_that_is_back() {
    let (mut cluster, server) = installed(json!({ "apiKeys": { "secretName": "keys" } })).await;
    // What is remembered of the Secret for a minute is no longer so, and the check finds out.
    hold(&cluster, "keys", &[("admin", "admin"), ("backend", "backend"), ("frontend", "frontend")]);
    cluster.world.failing_jobs.insert("config-check".into(), r#"{"errors":[{"message":"no file"}]}"#.into());
    change_settings(&cluster);
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Stalled").1, "SecretEmpty");
    cluster.world.failing_jobs.clear();
    hold(&cluster, "keys", &ENTRIES.map(|entry| (entry, entry)));
    server.reads(&cluster, "keys");
    let began = cluster.server.with(|store| store.now());
    let is_ready =
        |cluster: &Cluster| cluster.times_made("Pod", "db-0") == 2 && cluster.condition("db", "Ready").0 == "True";
    cluster.server.with(|store| store.advance(61));
    cluster.until("it restarts", is_ready).await;
    // Not only when a check that failed is made again anyway.
    assert!(cluster.server.with(|store| store.now()).duration_since(began).as_secs() < 200);
}
