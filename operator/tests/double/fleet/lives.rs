//! The life of a fleet: it is made, grows and shrinks, changes without a gap, stops, and goes.

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use progressdb_operator::crd::ProgressDB;
use serde_json::{Value, json};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_fleet_is_made_from_nothing_and_rests() {
    let mut running = installed(json!({})).await;
    let status = running.status("db");
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(3), &json!(3)), "{status}");
    let selector = "app.kubernetes.io/component=server,app.kubernetes.io/instance=db,app.kubernetes.io/name=progressdb";
    assert_eq!(status["selector"], selector);
    assert_eq!((&status["phase"], &status["claim"], &status["size"]), (&json!("Running"), &Value::Null, &Value::Null));
    for condition in ["Ready", "Available", "StorageReady", "ConfigurationValid"] {
        assert_eq!(running.cluster.condition("db", condition).0, "True", "{condition}");
    }
    assert_eq!(running.cluster.condition("db", "Ready").2, "3 of 3 servers take requests");
    for (kind, name) in [("StatefulSet", "db"), ("PersistentVolumeClaim", "db-data-0"), ("Deployment", "db-canary")] {
        assert_eq!(running.cluster.get(kind, name), None, "{kind} {name}");
    }
    assert!(running.cluster.get("PodDisruptionBudget", "db").is_some());
    assert_eq!(running.cluster.checks_made("-schema-"), 1);
    assert_eq!(running.calls_in(1_200).await, Vec::<String>::new(), "it does not rest");
}

