//! The rest of Kubernetes: what binds claims, makes pods of StatefulSets and Jobs, runs them and collects garbage. It
//! moves one small step at a time, and looks after each whether a rule was broken that must never be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::{
    Key, Server,
    kinds::named,
    pods::memory,
    store::{Store, bytes, is_deleted},
};

/// What the world does with what it is given.
pub struct World {
    server: Server,
    /// Images that no registry has.
    pub missing_images: Vec<String>,
    /// Jobs with this in their name fail with this message.
    pub failing_jobs: BTreeMap<String, String>,
    /// Images whose servers no node takes, though nothing in their pods is against it.
    pub unplaceable_images: Vec<String>,
    /// Something puts a container that never ends into every pod of a Job, before its own.
    pub injects: bool,
    /// The termination message of Jobs with this in their name that end well.
    pub job_messages: BTreeMap<String, String>,
    /// Storage classes whose driver makes nothing.
    pub broken_classes: Vec<String>,
    /// The kubelet of the node is gone: nothing starts or ends any more.
    pub is_node_lost: bool,
    /// Whether a file system grows while its pod runs.
    pub volumes_grow: bool,
    /// What the node says of every pod of a server, instead of that it runs.
    pub server_status: Option<Value>,
    /// The address of every pod.
    pub pod_address: String,
    /// Rules that were broken.
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
            bind_claims(store, self.volumes_grow, &self.broken_classes);
            reclaim_volumes(store);
            snapshot_volumes(store);
            run_stateful_sets(store);
            self.run_jobs(store);
            self.run_pods(store);
            self.look_for_two_writers(store);
        });
    }

    fn run_jobs(&self, store: &mut Store) {
        for job in store.all("Job") {
            let name = text(&job, "/metadata/name");
            let pod = key_of("Pod", &job, &format!("{name}-pod"));
            if is_deleted(&job) || !job["status"]["conditions"].is_null() {
                continue;
            }
            if job["spec"]["suspend"] == true {
                store.edit(&key_of("Job", &job, &name), |job| {
                    job["status"] = json!({ "conditions": [{ "type": "Suspended", "status": "True" }] });
                });
                if store.get(&pod).is_some() {
                    store.delete(&pod, &Value::Null).expect("it is there");
                }
                continue;
            }
            match store.get(&pod).cloned() {
                None => make_pod(store, &pod, &job),
                Some(made) => {
                    let (kind, counted) = match made["status"]["phase"].as_str() {
                        Some("Succeeded") => ("Complete", "succeeded"),
                        Some("Failed") => ("Failed", "failed"),
                        _ => continue,
                    };
                    let now = store.now().to_string();
                    store.edit(&key_of("Job", &job, &name), |job| {
                        job["status"] = json!({
                            counted: 1, "completionTime": now,
                            "conditions": [{ "type": kind, "status": "True", "lastTransitionTime": now }],
                        });
                    });
                }
            }
        }
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

    /// Why the scheduler finds no node for a pod that has none, while others use so much memory.
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

    /// What the kubelet makes of a pod in a second: nothing, if it misses something; else it runs, or has run.
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

/// Binds what a pod asks for if its class exists, and lets volumes grow.
fn bind_claims(store: &mut Store, grows: bool, broken: &[String]) {
    let pods = store.list(named("Pod"), None);
    let used: BTreeSet<(String, String)> = pods
        .into_iter()
        .flat_map(|pod| claims_of(pod).into_iter().map(|claim| (text(pod, "/metadata/namespace"), claim)))
        .collect();
    for claim in store.all("PersistentVolumeClaim") {
        let name = text(&claim, "/metadata/name");
        let key = key_of("PersistentVolumeClaim", &claim, &name);
        let class = Key::new("StorageClass", "", &text(&claim, "/spec/storageClassName"));
        let asked = claim["spec"]["resources"]["requests"]["storage"].clone();
        let is_used = used.contains(&(key.namespace.clone(), name.clone()));
        if claim["status"]["phase"] == "Bound" {
            if grows && bytes(&asked) > bytes(&claim["status"]["capacity"]["storage"]) {
                store.edit(&key, |claim| claim["status"]["capacity"] = json!({ "storage": asked }));
            }
        } else if is_used && store.get(&class).is_some() && !broken.contains(&class.name) {
            let volume = json!({ "spec": {
                "csi": { "driver": "csi" }, "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": { "name": name, "uid": claim["metadata"]["uid"] },
            } });
            store
                .create(&Key::new("PersistentVolume", "", &format!("pv-{name}")), volume, BTreeMap::new())
                .expect("a new volume");
            store.edit(&key, |claim| {
                claim["spec"]["volumeName"] = json!(format!("pv-{name}"));
                claim["status"] = json!({ "phase": "Bound", "capacity": { "storage": asked } });
            });
        }
    }
}

/// Deletes volumes whose claim is gone, or releases those that are to be kept.
fn reclaim_volumes(store: &mut Store) {
    let claims = store.all("PersistentVolumeClaim");
    for volume in store.all("PersistentVolume") {
        let uid = &volume["spec"]["claimRef"]["uid"];
        if claims.iter().any(|claim| claim["metadata"]["uid"] == *uid) {
            continue;
        }
        let key = Key::new("PersistentVolume", "", &text(&volume, "/metadata/name"));
        match volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain" {
            true => store.edit(&key, |volume| volume["status"] = json!({ "phase": "Released" })),
            false => drop(store.delete(&key, &Value::Null).expect("it is there")),
        }
    }
}

