//! What people do by hand to objects of a database: it is taken back, or done, and costs neither data nor a server.

use progressdb_e2e::{Namespace, Writers, kubectl, kubectl_with, plugin, wait_until};
use serde_json::{Value, json};

#[test]
fn edited_labels_selectors_and_ports_are_taken_back_while_it_serves() {
    let namespace = Namespace::new("hands");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let uid = database.pod_uid();
    let objects = [
        ("persistentvolumeclaim", "chat-data-0"),
        ("secret", "chat-api-keys"),
        ("service", "chat"),
        ("statefulset", "chat"),
    ];
    let edits = ["app.kubernetes.io/managed-by-", "app.kubernetes.io/instance=other", "app.kubernetes.io/instance-"];
    for (kind, name) in objects {
        let labels = || namespace.get(kind, name)["metadata"]["labels"].clone();
        let before = labels();
        for edit in edits {
            namespace.kubectl(&["label", "--overwrite", kind, name, edit]);
            wait_until("the labels are back", || labels() == before);
        }
    }
    let spec = || {
        let mut spec = namespace.get("service", "chat")["spec"].clone();
        spec["ports"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|port| drop(port.as_object_mut().unwrap().remove("nodePort")));
        spec
    };
    let before = spec();
    let edits = [
        json!([{ "op": "replace", "path": "/spec/ports/0/targetPort", "value": 1 }]),
        json!([{ "op": "replace", "path": "/spec/ports/0/port", "value": 80 }]),
        json!([{ "op": "add", "path": "/spec/ports/-", "value": { "name": "more", "port": 81 } }]),
        json!([{ "op": "add", "path": "/spec/selector/more", "value": "nothing" }]),
    ];
    for edit in edits {
        namespace.kubectl(&["patch", "service", "chat", "--type=json", "-p", &edit.to_string()]);
        wait_until("the Service is as it was", || spec() == before);
    }
    database.ready();
    assert_eq!(database.pod_uid(), uid);
    println!("acknowledged and found: {}", writers.check());
}

#[test]
fn keys_that_were_deleted_are_made_anew_and_accepted_without_a_restart() {
    let namespace = Namespace::new("keys");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let before = database.key("backend");
    namespace.kubectl(&["delete", "secret", "chat-api-keys"]);
    let message = database.wait_for("Ready", "False", "KeysNotAccepted");
    assert!(message.contains("chat-api-keys"), "{message}");
    assert_ne!(database.key("backend"), before);
    let client = database.ready().client("ann");
    client.append(&client.create_thread("renewed"), json!("hello"));
    assert_eq!((database.pod_uid(), database.restarts()), (uid, 0));
}