#[tokio::test(start_paused = true)]
async fn no_server_starts_before_the_tables_are_made() {
    let mut cluster = Cluster::new();
    cluster.world.failing_jobs.insert("schema".into(), r#"{"error":{"message":"no rights on keyspace chat"}}"#.into());
    let mut running = Running::start(cluster);
    running.cluster.create("db", spec(json!({})));
    running.until("a failure", |cluster| cluster.condition("db", "StorageReady").0 == "False").await;
    let (_, reason, message) = running.cluster.condition("db", "StorageReady");
    assert_eq!(reason, "SchemaFailed");
    assert!(message.ends_with("no rights on keyspace chat"), "{message}");
    assert_eq!(running.cluster.condition("db", "Stalled").1, "SchemaFailed");
    assert_eq!((running.cluster.get("Deployment", "db"), servers(&running.cluster)), (None, Vec::new()));
    // It is tried again by itself, and says the same until it is not.
    running.writes_in(200).await;
    assert!(running.cluster.checks_made("-schema-") > 2);
    assert_eq!(running.cluster.condition("db", "StorageReady").1, "SchemaFailed");
    running.cluster.world.failing_jobs.clear();
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("the rights were given", 10).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_number_a_fleet_has_three_servers() {
    let mut given = spec(json!({}));
    given.as_object_mut().unwrap().remove("replicas");
    let running = Running::installed(given).await;
    assert_eq!(ready(&running.cluster), 3);
}

/// As an autoscaler does, and `kubectl scale`.
async fn scale(running: &Running, replicas: i32) -> Scale {
    let resources: Api<ProgressDB> = Api::namespaced(running.cluster.server.client(), "ns");
    let patch = json!({ "spec": { "replicas": replicas } });
    let scaled = resources.patch_scale("db", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(replicas));
    resources.get_scale("db").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_is_scaled_by_the_subresource_and_no_server_that_stays_is_touched() {
    let mut running = installed(json!({})).await;
    let names = |cluster: &Cluster| -> Vec<Value> {
        servers(cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
    };
    let before = names(&running.cluster);
    scale(&running, 5).await;
    running.until("five servers", |cluster| cluster.condition("db", "Ready").2 == "5 of 5 servers take requests").await;
    assert!(before.iter().all(|uid| names(&running.cluster).contains(uid)));
    let told = scale(&running, 2).await.status.unwrap();
    assert_eq!(told.replicas, 5);
    assert!(told.selector.unwrap().contains("app.kubernetes.io/instance=db"));
    never_fewer(&mut running, 2, 30, "shrinking").await;
    assert_eq!(servers(&running.cluster).len(), 2);
    assert_eq!(running.status("db")["replicas"], 2);
    running.comes_to_rest("scaling", 4).await;
    assert_eq!(running.cluster.checks_made("-config-check-"), 1, "to scale needs no check");
}

/// A change, and what is changed.
type Change = (&'static str, fn(&Cluster));

#[tokio::test(start_paused = true)]
async fn settings_secrets_and_restarts_change_a_fleet_without_a_gap() {
    let mut running = installed(json!({})).await;
    let changes: [Change; 3] = [
        ("settings", |cluster| {
            cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }))
        }),
        ("a contact point", |cluster| {
            cluster.change("db", |spec| spec["storage"]["cassandra"]["contactPoints"] = json!(["other.ns.svc:9043"]));
        }),
        ("a restart", |cluster| {
            let at = json!({ "kubectl.kubernetes.io/restartedAt": "2030-01-01T00:00:00Z" });
            edit(cluster, "ProgressDB", "db", |object| object["metadata"]["annotations"] = at);
        }),
    ];
    for (what, change) in changes {
        let before: Vec<Value> = servers(&running.cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
        change(&running.cluster);
        never_fewer(&mut running, 3, 60, what).await;
        let after: Vec<Value> = servers(&running.cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
        assert!(after.len() == 3 && after.iter().all(|uid| !before.contains(uid)), "{what}: {before:?} {after:?}");
        assert_eq!(running.cluster.condition("db", "Ready").1, "Serving", "{what}");
        running.comes_to_rest(what, 6).await;
    }
    // The settings of releases that no server reads any more have gone.
    let maps = running.cluster.server.with(|store| store.all("ConfigMap"));
    let releases = maps.iter().filter(|map| !map["data"]["template.json"].is_null());
    assert_eq!(releases.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn settings_that_the_image_refuses_touch_no_server() {
    let mut running = installed(json!({})).await;
    let before = servers(&running.cluster);
    running
        .cluster
        .world
        .failing_jobs
        .insert("config-check".into(), r#"{"errors":[{"message":"no such level"}]}"#.into());
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "loud" } }));
    running.until("a refusal", |cluster| cluster.condition("db", "ConfigurationValid").1 == "SettingsRefused").await;
    // Scaling goes on meanwhile, with what runs.
    scale(&running, 4).await;
    running.until("four servers", |cluster| ready(cluster) == 4).await;
    let now = servers(&running.cluster);
    assert!(before.iter().all(|pod| now.iter().any(|other| other["metadata"]["uid"] == pod["metadata"]["uid"])));
    let releases: std::collections::BTreeSet<String> =
        now.iter().map(|pod| pod["metadata"]["annotations"]["progressdb.io/release"].to_string()).collect();
    assert_eq!(releases.len(), 1);
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
}

#[tokio::test(start_paused = true)]
async fn another_image_whose_checks_fail_is_run_by_no_server() {
    let mut running = installed(json!({})).await;
    running.cluster.world.failing_jobs.insert("config-check".into(), "no such setting".into());
    running.cluster.change("db", |spec| {
        spec["image"] = json!("registry/progressdb:0.3.1");
        spec["replicas"] = json!(4);
    });
    running.until("a refusal", |cluster| cluster.condition("db", "ConfigurationValid").0 == "False").await;
    running.until("four servers", |cluster| ready(cluster) == 4).await;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
    assert!(servers(&running.cluster).iter().all(|pod| image(pod) == "registry/progressdb:0.3.0"));
    // Another one is untried, as the strategy Direct says, and still comes without a gap.
    running.cluster.world.failing_jobs.clear();
    running.cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.3.2"));
    for _ in 0..120 {
        running.step().await;
        assert!(ready(&running.cluster) >= 4);
    }
    assert!(servers(&running.cluster).iter().all(|pod| image(pod) == "registry/progressdb:0.3.2"));
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
}

#[tokio::test(start_paused = true)]
async fn it_stops_and_starts_again_as_it_was() {
    let mut running = installed(json!({})).await;
    let before = stable(&running.cluster)["spec"]["template"].clone();
    running.cluster.change("db", |spec| spec["suspend"] = json!(true));
    running.until("the stop", |cluster| cluster.condition("db", "Available").1 == "Suspended").await;
    assert_eq!(servers(&running.cluster), Vec::<Value>::new());
    assert_eq!(running.status("db")["phase"], "Suspended");
    running.comes_to_rest("a stop", 5).await;
    running.cluster.change("db", |spec| spec["suspend"] = json!(false));
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
    assert_eq!(stable(&running.cluster)["spec"]["template"], before);
    running.comes_to_rest("a start", 5).await;
}

/// What runs was made by an operator that made pods in another way.
fn as_an_older_operator_made_it(cluster: &Cluster) {
    let made = stable(cluster);
    let release =
        made["spec"]["template"]["metadata"]["annotations"]["progressdb.io/release"].as_str().unwrap().to_owned();
    let mut map = cluster.get("ConfigMap", &release).unwrap();
    let mut template: Value = serde_json::from_str(map["data"]["template.json"].as_str().unwrap()).unwrap();
    template["metadata"]["annotations"]["progressdb.io/release"] = json!("db-config-01d01d01");
    template["spec"]["terminationGracePeriodSeconds"] = json!(99);
    template["spec"]["volumes"][0]["configMap"]["name"] = json!("db-config-01d01d01");
    map["data"]["template.json"] = json!(template.to_string());
    map["metadata"].as_object_mut().unwrap().retain(|field, _| ["labels", "ownerReferences"].contains(&&**field));
    let key = Key::new("ConfigMap", "ns", "db-config-01d01d01");
    cluster.server.with(|store| store.create(&key, map, BTreeMap::new()).unwrap());
    edit(cluster, "Deployment", "db", |set| set["spec"]["template"] = template);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_of_the_operator_restarts_no_server() {
    let mut running = installed(json!({})).await;
    as_an_older_operator_made_it(&running.cluster);
    for _ in 0..60 {
        running.cluster.world.step();
    }
    let before: Vec<Value> = servers(&running.cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
    running.restart().await;
    // What was put there by hand lacks the mark of what was applied, and gets it.
    running.comes_to_rest("an upgrade of the operator", 8).await;
    let grace =
        |cluster: &Cluster| stable(cluster)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone();
    let now: Vec<Value> = servers(&running.cluster).iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
    assert_eq!((now, grace(&running.cluster)), (before, json!(99)));
    // An edit is taken back to what was made then; only a change brings what is made now.
    edit(&running.cluster, "Deployment", "db", |set| {
        set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(5);
    });
    running.comes_to_rest("an edit", 14).await;
    assert_eq!(grace(&running.cluster), 99);
    running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    running.comes_to_rest("a change", 26).await;
    assert_eq!(grace(&running.cluster), 70);
}

#[tokio::test(start_paused = true)]
async fn no_two_servers_write_in_two_data_centres() {
    let mut running = installed(json!({})).await;
    // Both changes are seen as one.
    running.cluster.change("db", |spec| spec["storage"]["cassandra"]["datacenter"] = json!("dc2"));
    for _ in 0..60 {
        running.step().await;
        let centres = centres(&running.cluster);
        assert!(centres.len() < 2, "{centres:?}");
    }
    assert_eq!(centres(&running.cluster), ["datacenter: dc2".to_owned()].into());
    assert_eq!(ready(&running.cluster), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_goes_and_leaves_its_keys_or_takes_them_as_its_policy_says() {
    for (policy, keys_stay) in [("Retain", true), ("Delete", false)] {
        let mut running = installed(json!({ "deletionPolicy": policy })).await;
        running.cluster.delete("db");
        running.until("the end", |cluster| cluster.get("ProgressDB", "db").is_none()).await;
        for _ in 0..10 {
            running.step().await;
        }
        assert_eq!(running.cluster.get("Secret", "db-api-keys").is_some(), keys_stay, "{policy}");
        let left = running.cluster.server.with(|store| {
            let of_it = store.keys().into_iter().filter(|key| key.namespace == "ns" && key.kind.kind != "Event");
            of_it
                .map(|key| format!("{} {}", key.kind.kind, key.name))
                .filter(|name| !name.contains("api-keys"))
                .collect::<Vec<_>>()
        });
        assert_eq!(left, Vec::<String>::new(), "{policy}");
    }
}

/// Under the policy Delete the keys outlive the last server.
#[tokio::test(start_paused = true)]
async fn the_keys_go_after_the_servers() {
    let mut running = installed(json!({ "deletionPolicy": "Delete" })).await;
    running.cluster.delete("db");
    let mut had_both_ends = false;
    for _ in 0..30 {
        running.step().await;
        let pods = running.cluster.server.with(|store| store.all("Pod"));
        let has_servers = pods.iter().any(|pod| pod["metadata"]["labels"]["progressdb.io/track"].is_string());
        let has_keys = running.cluster.get("Secret", "db-api-keys").is_some();
        assert!(has_keys || !has_servers, "a server has lost its keys");
        had_both_ends |= !has_keys;
    }
    assert!(had_both_ends);
}

/// An instance and a fleet of one name, one after the other: what the former has left is nobody's business.
#[tokio::test(start_paused = true)]
async fn a_claim_that_an_instance_of_this_name_has_left_is_left_alone() {
    let mut running = Running::installed(json!({})).await;
    running.cluster.delete("db");
    running
        .until("the end", |cluster| cluster.get("ProgressDB", "db").is_none() && cluster.get("Pod", "db-0").is_none())
        .await;
    running.cluster.create("db", spec(json!({ "deletionPolicy": "Delete" })));
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
    let before = running.cluster.get("PersistentVolumeClaim", "db-data-0").expect("it was retained");
    assert_eq!(running.status("db")["claim"], Value::Null);
    running.cluster.delete("db");
    running.until("the end", |cluster| cluster.get("ProgressDB", "db").is_none()).await;
    assert_eq!(running.cluster.get("PersistentVolumeClaim", "db-data-0"), Some(before));
}
