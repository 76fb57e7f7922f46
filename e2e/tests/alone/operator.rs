//! The operator itself: killed at any moment, upgraded, removed, and with a CRD that is older than it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use progressdb_e2e::{CLUSTER, Namespace, SYSTEM, Writers, helm, kubectl, pause, wait_until};
use serde_json::json;

use crate::installations::{Without, install, wait_until_operator_is_ready};

const SELECTOR: &str = "app.kubernetes.io/name=progressdb-operator";

/// The names of the operator's pods.
fn operator_pods() -> Vec<String> {
    let pods = SYSTEM.list("Pod", SELECTOR);
    pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Kills the operator's pods every five seconds until it is dropped.
pub(crate) struct Killer {
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Killer {
    pub(crate) fn start() -> Self {
        let (stop, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&kills));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                for pod in operator_pods() {
                    SYSTEM.kill(&pod);
                    count.fetch_add(1, Ordering::SeqCst);
                }
                pause(Duration::from_secs(5));
            }
        });
        Self { stop, kills, thread: Some(thread) }
    }

    pub(crate) fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
        wait_until_operator_is_ready();
    }
}

#[test]
fn an_operator_that_is_killed_every_five_seconds_creates_changes_and_deletes() {
    let namespace = Namespace::new("operator-killed");
    let killer = Killer::start();
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    let writers = Writers::start(database.ready(), 4);
    let uid = database.pod_uid();
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    database.wait_for_other_pod(&uid).ready();
    database.change(json!({ "storage": { "embedded": { "size": "2Gi" } } }));
    let claim = || namespace.get("PersistentVolumeClaim", &database.claim())["spec"]["resources"].clone();
    wait_until("the claim asks for more", claim, |resources| resources["requests"]["storage"] == "2Gi");
    writers.check();
    database.delete();
    assert_eq!(namespace.names("VolumeSnapshot").len(), 1);
    wait_until("the claim has gone", || namespace.names("PersistentVolumeClaim"), Vec::is_empty);
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
    wait_until_operator_is_ready();
    // It works: it acts on a change, and leaves the pod alone.
    database.change(json!({ "service": { "annotations": { "example.com/after": "upgrade" } } }));
    let annotations = || namespace.get("Service", "chat")["metadata"]["annotations"].clone();
    wait_until("the new operator acts", annotations, |now| now["example.com/after"] == "upgrade");
    database.ready().check_still_runs(&uid);
    writers.check();
    helm(&["test", "progressdb-operator", "-n", &SYSTEM.name, "--timeout", "120s"]);
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
    namespace.kill(&database.pod());
    database.wait_for_other_pod(&uid);
    writers.wait_for_more(100);
    drop(without);
    database.ready();
    writers.check();
}

#[test]
fn a_namespace_that_goes_without_an_operator_waits_for_one_that_keeps_the_volume() {
    let namespace = Namespace::new("operator-late");
    let database = namespace.database("chat", json!({ "deletionPolicy": "Snapshot" }));
    let volume = database.ready().volume();
    let without = Without::operator();
    CLUSTER.delete("Namespace", &namespace.name);
    wait_until("the pod has gone", || namespace.find("Pod", &database.pod()), Option::is_none);
    let claim = || namespace.get("PersistentVolumeClaim", &database.claim())["metadata"].clone();
    wait_until("the claim waits for the operator only", claim, |metadata| {
        metadata["finalizers"] == json!(["progressdb.io/data"]) && !metadata["deletionTimestamp"].is_null()
    });
    drop(without);
    volume.check_kept();
    wait_until("the namespace has gone", || CLUSTER.find("Namespace", &namespace.name), Option::is_none);
}

#[test]
fn the_crds_outlive_their_chart_and_an_operator_refuses_older_ones() {
    const CRD: &str = "progressdbs.progressdb.io";
    const REVISION: &str = "progressdb.io/schema-revision";
    let namespace = Namespace::new("crds");
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let set = |revision: &str| {
        let annotations = json!({ REVISION: revision });
        CLUSTER.change("CustomResourceDefinition", CRD, &json!({ "metadata": { "annotations": annotations } }));
    };
    let definition = CLUSTER.get("CustomResourceDefinition", CRD);
    set("0");
    kubectl(&["-n", &SYSTEM.name, "rollout", "restart", "deployment/progressdb-operator"]);
    let logs = || operator_pods().iter().map(|pod| SYSTEM.log(pod)).collect::<Vec<_>>();
    wait_until("the operator says what is wrong", logs, |logs| {
        logs.iter().flatten().any(|log| log.contains("upgrade the chart progressdb-crds"))
    });
    assert_eq!(database.pod_uid(), uid);
    set(definition["metadata"]["annotations"][REVISION].as_str().unwrap());
    wait_until_operator_is_ready();
    database.change(json!({ "podAnnotations": { "example.com/a": "b" } }));
    database.wait_for_other_pod(&uid).ready();
}
