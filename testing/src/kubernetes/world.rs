//! A cluster of one node around the API server: controllers, storage, scheduler and kubelet. [`World::step`] lets one
//! second pass and then checks that no two server pods use one claim.

mod storage;
mod workloads;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api::{
    Key, Server,
    kinds::named,
    object::{bytes, is_deleted},
    pods::memory,
    store::Store,
};

/// A cluster; its fields say what goes wrong in it.
pub struct World {
    server: Server,
    /// Images that no registry has.
    pub missing_images: Vec<String>,
    /// Jobs that fail, by a part of their names, with their termination messages.
    pub failing_jobs: BTreeMap<String, String>,
    /// Images whose server pods the scheduler places on no node.
    pub unplaceable_images: Vec<String>,
    /// Whether a container that never ends is injected into the pod of every Job, before the Job's own.
    pub injects: bool,
    /// Termination messages of Jobs that succeed, by a part of their names.
    pub job_messages: BTreeMap<String, String>,
    /// Storage classes whose driver makes no volume.
    pub broken_classes: Vec<String>,
    /// Whether the kubelet is gone, so that no pod starts or ends.
    pub is_node_lost: bool,
    /// Whether a file system grows while its pod runs.
    pub volumes_grow: bool,
    /// The status of every server pod, instead of that it runs.
    pub server_status: Option<Value>,
    /// The address of every pod.
    pub pod_address: String,
    /// The violations that were found.
    pub broken: Vec<String>,
}

impl World {
    /// A cluster with one node, one namespace and two storage classes: `standard` grows and `fixed` does not.
    pub fn new(server: &Server) -> Self {
        server.with(|store| {
            let mut make = |kind: &str, name: &str, object: Value| {
                store.create(&Key::new(kind, "", name), object, BTreeMap::new()).expect("the world is empty");
            };
            make("Namespace", "ns", json!({}));
            let ready = json!([{ "type": "Ready", "status": "True" }]);
            let allocatable = json!({ "cpu": "4", "memory": "8Gi", "pods": "110" });
            make("Node", "node", json!({ "status": { "conditions": ready, "allocatable": allocatable } }));
            make("StorageClass", "standard", json!({ "provisioner": "csi", "allowVolumeExpansion": true }));
            make("StorageClass", "fixed", json!({ "provisioner": "csi" }));
        });
        Self {
            server: server.clone(),
            missing_images: Vec::new(),
            failing_jobs: BTreeMap::new(),
            unplaceable_images: Vec::new(),
            injects: false,
            broken_classes: Vec::new(),
            job_messages: BTreeMap::new(),
            is_node_lost: false,
            volumes_grow: true,
            server_status: None,
            pod_address: "10.1.0.1".into(),
            broken: Vec::new(),
        }
    }

    /// The same world around another server.
    pub fn fork(&self, server: &Server) -> Self {
        Self {
            server: server.clone(),
            missing_images: self.missing_images.clone(),
            failing_jobs: self.failing_jobs.clone(),
            unplaceable_images: self.unplaceable_images.clone(),
            injects: self.injects,
            broken_classes: self.broken_classes.clone(),
            job_messages: self.job_messages.clone(),
            is_node_lost: self.is_node_lost,
            volumes_grow: self.volumes_grow,
            server_status: self.server_status.clone(),
            pod_address: self.pod_address.clone(),
            broken: self.broken.clone(),
        }
    }

    /// One second passes.
    pub fn step(&mut self) {
        let server = self.server.clone();
        server.with(|store| {
            store.advance(1);
            store.collect_garbage();
            storage::bind_claims(store, self.volumes_grow, &self.broken_classes);
            storage::reclaim_volumes(store);
            storage::snapshot_volumes(store);
            workloads::run_stateful_sets(store);
            workloads::run_jobs(store);
            self.run_pods(store);
            self.look_for_two_writers(store);
        });
    }

