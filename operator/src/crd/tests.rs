use std::collections::BTreeSet;

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
        "suspend": false,
        "deletionPolicy": "Retain",
    });
    assert_eq!(serde_json::to_value(spec).unwrap(), defaults);
}
