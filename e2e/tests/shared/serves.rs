//! From the least resource to a client that writes through the Service.

use std::process::Command;
use std::time::Instant;

use progressdb_e2e::{Namespace, root, run};
use serde_json::json;
use testing::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, python};

#[test]
#[allow(clippy::disallowed_methods, reason = "the time is shown, not judged")]
fn the_least_resource_takes_a_write_and_says_where_it_serves() {
    let namespace = Namespace::new("least");
    let began = Instant::now();
    let database = namespace.database("chat", json!({}));
    database.ready();
    let client = database.client("ann");
    let thread = client.create_thread("first");
    client.append(&thread, json!("hello"));
    println!("from the resource to the first acknowledged write: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(client.bodies(&thread), [json!("hello")]);
    let status = database.get()["status"].clone();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["service"], format!("chat.{}.svc:8080", namespace.name));
    assert_eq!(status["claim"], "chat-data-0");
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(1), &json!(1)));
    let columns = namespace.kubectl(&["get", "prdb", "chat", "--no-headers"]);
    let columns: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(columns[..5], ["chat", "True", "Running", status["version"].as_str().unwrap(), "1Gi"]);
    // What tools that know nothing of us wait for.
    assert_eq!(
        namespace.kubectl(&["wait", "--for=condition=Ready", "prdb/chat"]).trim(),
        "progressdb.progressdb.io/chat condition met"
    );
    assert_eq!(database.condition("Reconciling").unwrap().0, "False");
    assert_eq!(database.condition("Stalled").unwrap().0, "False");
}

#[test]
fn the_released_python_client_works_through_the_service() {
    let Some(python) = python("the_released_python_client_works_through_the_service", "progressdb") else { return };
    let namespace = Namespace::new("python");
    namespace.secret(
        "keys",
        json!({ "frontend": FRONTEND_KEY, "backend": BACKEND_KEY, "admin": ADMIN_KEY, "signing": SIGNING_KEY }),
    );
    let database = namespace.database("chat", json!({ "apiKeys": { "secretName": "keys" } }));
    let address = format!("http://{}", database.ready().client("ann").address());
    let script = root().join("server/tests/clients/python_client.py");
    let mut command = Command::new(python);
    command.arg(script).args([&address, BACKEND_KEY, ADMIN_KEY]);
    run(&mut command, None).unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(namespace.find("secret", "chat-api-keys"), None, "keys that are given are not made as well");
}

#[test]
fn every_field_is_explained_by_kubectl() {
    for path in ["spec", "spec.storage.embedded", "spec.kms.vault.auth", "spec.drain", "status"] {
        let text = progressdb_e2e::kubectl(&["explain", &format!("progressdb.{path}")]);
        assert!(!text.contains("<no description>"), "{text}");
        assert!(text.contains("FIELDS:"), "{text}");
    }
}

#[test]
fn pods_have_no_rights_and_the_objects_are_labelled() {
    let namespace = Namespace::new("restricted");
    let database = namespace.database("chat", json!({}));
    database.ready();
    let pod = namespace.get("pod", &database.pod());
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 60);
    for kind in
        ["statefulset", "service", "configmap", "secret", "serviceaccount", "networkpolicy", "persistentvolumeclaim"]
    {
        assert!(!namespace.names(kind).is_empty(), "no {kind} carries the labels");
    }
    // What holds data or keys has no owner that could take it along.
    for (kind, name) in [("persistentvolumeclaim", "chat-data-0"), ("secret", "chat-api-keys")] {
        assert_eq!(namespace.get(kind, name)["metadata"]["ownerReferences"], json!(null), "{kind} {name}");
    }
}
