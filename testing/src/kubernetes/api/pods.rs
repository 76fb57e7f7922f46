//! What the API server says of pods and of templates of pods: what it finds invalid, and what admission forbids.

use serde_json::{Value, json};

use super::{
    kinds::named,
    object::{Key, Refusal, bytes, is_deleted, refuse},
    store::Store,
};

/// The template of an object that makes pods, or the pod itself.
fn template<'a>(key: &Key, object: &'a Value) -> Option<&'a Value> {
    match key.kind.kind {
        "Pod" => Some(object),
        "StatefulSet" | "Deployment" | "ReplicaSet" | "Job" => Some(&object["spec"]["template"]),
        _ => None,
    }
}

fn containers(pod: &Value) -> &[Value] {
    pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What the API server finds invalid in a pod or in the template of one.
pub fn validate(key: &Key, object: &Value) -> Result<(), Refusal> {
    let Some(pod) = template(key, object) else { return Ok(()) };
    let invalid =
        |what: String| Err(refuse(422, "Invalid", format!("{} \"{}\" is invalid: {what}", key.kind.kind, key.name)));
    for field in ["labels", "annotations"] {
        let keys = pod["metadata"][field].as_object().into_iter().flatten().map(|(name, _)| name);
        if let Some(name) = keys.into_iter().find(|name| name.contains(' ')) {
            return invalid(format!(
                "metadata.{field}: Invalid value: \"{name}\": name part must consist of alphanumeric characters"
            ));
        }
    }
    for container in containers(pod) {
        let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
        for (name, amount) in [requests, limits].into_iter().filter_map(Value::as_object).flatten() {
            if amount.as_str().is_some_and(|text| text.ends_with('b')) {
                let message = format!(
                    "unable to convert unstructured object: {name}: quantities must match the regular expression"
                );
                return Err(refuse(500, "", message));
            }
        }
        let more =
            requests.as_object().into_iter().flatten().find(|(name, amount)| {
                !limits[name.as_str()].is_null() && bytes(amount) > bytes(&limits[name.as_str()])
            });
        if let Some((name, amount)) = more {
            return invalid(format!(
                "resources.requests: Invalid value: {amount}: must be less than or equal to {name} limit"
            ));
        }
    }
    Ok(())
}

/// The memory that a pod requests.
pub fn memory(pod: &Value) -> u64 {
    let of = |container: &Value| {
        let (request, limit) =
            (&container["resources"]["requests"]["memory"], &container["resources"]["limits"]["memory"]);
        bytes(if request.is_null() { limit } else { request })
    };
    containers(pod).iter().map(of).sum()
}

/// What admission forbids: a priority class that does not exist, and more than a quota of memory or pods.
pub fn admit(store: &Store, key: &Key, pod: &Value) -> Result<(), Refusal> {
    if key.kind.kind != "Pod" {
        return Ok(());
    }
    let forbid = |why: String| Err(refuse(403, "Forbidden", format!("pods \"{}\" is forbidden: {why}", key.name)));
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    if !class.is_empty() && store.get(&Key::new("PriorityClass", "", class)).is_none() {
        return forbid(format!("no PriorityClass with name {class} was found"));
    }
    let lives = |pod: &&Value| {
        !is_deleted(pod) && pod["status"]["phase"] != json!("Succeeded") && pod["status"]["phase"] != json!("Failed")
    };
    let pods: Vec<&Value> = store.list(named("Pod"), Some(&key.namespace)).into_iter().filter(lives).collect();
    for quota in store.list(named("ResourceQuota"), Some(&key.namespace)) {
        let limit = &quota["spec"]["hard"]["requests.memory"];
        let (asked, used) = (memory(pod), pods.iter().map(|pod| memory(pod)).sum::<u64>());
        if !limit.is_null() && asked + used > bytes(limit) {
            let name = quota["metadata"]["name"].as_str().unwrap_or_default();
            return forbid(format!(
                "exceeded quota: {name}, requested: requests.memory={asked}, used: requests.memory={used}, limited: \
                 requests.memory={}",
                limit.as_str().unwrap_or_default(),
            ));
        }
    }
    Ok(())
}
