//! The charts under every name that Helm allows, and what the cluster's own roles then may.

use progressdb_e2e::{Namespace, is_allowed, root, run, try_helm, try_kubectl};
use serde_json::json;

/// A copy of the charts, with a digest added to their versions as some tools that package them do.
fn charts() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = root().join("charts");
    run(std::process::Command::new("cp").arg("-rL").arg(&from).arg(copy.path()), "").unwrap();
    for chart in ["progressdb-operator", "progressdb-crds"] {
        let path = copy.path().join("charts").join(chart).join("Chart.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let versioned: Vec<String> = text
            .lines()
            .map(|line| if line.starts_with("version: ") { format!("{line}+0123456789ab") } else { line.to_owned() })
            .collect();
        std::fs::write(path, versioned.join("\n")).unwrap();
    }
    copy
}

#[test]
fn charts_are_taken_under_every_name_of_release_and_namespace() {
    let charts = charts();
    // A name of digits only is read as a number where a template does not quote it.
    let namespace = Namespace::named(format!("2026{}", std::process::id()));
    for release in ["123", "a.b", "7days.v2", "1.progressdb-operator", "x", &"a".repeat(53)] {
        let labels = ["--set-string", "podLabels.app=x,podLabels.number=1"];
        for (chart, values) in [("progressdb-operator", &labels[..]), ("progressdb-crds", &[])] {
            let path = charts.path().join("charts").join(chart);
            let template = ["template", release, path.to_str().unwrap(), "-n", &namespace.name];
            let rendered = try_helm(&[&template[..], values].concat()).unwrap();
            let taken = try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &rendered);
            assert!(taken.as_ref().is_ok_and(|said| said.contains("dry run")), "{chart} as {release}: {taken:?}");
        }
    }
}

#[test]
fn whoever_may_view_or_edit_a_namespace_may_do_so_with_its_databases() {
    let namespace = Namespace::new("roles");
    for role in ["view", "edit", "admin"] {
        let (group, name) = ("rbac.authorization.k8s.io", role);
        namespace.apply(
            "RoleBinding",
            role,
            json!({
                "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
                "subjects": [{ "apiGroup": group, "kind": "User", "name": name }],
            }),
        );
    }
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let allowed = |who: &str| verbs.map(|verb| is_allowed(who, verb, "progressdbs.progressdb.io", &namespace.name));
    assert_eq!(allowed("view"), [true, true, true, false, false, false, false]);
    assert_eq!([allowed("edit"), allowed("admin")], [[true; 7]; 2]);
    assert_eq!(allowed("stranger"), [false; 7]);
}

#[test]
fn a_database_serves_under_other_ids_than_those_of_the_image() {
    let namespace = Namespace::new("ids");
    let ids = json!({ "securityContext": { "runAsUser": 2000, "runAsGroup": 3000, "fsGroup": 4000 } });
    let database = namespace.database("chat", ids);
    database.ready().client("ann").create_thread("first");
    let pod = namespace.get("Pod", &database.pod());
    let given = &pod["spec"]["securityContext"];
    assert_eq!((&given["runAsUser"], &given["fsGroup"]), (&json!(2000), &json!(4000)));
}