#[test]
fn a_secret_without_signing_keys_stops_nothing() {
    let namespace = Namespace::new("lost");
    namespace.secret("keys", json!({ "backend": "b_key", "frontend": "f_key", "signing": "s_key", "admin": "a_key" }));
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let uid = database.ready().pod_uid();
    namespace.kubectl(&["patch", "secret", "keys", "--type=json", "-p", r#"[{"op":"remove","path":"/data/signing"}]"#]);
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    let message = database.wait_for("Stalled", "True", "SecretEmpty");
    assert!(message.contains("signing"), "{message}");
    assert_eq!(database.pod_uid(), uid);
    namespace.secret("keys", json!({ "signing": "s_key" }));
    database.wait_for_other_pod(&uid);
    database.ready();
    assert_eq!(database.restarts(), 0);
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
    let message = database.wait_for("KeyManagementReady", "False", "KmsFailed");
    database.wait_for("Ready", "False", "KmsFailed");
    println!("{message}");
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for("Ready", "False", "KmsFailed");
    client.append(&thread, json!("meanwhile"));
    assert_eq!((database.pod_uid(), database.restarts()), (uid.clone(), 0));
    hold("1");
    database.wait_for_other_pod(&uid);
    database.ready();
    assert_eq!(client.bodies(&thread), ["before", "meanwhile"].map(Value::from));
    assert!(database.get()["status"]["kms"]["keyId"].is_string(), "{}", database.get()["status"]);
}

#[test]
fn a_restart_is_asked_for_in_each_of_the_usual_ways() {
    let namespace = Namespace::new("restart");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let ask: [&dyn Fn(); 3] = [
        &|| drop(namespace.kubectl(&["rollout", "restart", "statefulset/chat"])),
        &|| println!("{}", plugin(&["restart", "chat", "-n", &namespace.name]).unwrap()),
        &|| {
            let at = "kubectl.kubernetes.io/restartedAt=now";
            drop(namespace.kubectl(&["annotate", "--overwrite", "progressdb/chat", at]));
        },
    ];
    for ask in ask {
        let uid = database.pod_uid();
        ask();
        database.wait_for_other_pod(&uid);
        database.ready();
        assert_eq!(database.restarts(), 0);
    }
    println!("acknowledged and found: {}", writers.check());
    database.change(json!({ "suspend": true }));
    wait_until("it stops", || namespace.find("pod", &database.pod()).is_none());
    for command in ["restart", "connect"] {
        let said = plugin(&[command, "chat", "-n", &namespace.name]).unwrap_err();
        assert!(said.contains("spec.suspend"), "{command}: {said}");
    }
}

#[test]
fn a_database_may_be_called_as_kubernetes_calls_its_own() {
    let namespace = Namespace::new("default");
    let database = namespace.database("default", json!({}));
    database.ready();
    assert_eq!(namespace.get("pod", "default-0")["spec"]["serviceAccountName"], "default.progressdb");
    let account = namespace.get("serviceaccount", "default");
    assert!(account["metadata"]["labels"].is_null(), "{account}");
}

#[test]
fn a_pod_that_has_the_name_of_the_server_s_is_told() {
    let namespace = Namespace::new("pod");
    let database = namespace.database("chat", json!({ "suspend": true }));
    database.wait_for("Suspended", "True", "Requested");
    let image = progressdb_e2e::image("progressdb:dev");
    let secure = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "chat-0" },
        "spec": { "containers": [{ "name": "mine", "image": image, "securityContext": secure }] },
    }));
    database.change(json!({ "suspend": false }));
    let message = database.wait_for("Stalled", "True", "NameTaken");
    assert!(message.contains("Pod chat-0") && !message.contains("delet"), "{message}");
    namespace.kubectl(&["delete", "pod", "chat-0", "--grace-period=0", "--force"]);
    database.ready();
}

#[test]
fn a_size_that_cannot_be_had_may_be_set_back() {
    let namespace = Namespace::new("back");
    let class = format!("{}-fixed", namespace.name);
    let classes: Value = serde_json::from_str(&kubectl(&["get", "storageclass", "-o", "json"])).unwrap();
    let mut fixed = classes["items"][0].clone();
    fixed["metadata"] = json!({ "name": class });
    fixed["allowVolumeExpansion"] = json!(false);
    kubectl_with(&["apply", "-f", "-"], &fixed.to_string()).unwrap();
    let database = namespace.database("chat", json!({ "storage": { "embedded": { "storageClassName": class } } }));
    database.ready();
    let size = |size: &str| json!({ "storage": { "embedded": { "size": size } } });
    database.change(size("2Gi"));
    let message = database.wait_for("StorageReady", "False", "CannotGrow");
    assert!(message.contains("back to 1Gi"), "{message}");
    let smaller = namespace.try_kubectl(&[
        "patch",
        "prdb",
        "chat",
        "--type=merge",
        "-p",
        &json!({ "spec": size("512Mi") }).to_string(),
    ]);
    assert!(smaller.unwrap_err().contains("never shrinks"), "it is smaller than the volume");
    database.change(size("1Gi"));
    database.ready();
    kubectl(&["delete", "storageclass", &class]);
}
