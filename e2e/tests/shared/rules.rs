//! Every rule of the CRD, with a valid and an invalid example, judged by the real API server.

use progressdb_e2e::{Database, Namespace, root};
use serde_json::{Value, json};

#[test]
fn the_api_server_holds_every_rule() {
    let namespace = Namespace::new("rules");
    let text = std::fs::read_to_string(root().join("operator/tests/rules/cases.yaml")).unwrap();
    let cases: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    for (number, case) in cases.iter().enumerate() {
        let name = format!("case{number}");
        if let Some(was) = case.get("was") {
            // Suspended when it is made, because it is not to run, and only its change is judged.
            let mut suspended = was.clone();
            suspended["suspend"] = json!(true);
            let database = namespace.database(&name, suspended);
            if was.get("suspend").is_none() {
                database.change(json!({ "suspend": false }));
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
    let mut spec = example.clone();
    let named = spec.as_object_mut().unwrap().remove("name");
    let name = named.as_ref().and_then(Value::as_str).unwrap_or(name);
    if namespace.find("ProgressDB", name).is_none() {
        return create(namespace, name, spec);
    }
    let patch = json!({ "spec": spec }).to_string();
    namespace.try_kubectl(&["patch", "progressdb", name, "--type=merge", "--dry-run=server", "-p", &patch], "")
}

/// What the API server says of a new resource, without keeping it.
fn create(namespace: &Namespace, name: &str, spec: Value) -> Result<String, String> {
    let resource = Database::new(namespace, name).resource(spec);
    namespace.try_kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &resource.to_string())
}

#[test]
fn what_is_hostile_or_unknown_is_refused_by_name() {
    let namespace = Namespace::new("hostile");
    let refused = |name: &str, spec: Value| create(&namespace, name, spec).expect_err("it is accepted");
    let label = refused("chat", json!({ "podLabels": { "team": "$(reboot)" } }));
    assert!(label.contains("spec.podLabels.team"), "{label}");
    assert!(refused("../chat", json!({})).contains("../chat"));
    assert!(refused("chat", json!({ "copies": 3 })).contains("unknown field \"spec.copies\""));
    assert!(refused("chat", json!({ "upgrade": { "canary": { "steps": 3 } } })).contains("spec.upgrade.canary"));
}
