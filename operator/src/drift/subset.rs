//! When an object has everything that is desired of it.
//!
//! What others add, and what the API server fills in, does not count, but where it changes what is meant: in selectors, in
//! rules of traffic and of placement, in the ports of a Service, in lists of words such as arguments. Server-side apply
//! replaces these as a whole, so an addition can be taken back. In lists whose items have names others may have items of
//! their own.
//!
//! Equal in another spelling are what is empty and what is absent, quantities (`1000m` and `1`) and numbers (`1` and `1.0`).

use serde_json::{Number, Value};

use super::quantity::same_quantity;

/// In its items the API server drops texts that are empty.
const TOLERATIONS: &str = "tolerations";
/// Where one more entry means something else.
const TAKEN_WHOLE: [&str; 12] = [
    "selector",
    "matchLabels",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "nodeSelector",
    "nodeSelectorTerms",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
    TOLERATIONS,
    "ingress",
    "egress",
];
/// Selectors that select everything when they are empty, and nothing when they are absent.
const SELECT_ALL: [&str; 3] = ["podSelector", "namespaceSelector", "labelSelector"];
/// Fields that hold quantities.
const QUANTITIES: [&str; 2] = ["limits", "requests"];

/// Whether what others add to the field of this name counts.
pub(super) fn addition_counts(name: &str, desired: &Value) -> bool {
    TAKEN_WHOLE.contains(&name) || (name == "ports" && has_service_ports(desired))
}

/// Whether `live` has everything that `desired` has.
pub fn is_subset_of(desired: &Value, live: &Value) -> bool {
    value_is_subset_of("", desired, live)
}

/// Whether the field `name`, which the field `parent` holds, has everything that is desired of it.
pub(super) fn field_is_subset_of(parent: &str, name: &str, desired: &Value, live: Option<&Value>) -> bool {
    let Some(live) = live.filter(|live| !live.is_null()) else {
        let selects_all = SELECT_ALL.contains(&name) && desired.is_object();
        return (is_nothing(desired) && !selects_all) || (parent == TOLERATIONS && desired == "");
    };
    match name {
        _ if QUANTITIES.contains(&parent) => same_quantity(desired, live),
        "finalizers" => has_words(desired, live),
        // Of a port of a Service the API server fills in much.
        "ports" if has_service_ports(desired) => same_size(desired, live) && value_is_subset_of(name, desired, live),
        _ if addition_counts(name, desired) => {
            value_is_subset_of(name, desired, live) && value_is_subset_of(name, live, desired)
        }
        _ => value_is_subset_of(name, desired, live),
    }
}

/// `name` is that of the field that holds the value.
fn value_is_subset_of(name: &str, desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(child, value)| {
            field_is_subset_of(name, child, value, live.get(child)) || is_default(child, value, live.get(child))
        }),
        (Value::Array(desired), Value::Array(live)) => {
            is_equal_in_order(name, desired, live) || is_subset_by_name(name, desired, live)
        }
        (Value::Number(desired), Value::Number(live)) => same_number(desired, live),
        _ => desired == live,
    }
}

/// The API server drops what is empty.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What the API server fills in where an addition would count.
fn is_default(name: &str, value: &Value, other: Option<&Value>) -> bool {
    other.is_none() && name == "protocol" && value == "TCP"
}

fn is_equal_in_order(name: &str, desired: &[Value], live: &[Value]) -> bool {
    desired.len() == live.len()
        && desired.iter().zip(live).all(|(desired, live)| value_is_subset_of(name, desired, live))
}

/// In lists with names, and in those of owners, others may have items of their own.
fn is_subset_by_name(name: &str, desired: &[Value], live: &[Value]) -> bool {
    let has_key = |item: &Value| ["name", "uid"].iter().any(|key| item.get(key).is_some());
    let is_there = |item: &Value| live.iter().any(|found| value_is_subset_of(name, item, found));
    !desired.is_empty() && desired.iter().all(|item| has_key(item) && is_there(item))
}

/// In a set of words others may have their own.
fn has_words(desired: &Value, live: &Value) -> bool {
    let (Value::Array(desired), Value::Array(live)) = (desired, live) else { return false };
    desired.iter().all(|item| live.contains(item))
}

fn same_size(desired: &Value, live: &Value) -> bool {
    let size = |value: &Value| value.as_array().map(Vec::len);
    size(desired) == size(live)
}

fn has_service_ports(ports: &Value) -> bool {
    ports.as_array().is_some_and(|ports| ports.iter().all(|port| port.get("port").is_some()))
}

