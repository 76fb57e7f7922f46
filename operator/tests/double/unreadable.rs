//! A resource that the operator cannot read, as an older definition admits it: it gets a condition and one Event, and
//! everything else is looked after.

use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster, running::Running};

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
}

fn bad_specs() -> [(&'static str, Value, &'static str); 3] {
    let port = json!([{ "ports": [{ "port": 3_000_000_000_u32 }] }]);
    [
        ("port", json!({ "networkPolicy": { "egress": port } }), "spec.networkPolicy.egress[0].ports[0].port"),
        ("deep", json!({ "settings": nested(140) }), "is nested too deep"),
        ("kind", json!({ "storage": { "elsewhere": {} } }), "it names none of what this operator knows"),
    ]
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_is_told_once_and_hides_no_other() {
    // There from the start, so that the list has them.
    let cluster = Cluster::new();
    for (name, spec, _) in bad_specs() {
        cluster.create(name, spec);
    }
    let mut running = Running::start(cluster);
    running.cluster.create("db", json!({}));
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    for (name, _, why) in bad_specs() {
        let (status, reason, message) = running.cluster.condition(name, "Stalled");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Unreadable"), "{name}");
        assert!(message.contains(why), "{name}: {message}");
        assert_eq!(running.cluster.condition(name, "Ready").0, "False", "{name}");
        let events = running.cluster.server.with(|store| store.all("Event"));
        let of_this = events.iter().filter(|event| event["involvedObject"]["name"] == name).count();
        assert_eq!(of_this, 1, "{name}");
    }
    running.comes_to_rest("resources that cannot be read", 10).await;
    assert_eq!(running.cache.health.problem(), None);
    // Corrected, each becomes a database.
    for (name, _, _) in bad_specs() {
        running.cluster.change(name, |spec| {
            *spec = json!({ "image": "registry/progressdb:0.3.0", "storage": { "embedded": { "size": "1Gi" } } });
        });
        running.until("healing", |cluster| cluster.condition(name, "Ready").0 == "True").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_becomes_unreadable_serves_on() {
    let mut running = Running::installed(json!({})).await;
    let status = running.status("db");
    running.cluster.change("db", |spec| spec["settings"] = nested(140));
    running.until("a condition", |cluster| cluster.condition("db", "Stalled").1 == "Unreadable").await;
    running.comes_to_rest("a resource that became unreadable", 4).await;
    for field in ["image", "version", "service", "claim"] {
        assert_eq!(running.status("db")[field], status[field], "{field}");
    }
    assert_eq!(running.cluster.times_made("Pod", "db-0"), 1);
    assert!(running.cluster.get("Pod", "db-0").is_some());
    running.restart().await;
    running.comes_to_rest("a restart", 0).await;
    running.cluster.change("db", |spec| spec["settings"] = json!({}));
    running.until("healing", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("healing", 8).await;
    assert_eq!(running.cluster.times_made("Pod", "db-0"), 1);
}

/// What somebody, or a newer definition, makes of a spec that could be read.
type Edit = fn(&mut Value);

const EDITS: [(&str, Edit); 8] = [
    ("policy", |spec| spec["deletionPolicy"] = json!("Archive")),
    ("provider", |spec| spec["kms"] = json!({ "gcp": { "key": "k" } })),
    ("storage", |spec| spec["storage"] = json!({ "cassandra": { "keyspace": "chat" } })),
    ("null", |spec| spec["drain"] = Value::Null),
    ("word", |spec| spec["suspend"] = json!("yes")),
    ("number", |spec| spec["securityContext"] = json!({ "runAsUser": 1e30 })),
    ("text", |spec| spec["securityContext"] = json!({ "fsGroup": "1000" })),
    ("nothing", |spec| *spec = json!({})),
];

#[tokio::test(start_paused = true)]
async fn whatever_cannot_be_read_is_left_as_it_is_and_hides_no_other() {
    let mut running = Running::start(Cluster::new());
    for (name, _) in EDITS {
        running.cluster.create(name, json!({ "deletionPolicy": "Delete" }));
    }
    running.cluster.create("db", json!({}));
    let serves = |name: &'static str| move |cluster: &Cluster| cluster.condition(name, "Ready").0 == "True";
    for (name, _) in EDITS {
        running.until("serving", serves(name)).await;
    }
    running.comes_to_rest("an installation", 300).await;
    let state = |running: &Running| {
        let mut state = running.cluster.state();
        state.retain(|name, _| !name.starts_with("ProgressDB "));
        state
    };
    let before = state(&running);
    for (name, edit) in EDITS {
        running.cluster.change(name, edit);
        running.until("a condition", move |cluster| cluster.condition(name, "Stalled").1 == "Unreadable").await;
    }
    running.comes_to_rest("resources that cannot be read", 4).await;
    assert_eq!(state(&running), before, "something was done");
    // Nor is anything done about those that are deleted: what is to become of their data is not known.
    for (name, _) in EDITS {
        running.cluster.delete(name);
    }
    running.restart().await;
    running.comes_to_rest("their deletion", 20).await;
    assert_eq!(state(&running), before, "something was done");
    for (name, _) in EDITS {
        let (_, reason, message) = running.cluster.condition(name, "Stalled");
        assert!(reason == "Unreadable" && message.contains("correct spec"), "{name}: {message}");
    }
    // Another database is looked after all the while.
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    running.until("a change", |cluster| cluster.times_made("Pod", "db-0") == 2).await;
    running.until("serving", serves("db")).await;
    // Once it can be read, what was asked for is done.
    let spec = json!({
        "image": "registry/progressdb:0.3.0", "storage": { "embedded": { "size": "1Gi" } }, "deletionPolicy": "Delete",
    });
    running.cluster.change("policy", |old| *old = spec);
    running.until("its end", |cluster| cluster.get("ProgressDB", "policy").is_none()).await;
    assert_eq!(running.cluster.get("PersistentVolumeClaim", "policy-data-0"), None);
    assert!(running.cluster.get("PersistentVolumeClaim", "number-data-0").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_object_of_ours_that_is_nested_too_deep_hides_no_other() {
    let cluster = Cluster::new();
    cluster.server.with(|store| ["ServiceMonitor", "PrometheusRule"].into_iter().for_each(|kind| store.serve(kind)));
    let mut running = Running::start(cluster);
    running.cluster.create("db", json!({}));
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("an installation", 10).await;
    let key = Key::new("ServiceMonitor", "ns", "db");
    running.cluster.server.with(|store| store.edit(&key, |monitor| monitor["spec"]["theirs"] = nested(140)));
    running.comes_to_rest("a deep object", 10).await;
    running.restart().await;
    running.comes_to_rest("a restart", 10).await;
    running.cluster.create("other", json!({}));
    running.until("another database", |cluster| cluster.condition("other", "Ready").0 == "True").await;
}
