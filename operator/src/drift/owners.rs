//! Who changed what is no longer as desired, by `metadata.managedFields`.

use serde_json::{Map, Value};

use super::{is_nothing, is_subset_of};
use crate::MANAGER;

/// Who holds fields of `live` that differ from `desired`, and which: `kube-controller-manager sets spec.replicas`.
/// `None` if nobody else holds one, as when a field was removed.
pub fn owners(desired: &Value, live: &Value) -> Option<String> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?.iter();
    let others = entries.filter(|entry| entry["manager"] != MANAGER);
    let found = others.filter_map(|entry| {
        let mut fields = Vec::new();
        collect(&entry["fieldsV1"], desired, live, "", &mut fields);
        let manager = entry["manager"].as_str()?;
        (!fields.is_empty()).then(|| format!("{manager} sets {}", fields.join(", ")))
    });
    let found: Vec<String> = found.collect();
    (!found.is_empty()).then(|| found.join(" and "))
}

/// The fields of one manager, a tree as `fieldsV1` has it, in which `live` is not as `desired`.
fn collect(held: &Value, desired: &Value, live: &Value, path: &str, fields: &mut Vec<String>) {
    let Value::Object(held) = held else { return };
    match desired {
        Value::Object(desired) => {
            for (name, value) in desired {
                let (Some(held), Some(live)) = (held.get(&format!("f:{name}")), live.get(name)) else { continue };
                if is_nothing(value) || is_subset_of(value, live) {
                    continue;
                }
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                // A value, or a list or map that is held as a whole.
                match held.as_object().is_none_or(Map::is_empty) {
                    true => fields.push(path),
                    false => collect(held, value, live, &path, fields),
                }
            }
        }
        Value::Array(items) => {
            for (held, keys) in held.iter().filter_map(|(name, held)| Some((held, keys(name)?))) {
                let is_meant = |item: &&Value| keys.iter().all(|(key, value)| item.get(key) == Some(value));
                let live = live.as_array().and_then(|items| items.iter().find(is_meant));
                let (Some(live), Some(item)) = (live, items.iter().find(is_meant)) else { continue };
                let name =
                    keys.values().next().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
                collect(held, item, live, &format!("{path}[{}]", name.unwrap_or_default()), fields);
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

    #[test]
    fn the_one_who_changed_a_field_is_named_with_it() {
        let held = json!([
            { "manager": MANAGER, "fieldsV1": { "f:spec": { "f:replicas": {}, "f:serviceName": {} } } },
            { "manager": "autoscaler", "subresource": "scale", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": "bystander", "fieldsV1": { "f:spec": { "f:serviceName": {} }, "f:status": {} } },
        ]);
        let live = json!({ "metadata": { "managedFields": held }, "spec": { "replicas": 2, "serviceName": "db" }, "status": {} });
        let desired = json!({ "spec": { "replicas": 1, "serviceName": "db" } });
        assert_eq!(owners(&desired, &live), Some("autoscaler sets spec.replicas".into()));
        assert_eq!(owners(&json!({ "spec": { "serviceName": "db" } }), &live), None);
    }

    #[test]
    fn items_are_found_by_their_keys() {
        let held = json!([{
            "manager": "kubectl-edit",
            "fieldsV1": { "f:spec": { "f:ports": { "k:{\"port\":8080,\"protocol\":\"TCP\"}": { "f:targetPort": {} } } } },
        }]);
        let port = |target: Value| json!([{ "name": "http", "port": 8080, "protocol": "TCP", "targetPort": target }]);
        let live = json!({ "metadata": { "managedFields": held }, "spec": { "ports": port(json!(1)) } });
        let desired = json!({ "spec": { "ports": port(json!("http")) } });
        assert_eq!(owners(&desired, &live), Some("kubectl-edit sets spec.ports[8080].targetPort".into()));
    }
}
