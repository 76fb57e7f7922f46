//! What was valid under the last release is valid still: within v1alpha1 the definition only grows. It is compared with
//! `compat/progressdbs.progressdb.io.yaml`, the one that was released last.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::definition;
use crate::golden;

const RELEASED: &str = "compat/progressdbs.progressdb.io.yaml";

#[test]
fn whatever_the_last_release_admitted_is_admitted() {
    let released: Value = serde_saphyr::from_str(&golden::read(RELEASED)).unwrap();
    let found = narrowed(&released, &json!(definition()));
    assert!(found.is_empty(), "narrower than {RELEASED}; v1alpha1 only grows:\n{}", found.join("\n"));
}

/// How a definition admits less than another one did.
fn narrowed(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Found::default();
    for field in ["group", "scope", "names"] {
        let (old, new) = (&old["spec"][field], &new["spec"][field]);
        found.unless(
            old["kind"] == new["kind"] && old["plural"] == new["plural"] || field != "names",
            "",
            "another name",
        );
        found.unless(old == new || field == "names", "", &format!("another {field}"));
    }
    let (old_short, new_short) = (set(&old["spec"]["names"]["shortNames"]), set(&new["spec"]["names"]["shortNames"]));
    found.unless(old_short.is_subset(&new_short), "", "a short name less");
    for version in list(&old["spec"]["versions"]) {
        let name = version["name"].as_str().unwrap_or_default();
        let same = list(&new["spec"]["versions"]).find(|other| other["name"] == version["name"]);
        let Some(same) = same else {
            found.add(name, "the version is gone");
            continue;
        };
        found.unless(same["served"] == true || version["served"] != true, name, "the version is not served");
        for part in ["status", "scale"] {
            let of = |version: &Value| version["subresources"][part].clone();
            found.unless(
                of(version).is_null() || of(version) == of(same),
                name,
                &format!("another subresource {part}"),
            );
        }
        found.schemas("", &version["schema"]["openAPIV3Schema"], &same["schema"]["openAPIV3Schema"]);
    }
    found.0
}

/// What is narrower, as lines.
#[derive(Default)]
struct Found(Vec<String>);

/// Numbers of which a greater one admits less, and those of which a smaller one does.
const LEAST: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];
const MOST: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];
/// What cannot be compared: it may go, and it may not come or become another one.
const EXACT: [&str; 8] =
    ["pattern", "format", "multipleOf", "not", "oneOf", "anyOf", "allOf", "x-kubernetes-embedded-resource"];
/// What may not become another one, nor go.
const KEPT: [&str; 3] = ["x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"];
/// What admits more where it is true.
const FREE: [&str; 3] = ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "nullable"];
/// What admits less where it is true.
const STRICT: [&str; 3] = ["uniqueItems", "exclusiveMinimum", "exclusiveMaximum"];

impl Found {
    fn add(&mut self, path: &str, what: &str) {
        self.0.push(format!("{path}: {what}"));
    }

    fn unless(&mut self, holds: bool, path: &str, what: &str) {
        if !holds {
            self.add(path, what);
        }
    }

    fn schemas(&mut self, path: &str, old: &Value, new: &Value) {
        self.kinds(path, old, new);
        self.bounds(path, old, new);
        self.rules(path, old, new);
        self.fields(path, old, new);
        for part in ["items", "additionalProperties"] {
            self.inner(&format!("{path}[]"), &old[part], &new[part]);
        }
    }

    fn kinds(&mut self, path: &str, old: &Value, new: &Value) {
        let takes_both = new["x-kubernetes-int-or-string"] == true;
        let is_wider = new["type"].is_null() && (takes_both || new["x-kubernetes-preserve-unknown-fields"] == true);
        let is_of_both = !takes_both
            || old["x-kubernetes-int-or-string"] == true
            || old["type"] == "integer"
            || old["type"] == "string";
        self.unless(old["type"] == new["type"] || (is_wider && is_of_both), path, "another type");
        let (before, after) = (set(&old["enum"]), set(&new["enum"]));
        let admits_all = new["enum"].is_null() || (!old["enum"].is_null() && before.is_subset(&after));
        self.unless(admits_all, path, "an enum without what it had");
        for name in FREE {
            self.unless(old[name] != true || new[name] == true, path, &format!("no {name} any more"));
        }
        for name in STRICT {
            self.unless(old[name] == true || new[name] != true, path, &format!("{name} is new"));
        }
    }

