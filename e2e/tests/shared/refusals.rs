//! What people get wrong: each is a condition that says what to do, heals by itself, and touches no data.

use progressdb_e2e::{CLUSTER, Namespace, image};
use serde_json::json;

#[test]
fn a_secret_that_is_missing_empty_and_then_there() {
    let namespace = Namespace::new("secret");
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let message = database.wait_for("ConfigurationValid", "False", "SecretMissing", &["keys"]);
    assert_eq!(database.wait_for("Stalled", "True", "SecretMissing", &[]), message);
    namespace.secret("keys", json!({ "backend": "" }));
    database.wait_for("ConfigurationValid", "False", "SecretEmpty", &[]);
    namespace.secret("keys", json!({ "backend": "key", "signing": "key" }));
    database.ready();
}

#[test]
fn an_image_that_cannot_be_pulled_stops_nothing_that_runs() {
    let namespace = Namespace::new("pull");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    database.change(json!({ "image": image("progressdb:missing"), "imagePullPolicy": "IfNotPresent" }));
    database.wait_for("Stalled", "True", "ImagePullFailed", &["progressdb:missing"]);
    assert_eq!(database.status_of("Available"), "True");
    assert_eq!(database.pod_uid(), uid);
    database.change(json!({ "image": image("progressdb:dev"), "imagePullPolicy": null }));
    assert_eq!(database.ready().pod_uid(), uid);
}

#[test]
fn settings_that_the_server_refuses_change_nothing() {
    let namespace = Namespace::new("settings");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let settings = || database.config_map()["data"].clone();
    let before = settings();
    database.change(json!({ "settings": { "logging": { "level": "loud" } } }));
    database.wait_for("ConfigurationValid", "False", "SettingsRefused", &["logging.level", "loud"]);
    assert_eq!(settings(), before);
    assert_eq!(database.pod_uid(), uid);
    database.change(json!({ "settings": { "server": { "port": 1 }, "logging": null } }));
    database.wait_for("ConfigurationValid", "False", "SettingOwnedByOperator", &["spec.settings.server.port"]);
    database.change(json!({ "settings": null }));
    assert_eq!(database.ready().pod_uid(), uid);
}

#[test]
fn a_storage_class_that_is_missing_and_then_there() {
    let namespace = Namespace::new("class");
    let class = format!("{}-later", namespace.name);
    let database = namespace.database("chat", json!({ "storage": { "embedded": { "storageClassName": class } } }));
    database.wait_for("StorageReady", "False", "StorageClassMissing", &[&class]);
    CLUSTER.apply("StorageClass", &class, crate::storage_class());
    database.ready();
    CLUSTER.delete("StorageClass", &class);
}

#[test]
fn a_claim_that_cannot_bind_is_told_in_the_scheduler_s_words() {
    let namespace = Namespace::new("unbound");
    let database = namespace.database("chat", json!({ "nodeSelector": { "example.com/pool": "none" } }));
    database.wait_for("Stalled", "True", "Unschedulable", &["node"]);
    database.change(json!({ "nodeSelector": null }));
    database.ready();
}

#[test]
fn a_name_that_somebody_has_is_not_taken() {
    let namespace = Namespace::new("taken");
    let service = json!({ "spec": { "ports": [{ "port": 80 }], "selector": { "app": "somebody" } } });
    namespace.apply("Service", "chat", service);
    let database = namespace.database("chat", json!({}));
    database.wait_for("Stalled", "True", "NameTaken", &["Service chat"]);
    assert_eq!(namespace.get("Service", "chat")["spec"]["selector"], json!({ "app": "somebody" }));
    assert_eq!(namespace.find("StatefulSet", "chat"), None);
    namespace.delete("Service", "chat");
    database.ready();
}

#[test]
fn what_the_namespace_forbids_is_told_and_heals() {
    let namespace = Namespace::new("quota");
    namespace.database("chat", json!({})).ready();
    namespace.apply("ResourceQuota", "none", json!({ "spec": { "hard": { "persistentvolumeclaims": "1" } } }));
    let second = namespace.database("second", json!({}));
    second.wait_for("Stalled", "True", "ApiRefuses", &["exceeded quota"]);
    namespace.delete("ResourceQuota", "none");
    second.ready();
}
