//! Others at the objects of a fleet: edits are taken back, names of others are respected, and what the cluster refuses is
//! told.

use serde_json::{Value, json};

use super::*;

/// An edit by hand, of the object of this kind and name.
type Edit = (&'static str, &'static str, fn(&mut Value));

#[tokio::test(start_paused = true)]
async fn an_edit_is_taken_back_and_costs_a_few_writes() {
    let edits: [Edit; 8] = [
        ("Deployment", "db", |object| object["spec"]["replicas"] = json!(1)),
        ("Deployment", "db", |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1")),
        ("Deployment", "db", |object| {
            object["spec"]["template"]["metadata"]["annotations"]["progressdb.io/roll"] = json!("x");
        }),
        ("Deployment", "db", |object| object["spec"]["strategy"] = json!({ "type": "Recreate" })),
        ("Deployment", "db", |object| object["metadata"]["labels"] = json!({})),
        ("PodDisruptionBudget", "db", |object| object["spec"]["maxUnavailable"] = json!(3)),
        ("Service", "db", |object| object["spec"]["selector"]["progressdb.io/track"] = json!("canary")),
        ("NetworkPolicy", "db", |object| object["spec"]["egress"] = json!([])),
    ];
    let mut running = installed(json!({})).await;
    for (number, (kind, name, change)) in edits.into_iter().enumerate() {
        let before = running.cluster.get(kind, name).unwrap();
        edit(&running.cluster, kind, name, change);
        running.comes_to_rest(&format!("edit {number} of the {kind}"), 14).await;
        let after = running.cluster.get(kind, name).unwrap();
        for part in ["/spec", "/metadata/labels"] {
            assert_eq!(after.pointer(part), before.pointer(part), "edit {number} of the {kind}");
        }
        assert_eq!(ready(&running.cluster), 3, "edit {number} of the {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_made_again() {
    let mut running = installed(json!({})).await;
    for (kind, name) in [("PodDisruptionBudget", "db"), ("Service", "db"), ("Deployment", "db")] {
        running.cluster.server.with(|store| store.delete(&Key::new(kind, "ns", name), &Value::Null).unwrap());
        running.comes_to_rest(&format!("the end of the {kind}"), 20).await;
        assert!(running.cluster.get(kind, name).is_some(), "{kind}");
        assert_eq!(ready(&running.cluster), 3, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_nothing_is_tried_with_goes() {
    let mut running = installed(json!({})).await;
    make_canary(&running.cluster);
    running.until("its end", |cluster| cluster.get("Deployment", "db-canary").is_none()).await;
    for _ in 0..10 {
        running.step().await;
    }
    assert_eq!(servers(&running.cluster).len(), 3);
    running.comes_to_rest("a canary", 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_of_somebody_else_is_not_taken() {
    let cluster = Cluster::new();
    let labels = json!({ "app": "theirs" });
    let theirs = json!({ "spec": {
        "replicas": 1, "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "a", "image": "b:1" }] } },
    } });
    let key = Key::new("Deployment", "ns", "db");
    cluster.server.with(|store| store.create(&key, theirs, BTreeMap::new()).unwrap());
    let mut running = Running::start(cluster);
    running.cluster.create("db", spec(json!({})));
    running.until("a conflict", |cluster| cluster.condition("db", "Stalled").1 == "NameTaken").await;
    let before = stable(&running.cluster)["spec"].clone();
    running.writes_in(120).await;
    assert_eq!(stable(&running.cluster)["spec"], before);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_crashes_is_told_while_the_others_serve() {
    let mut running = installed(json!({})).await;
    let pod = servers(&running.cluster)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let set = pod.rsplit_once('-').unwrap().0;
    // The one that is made in the place of the one that goes.
    running.cluster.world.crashing.push(format!("{set}-4"));
    running.cluster.server.with(|store| store.delete(&Key::new("Pod", "ns", &pod), &Value::Null).unwrap());
    running.until("the crash", |cluster| cluster.condition("db", "Stalled").1 == "Crashing").await;
    let (status, reason, message) = running.cluster.condition("db", "Ready");
    assert_eq!((&*status, &*reason), ("False", "Crashing"));
    assert!(message.starts_with("2 of 3 servers take requests: db-"), "{message}");
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
    assert_eq!(running.status("db")["readyReplicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_quota_refuses_is_told() {
    let cluster = Cluster::new();
    let quota = json!({ "spec": { "hard": { "requests.memory": "4Gi" } } });
    cluster.server.with(|store| {
        store.create(&Key::new("ResourceQuota", "ns", "few"), quota, BTreeMap::new()).unwrap();
    });
    let mut running = Running::start(cluster);
    running.cluster.create("db", spec(json!({ "replicas": 5, "resources": { "limits": { "memory": "1Gi" } } })));
    running.until("a refusal", |cluster| cluster.condition("db", "Stalled").1 == "PodRefused").await;
    let message = running.cluster.condition("db", "Ready").2;
    assert!(message.contains("the Deployment db gets no pod") && message.contains("exceeded quota"), "{message}");
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
}
