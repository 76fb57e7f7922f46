//! An operator in a cluster, driven pass by pass: no time passes and nothing happens but what the test lets happen.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use kube::runtime::watcher::Event;
use progressdb_operator::{
    clock::Clock,
    controller::Context,
    crd,
    error::Error,
    kind::Kind,
    lease::Leadership,
    observe::{ApiRequest, Cache, Installation, Probe, ServerInfo},
};
use serde_json::{Value, json};

use crate::{
    api::{Key, Server, faults::Faults, store::Store},
    gating::Gates,
    world::{Servers, World},
};

/// Rounds without any change after which only time can change anything.
const QUIET: usize = 1;
/// Then so many seconds pass at once: what is remembered for a minute is asked again.
const LEAP: i64 = 61;
/// After so many of these in a row without any change nothing will change any more.
const LEAPS: usize = 1;
/// More rounds than any scenario takes.
const MANY: usize = 300;

/// A cluster with one operator.
pub struct Cluster {
    pub server: Server,
    pub world: World,
    /// The operator sees the world as it was so many passes ago.
    pub lag: usize,
    operator: Process,
    pub seconds: Arc<AtomicI64>,
    versions: Vec<u64>,
    /// How servers are reached.
    pub probe: Probe,
    respond: Arc<Respond>,
}

/// The operator's process: what it knows is gone with it.
struct Process {
    /// Boxed, because futures of tests hold several of them.
    context: Box<Context>,
    cache: Arc<Cache>,
    resources: BTreeMap<Key, Arc<Value>>,
    seen: Option<u64>,
}

/// How a server responds to requests of its API.
type Respond = dyn Fn(ApiRequest) -> Option<(u16, String)> + Send + Sync;

/// Reaches the servers of a world, which respond to requests of their API in this way.
fn probe(servers: Servers, respond: &Arc<Respond>) -> Probe {
    let respond = Arc::clone(respond);
    let readiness = move |address: IpAddr| {
        let ready = servers.get(&address.to_string(), "/readyz").filter(|(status, _)| *status == 200);
        let info = ready.map(|(_, told)| ServerInfo {
            version: told["version"].as_str().unwrap().to_owned(),
            format: told["format"]["data"].as_i64().and_then(|format| i32::try_from(format).ok()).unwrap(),
            kms: None,
            sequence: told["sequence"].as_i64(),
        });
        futures::future::ready(info).boxed()
    };
    Probe {
        readiness: Arc::new(readiness),
        api: Arc::new(move |_, request| futures::future::ready(respond(request)).boxed()),
    }
}

impl Process {
    fn new(server: &Server, servers: Servers, seconds: &Arc<AtomicI64>, probe: &Probe) -> Self {
        let cache = Arc::new(Cache::default());
        let clock = Clock::Set(Arc::clone(seconds));
        let context = Context::new(server.client(), Arc::clone(&cache), Leadership::alone(), clock, probe.clone())
            .with_pause(Duration::from_millis(1))
            .of(Some(Installation { namespace: "system".into(), lease: "ours".into() }))
            .with_gates(Arc::new(Gates::new(server, servers)));
        Self { context: Box::new(context), cache, resources: BTreeMap::new(), seen: None }
    }

