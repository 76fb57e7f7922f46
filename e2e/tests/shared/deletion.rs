//! What is left of a database when its resource goes, by its policy, and when its whole namespace does.

use progressdb_e2e::{CLUSTER, Database, Namespace, wait_until};
use serde_json::json;

/// Writes a message and returns its thread.
fn write(database: &Database<'_>) -> String {
    let client = database.ready().client("ann");
    let thread = client.create_thread("kept");
    client.append(&thread, json!("kept"));
    thread
}

#[test]
fn retain_leaves_claim_and_keys_and_a_new_resource_of_the_name_finds_them() {
    let namespace = Namespace::new("retain");
    let database = namespace.database("chat", json!({}));
    let thread = write(&database);
    let key = database.key("backend");
    database.delete();
    assert_eq!(namespace.names("PersistentVolumeClaim"), ["chat-data-0"]);
    assert_eq!(namespace.names("Secret"), ["chat-api-keys"]);
    let database = namespace.database("chat", json!({}));
    database.ready();
    assert_eq!(database.key("backend"), key);
    assert_eq!(database.client("ann").bodies(&thread), [json!("kept")]);
}

#[test]
fn snapshot_leaves_one_that_a_claim_can_be_made_of() {
    let namespace = Namespace::new("snapshot");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    let thread = write(&database);
    database.delete();
    assert_eq!(namespace.names("PersistentVolumeClaim"), [""; 0]);
    assert_eq!(namespace.names("Secret"), ["chat-api-keys"]);
    let snapshots = namespace.names("VolumeSnapshot");
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(namespace.get("VolumeSnapshot", &snapshots[0])["status"]["readyToUse"], true);
    // The claim that the operator would make, made of the snapshot, is taken as it is.
    let labels = json!({
        "app.kubernetes.io/name": "progressdb",
        "app.kubernetes.io/instance": "chat",
        "app.kubernetes.io/managed-by": "progressdb-operator",
        "app.kubernetes.io/component": "server",
    });
    namespace.apply(
        "PersistentVolumeClaim",
        "chat-data-0",
        json!({
            "metadata": { "labels": labels },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
                "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshots[0] },
            },
        }),
    );
    let database = namespace.database("chat", json!({}));
    assert_eq!(database.ready().client("ann").bodies(&thread), [json!("kept")]);
}

#[test]
fn delete_leaves_nothing() {
    let namespace = Namespace::new("delete");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Delete" }));
    write(&database);
    let volume = database.volume();
    database.delete();
    for kind in ["PersistentVolumeClaim", "Secret", "VolumeSnapshot", "Job", "ConfigMap", "Service"] {
        wait_until(&format!("no {kind} is left"), || namespace.names(kind), Vec::is_empty);
    }
    wait_until("the volume has gone", || volume.find(), Option::is_none);
}

#[test]
fn a_policy_that_changes_during_the_deletion_counts() {
    let namespace = Namespace::new("change");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Delete" }));
    write(&database);
    // A finalizer of somebody else holds the resource while its owner thinks again.
    let add = r#"[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/wait"}]"#;
    namespace.kubectl(&["patch", "progressdb", "chat", "--type=json", "-p", add]);
    database.change(json!({ "deletionPolicy": "Retain" }));
    namespace.delete("ProgressDB", "chat");
    let finalizers = || database.get()["metadata"]["finalizers"].clone();
    wait_until("only the other finalizer is left", finalizers, |left| *left == json!(["example.com/wait"]));
    namespace.change("ProgressDB", "chat", &json!({ "metadata": { "finalizers": null } }));
    database.wait_until_gone();
    assert_eq!(namespace.names("PersistentVolumeClaim"), ["chat-data-0"]);
}

#[test]
fn a_namespace_that_goes_takes_all_but_the_volume_of_a_snapshot_policy() {
    let namespace = Namespace::new("namespace");
    let keeps = namespace.database("keeps", json!({ "deletionPolicy": "Snapshot" }));
    let loses = namespace.database("loses", json!({ "deletionPolicy": "Delete" }));
    let retains = namespace.database("retains", json!({}));
    let [kept, lost, retained] = [&keeps, &loses, &retains].map(|database| {
        write(database);
        database.volume()
    });
    CLUSTER.delete("Namespace", &namespace.name);
    wait_until("the namespace has gone", || CLUSTER.find("Namespace", &namespace.name), Option::is_none);
    kept.check_kept();
    wait_until("the other volumes have gone", || [lost.find(), retained.find()], |left| *left == [None, None]);
}