/// Cuts snapshots of claims that exist and are not being deleted, at once.
fn snapshot_volumes(store: &mut Store) {
    for snapshot in store.all("VolumeSnapshot") {
        let claim =
            key_of("PersistentVolumeClaim", &snapshot, &text(&snapshot, "/spec/source/persistentVolumeClaimName"));
        if !snapshot["status"].is_null() || store.get(&claim).is_none_or(is_deleted) {
            continue;
        }
        let name = text(&snapshot, "/metadata/name");
        let reference = json!({ "name": name, "namespace": claim.namespace, "uid": snapshot["metadata"]["uid"] });
        let content = json!({
            "spec": { "volumeSnapshotRef": reference, "deletionPolicy": "Delete", "driver": "csi" },
            "status": { "readyToUse": true, "snapshotHandle": name },
        });
        let content_name = format!("content-{name}");
        let content_key = Key::new("VolumeSnapshotContent", "", &content_name);
        store.create(&content_key, content, BTreeMap::new()).expect("one content for each snapshot");
        store.edit(&key_of("VolumeSnapshot", &snapshot, &name), |snapshot| {
            snapshot["status"] = json!({ "readyToUse": true, "boundVolumeSnapshotContentName": content_name });
        });
    }
}

fn run_stateful_sets(store: &mut Store) {
    for set in store.all("StatefulSet") {
        let name = text(&set, "/metadata/name");
        let pod = key_of("Pod", &set, &format!("{name}-0"));
        let wanted = set["spec"]["replicas"].as_i64().unwrap_or(1);
        let made = store.get(&pod).cloned();
        if is_deleted(&set) {
            continue;
        }
        match &made {
            None if wanted > 0 => make_pod(store, &pod, &set),
            Some(made) if wanted == 0 && !is_deleted(made) => {
                store.delete(&pod, &Value::Null).expect("it is there");
            }
            _ => {}
        }
        let ready =
            made.as_ref().is_some_and(|pod| pod["status"]["conditions"][0]["status"] == "True" && !is_deleted(pod));
        let status = json!({
            "replicas": i64::from(store.get(&pod).is_some()), "readyReplicas": i64::from(ready),
            "observedGeneration": set["metadata"]["generation"],
        });
        store.edit(&key_of("StatefulSet", &set, &name), |set| set["status"] = status);
    }
}

fn make_pod(store: &mut Store, key: &Key, owner: &Value) {
    let template = &owner["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    if owner["kind"] == "Job" {
        metadata["labels"]["batch.kubernetes.io/job-name"] = owner["metadata"]["name"].clone();
    }
    let mut pod = json!({ "metadata": metadata, "spec": template["spec"], "status": { "phase": "Pending" } });
    pod["spec"]["hostname"] = json!(key.name);
    // A namespace that is being deleted takes no new pod.
    if let Err(refusal) = store.create(key, pod, BTreeMap::new()) {
        let message = format!("Error creating: {}", refusal.message);
        tell(store, owner, "FailedCreate", &message);
    }
}

/// Makes an Event about an object, once for each reason.
fn tell(store: &mut Store, about: &Value, reason: &str, message: &str) {
    let (kind, name) = (text(about, "/kind"), text(about, "/metadata/name"));
    let uid = &about["metadata"]["uid"];
    let key = key_of("Event", about, &format!("{}.{reason}", uid.as_str().unwrap_or_default()));
    let event = json!({
        "type": "Warning", "reason": reason, "message": message,
        "involvedObject": { "kind": kind, "name": name, "uid": uid, "namespace": key.namespace },
        "firstTimestamp": store.now().to_string(), "lastTimestamp": store.now().to_string(),
    });
    // It may be there already.
    let _ = store.create(&key, event, BTreeMap::new());
}
