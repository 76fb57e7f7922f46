//! Who changed what is no longer as desired, by `metadata.managedFields`.

use serde_json::{Map, Value};

use super::subset::{addition_counts, field_is_subset_of};
use crate::MANAGER;

/// Who holds fields of `live` that differ from `desired`, and which: `kube-controller-manager sets spec.replicas`.
/// `None` if nobody else holds one, as when a field was removed.
pub fn owners(desired: &Value, live: &Value) -> Option<String> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?.iter();
    let others = entries.filter(|entry| entry["manager"] != MANAGER);
    let found = others.filter_map(|entry| {
        let mut fields = Vec::new();
        collect(&entry["fieldsV1"], ("", desired), live, "", &mut fields);
        let manager = entry["manager"].as_str()?;
        (!fields.is_empty()).then(|| format!("{manager} sets {}", fields.join(", ")))
    });
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| found.join(" and "))
}

/// The fields of one manager, a tree as `fieldsV1` has it, in which `live` is not as desired. `desired` comes with the name
/// of the field that holds it.
fn collect(held: &Value, (name, desired): (&str, &Value), live: &Value, path: &str, fields: &mut Vec<String>) {
    let Value::Object(held) = held else { return };
    match desired {
        Value::Object(children) => {
            for (child, value) in children {
                let (Some(held), Some(live)) = (held.get(&format!("f:{child}")), live.get(child)) else { continue };
                if field_is_subset_of(name, child, value, Some(live)) {
                    continue;
                }
                let path = if path.is_empty() { child.clone() } else { format!("{path}.{child}") };
                // A value, or a list or map that is held as a whole.
                match held.as_object().is_none_or(Map::is_empty) {
                    true => fields.push(path),
                    false => collect(held, (child, value), live, &path, fields),
                }
            }
            let is_added = |(child, _): &(&String, &Value)| {
                let child = child.strip_prefix("f:");
                child.is_some_and(|child| children.get(child).is_none() && live.get(child).is_some())
            };
            let added = held.iter().filter(|_| addition_counts(name, desired)).filter(is_added);
            fields.extend(added.map(|(child, _)| format!("{path}.{}", child.trim_start_matches("f:"))));
        }
        Value::Array(items) => {
            for (held, keys) in held.iter().filter_map(|(name, held)| Some((held, keys(name)?))) {
                let is_meant = |item: &&Value| keys.iter().all(|(key, value)| item.get(key) == Some(value));
                let Some(live) = live.as_array().and_then(|items| items.iter().find(is_meant)) else { continue };
                let key = keys.values().next().map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned));
                let path = format!("{path}[{}]", key.unwrap_or_default());
                match items.iter().find(is_meant) {
                    Some(item) => collect(held, (name, item), live, &path, fields),
                    None if addition_counts(name, desired) => fields.push(path),
                    None => {}
                }
            }
        }
        _ => {}
    }
}

/// What an item of a list is known by.
fn keys(step: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(step.strip_prefix("k:")?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(fields: Value, desired: Value, live: Value) -> Option<String> {
        let held = json!([
            { "manager": MANAGER, "fieldsV1": { "f:spec": { "f:replicas": {}, "f:serviceName": {}, "f:selector": {} } } },
            { "manager": "autoscaler", "fieldsV1": { "f:spec": fields } },
            { "manager": "bystander", "fieldsV1": { "f:spec": { "f:serviceName": {} }, "f:status": {} } },
        ]);
        let live = json!({ "metadata": { "managedFields": held }, "spec": live, "status": {} });
        owners(&json!({ "spec": desired }), &live)
    }

    #[test]
    fn the_one_who_changed_a_field_is_named_with_it() {
        let held = json!({ "f:replicas": {} });
        let live = json!({ "replicas": 2, "serviceName": "db" });
        let both = json!({ "replicas": 1, "serviceName": "db" });
        assert_eq!(named(held.clone(), both, live.clone()), Some("autoscaler sets spec.replicas".into()));
        assert_eq!(named(held, json!({ "serviceName": "db" }), live), None);
    }

    #[test]
    fn the_one_who_added_what_counts_is_named_with_it() {
        let (desired, live) = (json!({ "selector": { "a": "1" } }), json!({ "selector": { "a": "1", "b": "2" } }));
        let added = json!({ "f:selector": { "f:b": {} } });
        assert_eq!(named(added, desired.clone(), live.clone()), Some("autoscaler sets spec.selector.b".into()));
        let whole = json!({ "f:selector": {} });
        assert_eq!(named(whole, desired.clone(), live.clone()), Some("autoscaler sets spec.selector".into()));
        let unchanged = json!({ "f:selector": { "f:a": {} } });
        assert_eq!(named(unchanged, desired, live), None);
    }

    #[test]
    fn the_same_quantity_in_another_spelling_is_nobody_s_change() {
        let held = json!({ "f:requests": { "f:cpu": {}, "f:memory": {} } });
        let desired = json!({ "requests": { "cpu": "1000m", "memory": "1Gi" } });
        let live = json!({ "requests": { "cpu": "1", "memory": "2Gi" } });
        assert_eq!(named(held, desired, live), Some("autoscaler sets spec.requests.memory".into()));
    }

    #[test]
    fn items_are_found_by_their_keys() {
        let key = |port: u32| format!("k:{{\"port\":{port},\"protocol\":\"TCP\"}}");
        let port = |number: u32, target: Value| json!({ "name": "http", "port": number, "protocol": "TCP", "targetPort": target });
        let (desired, other) = (port(8080, json!("http")), port(8080, json!(1)));
        let held = json!({ "f:ports": { key(8080): { "f:targetPort": {} } } });
        let found = named(held, json!({ "ports": [desired] }), json!({ "ports": [other] }));
        assert_eq!(found, Some("autoscaler sets spec.ports[8080].targetPort".into()));
        let held = json!({ "f:ports": { key(1): { ".": {}, "f:targetPort": {} } } });
        let found = named(held, json!({ "ports": [desired] }), json!({ "ports": [desired, port(1, json!(1))] }));
        assert_eq!(found, Some("autoscaler sets spec.ports[1]".into()));
    }
}