/// Whole numbers are compared as such: as floats two large ones could be equal that are not.
fn same_number(desired: &Number, live: &Number) -> bool {
    desired == live || ((desired.is_f64() || live.is_f64()) && desired.as_f64() == live.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_does_not_count_and_what_they_change_does() {
        let desired = json!({ "spec": { "ports": [{ "name": "http", "port": 8080 }], "empty": {} } });
        let filled = json!({ "spec": { "ports": [{ "name": "http", "port": 8080, "nodePort": 30000 }], "clusterIP": "10.0.0.1" } });
        let changed = json!({ "spec": { "ports": [{ "name": "http", "port": 8081 }] } });
        assert_eq!((is_subset_of(&desired, &filled), is_subset_of(&desired, &changed)), (true, false));
    }

    #[test]
    fn an_item_that_others_put_into_a_list_with_names_does_not_count() {
        let desired = json!([{ "name": "server", "image": "a" }]);
        let injected = json!([{ "name": "proxy", "image": "b" }, { "name": "server", "image": "a" }]);
        assert!(is_subset_of(&desired, &injected));
        assert!(!is_subset_of(&desired, &json!([{ "name": "proxy" }])));
    }

    #[test]
    fn an_addition_that_changes_the_meaning_counts() {
        let selector = json!({ "spec": { "selector": { "app": "a" } } });
        assert!(!is_subset_of(&selector, &json!({ "spec": { "selector": { "app": "a", "more": "b" } } })));
        let ports = json!({ "spec": { "ports": [{ "name": "http", "port": 8080 }] } });
        let added = json!([{ "name": "http", "port": 8080 }, { "name": "b", "port": 1 }]);
        assert!(!is_subset_of(&ports, &json!({ "spec": { "ports": added } })));
        assert!(!is_subset_of(&json!({ "args": ["serve"] }), &json!({ "args": ["serve", "--loud"] })));
        assert!(!is_subset_of(&json!({ "args": [] }), &json!({ "args": ["--loud"] })));
        assert!(is_subset_of(&json!({ "finalizers": ["a"] }), &json!({ "finalizers": ["a", "b"] })));
    }

    #[test]
    fn a_rule_of_traffic_is_taken_whole() {
        let policy = |rule: Value| json!({ "spec": { "ingress": [rule] } });
        let port = json!({ "port": 8080, "protocol": "TCP" });
        let open = policy(json!({ "ports": [port] }));
        let from = |peer: Value| policy(json!({ "ports": [port], "from": [peer] }));
        let anywhere = from(json!({ "namespaceSelector": {} }));
        let changes = [
            (&open, from(json!({ "podSelector": {} }))),
            (&open, policy(json!({ "ports": [{ "port": 8080, "protocol": "TCP", "endPort": 9000 }] }))),
            (&anywhere, from(json!({ "namespaceSelector": {}, "podSelector": { "matchLabels": { "a": "b" } } }))),
            (&anywhere, from(json!({ "podSelector": {} }))),
            (&anywhere, open.clone()),
        ];
        for (desired, live) in changes {
            assert!(!is_subset_of(desired, &live), "{live}");
        }
        // What the API server fills in is no addition.
        assert!(is_subset_of(&policy(json!({ "ports": [{ "port": 8080 }] })), &open));
        assert!(!is_subset_of(&policy(json!({ "ports": [{ "port": 8080, "protocol": "UDP" }] })), &open));
    }

    #[test]
    fn a_rule_of_placement_is_taken_whole() {
        let term =
            |term: Value| json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        let desired = term(json!({ "topologyKey": "zone" }));
        assert!(!is_subset_of(&desired, &term(json!({ "topologyKey": "zone", "namespaces": ["a"] }))));
        let taint = |taint: Value| json!({ "tolerations": [taint] });
        let desired = taint(json!({ "key": "a", "operator": "Exists", "value": "" }));
        assert!(is_subset_of(&desired, &taint(json!({ "key": "a", "operator": "Exists" }))));
        assert!(!is_subset_of(&desired, &taint(json!({ "key": "a", "operator": "Exists", "effect": "NoExecute" }))));
    }

    #[test]
    fn nothing_is_empty_or_absent_or_null() {
        let nothing = [json!({}), json!({ "a": null }), json!({ "a": {} }), json!({ "a": [] })];
        for desired in &nothing {
            for live in &nothing[..2] {
                assert!(is_subset_of(desired, live), "{desired} {live}");
            }
        }
        assert!(!is_subset_of(&json!({ "a": "b" }), &json!({ "a": null })));
        assert!(!is_subset_of(&json!({ "a": [] }), &json!({ "a": ["b"] })));
    }

    #[test]
    fn quantities_and_numbers_are_equal_in_every_spelling() {
        let desired = json!({ "requests": { "cpu": "1000m", "memory": "1Gi", "storage": "0" } });
        assert!(is_subset_of(&desired, &json!({ "requests": { "cpu": "1", "memory": "1024Mi", "storage": "0Gi" } })));
        assert!(is_subset_of(&desired, &json!({ "requests": { "cpu": 1, "memory": "1073741824", "storage": 0 } })));
        assert!(!is_subset_of(&desired, &json!({ "requests": { "cpu": "2", "memory": "1Gi", "storage": "0" } })));
        assert!(!is_subset_of(&desired, &json!({ "requests": { "cpu": "1", "memory": "1Gi" } })));
        let number = |number: Value| json!({ "replicas": number });
        assert!(is_subset_of(&number(json!(1)), &number(json!(1.0))));
        assert!(!is_subset_of(&number(json!(1)), &number(json!("1"))));
        assert!(!is_subset_of(&number(json!(i64::MAX)), &number(json!(i64::MAX - 1))));
    }
}
