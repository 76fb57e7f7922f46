//! A cluster of one node around the API server: controllers, storage, scheduler and kubelet. [`World::step`] lets one
//! second pass and then checks that nobody uses data beside one that writes it.
//!
//! What lies on volumes is a small model, which the commands of the server's program work on: what an image does is said
//! in [`World::images`]. While a server is ready and a Service selects it, clients write to it; what it acknowledged is
//! remembered, so that a test can say whether any of it was lost. The only clock is that of the API server.

mod commands;
mod containers;
mod data;
mod deployments;
mod image;
mod keyspaces;
mod model;
mod mounts;
mod network;
mod pods;
mod snapshots;
mod storage;
mod traffic;
mod workloads;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::{
    data::Data,
    image::Image,
    model::{Servers, Write},
    snapshots::Snapshots,
    traffic::Counted,
};
use super::api::{Key, Server, kinds::named, store::Store};

/// A cluster; its fields say what goes wrong in it.
#[derive(Clone)]
pub struct World {
    server: Server,
    servers: Servers,
    /// What the programs in images are and do.
    pub images: BTreeMap<String, Image>,
    /// The same of images that are not among them.
    pub other_images: Image,
    /// Images that no registry has.
    pub missing_images: Vec<String>,
    /// Images whose servers do not tell what they have counted.
    pub silent_images: Vec<String>,
    /// Jobs that fail, by a part of `POD/CONTAINER`, with their termination messages.
    pub failing_jobs: BTreeMap<String, String>,
    /// Images whose server pods the scheduler places on no node.
    pub unplaceable_images: Vec<String>,
    /// Pods whose server ends as soon as it was started.
    pub crashing: Vec<String>,
    /// Whether a container that never ends is injected into the pod of every Job, before the Job's own.
    pub injects: bool,
    /// Termination messages of Jobs that succeed, by a part of `POD/CONTAINER`.
    pub job_messages: BTreeMap<String, String>,
    /// How many seconds containers of Jobs take, by a part of `POD/CONTAINER`.
    pub job_seconds: BTreeMap<String, i64>,
    /// Storage classes whose driver makes no volume.
    pub broken_classes: Vec<String>,
    /// How snapshots are made.
    pub snapshots: Snapshots,
    /// Seconds from the end of the last pod that used a volume until that is detached; at least 1.
    pub detach_after: i64,
    /// Whether the kubelet is gone, so that no pod starts or ends.
    pub is_node_lost: bool,
    /// Whether a file system grows while its pod runs.
    pub volumes_grow: bool,
    /// How many writes a second clients make to each server.
    pub writes_a_second: u64,
    /// How many requests a second users make to each server, beside those writes.
    pub requests_a_second: i64,
    /// The status of every server pod, instead of that it runs.
    pub server_status: Option<Value>,
    /// The address of every pod, instead of one of its own.
    pub pod_address: Option<String>,
    /// The violations that were found.
    pub broken: Vec<String>,
}

