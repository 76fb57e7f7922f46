//! The scheduler and the kubelet of the only node: pods are placed, wait for what is missing, run and end.

use serde_json::{Value, json};

use super::super::api::{
    Key,
    object::{bytes, is_deleted},
    pods::memory,
    store::Store,
};
use super::{World, has_ended, key_of, mounts::Mounts, text, volumes};

/// What a pod is to the kubelet in one second.
pub(super) struct Pod<'a> {
    pub value: &'a Value,
    pub uid: String,
    pub name: String,
    pub address: String,
}

impl<'a> Pod<'a> {
    fn of(value: &'a Value, address: String) -> Self {
        Self { uid: text(value, "/metadata/uid"), name: text(value, "/metadata/name"), value, address }
    }

    /// The kind of its owner.
    pub(super) fn owner(&self) -> &'a str {
        self.value.pointer("/metadata/ownerReferences/0/kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its own container; others may be injected.
    pub(super) fn container(&self) -> &'a Value {
        &self.value["spec"]["containers"][0]
    }

    pub(super) fn init_containers(&self) -> &'a [Value] {
        self.value["spec"]["initContainers"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl World {
    /// One second of every pod.
    pub(super) fn run_pods(&mut self, store: &mut Store) {
        self.servers.lock().servers.clear();
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
        let mut mounts = Mounts::default();
        for pod in pods.iter().filter(|pod| is_deleted(pod)) {
            self.end(store, pod);
        }
        for pod in pods.iter().filter(|pod| !is_deleted(pod) && !has_ended(pod)) {
            let key = key_of("Pod", pod, &text(pod, "/metadata/name"));
            if let Some(why) = self.unschedulable(store, pod, used) {
                let message = format!("0/1 nodes are available: {why}");
                store.edit(&key, |pod| {
                    pod["status"] = json!({ "phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                }] })
                });
                continue;
            }
            if pod["spec"]["nodeName"].is_null() {
                used += memory(pod);
            }
            let address = self.address(pod);
            let status = self.next_status(store, &Pod::of(pod, address), &mut mounts);
            // Most pods stay as they are, and a copy of each would cost the most of a second.
            if pod["spec"]["nodeName"] != "node" || pod["status"] != status {
                store.edit(&key, |pod| {
                    pod["spec"]["nodeName"] = json!("node");
                    pod["status"] = status;
                });
            }
        }
        self.broken.extend(mounts.conflicts());
    }

    fn address(&self, pod: &Value) -> String {
        self.pod_address.clone().unwrap_or_else(|| self.servers.lock().address(&text(pod, "/metadata/uid")))
    }

    /// A pod that was deleted ends; it has used its volumes until now.
    fn end(&mut self, store: &mut Store, pod: &Value) {
        let uid = text(pod, "/metadata/uid");
        let mut model = self.servers.lock();
        if model.runs.remove(&uid).is_some() && !has_ended(pod) {
            Mounts::note(store, &mut model, pod);
        }
        store.logs.remove(&uid);
        store.end(&key_of("Pod", pod, &text(pod, "/metadata/name")));
    }

    /// Why the scheduler cannot place a pod while others use so much memory; `None` if it can, or has.
    fn unschedulable(&self, store: &Store, pod: &Value, used: u64) -> Option<String> {
        if !pod["spec"]["nodeName"].is_null() {
            return None;
        }
        let is_server = text(pod, "/metadata/ownerReferences/0/kind") != "Job";
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

    /// The status of a pod after a second: waiting for what is missing, else what its containers made of it.
    fn next_status(&self, store: &mut Store, pod: &Pod<'_>, mounts: &mut Mounts) -> Value {
        let all = pod.init_containers().iter().chain([pod.container()]);
        let absent = all
            .into_iter()
            .find(|container| self.missing_images.iter().any(|image| container["image"] == json!(image)));
        if let Some(absent) = absent {
            return self.waiting(pod, absent, "ImagePullBackOff", "Back-off pulling image: not found");
        }
        // One that has started has its volumes, whatever becomes of what they were made from.
        let has_started = self.servers.lock().runs.contains_key(&pod.uid);
        if let Some(missing) = missing_volume(store, pod.value).filter(|_| !has_started) {
            let first = pod.init_containers().first().unwrap_or(pod.container());
            return self.waiting(pod, first, "ContainerCreating", &format!("{missing} not found"));
        }
        self.keep_images(store, pod);
        if pod.owner() == "Job" {
            return self.run_job(store, pod, mounts);
        }
        match &self.server_status {
            Some(status) => status.clone(),
            None => self.run_server(store, pod, mounts),
        }
    }

    /// The node lists the images that it has.
    fn keep_images(&self, store: &mut Store, pod: &Pod<'_>) {
        let node = Key::new("Node", "", "node");
        for container in pod.init_containers().iter().chain([pod.container()]) {
            let name = text(container, "/image");
            let names = json!({ "names": [self.image_id(&name), name] });
            let listed = store.get(&node).and_then(|node| node["status"]["images"].as_array());
            if !listed.is_some_and(|listed| listed.contains(&names)) {
                let mut listed = listed.cloned().unwrap_or_default();
                listed.push(names);
                store.edit(&node, |node| node["status"]["images"] = json!(listed));
            }
        }
    }

    /// The status of a pod one of whose containers waits for something, and the others for that.
    fn waiting(&self, pod: &Pod<'_>, which: &Value, reason: &str, message: &str) -> Value {
        let state = |container: &Value| match container["name"] == which["name"] {
            true => json!({ "waiting": { "reason": reason, "message": message } }),
            false => json!({ "waiting": { "reason": "PodInitializing" } }),
        };
        let inits = pod.init_containers().iter().map(|init| self.container_status(init, &state(init), false)).collect();
        self.status(pod, "Pending", inits, self.container_status(pod.container(), &state(pod.container()), false))
    }

    /// What the kubelet tells of one container.
    pub(super) fn container_status(&self, container: &Value, state: &Value, ready: bool) -> Value {
        let name = text(container, "/image");
        json!({
            "name": container["name"], "state": state, "ready": ready, "restartCount": 0, "image": name,
            "imageID": self.image_id(&name),
        })
    }

    /// What it tells of a pod with these containers.
    pub(super) fn status(&self, pod: &Pod<'_>, phase: &str, inits: Vec<Value>, own: Value) -> Value {
        let other = json!({ "name": "a-proxy", "state": { "running": {} }, "ready": true, "image": "proxy" });
        let is_injected = self.injects && pod.owner() == "Job";
        let mut status = json!({
            "phase": if is_injected && phase != "Pending" { "Running" } else { phase }, "podIP": pod.address,
            "conditions": [{ "type": "Ready", "status": if own["ready"] == true { "True" } else { "False" } }],
            "containerStatuses": if is_injected { vec![other, own] } else { vec![own] },
        });
        if !inits.is_empty() {
            status["initContainerStatuses"] = json!(inits);
        }
        status
    }
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