    /// Takes what watches tell up to a version; it never goes back to an earlier one.
    fn take_events(&mut self, store: &Store, version: u64) {
        let version = version.max(self.seen.unwrap_or(0));
        let kind_of = |key: &Key| Kind::ALL.into_iter().find(|kind| kind.plural() == key.kind.plural);
        let is_ours =
            |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "progressdb-operator";
        let Some(seen) = self.seen.replace(version) else {
            let objects = store.at(version);
            for kind in Kind::ALL {
                self.cache.handle_event(kind, &Event::Init);
                let ours = objects.iter().filter(|(key, object)| kind_of(key) == Some(kind) && is_ours(object));
                for (_, object) in ours {
                    let mut item = Value::clone(object);
                    // Items of kinds that are built in do not say what they are.
                    if !kind.is_optional() {
                        item.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
                    }
                    self.cache.handle_event(kind, &Event::InitApply(item));
                }
                self.cache.handle_event(kind, &Event::InitDone);
            }
            self.resources = objects.into_iter().filter(|(key, _)| key.kind.kind == "ProgressDB").collect();
            return;
        };
        for change in store.changes_since(seen).iter().take_while(|change| change.version <= version) {
            if let Some(kind) = kind_of(&change.key) {
                match change.event(is_ours) {
                    Some(("DELETED", object)) => self.cache.handle_event(kind, &Event::Delete(object)),
                    Some((_, object)) => self.cache.handle_event(kind, &Event::Apply(object)),
                    None => {}
                }
                continue;
            }
            match change.what {
                "DELETED" => drop(self.resources.remove(&change.key)),
                _ if change.key.kind.kind == "ProgressDB" => {
                    self.resources.insert(change.key.clone(), Arc::clone(&change.object));
                }
                _ => {}
            }
        }
    }
}

impl Cluster {
    /// A cluster with the same past and an operator that was just started.
    pub fn fork(&self) -> Self {
        let (store, version) = self.server.with(|store| (store.clone(), store.version()));
        let server = Server::with_store(store);
        let world = self.world.fork(&server);
        let forked = Self::in_world(server, world, Arc::clone(&self.respond));
        Self { lag: self.lag, versions: vec![version; self.lag], ..forked }
    }

    /// An empty cluster.
    pub fn new() -> Self {
        Self::with_servers(|_| Some((404, "{}".into())))
    }

    /// An empty cluster, in which servers respond to requests of their API in this way. Else they accept every key.
    pub fn with_servers(respond: impl Fn(ApiRequest) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let server = Server::new();
        let world = World::new(&server);
        Self::in_world(server, world, Arc::new(respond))
    }

    fn in_world(server: Server, world: World, respond: Arc<Respond>) -> Self {
        let seconds = Arc::new(AtomicI64::new(0));
        let probe = probe(world.servers(), &respond);
        let operator = Process::new(&server, world.servers(), &seconds, &probe);
        Self { server, world, lag: 0, operator, seconds, versions: Vec::new(), probe, respond }
    }

    /// Makes a resource with more in its spec than the least. What is changed of it is changed directly, unless it says
    /// otherwise.
    pub fn create(&self, name: &str, more: Value) {
        let mut spec = json!({
            "image": "registry/progressdb:0.3.0", "storage": { "embedded": { "size": "1Gi" } },
            "upgrade": { "strategy": "Direct" },
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let key = Key::new("ProgressDB", "ns", name);
        self.server.with(|store| store.create(&key, json!({ "spec": spec }), BTreeMap::new()).unwrap());
    }

    /// Changes a resource as its owner would.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.server.with(|store| store.edit(&Key::new("ProgressDB", "ns", name), |object| change(&mut object["spec"])));
    }

    /// Deletes a resource as its owner would.
    pub fn delete(&self, name: &str) {
        self.server.with(|store| store.delete(&Key::new("ProgressDB", "ns", name), &Value::Null).unwrap());
    }

    /// An object as it is.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.server.with(|store| store.get(&Key::new(kind, "ns", name)).cloned())
    }

    /// The ConfigMap with the settings of the server.
    pub fn config_map(&self, name: &str) -> Value {
        let set = self.get("StatefulSet", name).expect("the server was made");
        let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let config = volumes.into_iter().find(|volume| volume["name"] == "config").expect("it has settings");
        self.get("ConfigMap", config["configMap"]["name"].as_str().unwrap()).expect("the settings are there")
    }

    /// Status, reason and message of a condition.
    pub fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let resource = self.get("ProgressDB", name).expect("the resource is there");
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// The operator dies, and a new one starts that knows nothing.
    pub fn restart_operator(&mut self) {
        self.operator = Process::new(&self.server, self.world.servers(), &self.seconds, &self.probe);
    }