impl World {
    /// A cluster with one node, one namespace, two storage classes, of which `standard` grows and `fixed` does not, and a
    /// class of snapshots.
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
            let annotations = json!({ snapshots::DEFAULT: "true" });
            let class =
                json!({ "metadata": { "annotations": annotations }, "driver": "csi", "deletionPolicy": "Delete" });
            make("VolumeSnapshotClass", "csi", class);
        });
        Self {
            server: server.clone(),
            servers: Servers::default(),
            images: BTreeMap::new(),
            other_images: Image::default(),
            missing_images: Vec::new(),
            silent_images: Vec::new(),
            failing_jobs: BTreeMap::new(),
            unplaceable_images: Vec::new(),
            crashing: Vec::new(),
            injects: false,
            broken_classes: Vec::new(),
            snapshots: Snapshots::default(),
            detach_after: 1,
            job_messages: BTreeMap::new(),
            job_seconds: BTreeMap::new(),
            is_node_lost: false,
            volumes_grow: true,
            writes_a_second: 1,
            requests_a_second: 100,
            server_status: None,
            pod_address: None,
            broken: Vec::new(),
        }
    }

    /// The same world around another server; what happens in the one from here does not happen in the other.
    pub fn fork(&self, server: &Server) -> Self {
        Self { server: server.clone(), servers: self.servers.fork(), ..self.clone() }
    }

    /// The servers that run, as they are reached over the network.
    pub fn servers(&self) -> Servers {
        self.servers.clone()
    }

    /// How nodes name an image that they run: by its digest.
    pub fn image_id(&self, name: &str) -> String {
        image::id(name, self.image(name))
    }

    /// What lies on the volume of a claim; `None` if it has no volume, or there is nothing on it.
    pub fn data(&self, namespace: &str, claim: &str) -> Option<Data> {
        let volume = self.volume(namespace, claim)?;
        self.servers.lock().volumes.get(&volume).cloned()
    }

    /// The writes of clients that were acknowledged, the oldest first.
    pub fn acknowledged(&self) -> Vec<Write> {
        self.servers.lock().acknowledged.clone()
    }

    /// The numbers of the writes that the database on this claim has acknowledged and does not hold.
    ///
    /// # Panics
    /// If there is no data on the claim.
    pub fn lost(&self, namespace: &str, claim: &str) -> Vec<u64> {
        let volume = self.volume(namespace, claim).expect("the claim has a volume");
        self.servers.lock().lost(&volume).expect("there is data on it")
    }

    /// The claims on which a server found nothing and made a new database, the oldest first.
    pub fn databases_made(&self) -> Vec<String> {
        self.servers.lock().made.clone()
    }

    fn volume(&self, namespace: &str, claim: &str) -> Option<String> {
        let key = Key::new("PersistentVolumeClaim", namespace, claim);
        self.server.with(|store| Some(text(store.get(&key)?, "/spec/volumeName")))
    }

    /// The program in an image, which may be named by the digest that a node reports.
    fn image(&self, name: &str) -> &Image {
        let by_digest =
            || name.contains('@').then(|| self.images.iter().find(|(tag, image)| image::id(tag, image) == name));
        let named = self.images.get(name).or_else(|| by_digest().flatten().map(|(_, image)| image));
        named.unwrap_or(&self.other_images)
    }

    /// One second passes.
    pub fn step(&mut self) {
        let server = self.server.clone();
        server.with(|store| {
            store.advance(1);
            store.collect_garbage();
            {
                let mut model = self.servers.lock();
                storage::bind_claims(store, &mut model, self.volumes_grow, &self.broken_classes);
                storage::reclaim_volumes(store, &mut model);
                snapshots::take(store, &mut model, &self.snapshots);
            }
            workloads::run_stateful_sets(store);
            deployments::run(store);
            workloads::run_jobs(store);
            self.run_pods(store);
            if !self.is_node_lost {
                storage::attach_volumes(store, &mut self.servers.lock(), self.detach_after);
            }
            self.reach_servers(store);
            self.look_for_two_writers(store);
        });
    }

    /// Services select pods, and clients write to those that are servers.
    fn reach_servers(&mut self, store: &mut Store) {
        let selected = network::select(store);
        network::keep_slices(store, &selected);
        let mut model = self.servers.lock();
        let mut reached = BTreeMap::new();
        for service in &selected {
            reached.extend(service.reached().into_iter().map(|address| (address, service.name())));
        }
        let silent = &self.silent_images;
        model.servers.values_mut().for_each(|server| server.is_silent = silent.contains(&server.image_name));
        for (address, service) in reached {
            if model.servers.get(&address).is_some_and(|server| server.is_rehearsal) {
                self.broken.push(format!("clients of {service} reach a rehearsal"));
            }
            model.write(&address, self.writes_a_second);
            model.ask(&address, self.requests_a_second);
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
