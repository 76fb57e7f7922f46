//! What people do by hand to objects of a database: it is taken back, or done, and costs neither data nor a server.

use progressdb_e2e::{CLUSTER, Namespace, Writers, image, plugin, wait_until};
use serde_json::{Value, json};

#[test]
fn edited_labels_selectors_and_ports_are_taken_back_while_it_serves() {
    let namespace = Namespace::new("hands");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let uid = database.pod_uid();
    let objects = [
        ("PersistentVolumeClaim", "chat-data-0"),
        ("Secret", "chat-api-keys"),
        ("Service", "chat"),
        ("StatefulSet", "chat"),
    ];
    let edits = ["app.kubernetes.io/managed-by-", "app.kubernetes.io/instance=other", "app.kubernetes.io/instance-"];
    for (kind, name) in objects {
        let labels = || namespace.get(kind, name)["metadata"]["labels"].clone();
        let before = labels();
        for edit in edits {
            namespace.kubectl(&["label", "--overwrite", kind, name, edit]);
            wait_until("the labels are back", labels, |now| *now == before);
        }
    }
    let edits = [
        json!([{ "op": "replace", "path": "/spec/ports/0/targetPort", "value": 1 }]),
        json!([{ "op": "replace", "path": "/spec/ports/0/port", "value": 80 }]),
        json!([{ "op": "add", "path": "/spec/ports/-", "value": { "name": "more", "port": 81 } }]),
        json!([{ "op": "add", "path": "/spec/selector/more", "value": "nothing" }]),
    ];
    let spec = || namespace.get("Service", "chat")["spec"].clone();
    let before = spec();
    for edit in edits {
        namespace.kubectl(&["patch", "service", "chat", "--type=json", "-p", &edit.to_string()]);
        wait_until("the Service is as it was", spec, |now| *now == before);
    }
    database.ready();
    assert_eq!(database.pod_uid(), uid);
    writers.check();
}

#[test]
fn keys_that_were_deleted_are_made_anew_and_accepted_without_a_restart() {
    let namespace = Namespace::new("keys");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let before = database.key("backend");
    namespace.delete("Secret", "chat-api-keys");
    database.wait_for("Ready", "False", "KeysNotAccepted", &["chat-api-keys"]);
    assert_ne!(database.key("backend"), before);
    let client = database.ready().client("ann");
    client.append(&client.create_thread("renewed"), json!("hello"));
    database.check_still_runs(&uid);
}

#[test]
fn a_secret_without_signing_keys_stops_nothing() {
    let namespace = Namespace::new("lost");
    let mut keys = json!({ "backend": "b_key", "frontend": "f_key", "signing": "s_key", "admin": "a_key" });
    namespace.secret("keys", keys.clone());
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let uid = database.ready().pod_uid();
    let signing = keys.as_object_mut().unwrap().remove("signing").unwrap();
    namespace.secret("keys", keys.clone());
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for("Stalled", "True", "SecretEmpty", &["signing"]);
    assert_eq!(database.pod_uid(), uid);
    keys["signing"] = signing;
    namespace.secret("keys", keys);
    database.wait_for_other_pod(&uid).ready();
    database.check_still_runs(&database.pod_uid());
}

#[test]
fn a_master_key_that_was_replaced_is_noticed_before_a_restart() {
    let namespace = Namespace::new("master");
    let hold = |key: &str| namespace.secret("master", json!({ "master.key": key.repeat(64) }));
    hold("1");
    let database = namespace.database("chat", json!({ "kms": { "embedded": { "secretName": "master" } } }));
    let client = database.ready().client("ann");
    let thread = client.create_thread("sealed");
    client.append(&thread, json!("before"));
    let uid = database.pod_uid();
    hold("2");
    database.wait_for("KeyManagementReady", "False", "KmsFailed", &[]);
    database.wait_for("Ready", "False", "KmsFailed", &[]);
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for("Ready", "False", "KmsFailed", &[]);
    client.append(&thread, json!("meanwhile"));
    database.check_still_runs(&uid);
    hold("1");
    database.wait_for_other_pod(&uid).ready();
    assert_eq!(client.bodies(&thread), ["before", "meanwhile"].map(Value::from));
    assert!(database.get()["status"]["kms"]["keyId"].is_string(), "{}", database.get()["status"]);
}

#[test]
fn a_restart_is_asked_for_in_each_of_the_usual_ways() {
    let namespace = Namespace::new("restart");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let ask: [&dyn Fn() -> String; 3] = [
        &|| namespace.kubectl(&["rollout", "restart", "statefulset/chat"]),
        &|| plugin(&["restart", "chat", "-n", &namespace.name]).unwrap(),
        &|| {
            let at = "kubectl.kubernetes.io/restartedAt=now";
            namespace.kubectl(&["annotate", "--overwrite", "progressdb/chat", at])
        },
    ];
    for ask in ask {
        let uid = database.pod_uid();
        println!("{}", ask());
        database.wait_for_other_pod(&uid).ready();
        database.check_still_runs(&database.pod_uid());
    }
    writers.check();
    database.change(json!({ "suspend": true }));
    wait_until("it stops", || namespace.find("Pod", &database.pod()), Option::is_none);
    for command in ["restart", "connect"] {
        let said = plugin(&[command, "chat", "-n", &namespace.name]).unwrap_err();
        assert!(said.contains("spec.suspend"), "{command}: {said}");
    }
}

#[test]
fn a_database_may_be_called_as_kubernetes_calls_its_own() {
    let namespace = Namespace::new("default");
    namespace.database("default", json!({})).ready();
    assert_eq!(namespace.get("Pod", "default-0")["spec"]["serviceAccountName"], "default.progressdb");
    let account = namespace.get("ServiceAccount", "default");
    assert!(account["metadata"]["labels"].is_null(), "{account}");
}

#[test]
fn a_pod_that_has_the_name_of_the_server_s_is_told() {
    let namespace = Namespace::new("pod");
    let database = namespace.database("chat", json!({ "suspend": true }));
    database.wait_for("Suspended", "True", "Requested", &[]);
    let secure = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    let container = json!({ "name": "mine", "image": image("progressdb:dev"), "securityContext": secure });
    namespace.apply("Pod", "chat-0", json!({ "spec": { "containers": [container] } }));
    database.change(json!({ "suspend": false }));
    let message = database.wait_for("Stalled", "True", "NameTaken", &["Pod chat-0"]);
    assert!(!message.contains("delet"), "{message}");
    namespace.kill("chat-0");
    database.ready();
}

#[test]
fn a_size_that_cannot_be_had_may_be_set_back() {
    let namespace = Namespace::new("back");
    let class = format!("{}-fixed", namespace.name);
    let mut fixed = crate::storage_class();
    fixed["allowVolumeExpansion"] = json!(false);
    CLUSTER.apply("StorageClass", &class, fixed);
    let database = namespace.database("chat", json!({ "storage": { "embedded": { "storageClassName": class } } }));
    database.ready();
    let size = |size: &str| json!({ "storage": { "embedded": { "size": size } } });
    database.change(size("2Gi"));
    database.wait_for("StorageReady", "False", "CannotGrow", &["back to 1Gi"]);
    let smaller = json!({ "spec": size("512Mi") }).to_string();
    let refused = namespace.try_kubectl(&["patch", "prdb", "chat", "--type=merge", "-p", &smaller], "").unwrap_err();
    assert!(refused.contains("never shrinks"), "it is smaller than the volume: {refused}");
    database.change(size("1Gi"));
    database.ready();
    CLUSTER.delete("StorageClass", &class);
}
