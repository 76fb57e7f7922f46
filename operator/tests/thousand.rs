//! A thousand resources, of which three are upgraded then: the operator's program against the API server double over HTTP.
//! How much memory it takes is judged, and that it makes no calls at rest; how long it takes is shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use progressdb_operator::crd::{SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION};
use serde_json::json;
use testing::kubernetes::{
    api::{Key, Server, kinds::named},
    world::World,
};
use tokio::{net::TcpListener, time::Instant};

const COUNT: usize = 1_000;
/// What the operator may keep resident.
const MOST_KIB: u64 = 25 * 1024;
/// How many are upgraded at one time, and what the operator may keep resident meanwhile.
const UPGRADED: usize = 3;
const MOST_UPGRADING_KIB: u64 = 30 * 1024;
/// So long nothing happens.
const REST: Duration = Duration::from_secs(10);
/// More than the slowest machine takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where every database answers: the operator knows their port and not their host.
const DATABASES: Ipv4Addr = Ipv4Addr::new(127, 83, 7, 1);

/// A process that ends with the test.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    fn start(kubeconfig: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_progressdb-operator"));
        command.args(["--listen", "127.0.0.1:0", "--log-level", "warn"]).env("KUBECONFIG", kubeconfig);
        Self(command.spawn().expect("the operator starts"))
    }

    /// A line of the kernel's report about the process, in KiB.
    fn kib(&self, name: &str) -> u64 {
        let report = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("the kernel reports it")
    }
}

/// Processor time of a process; the kernel counts in hundredths of a second.
fn processor_seconds(process: u32) -> f64 {
    let report = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, fields) = report.rsplit_once(')').expect("the name stands in parentheses");
    let ticks = |index: usize| fields.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / 100.0).expect("the kernel reports it")
}

fn kubeconfig(server: SocketAddr) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "double",
        "clusters": [{ "name": "double", "cluster": { "server": format!("http://{server}") } }],
        "contexts": [{ "name": "double", "context": { "cluster": "double", "user": "double" } }],
        "users": [{ "name": "double", "user": {} }],
    });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("thousand-{}.json", std::process::id()));
    std::fs::write(&path, config.to_string()).expect("a file for the test");
    path
}

/// What every database says of itself, and answers to the load of a gate.
async fn serve_databases() {
    for port in [8080, 9090] {
        let listener = TcpListener::bind((DATABASES, port)).await.expect("nobody has this address of the loopback");
        let router = axum::Router::new().fallback(async |method: Method| match method {
            Method::GET => {
                let said = json!({
                    "status": "ok", "version": "0.3.0", "format": { "data": 1 }, "sequence": 1_000_000, "threads": [],
                });
                (StatusCode::OK, said.to_string())
            }
            _ => (StatusCode::ACCEPTED, json!({ "key": "probe" }).to_string()),
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
}

fn fill(server: &Server) {
    server.with(|store| {
        store.edit(&Key::new("Node", "", "node"), |node| node["status"]["allocatable"]["pods"] = json!("2000"));
        let revision = json!({ SCHEMA_REVISION_ANNOTATION: SCHEMA_REVISION.to_string() });
        let crd = json!({ "metadata": { "annotations": revision }, "spec": {} });
        let name = Key::new("CustomResourceDefinition", "", "progressdbs.progressdb.io");
        store.create(&name, crd, BTreeMap::new()).expect("a new CRD");
        let spec = json!({ "image": "registry/progressdb:0.3.0", "storage": { "embedded": { "size": "1Gi" } } });
        for number in 0..COUNT {
            let key = Key::new("ProgressDB", "ns", &format!("chat-{number}"));
            store.create(&key, json!({ "spec": spec }), BTreeMap::new()).expect("a new resource");
        }
    });
}

/// How many resources serve, and have nothing left to be done.
fn settled(server: &Server) -> usize {
    server.with(|store| {
        let resources = store.list(named("ProgressDB"), None);
        let rests = |resource: &&&serde_json::Value| {
            let conditions = resource["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is = |kind: &str, status: &str| {
                conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status)
            };
            resource["status"]["version"] == "0.3.0" && is("Ready", "True") && is("Reconciling", "False")
        };
        resources.iter().filter(rests).count()
    })
}

/// Some resources ask for another image.
fn ask_for_upgrades(server: &Server) {
    server.with(|store| {
        for number in 0..UPGRADED {
            store.edit(&Key::new("ProgressDB", "ns", &format!("chat-{number}")), |resource| {
                resource["spec"]["image"] = json!("registry/progressdb:0.4.0");
                resource["spec"]["upgrade"] = json!({ "soak": "1s", "gates": { "smoke": "Off" } });
            });
        }
    });
}

/// How the upgrades have ended.
fn outcomes(server: &Server) -> Vec<String> {
    server.with(|store| {
        let upgrades = store.list(named("ProgressDB"), None).into_iter();
        upgrades.filter_map(|resource| Some(resource["status"]["upgrade"]["outcome"].as_str()?.to_owned())).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_resources_are_reconciled_in_little_memory() {
    let server = Server::new();
    let mut world = World::new(&server);
    world.pod_address = Some(DATABASES.to_string());
    fill(&server);
    serve_databases().await;
    let kubeconfig = kubeconfig(server.listen().await);
    let began = Instant::now();
    let operator = Operator::start(&kubeconfig);
    while settled(&server) < COUNT {
        assert!(began.elapsed() < PATIENCE, "{} of {COUNT} are reconciled", settled(&server));
        world.step();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let took = began.elapsed();
    let (resident, anonymous, peak) = (operator.kib("VmRSS"), operator.kib("RssAnon"), operator.kib("VmHWM"));
    let processor = processor_seconds(operator.0.id());
    let calls = server.take_calls().len();
    eprintln!(
        "{COUNT} resources: reconciled in {took:.1?} by {calls} calls and {processor:.1} s of processor; resident {resident} KiB, of it {anonymous} KiB of \
         its own, at most {peak} KiB"
    );
    tokio::time::sleep(REST).await;
    let at_rest = server.take_calls();
    ask_for_upgrades(&server);
    let (began, mut upgrading) = (Instant::now(), 0);
    while outcomes(&server).len() < UPGRADED {
        assert!(began.elapsed() < PATIENCE, "the upgrades have not ended");
        world.step();
        upgrading = upgrading.max(operator.kib("VmRSS"));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    eprintln!("{UPGRADED} upgrades at one time took {:.1?}; at most {upgrading} KiB were resident", began.elapsed());
    assert_eq!(outcomes(&server), ["Succeeded"; UPGRADED]);
    assert_eq!(world.broken, Vec::<String>::new());
    std::fs::remove_file(kubeconfig).expect("the test wrote it");
    assert_eq!(at_rest.len(), 0, "{at_rest:?}");
    assert!(resident <= MOST_KIB, "{resident} KiB are resident");
    assert!(upgrading <= MOST_UPGRADING_KIB, "{upgrading} KiB are resident during upgrades");
}
