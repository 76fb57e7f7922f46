mod narrowing;
mod revisions;

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample, strategy::BoxedStrategy};
use serde_json::json;

use super::*;
use crate::golden;

const CASES: &str = "operator/tests/rules/cases.yaml";

fn schema() -> Value {
    serde_json::to_value(&definition().spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()
}

/// Calls `visit` with the path and the schema of every field.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, visit);
    }
    walk_inner(path, schema, "items", visit);
    walk_inner(path, schema, "additionalProperties", visit);
}

fn walk_inner(path: &str, schema: &Value, part: &str, visit: &mut impl FnMut(&str, &Value)) {
    if let Some(inner) = schema.get(part).filter(|inner| inner.is_object()) {
        walk(&format!("{path}[]"), inner, visit);
    }
}

#[test]
fn the_committed_definition_is_this_one() {
    let text = serde_saphyr::to_string(&definition()).unwrap();
    for directory in ["crds", "charts/progressdb-crds/templates"] {
        golden::check(
            &format!("{directory}/progressdbs.progressdb.io.yaml"),
            &format!("# Generated from operator/src/crd.rs.\n{text}"),
        );
    }
}

#[test]
fn the_definition_says_its_revision() {
    let annotations = definition().metadata.annotations.unwrap();
    assert_eq!(annotations[SCHEMA_REVISION_ANNOTATION], SCHEMA_REVISION.to_string());
}

#[test]
fn every_field_is_explained() {
    let mut bare = Vec::new();
    walk("", &schema(), &mut |path, field| {
        let is_own = !path.contains("[]") && !["", ".metadata", ".kind", ".apiVersion"].contains(&path);
        if is_own && field["description"].as_str().unwrap_or_default().is_empty() {
            bare.push(path.to_owned());
        }
    });
    assert_eq!(bare, [""; 0]);
}

#[test]
fn schemas_have_no_floats_no_unsigned_integers_and_nothing_nullable() {
    let mut bad = Vec::new();
    walk("", &schema(), &mut |path, field| {
        let format = field["format"].as_str().unwrap_or_default();
        if field["type"] == "number" || format.starts_with("uint") || !field["nullable"].is_null() {
            bad.push(path.to_owned());
        }
    });
    assert_eq!(bad, [""; 0]);
}

#[test]
fn what_a_rule_reaches_has_a_bound() {
    let mut unbounded = Vec::new();
    walk("", &schema(), &mut |path, field| {
        let bound = match field["type"].as_str() {
            Some("string") => "maxLength",
            Some("array") => "maxItems",
            Some("object") if field.get("additionalProperties").is_some() => "maxProperties",
            _ => return,
        };
        if field.get("x-kubernetes-validations").is_some() && field[bound].is_null() {
            unbounded.push(path.to_owned());
        }
    });
    assert_eq!(unbounded, [""; 0]);
}

#[test]
fn every_rule_has_a_valid_and_an_invalid_example() {
    let mut rules = BTreeSet::new();
    walk("", &schema(), &mut |_, field| {
        let found = field["x-kubernetes-validations"].as_array().into_iter().flatten();
        rules.extend(found.map(|rule| rule["message"].as_str().expect("every rule has a message").to_owned()));
    });
    let cases: Vec<Value> = serde_saphyr::from_str(&golden::read(CASES)).unwrap();
    let mut shown = BTreeSet::new();
    for case in &cases {
        assert!(case["valid"].is_object() && case["invalid"].is_object(), "{case}");
        let begins = case["rule"].as_str().unwrap();
        let matching: Vec<&String> = rules.iter().filter(|message| message.starts_with(begins)).collect();
        assert_eq!(matching.len(), 1, "{begins}");
        shown.extend(matching.into_iter().cloned());
    }
    assert_eq!(shown, rules);
}

#[test]
fn the_least_resource_gets_every_default() {
    let spec: ProgressDBSpec =
        serde_json::from_value(json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } })).unwrap();
    let defaults = json!({
        "image": "a:1",
        "storage": { "embedded": { "size": "1Gi" } },
        "service": { "type": "ClusterIP" },
        "drain": { "hold": "0s", "timeout": "45s" },
        "monitoring": { "serviceMonitor": true, "prometheusRule": true },
        "networkPolicy": { "enabled": true },
        "upgrade": {
            "strategy": "Guarded",
            "approval": "Automatic",
            "maxDowntime": "5m",
            "snapshot": { "policy": "BestEffort", "deadline": "30m", "retainFor": "72h" },
            "rehearsal": { "policy": "BestEffort", "timeout": "30m" },
            "canary": { "steps": [1, "25%", "50%"], "stepDuration": "5m" },
            "soak": "10m",
            "gates": {
                "health": { "successes": 5, "period": "500ms", "deadline": "5m" },
                "smoke": "Full",
                "metrics": {
                    "maxErrorRate": "1%", "maxLatencyP99Increase": "50%", "minimumSamples": 1000, "failureLimit": 3,
                },
            },
            "rollback": { "beforePromotion": "Automatic", "afterPromotion": "ImageOnly", "keepFailedVolumeFor": "168h" },
        },
        "suspend": false,
        "deletionPolicy": "Retain",
    });
    assert_eq!(serde_json::to_value(spec).unwrap(), defaults);
}

