//! Which pods Services select: the EndpointSlices say so, and clients write to the servers among them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::super::api::{object::is_deleted, store::Store};
use super::{key_of, text};

/// The pods that a Service selects.
pub(super) struct Selected {
    service: Arc<Value>,
    pods: Vec<Arc<Value>>,
}

/// What each Service selects.
pub(super) fn select(store: &Store) -> Vec<Selected> {
    let pods = store.all("Pod");
    let mut by_label: HashMap<(&str, &str, &str), Vec<&Arc<Value>>> = HashMap::new();
    for pod in &pods {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        for (name, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            by_label.entry((namespace, name, value.as_str().unwrap_or_default())).or_default().push(pod);
        }
    }
    let pods_of = |service: &Value| {
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
        let none = Map::new();
        let selector = service["spec"]["selector"].as_object().unwrap_or(&none);
        let candidates = selector.iter().map(|(name, value)| {
            let label = (namespace, name.as_str(), value.as_str().unwrap_or_default());
            by_label.get(&label).map(Vec::as_slice).unwrap_or_default()
        });
        let fewest = candidates.min_by_key(|pods| pods.len()).unwrap_or_default();
        let has_all = |pod: &Value| selector.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value);
        fewest.iter().filter(|pod| has_all(pod)).map(|pod| Arc::clone(pod)).collect()
    };
    store.all("Service").into_iter().map(|service| Selected { pods: pods_of(&service), service }).collect()
}

impl Selected {
    /// The addresses of the pods that clients of this Service reach. The one that gives pods their names is not for them.
    pub(super) fn reached(&self) -> Vec<String> {
        let is_reached = |pod: &&Arc<Value>| is_ready(pod) && !is_deleted(pod);
        let addresses = self.pods.iter().filter(is_reached).map(|pod| text(pod, "/status/podIP"));
        if self.service["spec"]["clusterIP"] == "None" { Vec::new() } else { addresses.collect() }
    }

    pub(super) fn name(&self) -> String {
        text(&self.service, "/metadata/name")
    }
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Makes the EndpointSlice of each Service with a selector, as the controller does.
pub(super) fn keep_slices(store: &mut Store, selected: &[Selected]) {
    for Selected { service, pods } in selected.iter().filter(|one| !one.service["spec"]["selector"].is_null()) {
        let name = text(service, "/metadata/name");
        let key = key_of("EndpointSlice", service, &format!("{name}-endpoints"));
        let shows_all = service["spec"]["publishNotReadyAddresses"] == true;
        let there = pods.iter().filter(|pod| !text(pod, "/status/podIP").is_empty());
        let endpoints: Vec<Value> = there.map(|pod| endpoint(pod, shows_all)).collect();
        match store.get(&key) {
            Some(slice) if slice["endpoints"] == json!(endpoints) => {}
            Some(_) => store.edit(&key, |slice| slice["endpoints"] = json!(endpoints)),
            // Refused in a namespace that is being deleted.
            None => drop(store.create(&key, slice(service, &endpoints), BTreeMap::new())),
        }
    }
}

fn endpoint(pod: &Value, shows_all: bool) -> Value {
    let metadata = &pod["metadata"];
    let (is_ready, is_ending) = (is_ready(pod), is_deleted(pod));
    json!({
        "addresses": [pod["status"]["podIP"]], "nodeName": pod["spec"]["nodeName"],
        "conditions": { "ready": shows_all || (is_ready && !is_ending), "serving": is_ready, "terminating": is_ending },
        "targetRef": {
            "kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
        },
    })
}

fn slice(service: &Value, endpoints: &[Value]) -> Value {
    let metadata = &service["metadata"];
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    labels.insert("kubernetes.io/service-name".into(), metadata["name"].clone());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), json!("endpointslice-controller.k8s.io"));
    let owner = json!({
        "apiVersion": "v1", "kind": "Service", "controller": true, "blockOwnerDeletion": true,
        "name": metadata["name"], "uid": metadata["uid"],
    });
    json!({
        "metadata": { "labels": labels, "ownerReferences": [owner] },
        "addressType": "IPv4", "endpoints": endpoints, "ports": service["spec"]["ports"],
    })
}
