//! What the operator may do is what it does: every call that it makes is granted by the chart, and what the chart grants is
//! called, or stands here with the reason why it is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, atomic::AtomicI64},
};

use progressdb_operator::{
    clock::Clock,
    crd::Verdict,
    gate::Gate,
    gates::{GateKey, Gates, Target},
    lease::Candidate,
};
use serde_json::{Value, json};

use crate::{
    api::{Key, Server, access::Access},
    cluster::Cluster,
    fleet,
    running::Running,
    successor::installed,
    upgrade,
};

/// What is granted and called in none of the scenarios, and why not.
const NOT_CALLED: [(&str, &str); 1] =
    [("get apiextensions.k8s.io/customresourcedefinitions", "the program asks before it begins to reconcile")];

/// What the chart grants, as [`Access`] shows it. Everything is granted in all its modes, so that the template is read as
/// it is: its rules are YAML, and the lines with actions are none of them.
fn granted() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/progressdb-operator/templates/rbac.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let list = |line: &str, field: &str| -> Option<Vec<String>> {
        let items = line.trim().trim_start_matches("- ").strip_prefix(field)?.strip_prefix(": [")?.strip_suffix(']')?;
        Some(items.split(',').map(|item| item.trim().trim_matches('"').to_owned()).collect())
    };
    let (mut found, mut groups, mut resources) = (BTreeSet::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        groups = list(line, "apiGroups").unwrap_or(groups);
        resources = list(line, "resources").unwrap_or(resources);
        for verb in list(line, "verbs").unwrap_or_default() {
            for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |name| (group, name))) {
                let group = if group.is_empty() { "core" } else { group };
                found.insert(format!("{verb} {group}/{resource}"));
            }
        }
    }
    found
}

fn note(called: &mut BTreeSet<Access>, server: &Server) {
    called.extend(server.accesses());
}

/// A database with all that can be asked for is installed, changed in every way, and goes with its data.
async fn a_life(called: &mut BTreeSet<Access>) {
    let cluster = Cluster::new();
    let optional = ["ServiceMonitor", "PrometheusRule", "VolumeSnapshot"];
    cluster.server.with(|store| optional.into_iter().for_each(|kind| store.serve(kind)));
    let secret = Key::new("Secret", "ns", "master");
    let key = json!({ "stringData": { "master.key": "first" } });
    cluster.server.with(|store| store.create(&secret, key, BTreeMap::new()).unwrap());
    let mut running = Running::start(cluster);
    let everything = json!({
        "kms": { "embedded": { "secretName": "master" } }, "networkPolicy": { "enabled": true },
        "monitoring": { "serviceMonitor": true, "prometheusRule": true }, "deletionPolicy": "Snapshot",
    });
    running.cluster.create("db", everything);
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("an installation", 20).await;
    let changes: [fn(&mut Value); 4] = [
        |spec| spec["image"] = json!("registry/progressdb:0.3.1"),
        |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }),
        |spec| spec["storage"]["embedded"]["size"] = json!("2Gi"),
        |spec| {
            spec["networkPolicy"] = json!({ "enabled": false });
            spec["monitoring"] = json!({ "serviceMonitor": false, "prometheusRule": false });
        },
    ];
    for change in changes {
        running.cluster.change("db", change);
        running.comes_to_rest("a change", 40).await;
    }
    running.cluster.delete("db");
    running.until("the end", |cluster| cluster.get("ProgressDB", "db").is_none()).await;
    note(called, &running.cluster.server);
}

/// The data is deleted with the resource.
async fn a_deletion(called: &mut BTreeSet<Access>) {
    let mut cluster = installed(json!({ "deletionPolicy": "Delete" })).await;
    cluster.delete("db");
    cluster.settle().await;
    note(called, &cluster.server);
}

/// A successor that no node takes, a pod that its node does not end, and a restart that somebody asks for.
async fn trouble(called: &mut BTreeSet<Access>) {
    let mut cluster = installed(json!({})).await;
    cluster.world.unplaceable_images.push("registry/progressdb:0.3.1".into());
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.1"));
    cluster.settle().await;
    cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.0"));
    cluster.settle().await;
    cluster.world.failing_jobs.insert("config-check".into(), r#"{"errors":[{"message":"no"}]}"#.into());
    cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "loud" } }));
    cluster.settle().await;
    cluster.change("db", |spec| {
        spec["settings"] = json!({});
        spec["nodeSelector"] = json!({ "pool": "none" });
    });
    cluster.settle().await;
    cluster.world.is_node_lost = true;
    cluster.change("db", |spec| spec["suspend"] = json!(true));
    for _ in 0..5 {
        cluster.pass().await;
        cluster.world.step();
        cluster.server.with(|store| store.advance(600));
    }
    note(called, &cluster.server);
}

