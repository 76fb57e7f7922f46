//! What the cluster holds beside its objects: what lies on volumes and in snapshots, and what runs where.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{data::Data, image::Image, traffic::Counted};

/// A write of a client that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which it is: the writes of all clients are counted from 1.
    pub number: u64,
    /// The database that acknowledged it.
    pub database_id: String,
    /// The claim that had its data.
    pub claim: String,
    /// The image of the server.
    pub image: String,
    /// The pod of the server.
    pub pod_uid: String,
}

/// A copy of a volume.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// The uid of the snapshot that it was made for.
    pub snapshot: String,
    /// When it was cut; `None` while it is not.
    pub at: Option<Timestamp>,
    /// What was on the volume.
    pub data: Option<Data>,
}

/// A container that was started.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub started_at: Timestamp,
    pub ended: Option<Ended>,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub at: Timestamp,
    pub code: i64,
    pub message: Option<String>,
}

impl Run {
    /// Its exit code, once it has ended.
    pub(super) fn code(&self) -> Option<i64> {
        self.ended.as_ref().map(|ended| ended.code)
    }

    /// The state of the container, as the kubelet tells it.
    pub(super) fn state(&self) -> Value {
        let started = self.started_at.to_string();
        let Some(Ended { at, code, message }) = &self.ended else {
            return json!({ "running": { "startedAt": started } });
        };
        let reason = if *code == 0 { "Completed" } else { "Error" };
        let finished = at.to_string();
        let mut ended = json!({ "exitCode": code, "reason": reason, "startedAt": started, "finishedAt": finished });
        if let Some(message) = message {
            ended["message"] = json!(message);
        }
        json!({ "terminated": ended })
    }
}

/// A server that runs in a pod.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub pod_uid: String,
    /// The claim or the keyspace with its data, and how that is found, if it has any.
    pub claim: Option<(String, String)>,
    pub image_name: String,
    pub image: Image,
    pub is_rehearsal: bool,
    pub is_ready: bool,
    /// It does not tell what it has counted.
    pub is_silent: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// What is on volumes, by the names of PersistentVolumes, and in keyspaces.
    pub volumes: BTreeMap<String, Data>,
    /// Copies, by the names of VolumeSnapshotContents.
    pub cuts: BTreeMap<String, Cut>,
    /// Servers, by address.
    pub servers: BTreeMap<String, Running>,
    /// What servers have counted, by the uids of their pods.
    pub counted: BTreeMap<String, Counted>,
    /// How many tables are in keyspaces.
    pub tables: BTreeMap<String, u32>,
    /// The containers of each pod in the order in which they start, by uid.
    pub runs: BTreeMap<String, Vec<Run>>,
    /// When a pod last used a volume that is attached.
    pub used: BTreeMap<String, Timestamp>,
    /// The writes of clients.
    pub acknowledged: Vec<Write>,
    /// The claims on which a database was made, the oldest first.
    pub made: Vec<String>,
    addresses: BTreeMap<String, String>,
}

impl Model {
    /// The address of a pod, which no other pod has had.
    pub(super) fn address(&mut self, pod_uid: &str) -> String {
        let next = self.addresses.len();
        let new = || format!("10.1.{}.{}", next / 250, next % 250 + 1);
        self.addresses.entry(pod_uid.to_owned()).or_insert_with(new).clone()
    }

    /// A container of a pod, which starts now if it did not before.
    pub(super) fn run(&mut self, pod_uid: &str, index: usize, now: Timestamp) -> &mut Run {
        let runs = self.runs.entry(pod_uid.to_owned()).or_default();
        if runs.len() <= index {
            runs.push(Run { started_at: now, ended: None });
        }
        &mut runs[index]
    }

    /// Clients write to a server, if it is ready.
    pub(super) fn write(&mut self, address: &str, count: u64) {
        let Some(server) = self.servers.get(address).filter(|server| server.is_ready) else { return };
        let Some((claim, volume)) = &server.claim else { return };
        let Some(data) = self.volumes.get_mut(volume) else { return };
        data.commit(&server.image, count);
        for _ in 0..count {
            let number = self.acknowledged.len() as u64 + 1;
            data.writes.push(number);
            self.acknowledged.push(Write {
                number,
                database_id: data.database_id.clone(),
                claim: claim.clone(),
                image: server.image_name.clone(),
                pod_uid: server.pod_uid.clone(),
            });
        }
    }

    /// The writes that were acknowledged by the database on a volume and are not on it; `None` if there is no data on it.
    pub(super) fn lost(&self, volume: &str) -> Option<Vec<u64>> {
        let data = self.volumes.get(volume)?;
        let held: HashSet<u64> = data.writes.iter().copied().collect();
        let of_it = self.acknowledged.iter().filter(|write| write.database_id == data.database_id);
        Some(of_it.map(|write| write.number).filter(|number| !held.contains(number)).collect())
    }
}

/// The servers of the cluster as they are reached over the network; clones reach the same.
#[derive(Clone, Debug, Default)]
pub struct Servers(Arc<Mutex<Model>>);

impl Servers {
    pub(super) fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().expect("no test panics while it holds the model")
    }

    /// The same servers at this moment, which go their own way from here.
    pub(super) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// The response to `GET /healthz` or `GET /readyz` at an address: status code and body. `None` if nobody listens there.
    pub fn get(&self, address: &str, path: &str) -> Option<(u16, Value)> {
        let model = self.lock();
        let server = model.servers.get(address)?;
        match path {
            "/healthz" => Some((200, json!({ "status": "ok" }))),
            "/readyz" if server.is_ready => Some((200, model.readiness(server))),
            "/readyz" => Some((503, json!({ "error": "not ready", "code": "not_ready", "reason": "opening" }))),
            _ => Some((404, json!({ "error": "not found", "code": "not_found" }))),
        }
    }

    /// The program that listens at an address, as users of it find it.
    pub fn program(&self, address: &str) -> Option<Image> {
        let model = self.lock();
        let server = model.servers.get(address)?;
        Some(if server.is_rehearsal { server.image.in_rehearsal() } else { server.image.clone() })
    }

    /// A probe user, who is no client, writes so often to the server at an address; the sequence after that, or `None` if it
    /// is not ready or has no data.
    pub fn commit(&self, address: &str, count: u64) -> Option<u64> {
        let mut model = self.lock();
        let server = model.servers.get(address).filter(|server| server.is_ready)?.clone();
        let data = model.volumes.get_mut(&server.claim?.1)?;
        data.commit(&server.image, count);
        Some(data.sequence)
    }
}

impl Model {
    fn readiness(&self, server: &Running) -> Value {
        let data = server.claim.as_ref().and_then(|(_, volume)| self.volumes.get(volume));
        let pending = data.map_or(json!([]), |data| data.pending(&server.image)["finalize"].clone());
        let names: Vec<Value> = pending.as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
        let mut format = server.image.formats();
        format["data"] = json!(data.map_or(server.image.writes, |data| data.format));
        format["pending"] = json!(names);
        json!({
            "status": "ok", "version": server.image.version, "format": format, "engine": "rocksdb",
            "sequence": data.map_or(0, |data| data.sequence), "incarnation": data.map(Data::incarnation),
        })
    }
}
