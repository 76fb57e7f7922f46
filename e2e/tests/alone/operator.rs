//! The operator itself: killed at any moment, upgraded, removed, and with a CRD that is older than it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use progressdb_e2e::{Namespace, SYSTEM, Writers, helm, image, kubectl, kubectl_with, pause, try_kubectl, wait_until};
use serde_json::json;

/// Kills the operator's pod every five seconds until it is dropped.
struct Killer {
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Killer {
    fn start() -> Self {
        let (stop, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&kills));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                let kill =
                    ["-n", SYSTEM, "delete", "pod", "-l", SELECTOR, "--grace-period=0", "--force", "--wait=false"];
                if try_kubectl(&kill).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                pause(Duration::from_secs(5));
            }
        });
        Self { stop, kills, thread: Some(thread) }
    }

    fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        operator_is_ready();
    }
}

const SELECTOR: &str = "app.kubernetes.io/name=progressdb-operator";

fn operator_is_ready() {
    wait_until("the operator is ready", || {
        let arguments = ["-n", SYSTEM, "rollout", "status", "deployment/progressdb-operator", "--timeout=5s"];
        try_kubectl(&arguments).is_ok()
    });
}

/// The values that `e2e/run` installs with.
fn install(more: &[&str]) {
    let (repository, tag) = (image("progressdb-operator"), "dev");
    let repository = format!("image.repository={repository}");
    let tag = format!("image.tag={tag}");
    let base = ["upgrade", "--install", "progressdb-operator", "charts/progressdb-operator", "-n", SYSTEM];
    let wait = ["--wait", "--timeout", "240s", "--set", &repository, "--set", &tag];
    helm(&[&base[..], &wait[..], more].concat());
}

/// No operator, until it is dropped.
struct Without;

impl Without {
    fn operator() -> Self {
        helm(&["uninstall", "progressdb-operator", "-n", SYSTEM, "--wait"]);
        Self
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        install(&[]);
    }
}

#[test]
fn an_operator_that_is_killed_every_five_seconds_creates_changes_and_deletes() {
    let namespace = Namespace::new("operator-killed");
    let killer = Killer::start();
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    database.ready();
    let writers = Writers::start(&database, 4);
    let uid = database.pod_uid();
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for_other_pod(&uid);
    database.ready();
    database.change(json!({ "storage": { "embedded": { "size": "2Gi" } } }));
    wait_until("the claim asks for more", || {
        namespace.get("persistentvolumeclaim", &database.claim())["spec"]["resources"]["requests"]["storage"] == "2Gi"
    });
    println!("acknowledged and found: {}", writers.check());
    database.delete();
    wait_until("the resource has gone", || !database.is_there());
    assert_eq!(namespace.names("volumesnapshot").len(), 1);
    wait_until("the claim has gone", || namespace.names("persistentvolumeclaim").is_empty());
    println!("the operator was killed {} times", killer.kills());
    assert!(killer.kills() >= 3);
}

#[test]
fn an_upgrade_of_the_operator_restarts_no_database() {
    let namespace = Namespace::new("operator-upgraded");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let uid = database.pod_uid();
    install(&["--set", "podAnnotations.e2e=upgraded", "--set", "log.level=debug"]);
    operator_is_ready();
    // It works: it acts on a change, and leaves the pod alone.
    database.change(json!({ "service": { "annotations": { "example.com/after": "upgrade" } } }));
    wait_until("the new operator acts", || {
        namespace.get("service", "chat")["metadata"]["annotations"]["example.com/after"] == "upgrade"
    });
    database.ready();
    assert_eq!((database.pod_uid(), database.restarts()), (uid, 0));
    println!("acknowledged and found: {}", writers.check());
    helm(&["test", "progressdb-operator", "-n", SYSTEM, "--timeout", "120s"]);
}

#[test]
fn without_the_operator_databases_serve_and_nothing_of_them_goes() {
    let namespace = Namespace::new("operator-gone");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let uid = database.pod_uid();
    let without = Without::operator();
    writers.wait_for_more(100);
    // Kubernetes makes the pod anew without any help.
    namespace.kubectl(&["delete", "pod", &database.pod(), "--grace-period=0", "--force"]);
    database.wait_for_other_pod(&uid);
    writers.wait_for_more(100);
    drop(without);
    database.ready();
    println!("acknowledged and found: {}", writers.check());
}

#[test]
fn a_namespace_that_goes_without_an_operator_waits_for_one_that_keeps_the_volume() {
    let namespace = Namespace::new("operator-late");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    database.ready();
    let volume = database.volume();
    let without = Without::operator();
    kubectl(&["delete", "namespace", &namespace.name, "--wait=false"]);
    wait_until("the pod has gone", || namespace.find("pod", &database.pod()).is_none());
    wait_until("the claim waits", || {
        let claim = namespace.get("persistentvolumeclaim", &database.claim());
        claim["metadata"]["finalizers"] == json!(["progressdb.io/data"])
            && !claim["metadata"]["deletionTimestamp"].is_null()
    });
    drop(without);
    volume.check_kept();
    kubectl(&["wait", "--for=delete", "namespace", &namespace.name, "--timeout=240s"]);
}

