//! Parts of Kubernetes that end, while clients write.

use progressdb_e2e::{Namespace, Writers, cluster_script, is_own_cluster, kubectl, try_kubectl, wait_until};
use serde_json::json;
use testing::skip;

/// Says so, and that it is not, where the cluster is somebody's.
fn may_stop_parts(test: &str) -> bool {
    if !is_own_cluster() {
        skip(test, "it stops parts of the cluster, and this one is yours; unset KUBECONFIG to have one made");
    }
    is_own_cluster()
}

#[test]
fn a_kubelet_that_starts_anew_restarts_no_database() {
    if !may_stop_parts("a_kubelet_that_starts_anew_restarts_no_database") {
        return;
    }
    let namespace = Namespace::new("kubelet");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    let uid = database.pod_uid();
    cluster_script("part", &["kill", "kubelet"]);
    writers.wait_for_more(200);
    cluster_script("part", &["start", "kubelet"]);
    writers.wait_for_more(200);
    wait_until("the node is ready again", node_is_ready);
    database.ready();
    assert_eq!((database.pod_uid(), database.restarts()), (uid, 0));
    println!("acknowledged and found: {}", writers.check());
}

#[test]
fn an_api_server_that_starts_anew_restarts_no_database() {
    if !may_stop_parts("an_api_server_that_starts_anew_restarts_no_database") {
        return;
    }
    let namespace = Namespace::new("apiserver");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    let uid = database.pod_uid();
    cluster_script("part", &["kill", "apiserver"]);
    writers.wait_for_more(200);
    cluster_script("part", &["start", "apiserver"]);
    wait_until("the API server answers", || try_kubectl(&["get", "--raw", "/readyz"]).is_ok());
    // The operator goes on by itself.
    database.change(json!({ "service": { "annotations": { "example.com/after": "restart" } } }));
    wait_until("the operator acts again", || {
        let service = namespace.try_kubectl(&["get", "service", "chat", "-o", "jsonpath={.metadata.annotations}"]);
        service.is_ok_and(|annotations| annotations.contains("example.com/after"))
    });
    assert_eq!((database.pod_uid(), database.restarts()), (uid, 0));
    println!("acknowledged and found: {}", writers.check());
}

#[test]
fn a_node_that_is_drained_gives_its_database_back_when_it_returns() {
    if !may_stop_parts("a_node_that_is_drained_gives_its_database_back_when_it_returns") {
        return;
    }
    let namespace = Namespace::new("drain");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    let (uid, node) = (database.pod_uid(), node());
    kubectl(&["cordon", &node]);
    let mine = "app.kubernetes.io/instance=chat,app.kubernetes.io/name=progressdb";
    kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--pod-selector",
        mine,
        "--timeout=180s",
    ]);
    let message = database.wait_for("Stalled", "True", "Unschedulable");
    assert!(message.contains("unschedulable"), "{message}");
    kubectl(&["uncordon", &node]);
    database.wait_for_other_pod(&uid);
    database.ready();
    writers.wait_for_more(100);
    println!("acknowledged and found: {}", writers.check());
}

fn node() -> String {
    kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
}

fn node_is_ready() -> bool {
    let ready = r#"jsonpath={.items[0].status.conditions[?(@.type=="Ready")].status}"#;
    try_kubectl(&["get", "nodes", "-o", ready]).is_ok_and(|status| status == "True")
}