    fn bounds(&mut self, path: &str, old: &Value, new: &Value) {
        for (names, sign) in [(LEAST, 1.0), (MOST, -1.0)] {
            for name in names {
                let admits_less = match (old[name].as_f64(), new[name].as_f64()) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some(old), Some(new)) => sign * new > sign * old,
                };
                self.unless(!admits_less, path, &format!("a narrower {name}"));
            }
        }
        for name in EXACT {
            self.unless(new[name].is_null() || old[name] == new[name], path, &format!("another {name}"));
        }
        for name in KEPT {
            self.unless(old[name] == new[name], path, &format!("another {name}"));
        }
    }

    fn rules(&mut self, path: &str, old: &Value, new: &Value) {
        let rules = |schema: &Value| -> BTreeSet<String> {
            list(&schema["x-kubernetes-validations"]).map(|rule| rule["rule"].to_string()).collect()
        };
        for rule in rules(new).difference(&rules(old)) {
            self.add(path, &format!("a new rule {rule}"));
        }
    }

    fn fields(&mut self, path: &str, old: &Value, new: &Value) {
        let of = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
        let (before, after) = (of(old), of(new));
        for (name, field) in &before {
            let path = format!("{path}.{name}");
            match after.get(name) {
                Some(other) => self.schemas(&path, field, other),
                None => self.add(&path, "the field is gone"),
            }
        }
        // The API server fills in what has a default.
        let needed = |schema: &Value| -> BTreeSet<String> {
            let is_needed =
                |name: &&Value| schema["properties"][name.as_str().unwrap_or_default()]["default"].is_null();
            list(&schema["required"]).filter(is_needed).map(Value::to_string).collect()
        };
        for name in needed(new).difference(&needed(old)) {
            self.add(path, &format!("{name} is required"));
        }
        let was_free = old["x-kubernetes-preserve-unknown-fields"] == true || old["additionalProperties"].is_object();
        for name in after.keys().filter(|name| was_free && !before.contains_key(*name)) {
            self.add(&format!("{path}.{name}"), "it was free, and has a schema");
        }
    }

    /// Of what lies in lists and maps: no schema admits whatever the type leaves open.
    fn inner(&mut self, path: &str, old: &Value, new: &Value) {
        match (old.is_object(), new.is_object()) {
            (true, true) => self.schemas(path, old, new),
            (true, false) => self.add(path, "what lies in it is not described any more, and is dropped"),
            (false, true) => self.add(path, "what lies in it was free, and has a schema"),
            (false, false) => {}
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn set(value: &Value) -> BTreeSet<String> {
    list(value).map(Value::to_string).collect()
}

/// A definition with this schema of `spec.a`.
fn with(schema: Value) -> Value {
    json!({
        "spec": {
            "group": "g", "scope": "Namespaced",
            "names": { "kind": "A", "plural": "as", "shortNames": ["a"] },
            "versions": [{
                "name": "v1", "served": true,
                "subresources": { "status": {}, "scale": { "specReplicasPath": ".spec.replicas" } },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "a": schema } } },
            }],
        },
    })
}

#[track_caller]
fn is_found(old: Value, new: Value, said: &str) {
    let found = narrowed(&with(old.clone()), &with(new.clone()));
    assert!(found.iter().any(|line| line.contains(said)), "{said}: {found:?}, of {old} and {new}");
}

#[track_caller]
fn grows(old: Value, new: Value) {
    assert_eq!(narrowed(&with(old.clone()), &with(new.clone())), [""; 0], "{old} and {new}");
}

/// A schema with more in it.
fn and(mut schema: Value, more: &Value) -> Value {
    schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    schema
}

fn text() -> Value {
    json!({ "type": "string" })
}