    /// One pass over every resource that the operator sees.
    pub async fn pass(&mut self) -> Vec<Error> {
        let visible = self.visible_version();
        self.server.with(|store| {
            self.seconds.store(store.now().as_second(), Ordering::Relaxed);
            self.operator.take_events(store, visible);
        });
        let mut errors = Vec::new();
        for resource in self.operator.resources.values() {
            let result = match crd::read(&resource.to_string()) {
                Ok(resource) => self.operator.context.reconcile(Arc::new(resource)).await,
                Err(unreadable) => self.operator.context.tell(&unreadable).await,
            };
            errors.extend(result.err());
        }
        errors
    }

    fn visible_version(&mut self) -> u64 {
        self.versions.push(self.server.with(|store| store.version()));
        self.versions[self.versions.len().saturating_sub(1 + self.lag)]
    }

    /// A pass and a step of the world; says whether anything changed or failed. A process that dies is followed by
    /// another.
    pub async fn round(&mut self) -> bool {
        let before = self.server.with(|store| store.version());
        let errors = self.pass().await;
        if self.server.has_crashed() {
            self.server.set_faults(Faults::default());
            self.restart_operator();
        }
        self.world.step();
        !errors.is_empty() || self.server.with(|store| store.version()) != before
    }

    /// Goes on until nothing changes any more.
    pub async fn settle(&mut self) {
        let (mut quiet, mut leaps) = (0, 0);
        for _ in 0..MANY {
            if self.round().await {
                (quiet, leaps) = (0, 0);
                continue;
            }
            quiet += 1;
            if quiet > QUIET + self.lag {
                if leaps == LEAPS {
                    return;
                }
                self.server.with(|store| store.advance(LEAP));
                (quiet, leaps) = (0, leaps + 1);
            }
        }
        panic!("the cluster does not settle: {}", self.latest());
    }

    /// Goes on until this is so.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..MANY {
            if done(self) {
                return;
            }
            self.round().await;
        }
        panic!("{what} does not happen: {}", self.latest());
    }

    /// What goes on, for people.
    fn latest(&self) -> String {
        self.server.with(|store| {
            let changes = store.changes_since(store.version().saturating_sub(12)).iter();
            let shown = changes.map(|change| {
                let status = change.object["status"].to_string();
                format!("\n{} {} {} {status}", change.what, change.key.kind.kind, change.key.name)
            });
            shown.collect()
        })
    }

    /// Everything that matters of what is there, without what is another each time.
    pub fn state(&self) -> BTreeMap<String, Value> {
        self.server.with(|store| {
            let keys = store.keys().into_iter().filter(|key| key.kind.kind != "Event");
            let state = keys.map(|key| {
                let mut object = stable(store.get(&key).unwrap());
                if key.kind.kind == "Secret" {
                    // Keys are random.
                    object.as_object_mut().unwrap().remove("data");
                }
                (format!("{} {}", key.kind.kind, key.name), object)
            });
            state.collect()
        })
    }

    /// How often an object of this name was made.
    pub fn times_made(&self, kind: &str, name: &str) -> usize {
        let key = Key::new(kind, "ns", name);
        self.made(|made| *made == key)
    }

    /// How often a check with this in its name was made.
    pub fn checks_made(&self, part: &str) -> usize {
        self.made(|made| made.kind.kind == "Job" && made.name.contains(part))
    }

    fn made(&self, wanted: impl Fn(&Key) -> bool) -> usize {
        self.server.with(|store| {
            store.changes_since(0).iter().filter(|change| wanted(&change.key) && change.what == "ADDED").count()
        })
    }
}

fn stable(value: &Value) -> Value {
    const OTHER_EACH_TIME: [&str; 16] = [
        "acceptedVersion",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "observedGeneration",
        "lastTransitionTime",
        "lastUpdateTime",
        "completionTime",
        "stringData",
        "deletionTimestamp",
        "startedAt",
        "finishedAt",
        "creationTime",
        "podIP",
        "addresses",
    ];
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(name, _)| !OTHER_EACH_TIME.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), stable(value)))
            .collect(),
        Value::Array(items) => items.iter().map(stable).collect(),
        other => other.clone(),
    }
}
