//! Parts of Kubernetes that end, while clients write.

use progressdb_e2e::{
    CLUSTER, Database, Namespace, Writers, cluster_script, database::is_ready, is_own_cluster, kubectl, try_kubectl,
    wait_until,
};
use serde_json::{Value, json};
use testing::skip;

/// Runs a test of a database that serves and has writers, unless the cluster is somebody's.
fn while_clients_write(test: &str, disturb: impl FnOnce(&Database<'_>, &Writers)) {
    if !is_own_cluster() {
        return skip(test, "it stops parts of the cluster, and this one is yours; unset KUBECONFIG to have one made");
    }
    let namespace = Namespace::new("cluster");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    disturb(&database, &writers);
    writers.check();
}

#[test]
fn a_kubelet_that_starts_anew_restarts_no_database() {
    while_clients_write("a_kubelet_that_starts_anew_restarts_no_database", |database, writers| {
        let uid = database.pod_uid();
        cluster_script("part", &["kill", "kubelet"]);
        writers.wait_for_more(200);
        cluster_script("part", &["start", "kubelet"]);
        writers.wait_for_more(200);
        wait_until("the node is ready again", node, is_ready);
        database.ready().check_still_runs(&uid);
    });
}

#[test]
fn an_api_server_that_starts_anew_restarts_no_database() {
    while_clients_write("an_api_server_that_starts_anew_restarts_no_database", |database, writers| {
        let uid = database.pod_uid();
        cluster_script("part", &["kill", "apiserver"]);
        writers.wait_for_more(200);
        cluster_script("part", &["start", "apiserver"]);
        wait_until("the API server is ready", || try_kubectl(&["get", "--raw", "/readyz"], ""), Result::is_ok).unwrap();
        // The operator goes on by itself.
        database.change(json!({ "service": { "annotations": { "example.com/after": "restart" } } }));
        let annotations = || database.namespace.get("Service", "chat")["metadata"]["annotations"].clone();
        wait_until("the operator acts again", annotations, |now| now["example.com/after"] == "restart");
        database.check_still_runs(&uid);
    });
}

#[test]
fn a_node_that_is_drained_gives_its_database_back_when_it_returns() {
    while_clients_write("a_node_that_is_drained_gives_its_database_back_when_it_returns", |database, writers| {
        let (uid, node) = (database.pod_uid(), node()["metadata"]["name"].as_str().unwrap().to_owned());
        kubectl(&["cordon", &node]);
        let mine = "--pod-selector=app.kubernetes.io/instance=chat,app.kubernetes.io/name=progressdb";
        kubectl(&["drain", &node, mine, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"]);
        database.wait_for("Stalled", "True", "Unschedulable", &["unschedulable"]);
        kubectl(&["uncordon", &node]);
        database.wait_for_other_pod(&uid).ready();
        writers.wait_for_more(100);
    });
}

fn node() -> Value {
    CLUSTER.list("Node", "")[0].clone()
}
