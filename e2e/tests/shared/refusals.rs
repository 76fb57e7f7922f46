//! What people get wrong: each is a condition that says what to do, heals by itself, and touches no data.

use progressdb_e2e::{Namespace, image, wait_until};
use serde_json::json;

#[test]
fn a_secret_that_is_missing_empty_and_then_there() {
    let namespace = Namespace::new("secret");
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let message = database.wait_for("ConfigurationValid", "False", "SecretMissing");
    assert!(message.contains("keys"), "{message}");
    assert_eq!(database.wait_for("Stalled", "True", "SecretMissing"), message);
    namespace.secret("keys", json!({ "backend": "" }));
    database.wait_for("ConfigurationValid", "False", "SecretEmpty");
    namespace.secret("keys", json!({ "backend": "key", "signing": "key" }));
    database.ready();
}

#[test]
fn an_image_that_cannot_be_pulled_stops_nothing_that_runs() {
    let namespace = Namespace::new("pull");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    database.change(json!({ "image": image("progressdb:missing"), "imagePullPolicy": "IfNotPresent" }));
    let message = database.wait_for("Stalled", "True", "ImagePullFailed");
    assert!(message.contains("progressdb:missing"), "{message}");
    assert_eq!(database.condition("Available").unwrap().0, "True");
    assert_eq!(database.pod_uid(), uid);
    database.change(json!({ "image": image("progressdb:dev"), "imagePullPolicy": null }));
    database.ready();
    assert_eq!(database.pod_uid(), uid);
}

#[test]
fn settings_that_the_server_refuses_change_nothing() {
    let namespace = Namespace::new("settings");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let before = namespace.get("configmap", "chat-config")["data"].clone();
    database.change(json!({ "settings": { "logging": { "level": "loud" } } }));
    let message = database.wait_for("ConfigurationValid", "False", "SettingsRefused");
    assert!(message.contains("logging.level") && message.contains("loud"), "{message}");
    assert_eq!(namespace.get("configmap", "chat-config")["data"], before);
    assert_eq!(database.pod_uid(), uid);
    database.change(json!({ "settings": { "server": { "port": 1 }, "logging": null } }));
    let message = database.wait_for("ConfigurationValid", "False", "SettingOwnedByOperator");
    assert!(message.contains("spec.settings.server.port"), "{message}");
    database.change(json!({ "settings": null }));
    database.ready();
    assert_eq!(database.pod_uid(), uid);
}

#[test]
fn a_storage_class_that_is_missing_and_then_there() {
    let namespace = Namespace::new("class");
    let class = format!("{}-later", namespace.name);
    let database = namespace.database("chat", json!({ "storage": { "embedded": { "storageClassName": class } } }));
    let message = database.wait_for("StorageReady", "False", "StorageClassMissing");
    assert!(message.contains(&class), "{message}");
    let default = progressdb_e2e::kubectl(&["get", "storageclass", "-o", "json"]);
    let classes: serde_json::Value = serde_json::from_str(&default).unwrap();
    let mut like = classes["items"][0].clone();
    like["metadata"] = json!({ "name": class });
    progressdb_e2e::kubectl_with(&["apply", "-f", "-"], &like.to_string()).unwrap();
    database.ready();
    progressdb_e2e::kubectl(&["delete", "storageclass", &class]);
}

#[test]
fn a_claim_that_cannot_bind_is_told_in_the_scheduler_s_words() {
    let namespace = Namespace::new("unbound");
    let database = namespace.database("chat", json!({ "nodeSelector": { "example.com/pool": "none" } }));
    let message = database.wait_for("Stalled", "True", "Unschedulable");
    assert!(message.contains("node"), "{message}");
    database.change(json!({ "nodeSelector": null }));
    database.ready();
}

#[test]
fn a_name_that_somebody_has_is_not_taken() {
    let namespace = Namespace::new("taken");
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "chat" },
        "spec": { "ports": [{ "port": 80 }], "selector": { "app": "somebody" } },
    }));
    let database = namespace.database("chat", json!({}));
    let message = database.wait_for("Stalled", "True", "NameTaken");
    assert!(message.contains("Service chat"), "{message}");
    assert_eq!(namespace.get("service", "chat")["spec"]["selector"], json!({ "app": "somebody" }));
    assert_eq!(namespace.find("statefulset", "chat"), None);
    namespace.kubectl(&["delete", "service", "chat"]);
    database.ready();
}

#[test]
fn what_the_namespace_forbids_is_told_and_heals() {
    let namespace = Namespace::new("quota");
    let database = namespace.database("chat", json!({}));
    database.ready();
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
        "spec": { "hard": { "persistentvolumeclaims": "1" } },
    }));
    let second = namespace.database("second", json!({}));
    wait_until("the refusal is told", || {
        second
            .condition("Stalled")
            .is_some_and(|(status, _, message)| status == "True" && message.contains("exceeded quota"))
    });
    namespace.kubectl(&["delete", "resourcequota", "none"]);
    second.ready();
}
