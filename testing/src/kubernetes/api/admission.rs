//! What the API server makes of an object before it keeps it.

use std::collections::HashSet;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::object::{Key, Refusal, bytes, refuse};

/// What the API server fills in, as far as our objects meet it.
pub(super) fn default(key: &Key, object: &mut Value) {
    let put = |value: &mut Value, name: &str, default: Value| {
        if value[name].is_null() {
            value[name] = default;
        }
    };
    match key.kind.kind {
        "StatefulSet" | "Deployment" => {
            put(&mut object["spec"], "revisionHistoryLimit", json!(10));
            if key.kind.kind == "Deployment" {
                put(&mut object["spec"], "progressDeadlineSeconds", json!(600));
                put(&mut object["spec"], "replicas", json!(1));
            }
            let pod = &mut object["spec"]["template"]["spec"];
            put(pod, "restartPolicy", json!("Always"));
            put(pod, "dnsPolicy", json!("ClusterFirst"));
            put(pod, "schedulerName", json!("default-scheduler"));
        }
        "Secret" => {
            let texts = object.as_object_mut().and_then(|object| object.remove("stringData"));
            for (name, text) in texts.as_ref().and_then(Value::as_object).into_iter().flatten() {
                let bytes = ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
                object["data"][name] = json!(bytes);
            }
        }
        "Service" => {
            put(&mut object["spec"], "clusterIP", json!("10.0.0.1"));
            put(&mut object["spec"], "sessionAffinity", json!("None"));
            put(&mut object["spec"], "type", json!("ClusterIP"));
        }
        "PersistentVolumeClaim" => {
            put(&mut object["spec"], "volumeMode", json!("Filesystem"));
            put(&mut object["status"], "phase", json!("Pending"));
            let class = object["spec"]["storageClassName"].clone();
            if class.is_null() {
                object["spec"]["storageClassName"] = json!("standard");
            }
            // Two fields for one thing: who sets one of them has set both.
            for (set, other) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
                let source = object["spec"][set].clone();
                if !source.is_null() {
                    put(&mut object["spec"], other, source);
                }
            }
        }
        _ => {}
    }
}

/// What the API server refuses, as far as an operator could try it.
pub(super) fn validate(key: &Key, old: Option<&Value>, new: &Value) -> Result<(), Refusal> {
    let invalid = |what: &str| {
        let message = format!("{} \"{}\" is invalid: {what}", key.kind.kind, key.name);
        Err(refuse(422, "Invalid", message))
    };
    if key.name.len() > 63 && key.kind.kind != "ConfigMap" {
        return invalid("metadata.name: must be no more than 63 characters");
    }
    if key.kind.kind == "Service" {
        let ports = new["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: HashSet<Option<&str>> = ports.iter().map(|port| port["name"].as_str()).collect();
        if names.len() < ports.len() {
            return invalid("spec.ports: Duplicate value");
        }
    }
    if ["Deployment", "ReplicaSet"].contains(&key.kind.kind) {
        let labels = &new["spec"]["template"]["metadata"]["labels"];
        let selector = new["spec"]["selector"]["matchLabels"].as_object();
        if !selector.is_some_and(|selector| selector.iter().all(|(name, value)| labels[name] == *value)) {
            return invalid("spec.template.metadata.labels: `selector` does not match template `labels`");
        }
    }
    let Some(old) = old else { return Ok(()) };
    let pruned = |object: &Value, mutable: &[&str]| {
        let mut spec = object["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            mutable.iter().for_each(|name| {
                spec.remove(*name);
            });
        }
        spec
    };
    match key.kind.kind {
        "StatefulSet" => {
            let mutable =
                ["replicas", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "ordinals"];
            if pruned(old, &mutable) != pruned(new, &mutable) {
                return invalid("spec: updates to fields other than those of the template are forbidden");
            }
        }
        "Deployment" | "ReplicaSet" if old["spec"]["selector"] != new["spec"]["selector"] => {
            return invalid("spec.selector: field is immutable");
        }
        "Job" if pruned(old, &["suspend", "parallelism"]) != pruned(new, &["suspend", "parallelism"]) => {
            return invalid("spec.template: field is immutable");
        }
        "PersistentVolumeClaim" => {
            let size = |object: &Value| bytes(&object["spec"]["resources"]["requests"]["storage"]);
            let is_bound = new["status"]["phase"] == "Bound";
            let mutable: &[&str] = if is_bound { &["resources", "volumeName"] } else { &["volumeName"] };
            if pruned(old, mutable) != pruned(new, mutable) {
                let message = format!(
                    "PersistentVolumeClaim \"{}\" is invalid: spec: Forbidden: spec is immutable after creation except \
                     resources.requests and volumeAttributesClassName for bound claims",
                    key.name
                );
                return Err(Refusal { field: Some("spec"), ..refuse(422, "Invalid", message) });
            }
            if size(new) < size(old) {
                return invalid("spec.resources.requests.storage: field can not be less than status.capacity");
            }
        }
        _ => {}
    }
    Ok(())
}
