//! The chart of the definition: it goes and comes back, also elsewhere, as docs/kubernetes.md says.

use progressdb_e2e::{Namespace, helm, kubectl, kubectl_with, root, run};
use serde_json::json;

const CHART: &str = "charts/progressdb-crds";
const CRD: &str = "progressdbs.progressdb.io";

/// The chart is in the namespace `default` again, however a test ended.
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
    let mut plain = std::process::Command::new("helm");
    plain.args(["install", "progressdb-crds", CHART, "-n", &other.name]).current_dir(root());
    let refused = run(&mut plain, None).unwrap_err();
    assert!(refused.contains("cannot be imported into the current release"), "{refused}");
    helm(&["upgrade", "--install", "progressdb-crds", CHART, "-n", &other.name, "--take-ownership"]);
    helm(&["uninstall", "progressdb-crds", "-n", &other.name]);
    drop(home);
    assert_eq!(database.ready().pod_uid(), uid);
}

#[test]
fn what_helm_renders_can_be_applied_without_helm() {
    let namespace = Namespace::new("rendered");
    let render = |chart: &str| helm(&["template", "rendered", chart, "-n", &namespace.name, "--skip-tests"]);
    kubectl_with(&["apply", "-f", "-"], &render(CHART)).unwrap_or_else(|said| panic!("{said}"));
    kubectl(&["wait", "--for=condition=Established", "crd", CRD, "--timeout=60s"]);
    let operator = render("charts/progressdb-operator");
    kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &operator).unwrap_or_else(|said| panic!("{said}"));
    helm(&["upgrade", "--install", "progressdb-crds", CHART, "--take-ownership"]);
}
