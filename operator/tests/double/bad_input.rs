//! What people get wrong, and what clusters lack: each is a condition that says what to do, and heals by itself.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{api::Key, cluster::Cluster};

async fn installed(more: serde_json::Value) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create("db", more);
    cluster.settle().await;
    cluster
}

fn secret(cluster: &Cluster, name: &str, entries: serde_json::Value) {
    let key = Key::new("Secret", "ns", name);
    cluster.server.with(|store| {
        if store.get(&key).is_some() {
            store.edit(&key, |secret| secret["data"] = entries);
        } else {
            store.create(&key, json!({ "data": entries }), BTreeMap::new()).unwrap();
        }
    });
}

fn reasons(cluster: &Cluster, kinds: [&str; 2]) -> [(String, String); 2] {
    kinds.map(|kind| {
        let (status, reason, _) = cluster.condition("db", kind);
        (status, reason)
    })
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn the_least_resource_becomes_a_serving_database() {
    let cluster = installed(json!({})).await;
    let resource = cluster.get("ProgressDB", "db").unwrap();
    assert_eq!(reasons(&cluster, ["Ready", "Stalled"]), [pair("True", "Serving"), pair("False", "NothingInTheWay")]);
    assert_eq!(cluster.condition("db", "Reconciling").0, "False");
    assert_eq!(resource["status"]["phase"], "Running");
    assert_eq!(resource["status"]["version"], "0.3.0");
    assert_eq!(resource["status"]["service"], "db.ns.svc:8080");
    assert_eq!(resource["status"]["observedGeneration"], resource["metadata"]["generation"]);
}

#[tokio::test]
async fn a_pass_over_a_settled_world_makes_no_call() {
    let mut cluster = installed(json!({})).await;
    cluster.server.take_calls();
    assert!(cluster.pass().await.is_empty());
    cluster.restart_operator();
    assert!(cluster.pass().await.is_empty());
    assert_eq!(cluster.server.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn an_edit_by_hand_is_taken_back() {
    let mut cluster = installed(json!({})).await;
    let service = Key::new("Service", "ns", "db");
    let port = |cluster: &Cluster| cluster.get("Service", "db").unwrap()["spec"]["ports"][0]["targetPort"].clone();
    let before = port(&cluster);
    cluster.server.with(|store| store.edit(&service, |service| service["spec"]["ports"][0]["targetPort"] = json!(1)));
    cluster.settle().await;
    assert_eq!(port(&cluster), before);
}

#[tokio::test]
async fn settings_that_the_image_refuses_change_nothing_and_heal() {
    let mut cluster = installed(json!({})).await;
    cluster.world.failing_jobs.insert(
        "config-check".into(),
        r#"{"errors":[{"message":"logging.level: loud is not allowed"}],"valid":false}"#.into(),
    );
    cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "loud" } }));
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SettingsRefused"));
    assert!(message.contains("logging.level: loud is not allowed"), "{message}");
    assert_eq!(cluster.condition("db", "Available").0, "True");
    assert_eq!(cluster.times_made("Pod", "db-0"), 1);
    cluster.world.failing_jobs.clear();
    cluster.change("db", |spec| spec["settings"] = json!({}));
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Ready", "ConfigurationValid"]), [pair("True", "Serving"), pair("True", "Accepted")]);
    assert_eq!(cluster.times_made("Pod", "db-0"), 1);
}

