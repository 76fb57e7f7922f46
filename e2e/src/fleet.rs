//! Fleets: servers over a Cassandra node that runs on this machine, and which of them answered.
//!
//! All fleets of a test process share the node; each has a keyspace of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::OnceLock;

use serde_json::{Value, json};
use testing::http::{Answer, Request};
use testing::servers::cassandra::{DATACENTER, Options, Ring, SUPERUSER};
use testing::skip;
use testing::user::send;

use crate::database::is_ready;
use crate::{Database, MACHINE, Namespace, is_own_cluster, wait_until};

/// The Secret with the account that the servers have at the node.
pub const CREDENTIALS: &str = "cassandra-credentials";
const PORT: u16 = 8080;

/// The node; `None` where there can be none that pods reach, and `test` is then skipped.
#[track_caller]
pub fn engine(test: &str) -> Option<&'static Ring> {
    static NODE: OnceLock<Option<Ring>> = OnceLock::new();
    if !is_own_cluster() {
        skip(test, "Cassandra runs on this machine, which only pods of a cluster made here reach");
        return None;
    }
    if !Ring::can_start(test) {
        return None;
    }
    NODE.get_or_init(|| Ring::start(test, &Options::default().accounts().clients_at(MACHINE))).as_ref()
}

/// A fleet of three servers named `chat`.
pub struct Fleet<'a> {
    database: Database<'a>,
}

/// A server of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The name of its pod.
    pub name: String,
    /// Tells the pod from all others.
    pub uid: String,
    /// `stable` or `canary`.
    pub track: String,
    /// As its pod asks for it.
    pub image: String,
    /// How often it was started anew.
    pub restarts: i64,
    /// Whether the Service leads to it.
    pub is_ready: bool,
    address: String,
}

impl Server {
    /// The name under which [`process_of`] knows what it answers. It must be one that answers.
    #[track_caller]
    pub fn process(&self) -> String {
        let address = SocketAddr::new(self.address.parse().unwrap(), PORT);
        process_of(&send(address, &Request::get("/healthz")))
    }
}

/// Which process has answered: ids of requests that do not bring one begin with a number that each process draws.
pub fn process_of(answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("no request id: {answer}"));
    id.split('-').next().unwrap().to_owned()
}

impl<'a> Fleet<'a> {
    /// Asks for a fleet, with `more` over the least that there can be, and waits for nothing.
    #[track_caller]
    pub fn new(namespace: &'a Namespace, node: &Ring, more: Value) -> Self {
        namespace.secret(CREDENTIALS, json!({ "username": SUPERUSER, "password": SUPERUSER }));
        let cassandra = json!({
            "contactPoints": [node.contact_points()], "datacenter": DATACENTER, "replicationFactor": 1,
            "keyspace": keyspace(&namespace.name), "credentialsSecretRef": { "name": CREDENTIALS },
        });
        // Tests run beside each other: a release may be ten times as slow before it is called so.
        let gates = json!({
            "health": { "successes": 3, "period": "200ms", "deadline": "3m" },
            "metrics": { "maxLatencyP99Increase": "1000%", "minimumSamples": 100 },
        });
        let upgrade = json!({
            "strategy": "Guarded", "soak": "0s", "gates": gates, "canary": { "steps": [1], "stepDuration": "5s" },
        });
        let mut spec =
            json!({ "storage": { "embedded": null, "cassandra": cassandra }, "replicas": 3, "upgrade": upgrade });
        json_patch::merge(&mut spec, &more);
        Self { database: namespace.database("chat", spec) }
    }

    /// Its servers that stay, by the names of their pods.
    #[track_caller]
    pub fn servers(&self) -> Vec<Server> {
        let pods = self.namespace.list("Pod", "progressdb.io/track,app.kubernetes.io/instance=chat");
        let stays = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let mut servers: Vec<Server> = stays.map(server).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        servers
    }

    /// Waits until there are so many servers, all of the stable track and all of them ready, and no canary is left.
    #[track_caller]
    pub fn settled(&self, servers: usize) -> Vec<Server> {
        let is_settled = |now: &Vec<Server>| {
            now.len() == servers && now.iter().all(|server| server.is_ready && server.track == "stable")
        };
        let settled = wait_until(&format!("{servers} servers are ready"), || self.servers(), is_settled);
        let canary = || self.namespace.find("Deployment", "chat-canary");
        wait_until("the canary Deployment has gone", canary, Option::is_none);
        settled
    }

    /// Asks for its deletion, and waits until nothing of it runs.
    #[track_caller]
    pub fn delete(&self) {
        self.database.delete();
        let pods = || self.namespace.list("Pod", "app.kubernetes.io/instance=chat");
        wait_until("its pods have gone", pods, Vec::is_empty);
        for kind in ["Deployment", "Service", "PodDisruptionBudget", "ConfigMap", "Job"] {
            let left = || self.namespace.list(kind, "app.kubernetes.io/instance=chat");
            wait_until(&format!("no {kind} is left"), left, Vec::is_empty);
        }
    }

    /// Its keyspace at the node.
    pub fn keyspace(&self) -> String {
        keyspace(&self.namespace.name)
    }

    /// The ReplicaSets that have servers of the stable track: their names, and how many each has.
    #[track_caller]
    pub fn replica_sets(&self) -> Vec<(String, i64)> {
        let sets = self.namespace.list("ReplicaSet", "progressdb.io/track=stable,app.kubernetes.io/instance=chat");
        let count = |set: &Value| set["spec"]["replicas"].as_i64().unwrap();
        let name = |set: &Value| set["metadata"]["name"].as_str().unwrap().to_owned();
        let mut found: Vec<_> =
            sets.iter().map(|set| (name(set), count(set))).filter(|(_, count)| *count > 0).collect();
        found.sort();
        found
    }
}

impl<'a> Deref for Fleet<'a> {
    type Target = Database<'a>;

    fn deref(&self) -> &Database<'a> {
        &self.database
    }
}

/// Of the namespace, so that each fleet has its own.
fn keyspace(namespace: &str) -> String {
    namespace.replace('-', "_")
}

fn server(pod: &Value) -> Server {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Server {
        name: text(&pod["metadata"]["name"]),
        uid: text(&pod["metadata"]["uid"]),
        track: text(&pod["metadata"]["labels"]["progressdb.io/track"]),
        image: text(&pod["spec"]["containers"][0]["image"]),
        restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0),
        is_ready: is_ready(pod),
        address: text(&pod["status"]["podIP"]),
    }
}
