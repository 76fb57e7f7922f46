//! An object as the cluster has it, and where its standard fields are. Whoever reads a name, a uid or a container of an
//! object reads it here.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    kind::{Kind, name_of, uid_of},
    objects::labels::{RESTARTED_AT, UPGRADE},
};

/// An object as the cluster has it, without the fields that the operator does not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Live(pub Value);

impl Live {
    /// What tells it from another object that gets the same name later.
    pub fn uid(&self) -> &str {
        uid_of(&self.0).unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        name_of(&self.0)
    }

    /// Its version as text.
    pub fn version(&self) -> &str {
        self.metadata("resourceVersion").as_str().unwrap_or_default()
    }

    /// The end of its grace period; `None` if nobody deleted it.
    pub fn deleted_at(&self) -> Option<Timestamp> {
        self.metadata("deletionTimestamp").as_str()?.parse().ok()
    }

    /// Whether somebody deleted it.
    pub fn is_deleted(&self) -> bool {
        !self.metadata("deletionTimestamp").is_null()
    }

    /// When it was created; known of pods, Jobs and claims only.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.metadata("creationTimestamp").as_str()?.parse().ok()
    }

    /// The label of this name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.metadata("labels")[name].as_str()
    }

    /// The annotation of this name.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata("annotations")[name].as_str()
    }

    /// The uid of the controller that owns it.
    pub fn owner(&self) -> Option<&str> {
        self.metadata("ownerReferences").as_array()?.iter().find_map(|owner| owner["uid"].as_str())
    }

    /// Whether this is one of its owners.
    pub fn is_owned_by(&self, uid: &str) -> bool {
        let owners = self.metadata("ownerReferences").as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["uid"] == uid)
    }

    /// The field managers; known only of an object that was read by name.
    pub fn managers(&self) -> impl Iterator<Item = &str> {
        let entries = self.metadata("managedFields").as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["manager"].as_str())
    }

    /// Its finalizers.
    pub fn finalizers(&self) -> Vec<String> {
        let names = self.metadata("finalizers").as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The value at a JSON pointer; null if there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The status of the container of this name, which need not be the first one; null if there is none.
    pub fn container(&self, name: &str) -> &Value {
        named(self.at("/status/containerStatuses"), name)
    }

    /// The container of this name in the pod template; null if there is none.
    pub fn template_container(&self, name: &str) -> &Value {
        named(self.at("/spec/template/spec/containers"), name)
    }

    /// The annotation of this name in the pod template.
    pub fn template_annotation(&self, name: &str) -> Option<&str> {
        self.at("/spec/template/metadata/annotations").get(name)?.as_str()
    }

    /// The condition of this type: status, reason and message.
    pub fn condition(&self, kind: &str) -> Option<(&str, &str, &str)> {
        let conditions = self.at("/status/conditions").as_array()?;
        let condition = conditions.iter().find(|condition| condition["type"] == kind)?;
        let text = |name: &str| condition[name].as_str().unwrap_or_default();
        Some((text("status"), text("reason"), text("message")))
    }

    /// Whether its condition Ready is true.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|(status, ..)| status == "True")
    }

    fn metadata(&self, name: &str) -> &Value {
        self.0.get("metadata").and_then(|metadata| metadata.get(name)).unwrap_or(&Value::Null)
    }
}

fn named<'a>(items: &'a Value, name: &str) -> &'a Value {
    let found = items.as_array().and_then(|items| items.iter().find(|item| item["name"] == name));
    found.unwrap_or(&Value::Null)
}

/// Removes the fields that the operator does not read, so that memory grows slowly with the cluster.
pub(super) fn prune(kind: Kind, object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if !matches!(kind, Kind::Pod | Kind::Job | Kind::Claim | Kind::VolumeSnapshot) {
            metadata.remove("creationTimestamp");
        }
    }
    match kind {
        Kind::Pod => {
            keep(object, "spec", &["nodeName"]);
            keep(
                object,
                "status",
                &["phase", "podIP", "reason", "conditions", "containerStatuses", "initContainerStatuses"],
            );
            if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
                annotations.retain(|name, _| name.starts_with("progressdb.io/") || name == RESTARTED_AT);
            }
        }
        Kind::Job => keep(object, "spec", &[]),
        Kind::Service | Kind::NetworkPolicy | Kind::ServiceMonitor | Kind::PrometheusRule => {
            keep(object, "status", &[])
        }
        // The report of an upgrade that has ended is for people.
        Kind::ConfigMap if object["immutable"] == true && has_label(object, UPGRADE) => keep(object, "data", &[]),
        Kind::Secret => {
            keep(object, "data", &[]);
            keep(object, "stringData", &[]);
        }
        _ => {}
    }
}

/// Removes all other fields of a part, and the part if it is then empty.
fn has_label(object: &Value, label: &str) -> bool {
    object.pointer("/metadata/labels").is_some_and(|labels| labels.get(label).is_some())
}

fn keep(object: &mut Value, part: &str, names: &[&str]) {
    let empty = match object.get_mut(part).and_then(Value::as_object_mut) {
        Some(part) => {
            part.retain(|name, _| names.contains(&name.as_str()));
            part.is_empty()
        }
        None => return,
    };
    if empty {
        object.as_object_mut().map(|object: &mut Map<String, Value>| object.remove(part));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_secret_is_not_kept() {
        let mut secret = json!({ "metadata": { "name": "a", "managedFields": [1] }, "data": { "token": "c2VjcmV0" } });
        prune(Kind::Secret, &mut secret);
        assert_eq!(secret, json!({ "metadata": { "name": "a" } }));
    }

    #[test]
    fn of_a_pod_only_its_state_is_kept() {
        let mut pod = json!({
            "metadata": { "name": "a", "annotations": { "progressdb.io/roll": "1", "other": "2" } },
            "spec": { "nodeName": "n", "containers": [{ "name": "server" }] },
            "status": { "phase": "Running", "hostIP": "10.0.0.1" },
        });
        prune(Kind::Pod, &mut pod);
        assert_eq!(
            pod,
            json!({
                "metadata": { "name": "a", "annotations": { "progressdb.io/roll": "1" } },
                "spec": { "nodeName": "n" },
                "status": { "phase": "Running" },
            })
        );
    }
}
