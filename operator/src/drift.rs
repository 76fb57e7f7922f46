//! Whether an object is as it should be, without asking the API server.
//!
//! It is if it carries the hash of what would be applied, and still has everything of it: what is desired is a subset of
//! what is there. [`subset`] says when an addition of others counts, and what is equal in another spelling.

mod correction;
mod owners;
mod quantity;
mod subset;

use serde_json::{Map, Value};

use self::subset::{addition_counts, field_is_subset_of};
pub use self::{correction::correction, owners::owners, quantity::quantity, subset::is_subset_of};
use crate::hash::hash;

/// Holds the hash of what the operator last applied.
pub const APPLIED: &str = "progressdb.io/applied";

/// What is sent to be applied: the object with the hash of itself.
pub fn with_applied_hash(mut desired: Value) -> Value {
    let hash = hash(desired.to_string().as_bytes());
    let metadata = desired.as_object_mut().map(|object| object.entry("metadata").or_insert_with(|| Map::new().into()));
    let annotations = metadata
        .and_then(Value::as_object_mut)
        .map(|metadata| metadata.entry("annotations").or_insert_with(|| Map::new().into()));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(APPLIED.to_owned(), hash.into());
    }
    desired
}

/// The hash that [`with_applied_hash`] put into an object.
pub fn applied_hash(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|annotations| annotations.get(APPLIED)?.as_str()).unwrap_or_default()
}

/// Whether the object `live` has everything that the object `desired` has. Their kind is not compared: the API server
/// leaves it out of the items of a list.
pub fn object_is_subset_of(desired: &Value, live: &Value) -> bool {
    let Value::Object(fields) = desired else { return desired == live };
    without_kind(fields).all(|(name, value)| field_is_subset_of("", name, value, live.get(name)))
}

/// The fields of an object but its kind, which is not compared.
fn without_kind(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(name, _)| *name != "apiVersion" && *name != "kind")
}

/// A hash of that part of `live` that `desired` speaks of: what became of it, whatever that is. It is the same whether or
/// not `desired` names the uid of the object that is meant.
pub fn outcome(desired: &Value, live: &Value) -> String {
    let mut part = part("", desired, live);
    part.get_mut("metadata").and_then(Value::as_object_mut).map(|metadata| metadata.remove("uid"));
    hash(part.to_string().as_bytes())
}

/// Lists are taken whole: who changes them may have moved what they hold. So is what no addition may change.
fn part(name: &str, desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(fields), Value::Object(live)) if !addition_counts(name, desired) => without_kind(fields)
            .filter_map(|(name, value)| Some((name.clone(), part(name, value, live.get(name)?))))
            .collect::<Map<_, _>>()
            .into(),
        _ => live.clone(),
    }
}

/// The fields in which `live` is not as `desired`, such as `metadata.labels.a, spec.ports`; there is one whenever `desired`
/// is no subset of `live`. A list is one field. An addition that counts is told as the field that it was added to.
pub fn changes(desired: &Value, live: &Value) -> String {
    let mut fields = Vec::new();
    for (name, value) in desired.as_object().into_iter().flat_map(without_kind) {
        collect_changes(("", name), value, live.get(name), name, &mut fields);
    }
    fields.join(", ")
}