#[test]
fn each_way_to_admit_less_is_found() {
    let object = |fields: Value| json!({ "type": "object", "properties": fields });
    is_found(object(json!({ "b": text() })), object(json!({})), ".a.b: the field is gone");
    is_found(text(), json!({ "type": "integer" }), ".a: another type");
    is_found(json!({ "x-kubernetes-int-or-string": true }), json!({ "type": "integer" }), "another type");
    is_found(json!({ "type": "boolean" }), json!({ "x-kubernetes-int-or-string": true }), "another type");
    is_found(
        json!({ "x-kubernetes-preserve-unknown-fields": true }),
        json!({ "type": "object" }),
        "no x-kubernetes-preserve",
    );
    is_found(and(text(), &json!({ "nullable": true })), text(), "no nullable");
    let required = |name: &str| and(object(json!({ "b": text(), "c": text() })), &json!({ "required": [name] }));
    is_found(object(json!({ "b": text(), "c": text() })), required("b"), "\"b\" is required");
    is_found(required("c"), required("b"), "\"b\" is required");
    let with_default =
        |default: Value| and(object(json!({ "b": and(text(), &default) })), &json!({ "required": ["b"] }));
    is_found(with_default(json!({ "default": "x" })), with_default(json!({})), "\"b\" is required");
    is_found(and(text(), &json!({ "enum": ["x", "y"] })), and(text(), &json!({ "enum": ["y", "z"] })), "an enum");
    is_found(text(), and(text(), &json!({ "enum": ["x"] })), "an enum");
    for (name, before, after) in [
        ("maxLength", json!(10), json!(9)),
        ("minLength", json!(1), json!(2)),
        ("maximum", json!(10), json!(9)),
        ("minimum", json!(-1), json!(0)),
        ("maxItems", json!(10), json!(9)),
        ("minItems", json!(0), json!(1)),
        ("maxProperties", json!(10), json!(9)),
        ("minProperties", json!(0), json!(1)),
        ("pattern", json!("a+"), json!("a")),
        ("format", json!("byte"), json!("date")),
        ("multipleOf", json!(2), json!(4)),
        ("oneOf", json!([{}]), json!([{}, {}])),
        ("x-kubernetes-list-type", json!("atomic"), json!("set")),
    ] {
        let of = |value: Value| and(text(), &json!({ name: value }));
        is_found(of(before), of(after.clone()), name);
        is_found(text(), of(after), name);
    }
    for name in STRICT {
        is_found(text(), and(text(), &json!({ name: true })), name);
    }
    let rule = |rule: &str| and(text(), &json!({ "x-kubernetes-validations": [{ "rule": rule, "message": "m" }] }));
    is_found(text(), rule("self != ''"), "a new rule");
    is_found(rule("self != ''"), rule("self.size() > 1"), "a new rule");
    let items = |schema: Value| json!({ "type": "array", "items": schema });
    is_found(items(text()), items(and(text(), &json!({ "maxLength": 1 }))), ".a[]: a narrower maxLength");
    is_found(json!({ "type": "array" }), items(text()), "was free");
    let map = |schema: Value| json!({ "type": "object", "additionalProperties": schema });
    is_found(map(text()), map(json!({ "type": "integer" })), ".a[]: another type");
    is_found(map(text()), object(json!({})), "is dropped");
    is_found(map(text()), and(map(text()), &json!({ "properties": { "b": text() } })), ".a.b: it was free");
}

#[test]
fn what_a_definition_says_of_itself_is_compared_as_well() {
    let old = with(text());
    for (pointer, value, said) in [
        ("/spec/group", json!("h"), "another group"),
        ("/spec/scope", json!("Cluster"), "another scope"),
        ("/spec/names/kind", json!("B"), "another name"),
        ("/spec/names/plural", json!("bs"), "another name"),
        ("/spec/names/shortNames", json!([]), "a short name less"),
        ("/spec/versions", json!([]), "the version is gone"),
        ("/spec/versions/0/served", json!(false), "not served"),
        ("/spec/versions/0/subresources/scale", json!(null), "another subresource scale"),
        ("/spec/versions/0/subresources/status", json!(null), "another subresource status"),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        let found = narrowed(&old, &new);
        assert!(found.iter().any(|line| line.contains(said)), "{pointer}: {found:?}");
    }
}

#[test]
fn it_may_grow() {
    let object = |fields: Value| json!({ "type": "object", "properties": fields });
    grows(object(json!({})), object(json!({ "b": text() })));
    grows(json!({ "type": "integer" }), json!({ "x-kubernetes-int-or-string": true }));
    grows(text(), json!({ "x-kubernetes-preserve-unknown-fields": true }));
    let bounded = json!({ "maxLength": 9, "minLength": 2, "pattern": "a", "enum": ["x"], "nullable": false });
    grows(and(text(), &bounded), text());
    grows(
        and(text(), &bounded),
        and(text(), &json!({ "maxLength": 10, "minLength": 1, "enum": ["x", "y"], "nullable": true })),
    );
    let required = and(object(json!({ "b": and(text(), &json!({ "default": "x" })) })), &json!({ "required": ["b"] }));
    grows(object(json!({})), required.clone());
    grows(required.clone(), object(json!({ "b": text() })));
    let rule =
        |message: &str| and(text(), &json!({ "x-kubernetes-validations": [{ "rule": "r", "message": message }] }));
    grows(rule("a"), rule("b"));
    grows(rule("a"), text());
}