    fn run_pods(&self, store: &mut Store) {
        if self.is_node_lost {
            return;
        }
        let pods = store.all("Pod");
        // A pod that has ended uses nothing.
        let mut used: u64 = pods
            .iter()
            .filter(|pod| !pod["spec"]["nodeName"].is_null() && !has_ended(pod))
            .map(|pod| memory(pod))
            .sum();
        for pod in pods {
            let key = key_of("Pod", &pod, &text(&pod, "/metadata/name"));
            if is_deleted(&pod) {
                store.end(&key);
                continue;
            }
            if has_ended(&pod) {
                continue;
            }
            if let Some(why) = self.unschedulable(store, &pod, used) {
                let message = format!("0/1 nodes are available: {why}");
                store.edit(&key, |pod| {
                    pod["status"] = json!({ "phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                }] })
                });
                continue;
            }
            if pod["spec"]["nodeName"].is_null() {
                used += memory(&pod);
            }
            let status = self.next_status(store, &pod);
            store.edit(&key, |pod| {
                pod["spec"]["nodeName"] = json!("node");
                pod["status"] = status;
            });
        }
    }

    /// Why the scheduler cannot place a pod while others use so much memory; `None` if it can, or has.
    fn unschedulable(&self, store: &Store, pod: &Value, used: u64) -> Option<String> {
        if !pod["spec"]["nodeName"].is_null() {
            return None;
        }
        let is_server = text(pod, "/metadata/ownerReferences/0/kind") == "StatefulSet";
        if is_server
            && self.unplaceable_images.iter().any(|image| pod["spec"]["containers"][0]["image"] == json!(image))
        {
            return Some("1 node(s) have no place for it".into());
        }
        if pod["spec"]["nodeSelector"].as_object().is_some_and(|selector| !selector.is_empty()) {
            return Some("1 node(s) didn't match Pod's node affinity/selector".into());
        }
        let node = store.get(&Key::new("Node", "", "node")).expect("there is one");
        (used + memory(pod) > bytes(&node["status"]["allocatable"]["memory"])).then(|| "1 Insufficient memory".into())
    }

    /// The status of a pod after a second: waiting for what is missing, else running, or ended if it is a Job's.
    fn next_status(&self, store: &Store, pod: &Value) -> Value {
        let container = &pod["spec"]["containers"][0];
        let state = |phase: &str, state: Value, ready: bool| {
            let ready_text = if ready { "True" } else { "False" };
            let own = json!({
                "name": container["name"], "state": state, "ready": ready, "restartCount": 0,
                "image": container["image"], "imageID": format!("{}@sha256:{:064}", container["image"], 1),
            });
            let other = json!({ "name": "a-proxy", "state": { "running": {} }, "ready": true, "image": "proxy" });
            let is_injected = self.injects && text(pod, "/metadata/ownerReferences/0/kind") == "Job";
            json!({
                "phase": if is_injected && phase != "Pending" { "Running" } else { phase }, "podIP": self.pod_address,
                "conditions": [{ "type": "Ready", "status": ready_text }],
                "containerStatuses": if is_injected { vec![other, own] } else { vec![own] },
            })
        };
        let waiting = |reason: &str, message: &str| {
            state("Pending", json!({ "waiting": { "reason": reason, "message": message } }), false)
        };
        if self.missing_images.iter().any(|image| container["image"] == json!(image)) {
            return waiting("ImagePullBackOff", "Back-off pulling image: not found");
        }
        if let Some(missing) = missing_volume(store, pod) {
            return waiting("ContainerCreating", &format!("{missing} not found"));
        }
        let owner = text(pod, "/metadata/ownerReferences/0/kind");
        let name = text(pod, "/metadata/name");
        if owner != "Job" {
            let runs = || state("Running", json!({ "running": {} }), true);
            return self.server_status.clone().unwrap_or_else(runs);
        }
        match self.failing_jobs.iter().find(|(part, _)| name.contains(part.as_str())) {
            Some((_, message)) => {
                state("Failed", json!({ "terminated": { "exitCode": 78, "message": message } }), false)
            }
            None => {
                let message =
                    self.job_messages.iter().find(|(part, _)| name.contains(part.as_str())).map(|(_, message)| message);
                state("Succeeded", json!({ "terminated": { "exitCode": 0, "message": message } }), false)
            }
        }
    }

    fn look_for_two_writers(&mut self, store: &Store) {
        let mut writers: BTreeMap<String, usize> = BTreeMap::new();
        for pod in store.list(named("Pod"), None) {
            let is_server = text(pod, "/metadata/ownerReferences/0/kind") == "StatefulSet";
            for claim in claims_of(pod).into_iter().filter(|_| is_server) {
                *writers.entry(claim).or_default() += 1;
            }
        }
        self.broken
            .extend(writers.iter().filter(|(_, count)| **count > 1).map(|(claim, _)| format!("two write {claim}")));
    }
}

fn has_ended(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(pod, "/status/phase").as_str())
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn key_of(kind: &str, beside: &Value, name: &str) -> Key {
    Key::new(kind, &text(beside, "/metadata/namespace"), name)
}

fn volumes(pod: &Value) -> Vec<Value> {
    pod["spec"]["volumes"].as_array().cloned().unwrap_or_default()
}

fn claims_of(pod: &Value) -> Vec<String> {
    let claims = volumes(pod).into_iter().map(|volume| text(&volume, "/persistentVolumeClaim/claimName"));
    claims.filter(|claim| !claim.is_empty()).collect()
}

fn missing_volume(store: &Store, pod: &Value) -> Option<String> {
    let optional = |volume: &Value, kind: &str| volume[kind]["optional"] == json!(true);
    volumes(pod).iter().find_map(|volume| {
        let needs = [
            ("Secret", text(volume, "/secret/secretName"), optional(volume, "secret")),
            ("ConfigMap", text(volume, "/configMap/name"), optional(volume, "configMap")),
            ("PersistentVolumeClaim", text(volume, "/persistentVolumeClaim/claimName"), false),
        ];
        let (kind, name, _) = needs.into_iter().find(|(kind, name, optional)| {
            let object = store.get(&key_of(kind, pod, name));
            let is_bound =
                *kind != "PersistentVolumeClaim" || object.is_some_and(|claim| claim["status"]["phase"] == "Bound");
            !name.is_empty() && !optional && (object.is_none() || !is_bound)
        })?;
        Some(format!("{kind} {name}"))
    })
}
