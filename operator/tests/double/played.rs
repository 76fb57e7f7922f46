//! The cluster that the other tests take for a real one, without an operator: it does what they rely on.

mod data;
mod jobs;
mod network;
mod snapshots;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{Key, Server},
    world::{Data, World},
};

const OLD: &str = "registry/progressdb:0.3.0";
const NEW: &str = "registry/progressdb:0.4.0";

/// A cluster that a test puts objects into.
struct Stage {
    server: Server,
    world: World,
}

impl Stage {
    fn new() -> Self {
        let server = Server::new();
        let world = World::new(&server);
        Self { server, world }
    }

    fn key(kind: &str, name: &str) -> Key {
        let of_the_cluster = ["PersistentVolume", "VolumeSnapshotContent", "VolumeSnapshotClass", "VolumeAttachment"];
        Key::new(kind, if of_the_cluster.contains(&kind) { "" } else { "ns" }, name)
    }

    fn make(&self, kind: &str, name: &str, object: Value) {
        self.server.with(|store| store.create(&Self::key(kind, name), object, BTreeMap::new()).unwrap());
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        self.server.with(|store| store.get(&Self::key(kind, name)).cloned().unwrap_or_default())
    }

    fn edit(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.server.with(|store| store.edit(&Self::key(kind, name), change));
    }

    fn delete(&self, kind: &str, name: &str) {
        self.server.with(|store| store.delete(&Self::key(kind, name), &Value::Null).unwrap());
    }

    fn steps(&mut self, seconds: usize) {
        (0..seconds).for_each(|_| self.world.step());
    }

    fn data(&self, claim: &str) -> Data {
        self.world.data("ns", claim).expect("there is data on the claim")
    }

    fn claim(&self, name: &str) {
        self.make("PersistentVolumeClaim", name, json!({ "spec": claim_spec("1Gi") }));
    }

    fn claim_from(&self, name: &str, snapshot: &str) {
        let mut spec = claim_spec("1Gi");
        spec["dataSource"] =
            json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot });
        self.make("PersistentVolumeClaim", name, json!({ "spec": spec }));
    }

    fn snapshot(&self, name: &str, claim: &str) {
        self.make("VolumeSnapshot", name, json!({ "spec": { "source": { "persistentVolumeClaimName": claim } } }));
    }

    /// A server of an image on a claim, which raises no format by itself. It runs from the next second on.
    fn serve(&mut self, name: &str, claim: &str, image: &str) {
        let settings = json!({ "data": { "config.yaml": "format:\n  finalize: manual\n" } });
        self.make("ConfigMap", &format!("{name}-config"), settings);
        let mut template = template(claim, json!([{ "name": "server", "image": image, "args": ["serve"] }]));
        template["metadata"]["labels"] = json!({ "component": "server" });
        let config = json!({ "name": "config", "configMap": { "name": format!("{name}-config") } });
        template["spec"]["volumes"].as_array_mut().unwrap().push(config);
        self.make("StatefulSet", name, json!({ "spec": { "replicas": 1, "template": template } }));
        // Its pod is made, and the claim is bound for that.
        self.steps(1);
    }

    fn scale(&self, name: &str, replicas: usize) {
        self.edit("StatefulSet", name, |set| set["spec"]["replicas"] = json!(replicas));
    }

    /// Has a server of another image run on the same claim.
    fn replace(&mut self, name: &str, image: &str) {
        self.scale(name, 0);
        self.steps(2);
        self.edit("StatefulSet", name, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
        self.scale(name, 1);
        self.steps(1);
    }

    /// A Service for clients.
    fn service(&self, name: &str, selects: &str) {
        self.make("Service", name, json!({ "spec": { "selector": { "component": selects }, "ports": [] } }));
    }

    /// A Job whose last container is the main one; each has a name and arguments.
    fn job(&self, name: &str, claim: &str, image: &str, containers: &[(&str, &str)]) {
        let container = |(name, line): &(&str, &str)| {
            let arguments: Vec<&str> = line.split(' ').collect();
            json!({
                "name": name, "image": image, "args": arguments, "terminationMessagePolicy": "FallbackToLogsOnError",
            })
        };
        let (main, inits) = containers.split_last().unwrap();
        let mut template = template(claim, json!([container(main)]));
        template["metadata"]["labels"] = json!({ "component": "job" });
        template["spec"]["initContainers"] = inits.iter().map(container).collect();
        self.make("Job", name, json!({ "spec": { "template": template } }));
    }

    /// What the container of a Job ended with.
    fn ended(&self, job: &str, container: &str) -> Value {
        let status = self.get("Pod", &format!("{job}-pod"))["status"].clone();
        let all = [&status["initContainerStatuses"], &status["containerStatuses"]];
        let mut statuses = all.into_iter().filter_map(Value::as_array).flatten();
        let found = statuses.find(|status| status["name"] == container).cloned().unwrap_or_default();
        found["state"]["terminated"].clone()
    }

    /// The report that the container of a Job gave as its termination message.
    fn report(&self, job: &str, container: &str) -> Value {
        let ended = self.ended(job, container);
        serde_json::from_str(ended["message"].as_str().unwrap_or_else(|| panic!("{container}: {ended}"))).unwrap()
    }
}

fn claim_spec(size: &str) -> Value {
    json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } })
}

fn template(claim: &str, containers: Value) -> Value {
    let volume = json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim } });
    let volumes = if claim.is_empty() { json!([]) } else { json!([volume]) };
    json!({ "metadata": {}, "spec": { "containers": containers, "volumes": volumes } })
}
