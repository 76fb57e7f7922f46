//! What is left of a database when its resource goes, by its policy, and when its whole namespace does.

use progressdb_e2e::{Database, Namespace, kubectl, wait_until};
use serde_json::{Value, json};

fn gone(database: &Database<'_>) {
    wait_until("the resource has gone", || !database.is_there());
    wait_until("the StatefulSet has gone", || database.namespace.find("statefulset", &database.name).is_none());
    wait_until("the pod has gone", || database.namespace.find("pod", &database.pod()).is_none());
}

fn written(database: &Database<'_>) -> String {
    let client = database.ready().client("ann");
    let thread = client.create_thread("kept");
    client.append(&thread, json!("kept"));
    thread
}

#[test]
fn retain_leaves_claim_and_keys_and_a_new_resource_of_the_name_finds_them() {
    let namespace = Namespace::new("retain");
    let database = namespace.database("chat", json!({}));
    let thread = written(&database);
    let key = database.key("backend");
    database.delete();
    gone(&database);
    assert_eq!(namespace.names("persistentvolumeclaim"), ["chat-data-0"]);
    assert_eq!(namespace.names("secret"), ["chat-api-keys"]);
    let database = namespace.database("chat", json!({}));
    database.ready();
    assert_eq!(database.key("backend"), key);
    assert_eq!(database.client("ann").bodies(&thread), [json!("kept")]);
}

#[test]
fn snapshot_leaves_one_that_a_claim_can_be_made_of() {
    let namespace = Namespace::new("snapshot");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    let thread = written(&database);
    database.delete();
    gone(&database);
    assert_eq!(namespace.names("persistentvolumeclaim"), [""; 0]);
    assert_eq!(namespace.names("secret"), ["chat-api-keys"]);
    let snapshots = namespace.names("volumesnapshot");
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(namespace.get("volumesnapshot", &snapshots[0])["status"]["readyToUse"], true);
    // The claim that the operator would make, made of the snapshot, is taken as it is.
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "chat-data-0", "labels": labels() },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshots[0] },
        },
    }));
    let database = namespace.database("chat", json!({}));
    database.ready();
    assert_eq!(database.client("ann").bodies(&thread), [json!("kept")]);
}

fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": "progressdb",
        "app.kubernetes.io/instance": "chat",
        "app.kubernetes.io/managed-by": "progressdb-operator",
        "app.kubernetes.io/component": "server",
    })
}

#[test]
fn delete_leaves_nothing() {
    let namespace = Namespace::new("delete");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Delete" }));
    written(&database);
    let volume = database.volume();
    database.delete();
    gone(&database);
    for kind in ["persistentvolumeclaim", "secret", "volumesnapshot", "job", "configmap", "service"] {
        wait_until(&format!("no {kind} is left"), || namespace.names(kind).is_empty());
    }
    wait_until("the volume has gone", || volume.find().is_none());
}

#[test]
fn a_policy_that_changes_during_the_deletion_counts() {
    let namespace = Namespace::new("change");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Delete" }));
    written(&database);
    // A finalizer of somebody else holds the resource while its owner thinks again.
    let add = r#"[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/wait"}]"#;
    namespace.kubectl(&["patch", "progressdb", "chat", "--type=json", "-p", add]);
    database.change(json!({ "deletionPolicy": "Retain" }));
    database.delete();
    wait_until("only the finalizer of somebody else is left", || {
        database.get()["metadata"]["finalizers"] == json!(["example.com/wait"])
    });
    namespace.kubectl(&["patch", "progressdb", "chat", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    gone(&database);
    assert_eq!(namespace.names("persistentvolumeclaim"), ["chat-data-0"]);
}

#[test]
fn a_namespace_that_goes_takes_all_but_the_volume_of_a_snapshot_policy() {
    let namespace = Namespace::new("namespace");
    let keeps = namespace.database("keeps", json!({ "deletionPolicy": "Snapshot" }));
    let loses = namespace.database("loses", json!({ "deletionPolicy": "Delete" }));
    let retains = namespace.database("retains", json!({}));
    let [kept, lost, retained] = [&keeps, &loses, &retains].map(|database| {
        written(database);
        database.volume()
    });
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=240s"]);
    kept.check_kept();
    wait_until("the others have gone", || [&lost, &retained].iter().all(|volume| volume.find().is_none()));
}
