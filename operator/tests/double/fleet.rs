//! Fleets: servers over a store that is not the operator's, which Deployments make. What is tried here is all but another
//! image.

mod crash;
mod direct;
mod hands;
mod lives;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster, running::Running};

/// What makes a resource a fleet.
pub fn spec(more: Value) -> Value {
    let mut spec = json!({
        "storage": { "cassandra": { "contactPoints": ["cassandra.ns.svc"], "datacenter": "dc1", "keyspace": "chat" } },
        "replicas": 3,
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// A fleet that serves and rests.
pub async fn installed(more: Value) -> Running {
    Running::installed(spec(more)).await
}

/// The pods of the servers, without those that end.
pub fn servers(cluster: &Cluster) -> Vec<Value> {
    let pods = cluster.server.with(|store| store.all("Pod"));
    let is_server = |pod: &Value| pod["metadata"]["labels"]["progressdb.io/track"].is_string();
    let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    pods.iter().filter(|pod| is_server(pod) && stays(pod)).map(|pod| Value::clone(pod)).collect()
}

/// How many servers take requests.
pub fn ready(cluster: &Cluster) -> usize {
    let is_ready = |pod: &&Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    servers(cluster).iter().filter(is_ready).count()
}

/// How many servers were ever started.
pub fn starts(cluster: &Cluster) -> usize {
    cluster.server.with(|store| {
        let made =
            store.changes_since(0).iter().filter(|change| change.what == "ADDED" && change.key.kind.kind == "Pod");
        made.filter(|change| change.object["metadata"]["labels"]["progressdb.io/track"].is_string()).count()
    })
}

/// The data centres that servers write in, also those that end.
fn centres(cluster: &Cluster) -> BTreeSet<String> {
    let pods = cluster.server.with(|store| store.all("Pod"));
    let releases = pods.iter().filter(|pod| pod["metadata"]["labels"]["progressdb.io/track"].is_string());
    let releases = releases.filter_map(|pod| pod["metadata"]["annotations"]["progressdb.io/release"].as_str());
    let centre = |release: &str| {
        let map = cluster.get("ConfigMap", release).expect("what a server reads stays");
        let text = map["data"]["config.yaml"].as_str().unwrap();
        text.lines().find(|line| line.contains("datacenter:")).unwrap().trim().to_owned()
    };
    releases.map(centre).collect()
}

/// The stable Deployment.
fn stable(cluster: &Cluster) -> Value {
    cluster.get("Deployment", "db").expect("it was made")
}

/// A canary of which no upgrade knows, as an operator could leave it that knew more than this one.
pub fn make_canary(cluster: &Cluster) {
    let mut canary = stable(cluster);
    for labels in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        canary.pointer_mut(labels).unwrap()["progressdb.io/track"] = json!("canary");
    }
    canary["metadata"].as_object_mut().unwrap().retain(|field, _| ["labels", "ownerReferences"].contains(&&**field));
    canary.as_object_mut().unwrap().remove("status");
    let key = Key::new("Deployment", "ns", "db-canary");
    cluster.server.with(|store| store.create(&key, canary, BTreeMap::new()).unwrap());
}

fn edit(cluster: &Cluster, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
    cluster.server.with(|store| store.edit(&Key::new(kind, "ns", name), change));
}

fn make_secret(cluster: &Cluster, name: &str, entries: Value) {
    let secret = Key::new("Secret", "ns", name);
    let object = json!({ "stringData": entries });
    cluster.server.with(|store| store.create(&secret, object, BTreeMap::new()).unwrap());
}

/// Follows a cluster for so many seconds, and holds in each that so many servers take requests.
async fn never_fewer(running: &mut Running, servers: usize, seconds: usize, what: &str) {
    for second in 0..seconds {
        running.step().await;
        let now = ready(&running.cluster);
        assert!(now >= servers, "{what}: {now} servers after {second} s");
    }
}
