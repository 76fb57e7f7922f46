//! The chart of the definition: it goes and comes back, also in another namespace, as docs/kubernetes.md says.

use progressdb_e2e::{Namespace, helm, kubectl, try_helm, try_kubectl};
use serde_json::json;

const CHART: &str = "charts/progressdb-crds";
const CRD: &str = "progressdbs.progressdb.io";

/// Puts the chart back into the namespace `default`, however a test ended.
struct Home;

impl Drop for Home {
    fn drop(&mut self) {
        helm(&["upgrade", "--install", "progressdb-crds", CHART, "--take-ownership"]);
    }
}

#[test]
fn a_definition_that_was_left_is_adopted_from_another_namespace() {
    let (namespace, other) = (Namespace::new("adopted"), Namespace::new("other"));
    let database = namespace.database("chat", json!({}));
    let uid = database.ready().pod_uid();
    let home = Home;
    helm(&["uninstall", "progressdb-crds"]);
    helm(&["install", "progressdb-crds", CHART]);
    helm(&["uninstall", "progressdb-crds"]);
    let refused = try_helm(&["install", "progressdb-crds", CHART, "-n", &other.name]).unwrap_err();
    assert!(refused.contains("cannot be imported into the current release"), "{refused}");
    helm(&["upgrade", "--install", "progressdb-crds", CHART, "-n", &other.name, "--take-ownership"]);
    helm(&["uninstall", "progressdb-crds", "-n", &other.name]);
    drop(home);
    assert_eq!(database.ready().pod_uid(), uid);
}

#[test]
fn what_helm_renders_can_be_applied_without_helm() {
    let namespace = Namespace::new("rendered");
    let _home = Home;
    let render = |chart: &str| helm(&["template", "rendered", chart, "-n", &namespace.name, "--skip-tests"]);
    try_kubectl(&["apply", "-f", "-"], &render(CHART)).unwrap();
    kubectl(&["wait", "--for=condition=Established", "crd", CRD, "--timeout=60s"]);
    try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &render("charts/progressdb-operator")).unwrap();
}