#[test]
fn the_crds_outlive_their_chart_and_an_operator_refuses_older_ones() {
    let namespace = Namespace::new("crds");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let set = |revision: &str| {
        let annotation = format!("progressdb.io/schema-revision={revision}");
        kubectl(&["annotate", "--overwrite", "crd", "progressdbs.progressdb.io", &annotation]);
    };
    let revision = kubectl(&[
        "get",
        "crd",
        "progressdbs.progressdb.io",
        "-o",
        r"jsonpath={.metadata.annotations.progressdb\.io/schema-revision}",
    ]);
    set("0");
    kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment/progressdb-operator"]);
    wait_until("the operator says what is wrong", || {
        let said = try_kubectl(&["-n", SYSTEM, "logs", "-l", SELECTOR, "--tail=20"]);
        said.is_ok_and(|said| said.contains("upgrade the chart progressdb-crds"))
    });
    assert_eq!(database.pod_uid(), uid);
    set(&revision);
    operator_is_ready();
    database.change(json!({ "podAnnotations": { "example.com/a": "b" } }));
    database.wait_for_other_pod(&uid);
    database.ready();
}

#[test]
fn an_operator_of_one_namespace_looks_after_that_one_only() {
    let (own, other) = (Namespace::new("own"), Namespace::new("other"));
    let without = Without::operator();
    let (repository, name) = (format!("image.repository={}", image("progressdb-operator")), own.name.as_str());
    let values =
        ["--set", &repository, "--set", "image.tag=dev", "--set", "namespaced=true", "--wait", "--timeout", "240s"];
    let chart = ["install", "own-progressdb-operator", "charts/progressdb-operator", "-n", name];
    helm(&[&chart[..], &values[..]].concat());
    let outside = other.database("chat", json!({}));
    own.database("chat", json!({ "deletionPolicy": "Snapshot" })).ready();
    assert_eq!(outside.get().get("status"), None, "it is nobody's");
    let may = |verb: &str, what: &str, namespace: &str| {
        let account = format!("system:serviceaccount:{name}:own-progressdb-operator");
        let said = kubectl_with(&["auth", "can-i", verb, what, "-n", namespace, "--as", &account], "");
        said.is_ok_and(|said| said.trim() == "yes")
    };
    assert!(may("get", "secrets", name) && !may("get", "secrets", &other.name) && !may("create", "pods", &other.name));
    helm(&["uninstall", "own-progressdb-operator", "-n", name, "--wait"]);
    drop(without);
    outside.ready();
}

#[test]
fn two_installations_in_one_namespace_have_a_lease_each_and_do_not_fight() {
    let lease = |name: &str| {
        let found = try_kubectl(&["-n", SYSTEM, "get", "lease", name, "-o", "jsonpath={.spec.holderIdentity}"]);
        found.is_ok_and(|holder| !holder.is_empty())
    };
    wait_until("the first one leads", || lease("progressdb-operator"));
    let repository = format!("image.repository={}", image("progressdb-operator"));
    let values =
        ["--set", &repository, "--set", "image.tag=dev", "--set", "namespaced=true", "--wait", "--timeout", "240s"];
    helm(
        &[&["install", "second-progressdb-operator", "charts/progressdb-operator", "-n", SYSTEM][..], &values].concat(),
    );
    wait_until("the second one leads as well", || lease("second-progressdb-operator"));
    let elsewhere = Namespace::new("overlap");
    elsewhere.database("chat", json!({})).ready();
    let shared = Namespace { name: SYSTEM.to_owned() };
    let database = std::mem::ManuallyDrop::new(shared);
    let chat = database.database("overlap", json!({ "deletionPolicy": "Delete" }));
    chat.ready();
    let looks_after = chat.get()["status"]["operator"].as_str().unwrap_or_default().to_owned();
    assert!(looks_after.starts_with("progressdb-system/"), "{looks_after}");
    wait_until("the overlap is told", || {
        let selector = "--field-selector=reason=OperatorsOverlap";
        let told = try_kubectl(&["-n", SYSTEM, "get", "events", selector, "-o", "jsonpath={.items[*].message}"]);
        told.is_ok_and(|told| told.contains(&looks_after))
    });
    chat.delete();
    wait_until("the resource has gone", || !chat.is_there());
    helm(&["uninstall", "second-progressdb-operator", "-n", SYSTEM, "--wait"]);
}