#[tokio::test]
async fn settings_of_the_operator_are_refused_by_name() {
    let cluster = installed(json!({ "settings": { "server": { "port": 1 } } })).await;
    let (_, reason, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!(reason, "SettingOwnedByOperator");
    assert!(message.contains("server.port"), "{message}");
}

#[tokio::test]
async fn settings_that_are_too_long_change_nothing_and_long_ones_are_taken() {
    let origins = |count: usize| {
        let origins: Vec<String> =
            (0..count).map(|number| format!("https://origin-{number:040}.example.com")).collect();
        json!({ "server": { "cors": { "allowed_origins": origins } } })
    };
    let mut cluster = installed(json!({ "settings": origins(3_300) })).await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    cluster.change("db", |spec| spec["settings"] = origins(5_000));
    cluster.settle().await;
    let (_, reason, message) = cluster.condition("db", "ConfigurationValid");
    assert_eq!(reason, "SettingsTooLarge");
    assert!(message.contains("at most 262144"), "{message}");
    assert_eq!((cluster.condition("db", "Available").0.as_str(), cluster.times_made("Pod", "db-0")), ("True", 1));
}

#[tokio::test]
async fn a_secret_that_comes_later_is_found() {
    let mut cluster = installed(json!({ "apiKeys": { "secretName": "keys" } })).await;
    assert_eq!(
        reasons(&cluster, ["ConfigurationValid", "Stalled"]),
        [pair("False", "SecretMissing"), pair("True", "SecretMissing")]
    );
    secret(&cluster, "keys", json!({ "backend": "" }));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "ConfigurationValid").1, "SecretEmpty");
    secret(&cluster, "keys", json!({ "backend": "a2V5" }));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn credentials_of_a_kms_change_without_a_restart() {
    let kms =
        json!({ "kms": { "vault": { "address": "https://vault:8200", "auth": { "tokenSecretName": "token" } } } });
    let mut cluster = Cluster::new();
    secret(&cluster, "token", json!({ "token": "b25l" }));
    cluster.create("db", kms);
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Ready", "KeyManagementReady"]), [pair("True", "Serving"), pair("True", "Answered")]);
    cluster
        .world
        .failing_jobs
        .insert("kms-check".into(), r#"{"error":{"message":"permission denied"},"ok":false}"#.into());
    secret(&cluster, "token", json!({ "token": "dHdv" }));
    let fails = |cluster: &Cluster| cluster.condition("db", "KeyManagementReady").0 == "False";
    cluster.until("a failing check of the KMS", fails).await;
    let first = cluster.condition("db", "KeyManagementReady");
    assert!(first.2.contains("permission denied"), "{}", first.2);
    // It is asked again every minute, and what is known stays told meanwhile.
    let before = cluster.checks_made("kms-check");
    cluster
        .until("two more checks", |cluster| {
            assert_eq!(cluster.condition("db", "KeyManagementReady"), first);
            cluster.checks_made("kms-check") >= before + 2
        })
        .await;
    cluster.world.failing_jobs.clear();
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Ready", "KeyManagementReady"]), [pair("True", "Serving"), pair("True", "Answered")]);
    assert_eq!(cluster.times_made("Pod", "db-0"), 1);
}

#[tokio::test]
async fn a_storage_class_that_comes_later_is_found() {
    let mut cluster =
        installed(json!({ "storage": { "embedded": { "size": "1Gi", "storageClassName": "later" } } })).await;
    assert_eq!(cluster.condition("db", "StorageReady").1, "StorageClassMissing");
    cluster
        .server
        .with(|store| store.create(&Key::new("StorageClass", "", "later"), json!({}), BTreeMap::new()).unwrap());
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Ready", "StorageReady"]), [pair("True", "Serving"), pair("True", "Bound")]);
}

#[tokio::test]
async fn a_volume_that_cannot_grow_says_so_and_serves_on() {
    let mut cluster =
        installed(json!({ "storage": { "embedded": { "size": "1Gi", "storageClassName": "fixed" } } })).await;
    cluster.change("db", |spec| spec["storage"]["embedded"]["size"] = json!("2Gi"));
    cluster.settle().await;
    assert_eq!(
        reasons(&cluster, ["StorageReady", "Available"]),
        [pair("False", "CannotGrow"), pair("True", "Serving")]
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_stops_nothing() {
    let mut cluster = installed(json!({})).await;
    cluster.world.missing_images.push("registry/progressdb:9.9.9".into());
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:9.9.9"));
    cluster.settle().await;
    assert_eq!(
        reasons(&cluster, ["ConfigurationValid", "Available"]),
        [pair("False", "ImagePullFailed"), pair("True", "Serving")]
    );
    cluster.world.missing_images.clear();
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    assert_eq!(cluster.times_made("Pod", "db-0"), 2);
}

#[tokio::test]
async fn a_name_that_somebody_has_is_not_taken() {
    let mut cluster = Cluster::new();
    let key = Key::new("ServiceAccount", "ns", "db");
    cluster
        .server
        .with(|store| store.create(&key, json!({ "secrets": [{ "name": "mine" }] }), BTreeMap::new()).unwrap());
    cluster.create("db", json!({}));
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Stalled", "Ready"]), [pair("True", "NameTaken"), pair("False", "NameTaken")]);
    assert_eq!(cluster.get("ServiceAccount", "db").unwrap()["secrets"], json!([{ "name": "mine" }]));
    cluster.server.with(|store| store.delete(&key, &json!({})).unwrap());
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn two_resources_that_want_one_name_do_not_share_it() {
    let mut cluster = installed(json!({})).await;
    cluster.create("db-headless", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.condition("db-headless", "Stalled").1, "NameTaken");
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn a_claim_that_is_gone_is_never_replaced_by_an_empty_one() {
    let mut cluster = installed(json!({})).await;
    cluster.change("db", |spec| spec["suspend"] = json!(true));
    cluster.settle().await;
    assert_eq!(cluster.get("Pod", "db-0"), None);
    assert_eq!(cluster.condition("db", "Suspended").0, "True");
    cluster
        .server
        .with(|store| store.delete(&Key::new("PersistentVolumeClaim", "ns", "db-data-0"), &json!({})).unwrap());
    cluster.change("db", |spec| spec["suspend"] = json!(false));
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["StorageReady", "Stalled"]), [pair("False", "ClaimLost"), pair("True", "ClaimLost")]);
    assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0"), None);
    assert_eq!(cluster.get("Pod", "db-0"), None);
}

#[tokio::test]
async fn a_claim_that_the_status_names_in_a_way_that_cannot_be_read_is_not_replaced_by_an_empty_one() {
    for claim in [json!({ "name": "db-data-0" }), json!(["db-data-0"]), json!(7)] {
        let mut cluster = installed(json!({})).await;
        cluster.server.with(|store| {
            store.end(&Key::new("PersistentVolumeClaim", "ns", "db-data-0"));
            store.edit(&Key::new("ProgressDB", "ns", "db"), |resource| resource["status"]["claim"] = claim.clone());
        });
        for _ in 0..2 {
            cluster.settle().await;
            assert_eq!(cluster.get("PersistentVolumeClaim", "db-data-0"), None, "{claim}");
            let (_, reason, message) = cluster.condition("db", "Stalled");
            assert_eq!(reason, "ClaimUnknown", "{claim}");
            assert!(message.contains(&claim.to_string()), "{message}");
            cluster.restart_operator();
        }
    }
}

#[tokio::test]
async fn a_database_that_was_stopped_starts_again() {
    let mut cluster = installed(json!({ "suspend": true })).await;
    assert_eq!((cluster.get("Pod", "db-0"), cluster.condition("db", "Suspended").0), (None, "True".into()));
    cluster.change("db", |spec| spec["suspend"] = json!(false));
    cluster.settle().await;
    assert_eq!(reasons(&cluster, ["Ready", "Suspended"]), [pair("True", "Serving"), pair("False", "NotRequested")]);
}

#[tokio::test]
async fn a_lost_node_is_told_with_the_command_to_type_and_nothing_is_forced() {
    let mut cluster = installed(json!({})).await;
    cluster.world.is_node_lost = true;
    cluster.server.with(|store| {
        store.edit(&Key::new("Node", "", "node"), |node| node["status"]["conditions"][0]["status"] = json!("Unknown"));
        store.delete(&Key::new("Pod", "ns", "db-0"), &json!({})).unwrap();
    });
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NodeLost"));
    assert!(
        message.contains("kubectl taint nodes node node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"),
        "{message}"
    );
    assert!(cluster.get("Pod", "db-0").is_some());
    cluster.world.is_node_lost = false;
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn what_the_cluster_forbids_is_a_condition_and_heals() {
    let mut cluster = Cluster::new();
    cluster.create("db", json!({}));
    cluster.server.set_faults(crate::api::faults::Faults::default().refuse("PATCH networkpolicies", 403, 3));
    for _ in 0..2 {
        cluster.pass().await;
    }
    assert_eq!(cluster.condition("db", "Stalled").1, "ApiRefuses");
    cluster.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
}
