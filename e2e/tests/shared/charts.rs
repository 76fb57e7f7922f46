//! The charts under every name that Helm allows, and what the cluster's own roles then may.

use progressdb_e2e::{Namespace, kubectl, kubectl_with, root, run, try_kubectl};
use serde_json::json;

/// The charts as a tool packages them that adds a digest to their version.
fn charts() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = root().join("charts");
    run(std::process::Command::new("cp").args(["-rL".as_ref(), from.as_os_str(), copy.path().as_os_str()]), None)
        .unwrap();
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
    let digits = Namespace::new("charts").name.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
    let namespace = Namespace { name: format!("2026{digits}") };
    kubectl(&["create", "namespace", &namespace.name]);
    for release in ["123", "a.b", "7days.v2", "1.progressdb-operator", "x", &"a".repeat(53)] {
        let labels = ["--set-string", "podLabels.app=x,podLabels.number=1"];
        for (chart, values) in [("progressdb-operator", &labels[..]), ("progressdb-crds", &[])] {
            let path = charts.path().join("charts").join(chart);
            let mut helm = std::process::Command::new("helm");
            helm.args(["template", release]).arg(path).args(["-n", &namespace.name]).args(values);
            let rendered = run(&mut helm, None).unwrap_or_else(|said| panic!("{chart} as {release}: {said}"));
            let dry = ["apply", "--dry-run=server", "-f", "-"];
            let taken = kubectl_with(&dry, &rendered).unwrap_or_else(|said| panic!("{chart} as {release}: {said}"));
            assert!(taken.contains("dry run"), "{taken}");
        }
    }
}

#[test]
fn whoever_may_view_or_edit_a_namespace_may_do_so_with_its_databases() {
    let namespace = Namespace::new("roles");
    for role in ["view", "edit", "admin"] {
        namespace.kubectl(&[
            "create",
            "rolebinding",
            role,
            &format!("--clusterrole={role}"),
            &format!("--user={role}"),
        ]);
    }
    let may = |who: &str, verb: &str| {
        let said =
            try_kubectl(&["auth", "can-i", verb, "progressdbs.progressdb.io", "-n", &namespace.name, "--as", who]);
        said.is_ok_and(|said| said.trim() == "yes")
    };
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let allowed = |who: &str| verbs.map(|verb| may(who, verb));
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
    let pod = namespace.get("pod", &database.pod());
    let given = &pod["spec"]["securityContext"];
    assert_eq!((&given["runAsUser"], &given["fsGroup"]), (&json!(2000), &json!(4000)));
}