/// `field` is the name of the field, after that of the field that holds it.
fn collect_changes(field: (&str, &str), desired: &Value, live: Option<&Value>, path: &str, fields: &mut Vec<String>) {
    let (parent, name) = field;
    if field_is_subset_of(parent, name, desired, live) {
        return;
    }
    let before = fields.len();
    if let Value::Object(desired) = desired
        && live.is_none_or(|live| live.is_object() || live.is_null())
    {
        for (child, value) in desired {
            let live = live.and_then(|live| live.get(child));
            collect_changes((name, child), value, live, &format!("{path}.{child}"), fields);
        }
    }
    if fields.len() == before {
        fields.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_applied_hash_changes_with_the_text() {
        let of_size = |size: u32| applied_hash(&with_applied_hash(json!({ "spec": { "size": size } }))).to_owned();
        assert_eq!(of_size(1), of_size(1));
        assert_ne!(of_size(1), of_size(2));
    }

    #[test]
    fn an_item_of_a_list_need_not_say_its_kind() {
        let desired = json!({ "apiVersion": "v1", "kind": "Service", "spec": { "type": "ClusterIP" } });
        assert!(object_is_subset_of(&desired, &json!({ "spec": { "type": "ClusterIP" } })));
        assert!(!object_is_subset_of(&desired, &json!({ "spec": { "type": "NodePort" } })));
    }

    #[test]
    fn every_difference_is_told_as_a_field() {
        let cases = [
            // An entry that was added where it counts: no field that is desired has changed.
            (json!({ "selector": { "a": "1" } }), json!({ "selector": { "a": "1", "b": "2" } }), "spec.selector"),
            (
                json!({ "podSelector": { "matchLabels": { "a": "1" } } }),
                json!({ "podSelector": { "matchLabels": { "a": "1", "b": "2" } } }),
                "spec.podSelector.matchLabels",
            ),
            (
                json!({ "podSelector": { "matchLabels": { "a": "1" } } }),
                json!({ "podSelector": { "matchLabels": { "a": "1" }, "matchExpressions": [{ "key": "b" }] } }),
                "spec.podSelector",
            ),
            // One that was changed as well tells enough.
            (json!({ "selector": { "a": "1" } }), json!({ "selector": { "a": "2", "b": "2" } }), "spec.selector.a"),
            // Lists that became longer, shorter and empty.
            (json!({ "args": ["a"] }), json!({ "args": ["a", "b"] }), "spec.args"),
            (json!({ "args": ["a", "b"] }), json!({ "args": ["a"] }), "spec.args"),
            (json!({ "args": ["a"] }), json!({ "args": [] }), "spec.args"),
            (json!({ "args": [] }), json!({ "args": ["a"] }), "spec.args"),
            (
                json!({ "ports": [{ "name": "a", "port": 1 }] }),
                json!({ "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }] }),
                "spec.ports",
            ),
            // Keys that were removed, one by one and with all that they held.
            (json!({ "data": { "a": "1", "b": "2" } }), json!({ "data": { "b": "2" } }), "spec.data.a"),
            (json!({ "data": { "a": "1", "b": "2" } }), json!({}), "spec.data.a, spec.data.b"),
            (json!({ "data": { "a": "1", "b": "2" } }), json!({ "data": null }), "spec.data.a, spec.data.b"),
            // Nothing is not something, and an object is no text.
            (json!({ "a": "1" }), json!({ "a": null }), "spec.a"),
            (json!({ "a": null }), json!({ "a": "1" }), "spec.a"),
            (json!({ "a": { "b": "1" } }), json!({ "a": "1" }), "spec.a"),
            // A selector that selects everything is not one that is not there.
            (json!({ "namespaceSelector": {} }), json!({}), "spec.namespaceSelector"),
            // Of two quantities the one that is another.
            (
                json!({ "requests": { "cpu": "1000m", "memory": "1Gi" } }),
                json!({ "requests": { "cpu": "1", "memory": "2Gi" } }),
                "spec.requests.memory",
            ),
        ];
        for (desired, live, told) in cases {
            let (desired, live) = (json!({ "kind": "A", "spec": desired }), json!({ "spec": live }));
            assert!(!object_is_subset_of(&desired, &live), "{told}: {live}");
            assert_eq!(changes(&desired, &live), told, "{live}");
        }
    }

    #[test]
    fn what_is_the_same_is_told_as_no_change() {
        let desired =
            json!({ "kind": "A", "metadata": { "labels": { "a": "1" } }, "spec": { "args": ["a"], "empty": {} } });
        let live = json!({
            "metadata": { "labels": { "a": "1", "theirs": "2" }, "uid": "1" },
            "spec": { "args": ["a"], "filled": "in", "empty": null },
        });
        assert_eq!((object_is_subset_of(&desired, &live), changes(&desired, &live).as_str()), (true, ""));
    }

    #[test]
    fn an_outcome_is_the_same_until_what_we_speak_of_changes() {
        let desired = json!({ "kind": "a", "spec": { "tolerations": [{ "key": "ours" }] } });
        let live = |key: &str, other: u32| json!({ "spec": { "tolerations": [{ "key": "ours" }, { "key": key }], "other": other } });
        assert!(!object_is_subset_of(&desired, &live("theirs", 1)));
        assert_eq!(outcome(&desired, &live("theirs", 1)), outcome(&desired, &live("theirs", 2)));
        assert_ne!(outcome(&desired, &live("theirs", 1)), outcome(&desired, &live("another", 1)));
        let with_uid = |object: &Value| {
            let mut object = object.clone();
            object["metadata"] = json!({ "uid": "a" });
            object
        };
        let (found, meant) = (with_uid(&live("theirs", 1)), json!({ "metadata": {} }));
        assert_eq!(outcome(&with_uid(&meant), &found), outcome(&meant, &found));
    }

    #[test]
    fn an_addition_that_counts_is_another_outcome() {
        let desired = json!({ "spec": { "selector": { "a": "1" } } });
        let live = |more: &str| json!({ "spec": { "selector": { "a": "1", "more": more } } });
        assert_ne!(outcome(&desired, &live("theirs")), outcome(&desired, &live("another")));
    }
}
