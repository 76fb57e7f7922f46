//! Whether an object is as it should be, without asking the API server.
//!
//! It is if we wrote this very text before, which an annotation with its hash tells, and if everything in it still
//! stands. What others added, and what the API server filled in, does not count, but where an addition changes what is
//! meant: in selectors, in the ports of a Service, in lists of words such as arguments.

mod owners;

use serde_json::{Map, Value, json};

pub use owners::owners;

use crate::objects::hash;

/// Where one more entry selects something else, or nothing.
const SELECTORS: [&str; 5] = ["selector", "matchLabels", "podSelector", "namespaceSelector", "nodeSelector"];

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
    let Value::Object(fields) = desired else { return live == desired };
    without_kind(fields)
        .all(|(name, value)| live.get(name).map_or_else(|| is_nothing(value), |live| is_subset_of(value, live)))
}

/// The fields of an object but its kind, which is not compared.
fn without_kind(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(name, _)| *name != "apiVersion" && *name != "kind")
}

/// A hash of that part of `live` that `desired` speaks of: what became of it, whatever that is. It is the same whether or
/// not `desired` names the uid of the object that is meant.
pub fn outcome(desired: &Value, live: &Value) -> String {
    let mut part = part(desired, live);
    part.get_mut("metadata").and_then(Value::as_object_mut).map(|metadata| metadata.remove("uid"));
    hash(part.to_string().as_bytes())
}

/// The fields in which `live` is not as `desired`, such as `metadata.labels.a, spec.ports`; a list is one field.
pub fn changes(desired: &Value, live: &Value) -> String {
    let mut fields = Vec::new();
    collect_changes(desired, live, "", &mut fields);
    fields.join(", ")
}

fn collect_changes(desired: &Value, live: &Value, path: &str, fields: &mut Vec<String>) {
    match desired {
        Value::Object(desired) => {
            for (name, value) in without_kind(desired) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect_changes(value, live.get(name).unwrap_or(&Value::Null), &path, fields);
            }
        }
        _ if is_nothing(desired) || is_subset_of(desired, live) => {}
        _ => fields.push(path.to_owned()),
    }
}

/// Lists are taken whole: who changes them may have moved what they hold.
fn part(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => without_kind(desired)
            .filter_map(|(name, value)| Some((name.clone(), part(value, live.get(name)?))))
            .collect::<Map<_, _>>()
            .into(),
        _ => live.clone(),
    }
}

/// Whether `live` has everything that `desired` has.
pub fn is_subset_of(desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(name, value)| match live.get(name) {
            Some(found) if name == "limits" || name == "requests" => same_quantities(value, found),
            Some(found) if SELECTORS.contains(&name.as_str()) => same_size(value, found) && is_subset_of(value, found),
            Some(found) if name == "ports" && has_service_ports(value) => {
                same_size(value, found) && is_subset_of(value, found)
            }
            Some(Value::Array(found)) if name == "finalizers" => is_subset_of_words(value, found),
            Some(found) => is_subset_of(value, found),
            None => is_nothing(value),
        }),
        (Value::Array(desired), Value::Array(live)) => {
            equal_in_order(desired, live) || is_subset_by_name(desired, live)
        }
        _ => desired == live,
    }
}

/// The API server drops what is empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn equal_in_order(desired: &[Value], live: &[Value]) -> bool {
    desired.len() == live.len() && desired.iter().zip(live).all(|(desired, live)| is_subset_of(desired, live))
}

/// In lists with names, and in those of owners, others may have items of their own.
fn is_subset_by_name(desired: &[Value], live: &[Value]) -> bool {
    let key = |item: &Value| ["name", "uid"].iter().any(|key| item.get(key).is_some());
    desired.iter().all(|item| key(item) && live.iter().any(|found| is_subset_of(item, found)))
}

/// In a set of words others may have their own.
fn is_subset_of_words(desired: &Value, live: &[Value]) -> bool {
    desired.as_array().is_some_and(|desired| desired.iter().all(|item| live.contains(item)))
}

fn same_size(desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.len() == live.len(),
        (Value::Array(desired), Value::Array(live)) => desired.len() == live.len(),
        _ => false,
    }
}

fn has_service_ports(ports: &Value) -> bool {
    ports.as_array().is_some_and(|ports| ports.iter().all(|port| port.get("port").is_some()))
}

/// What takes an edit back that server-side apply cannot: it knows ports of a Service by their numbers, so one with
/// another number is another port, and stays beside ours. `None` if there is nothing of the kind.
pub fn correction(desired: &Value, live: &Value) -> Option<Value> {
    let ports = |object: &Value| object.pointer("/spec/ports").and_then(Value::as_array).cloned();
    let (desired_ports, found) = (ports(desired)?, ports(live)?);
    let identity = |port: &Value| (port["port"].clone(), port["protocol"].as_str().unwrap_or("TCP").to_owned());
    let is_desired = |port: &Value| desired_ports.iter().any(|desired| identity(desired) == identity(port));
    if desired["kind"] != "Service" || found.iter().all(is_desired) {
        return None;
    }
    let with_node_port = |port: &Value| {
        let mut port = port.clone();
        let before = found.iter().find(|found| found["name"] == port["name"]).and_then(|found| found.get("nodePort"));
        if let Some(node_port) = before {
            port["nodePort"] = node_port.clone();
        }
        port
    };
    let ports: Vec<Value> = desired_ports.iter().map(with_node_port).collect();
    Some(json!({ "spec": { "ports": ports } }))
}

/// Quantities are equal as numbers: the API server writes `1000m` as `1`.
fn same_quantities(desired: &Value, live: &Value) -> bool {
    let (Value::Object(desired), Value::Object(live)) = (desired, live) else { return desired == live };
    desired.iter().all(|(name, value)| {
        let found = live.get(name);
        found == Some(value)
            || found.and_then(quantity).zip(quantity(value)).is_some_and(|(a, b)| (a - b).abs() < 1e-9 * a.abs())
    })
}

/// A quantity as a number: digits with a decimal or binary suffix.
pub fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.as_f64()?.to_string(),
    };
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Ei" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(digits.parse::<f64>().ok()? * factor)
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
        assert!(is_subset_of(&json!({ "finalizers": ["a"] }), &json!({ "finalizers": ["a", "b"] })));
    }

    #[test]
    fn a_port_with_another_number_is_taken_back_and_keeps_the_port_of_the_nodes() {
        let desired = json!({ "kind": "Service", "spec": { "ports": [{ "name": "http", "port": 8080 }] } });
        let edited = json!({ "spec": { "ports": [{ "name": "http", "port": 80, "nodePort": 30000 }] } });
        let patch = correction(&desired, &edited).unwrap();
        assert_eq!(patch["spec"]["ports"], json!([{ "name": "http", "port": 8080, "nodePort": 30000 }]));
        let retargeted = json!({ "spec": { "ports": [{ "name": "http", "port": 8080, "targetPort": 1 }] } });
        assert_eq!(correction(&desired, &retargeted), None);
    }

    #[test]
    fn quantities_are_compared_as_numbers() {
        let desired = json!({ "requests": { "cpu": "1000m", "memory": "1Gi" } });
        assert!(is_subset_of(&desired, &json!({ "requests": { "cpu": "1", "memory": "1024Mi" } })));
        assert!(!is_subset_of(&desired, &json!({ "requests": { "cpu": "2", "memory": "1Gi" } })));
    }

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
}