/// Labels that were edited, by which the watches select, and a container that keeps a check from ending.
async fn hands(called: &mut BTreeSet<Access>) {
    let mut cluster = installed(json!({})).await;
    let check = cluster.server.with(|store| store.all("Job")[0]["metadata"]["name"].as_str().unwrap().to_owned());
    let volumes = cluster.get("StatefulSet", "db").unwrap()["spec"]["template"]["spec"]["volumes"].clone();
    let settings = volumes[0]["configMap"]["name"].as_str().unwrap();
    for (kind, name) in [("Secret", "db-api-keys"), ("ConfigMap", settings), ("Job", &check)] {
        cluster.server.with(|store| {
            store.edit(&Key::new(kind, "ns", name), |object| object["metadata"]["labels"] = json!({}));
        });
        cluster.settle().await;
    }
    cluster.world.injects = true;
    cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    cluster.settle().await;
    note(called, &cluster.server);
}

/// A fleet is installed, changes, loses a canary that nothing is tried with, and goes with its keys.
async fn a_fleet(called: &mut BTreeSet<Access>) {
    let mut running = fleet::installed(json!({ "deletionPolicy": "Delete" })).await;
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    running.comes_to_rest("a change", 40).await;
    fleet::make_canary(&running.cluster);
    running.comes_to_rest("a canary", 40).await;
    running.cluster.delete("db");
    running.until("the end", |cluster| cluster.get("ProgressDB", "db").is_none()).await;
    note(called, &running.cluster.server);
}

/// The namespace of a database ends, whose volume is to be kept.
async fn the_end_of_a_namespace(called: &mut BTreeSet<Access>) {
    let mut cluster = installed(json!({ "deletionPolicy": "Snapshot" })).await;
    cluster.server.with(|store| {
        let namespace = Key::new("Namespace", "", "ns");
        store.edit(&namespace, |namespace| namespace["metadata"]["finalizers"] = json!(["kubernetes"]));
        store.delete(&namespace, &Value::Null).unwrap();
    });
    cluster.delete("db");
    cluster.settle().await;
    note(called, &cluster.server);
}

/// One operator leads, and meets a resource of another one.
async fn leading(called: &mut BTreeSet<Access>) {
    let server = Server::new();
    let clock = Clock::Set(Arc::new(AtomicI64::new(0)));
    let (mut candidate, _) = Candidate::new(server.client(), "ns", "operator", "a", clock);
    candidate.step().await.unwrap();
    candidate.step().await.unwrap();
    note(called, &server);
}

/// A gate reads the log of a server. In the double only this one is the operator's own.
async fn a_log(called: &mut BTreeSet<Access>) {
    let cluster = installed(json!({})).await;
    let gates = Gates::new(cluster.server.client());
    let key = GateKey { resource_uid: "a".into(), upgrade: "b".into(), step: "Logs".into(), pod_uid: "c".into() };
    let gate = Gate::Logs { pod: "db-0".into() };
    let secrets = vec!["db-api-keys".into()];
    let target = Target::of_pod(IpAddr::from(Ipv4Addr::LOCALHOST), "ns", "db-api-keys", secrets);
    gates.start(key.clone(), gate, target);
    gates.changed().await;
    assert_eq!(gates.result(&key).map(|result| result.verdict), Some(Verdict::Passed));
    note(called, &cluster.server);
}

#[tokio::test(start_paused = true)]
async fn the_chart_grants_what_is_called_and_nothing_else() {
    let mut called = BTreeSet::new();
    a_life(&mut called).await;
    a_deletion(&mut called).await;
    trouble(&mut called).await;
    hands(&mut called).await;
    a_fleet(&mut called).await;
    the_end_of_a_namespace(&mut called).await;
    leading(&mut called).await;
    a_log(&mut called).await;
    upgrade::lives().await.iter().for_each(|cluster| note(&mut called, &cluster.server));
    let (called, granted): (BTreeSet<String>, _) = (called.iter().map(Access::to_string).collect(), granted());
    let refused: Vec<&String> = called.difference(&granted).collect();
    assert!(refused.is_empty(), "called and not granted: {refused:#?}");
    let explained: BTreeSet<String> = NOT_CALLED.iter().map(|(access, _)| (*access).to_owned()).collect();
    let unused: BTreeSet<String> = granted.difference(&called).cloned().collect();
    assert_eq!(unused, explained, "granted and not called");
}
