//! Every gate against a real server: what passes, what fails, and what is left behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod counters;
mod health;
mod load;
mod registry;
mod smoke;
mod told;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{Client, Config};
use progressdb_operator::{
    gate::{Gate, GateResult},
    gates::{GateKey, Gates, Target},
};
use serde_json::{Value, json};
use testing::{
    BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, Server, Setup,
    command::PROGRAM,
    machine::build_directory,
    servers::listen::{Call, Listener, Reply},
};

/// The resource that all gates of these tests are of.
const UID: &str = "uid";

/// An API server that has one Secret and one log, and gates that use it.
struct Place {
    gates: Arc<Gates>,
    /// The entries of the Secret.
    entries: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    /// The log of the pod's container, and of the one before it.
    logs: Arc<Mutex<[Option<String>; 2]>>,
    _listener: Listener,
}

impl Place {
    fn new() -> Self {
        let entries =
            Arc::new(Mutex::new(vec![("backend", BACKEND_KEY), ("frontend", FRONTEND_KEY), ("signing", SIGNING_KEY)]));
        let logs = Arc::new(Mutex::new([None, None]));
        let (secret, log) = (Arc::clone(&entries), Arc::clone(&logs));
        let listener = Listener::start(None, move |call| answer(&call, &secret.lock().unwrap(), &log.lock().unwrap()));
        let config = Config::new(format!("http://{}", listener.addr).parse().unwrap());
        let gates = Arc::new(Gates::new(Client::try_from(config).unwrap()));
        Self { gates, entries, logs, _listener: listener }
    }

    fn start(&self, step: &str, gate: Gate, server: SocketAddr) -> GateKey {
        let target = Target {
            api: server,
            management: server,
            namespace: "ns".to_owned(),
            secret: "keys".to_owned(),
            secrets: vec!["keys".to_owned()],
        };
        self.gates.start(key(step), gate, target);
        key(step)
    }

    /// What a gate finds in the end.
    async fn run(&self, gate: Gate, server: SocketAddr) -> GateResult {
        let key = self.start("only", gate, server);
        assert_eq!(within(self.gates.changed()).await, UID);
        assert!(!self.gates.is_running(&key));
        let result = self.gates.result(&key).expect("it has ended");
        self.gates.forget(UID, None);
        result
    }

    /// What a gate shows while it runs, once that is of interest.
    async fn shown(&self, key: &GateKey, is_it: impl Fn(&GateResult) -> bool) -> GateResult {
        let found = || self.gates.result(key).filter(|result| is_it(result));
        until(|| found().is_some()).await;
        found().unwrap()
    }
}

fn answer(call: &Call, entries: &[(&'static str, &'static str)], logs: &[Option<String>; 2]) -> Reply {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let missing = |code: u16, message: &str| {
        Reply::json(code, &json!({ "kind": "Status", "status": "Failure", "message": message, "code": code }))
    };
    match path {
        "/api/v1/namespaces/ns/secrets/keys" => {
            let entries: serde_json::Map<String, Value> = entries
                .iter()
                .map(|(name, keys)| ((*name).to_owned(), json!(k8s_openapi::ByteString((*keys).into()))))
                .collect();
            Reply::json(200, &json!({ "metadata": { "name": "keys" }, "data": entries }))
        }
        "/api/v1/namespaces/ns/pods/db-0/log" => {
            assert!(query.contains("container=server"), "{query}");
            match &logs[usize::from(query.contains("previous=true"))] {
                Some(log) => Reply::text(200, log),
                None => missing(400, "previous terminated container \"server\" in pod \"db-0\" not found"),
            }
        }
        _ => missing(404, "not found"),
    }
}

fn key(step: &str) -> GateKey {
    GateKey { resource_uid: UID.into(), upgrade: "0123abcd".into(), step: step.into(), pod_uid: "pod".into() }
}

/// A running server and what it runs on; `None`, and the test is skipped, where none was built.
fn server(test: &str) -> Option<(Setup, Server)> {
    server_with(test, |setup| setup)
}

fn server_with(test: &str, change: impl Fn(Setup) -> Setup) -> Option<(Setup, Server)> {
    if !build_directory().join(PROGRAM).exists() {
        testing::missing(test, "the server is not built");
        return None;
    }
    let setup = change(Setup::new());
    let server = setup.start();
    Some((setup, server))
}

/// How many threads the store has, of anybody.
fn threads(server: &Server) -> Value {
    server.admin("/admin/stats").check_status(200).json()["threads"].clone()
}

/// Waits until this is so.
async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The result of what takes milliseconds, or the test fails.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(testing::GENEROUS, work).await.expect("it takes too long")
}
