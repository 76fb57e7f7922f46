//! From the least resource to a client that writes through the Service.

use std::process::Command;

use progressdb_e2e::{Database, Namespace, kubectl, root, run};
use serde_json::json;
use testing::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, python, timed};

#[test]
fn the_least_resource_takes_a_write_and_says_where_it_serves() {
    let namespace = Namespace::new("least");
    let database = Database::new(&namespace, "chat");
    let ((client, thread), elapsed) = timed(|| {
        namespace.try_kubectl(&["apply", "-f", "-"], &database.resource(json!({})).to_string()).unwrap();
        let client = database.ready().client("ann");
        let thread = client.create_thread("first");
        client.append(&thread, json!("hello"));
        (client, thread)
    });
    println!("from the resource to the first acknowledged write: {:.1} s", elapsed.as_secs_f64());
    assert_eq!(client.bodies(&thread), [json!("hello")]);
    let status = database.get()["status"].clone();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["service"], format!("chat.{}.svc:8080", namespace.name));
    assert_eq!(status["claim"], "chat-data-0");
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(1), &json!(1)));
    let columns = namespace.kubectl(&["get", "prdb", "chat", "--no-headers"]);
    let columns: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(columns[..7], ["chat", "True", "Running", status["version"].as_str().unwrap(), "1", "1", "1Gi"]);
    // What tools that know nothing of us wait for.
    let met = namespace.kubectl(&["wait", "--for=condition=Ready", "prdb/chat"]);
    assert_eq!(met.trim(), "progressdb.progressdb.io/chat condition met");
    assert_eq!(["Reconciling", "Stalled"].map(|kind| database.status_of(kind)), ["False", "False"]);
}

#[test]
fn the_released_python_client_works_through_the_service() {
    let Some(python) = python("the_released_python_client_works_through_the_service", "progressdb") else { return };
    let namespace = Namespace::new("python");
    let keys = json!({ "frontend": FRONTEND_KEY, "backend": BACKEND_KEY, "admin": ADMIN_KEY, "signing": SIGNING_KEY });
    namespace.secret("keys", keys);
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let client = database.ready().client("ann");
    let script = root().join("server/tests/clients/python_client.py");
    let address = format!("http://{}", client.address());
    run(Command::new(python).arg(script).args([&address, BACKEND_KEY, ADMIN_KEY]), "").unwrap();
    assert_eq!(namespace.find("Secret", "chat-api-keys"), None, "keys that are given are not made as well");
}

#[test]
fn every_field_is_explained_by_kubectl() {
    for path in ["spec", "spec.storage.embedded", "spec.kms.vault.auth", "spec.drain", "status"] {
        let text = kubectl(&["explain", &format!("progressdb.{path}")]);
        assert!(!text.contains("<no description>"), "{text}");
        assert!(text.contains("FIELDS:"), "{text}");
    }
}

#[test]
fn pods_have_no_rights_and_the_objects_are_labelled() {
    let namespace = Namespace::new("restricted");
    let database = namespace.database("chat", json!({}));
    database.ready();
    let pod = namespace.get("Pod", &database.pod());
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 60);
    for kind in
        ["StatefulSet", "Service", "ConfigMap", "Secret", "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim"]
    {
        assert!(!namespace.names(kind).is_empty(), "no {kind} carries the labels");
    }
    // What holds data or keys has no owner that could take it along.
    for (kind, name) in [("PersistentVolumeClaim", "chat-data-0"), ("Secret", "chat-api-keys")] {
        assert_eq!(namespace.get(kind, name)["metadata"]["ownerReferences"], json!(null), "{kind} {name}");
    }
}