/// Any value that a schema admits. Rules and patterns admit less, so what decodes here decodes in a cluster.
fn admitted(schema: &Value) -> BoxedStrategy<Value> {
    let number = |name: &str, other: i64| schema[name].as_f64().map_or(other, |number| number as i64);
    let integers = {
        let (low, high) = (number("minimum", i64::MIN), number("maximum", i64::MAX));
        prop_oneof![Just(low), Just(high), low..=high].prop_map(Value::from)
    };
    if let Some(values) = schema["enum"].as_array() {
        return sample::select(values.clone()).boxed();
    }
    let texts = || "\\PC{0,8}".prop_map(Value::from);
    if schema["x-kubernetes-int-or-string"] == true {
        return prop_oneof![integers, texts()].boxed();
    }
    if is_open(schema) {
        return Just(json!({ "spec": { "containers": [{ "name": "a", "more": [1, null] }] } })).boxed();
    }
    match schema["type"].as_str() {
        // The API server holds texts to this format.
        Some("string") if schema["format"] == "date-time" => Just(json!("2030-01-01T00:00:00Z")).boxed(),
        Some("string") => texts().boxed(),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => integers.boxed(),
        Some("array") => items(schema),
        Some("object") if schema["properties"].is_object() => fields(schema),
        Some("object") => entries(schema),
        // Anything at all, as deep as may be.
        None => {
            let scalars =
                prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), texts(), Just(json!(1e300))];
            let mut kinds = vec![scalars.boxed()];
            kinds.extend(schema["maxProperties"].is_null().then(|| entries(schema)));
            kinds.extend(schema["maxItems"].is_null().then(|| items(schema)));
            proptest::strategy::Union::new(kinds).boxed()
        }
        Some(other) => panic!("a schema of {other}"),
    }
}

/// What is said of no field of it.
fn is_open(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
        && ["properties", "additionalProperties", "items"].iter().all(|part| schema[part].is_null())
        && schema["maxProperties"].is_null()
}

fn items(schema: &Value) -> BoxedStrategy<Value> {
    vec(admitted(&schema["items"]), 0..3).prop_map(Value::from).boxed()
}

fn entries(schema: &Value) -> BoxedStrategy<Value> {
    let entry = ("[a-z]{1,3}", admitted(&schema["additionalProperties"]));
    vec(entry, 0..3).prop_map(|entries| Value::Object(entries.into_iter().collect())).boxed()
}

fn fields(schema: &Value) -> BoxedStrategy<Value> {
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name));
    let mut all = Just(Map::new()).boxed();
    for (name, field) in schema["properties"].as_object().expect("it has fields") {
        let value =
            if required(name) { admitted(field).prop_map(Some).boxed() } else { option::of(admitted(field)).boxed() };
        let name = name.clone();
        all = (all, value)
            .prop_map(move |(mut fields, value)| {
                fields.extend(value.map(|value| (name.clone(), value)));
                fields
            })
            .boxed();
    }
    all.prop_map(Value::Object).boxed()
}

#[test]
fn whatever_the_definition_admits_can_be_read() {
    let (spec, status) = (&schema()["properties"]["spec"], &schema()["properties"]["status"]);
    let config = ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(spec in admitted(spec), status in option::of(admitted(status)))| {
        let object = json!({ "metadata": { "name": "db" }, "spec": spec, "status": status });
        // A rule demands that one of them is given.
        let is_choice = |why: &str| {
            why.ends_with("it names none of what this operator knows") || why.starts_with("spec.storage: it names two")
        };
        if let Err(unreadable) = read(&object.to_string()) {
            prop_assert!(is_choice(&unreadable.why), "{}", unreadable.why);
        }
    });
}

#[test]
fn settings_may_lie_in_each_other_only_so_deep() {
    let mut level = &schema()["properties"]["spec"]["properties"]["settings"];
    let mut levels = 0;
    while level["additionalProperties"].is_object() {
        level = &level["additionalProperties"];
        levels += 1;
    }
    assert_eq!(
        (levels, level["maxProperties"].clone(), level["maxItems"].clone()),
        (SETTING_LEVELS, json!(0), json!(0))
    );
}
