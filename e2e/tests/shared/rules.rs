//! Every rule of the CRD, with a valid and an invalid example, judged by the real API server.

use progressdb_e2e::{Database, Namespace, kubectl_with, root};
use serde_json::{Value, json};

#[test]
fn the_api_server_holds_every_rule() {
    let namespace = Namespace::new("rules");
    let text = std::fs::read_to_string(root().join("operator/tests/rules/cases.yaml")).unwrap();
    let cases: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    for (number, case) in cases.iter().enumerate() {
        let name = format!("case{number}");
        if let Some(was) = case.get("was") {
            // Suspended, because it is not to run, and only its change is judged.
            namespace.database(&name, with(was, json!({ "suspend": true })));
            if was.get("suspend").is_none() {
                Database::new(&namespace, &name).change(json!({ "suspend": false }));
            }
        }
        let valid = judge(&namespace, &name, &case["valid"]);
        assert!(valid.is_ok(), "{}: the valid example: {valid:?}", case["rule"]);
        let refused = judge(&namespace, &name, &case["invalid"]).expect_err(&case["invalid"].to_string());
        assert!(refused.contains(case["rule"].as_str().unwrap()), "{}: {refused}", case["rule"]);
    }
}

/// What the API server says of an example, without keeping it.
fn judge(namespace: &Namespace, name: &str, example: &Value) -> Result<String, String> {
    let mut more = example.clone();
    let named = more.as_object_mut().unwrap().remove("name");
    let name = named.as_ref().and_then(Value::as_str).unwrap_or(name);
    if namespace.find("progressdb", name).is_some() {
        let patch = json!({ "spec": more }).to_string();
        return namespace.try_kubectl(&["patch", "progressdb", name, "--type=merge", "--dry-run=server", "-p", &patch]);
    }
    let resource = Database::new(namespace, name).resource(more);
    kubectl_with(&["-n", &namespace.name, "create", "--dry-run=server", "-f", "-"], &resource.to_string())
}

fn with(base: &Value, more: Value) -> Value {
    let mut base = base.clone();
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

#[test]
fn what_is_hostile_or_unknown_is_refused_by_name() {
    let namespace = Namespace::new("hostile");
    let refused = |name: &str, more: Value| {
        let resource = Database::new(&namespace, name).resource(more);
        let arguments = ["-n", &namespace.name, "create", "--dry-run=server", "--validate=strict", "-f", "-"];
        kubectl_with(&arguments, &resource.to_string()).expect_err("it is accepted")
    };
    let label = refused("chat", json!({ "podLabels": { "team": "$(reboot)" } }));
    assert!(label.contains("spec.podLabels.team"), "{label}");
    assert!(refused("../chat", json!({})).contains("../chat"));
    assert!(refused("chat", json!({ "replicas": 3 })).contains("unknown field \"spec.replicas\""));
    assert!(refused("chat", json!({ "upgrade": { "strategy": "Guarded" } })).contains("spec.upgrade"));
}
