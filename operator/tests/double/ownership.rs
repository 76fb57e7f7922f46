//! Ownership of objects: what is ours stays ours when its labels are edited, and what is somebody else's is said to be so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster};

const LABELS: [&str; 4] = [
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
];
/// Everything that is made for `db` and stays.
const OBJECTS: [(&str, &str); 7] = [
    ("PersistentVolumeClaim", "db-data-0"),
    ("Secret", "db-api-keys"),
    ("Service", "db"),
    ("Service", "db-headless"),
    ("StatefulSet", "db"),
    ("ServiceAccount", "db"),
    ("NetworkPolicy", "db"),
];

async fn installed() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create("db", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
    cluster
}

fn edit(cluster: &Cluster, kind: &str, name: &str, edit: impl FnOnce(&mut Value)) {
    cluster.server.with(|store| store.edit(&Key::new(kind, "ns", name), edit));
}

fn make(cluster: &Cluster, kind: &str, name: &str, object: Value) {
    cluster.server.with(|store| store.create(&Key::new(kind, "ns", name), object, BTreeMap::new()).unwrap());
}

#[tokio::test]
async fn labels_that_were_edited_come_back_and_nothing_else_happens() {
    let calm = installed().await;
    let edits: [fn(&mut Value); 5] = [
        |labels| drop(labels.as_object_mut().unwrap().remove(LABELS[0])),
        |labels| labels[LABELS[0]] = json!("somebody"),
        |labels| labels[LABELS[1]] = json!("other"),
        |labels| drop(labels.as_object_mut().unwrap().remove(LABELS[1])),
        |labels| labels.as_object_mut().unwrap().clear(),
    ];
    for (kind, name) in OBJECTS {
        let before = calm.get(kind, name).unwrap_or_else(|| panic!("{kind} {name}"))["metadata"]["labels"].clone();
        for (number, change) in edits.iter().enumerate() {
            for operator_restarts in [false, true] {
                let mut cluster = calm.fork();
                cluster.settle().await;
                let made = cluster.times_made("Pod", "db-0");
                edit(&cluster, kind, name, |object| change(&mut object["metadata"]["labels"]));
                if operator_restarts {
                    cluster.restart_operator();
                }
                cluster.settle().await;
                let what = format!("edit {number} of {kind} {name}, restarted: {operator_restarts}");
                let after = cluster.get(kind, name).unwrap();
                assert_eq!(after["metadata"]["labels"], before, "{what}");
                assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{what}");
                assert_eq!(cluster.times_made("Pod", "db-0"), made, "{what}");
                assert_eq!(cluster.times_made(kind, name), 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_check_whose_labels_were_edited_is_made_again() {
    let mut cluster = installed().await;
    let checks = |cluster: &Cluster| cluster.server.with(|store| store.all("Job"));
    let name = checks(&cluster)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    edit(&cluster, "Job", &name, |job| drop(job["metadata"]["labels"].as_object_mut().unwrap().remove(LABELS[0])));
    cluster.settle().await;
    let job = &checks(&cluster)[0];
    assert_eq!(job["metadata"]["labels"][LABELS[0]], "progressdb-operator");
    assert_eq!((cluster.condition("db", "Ready").1.as_str(), cluster.times_made("Pod", "db-0")), ("Serving", 1));
}

#[tokio::test]
async fn a_service_gets_its_selector_and_its_ports_back() {
    let edits: [fn(&mut Value); 6] = [
        |spec| spec["selector"]["more"] = json!("nothing has this"),
        |spec| spec["selector"] = json!({ "app": "other" }),
        |spec| spec["ports"][0]["targetPort"] = json!(1),
        |spec| spec["ports"][0]["port"] = json!(80),
        |spec| spec["ports"][0]["name"] = json!("web"),
        |spec| spec["ports"].as_array_mut().unwrap().push(json!({ "name": "more", "port": 1, "protocol": "TCP" })),
    ];
    for name in ["db", "db-headless"] {
        for (number, change) in edits.iter().enumerate() {
            let mut cluster = installed().await;
            let before = cluster.get("Service", name).unwrap()["spec"].clone();
            edit(&cluster, "Service", name, |service| change(&mut service["spec"]));
            cluster.settle().await;
            assert_eq!(cluster.get("Service", name).unwrap()["spec"], before, "edit {number} of {name}");
        }
    }
}

#[tokio::test]
async fn a_network_policy_selects_and_admits_what_it_should_again() {
    let edits: [fn(&mut Value); 5] = [
        |spec| spec["podSelector"]["matchLabels"]["more"] = json!("a"),
        |spec| spec["podSelector"]["matchExpressions"] = json!([{ "key": "more", "operator": "Exists" }]),
        // Nothing that is there is changed, and fewer may come in, or none.
        |spec| spec["ingress"][0]["from"] = json!([{ "podSelector": { "matchLabels": { "more": "a" } } }]),
        |spec| spec["ingress"].as_array_mut().unwrap().clear(),
        |spec| spec["egress"].as_array_mut().unwrap().push(json!({})),
    ];
    let calm = installed().await;
    let before = calm.get("NetworkPolicy", "db").unwrap()["spec"].clone();
    for (number, change) in edits.iter().enumerate() {
        let mut cluster = calm.fork();
        cluster.settle().await;
        edit(&cluster, "NetworkPolicy", "db", |policy| change(&mut policy["spec"]));
        cluster.settle().await;
        assert_eq!(cluster.get("NetworkPolicy", "db").unwrap()["spec"], before, "edit {number}");
    }
}

#[tokio::test]
async fn a_name_that_somebody_has_is_said_to_be_theirs_and_nobody_is_told_to_delete() {
    for (kind, name) in OBJECTS.into_iter().chain([("Pod", "db-0")]) {
        let mut cluster = Cluster::new();
        // An owner that lives, or the garbage collector takes what it owns.
        make(&cluster, "ConfigMap", "books", json!({}));
        let uid = cluster.get("ConfigMap", "books").unwrap()["metadata"]["uid"].clone();
        let owner = json!({ "apiVersion": "v1", "kind": "Shop", "name": "books", "uid": uid });
        make(&cluster, kind, name, json!({ "metadata": { "ownerReferences": [owner] }, "spec": {}, "mine": true }));
        cluster.create("db", json!({}));
        cluster.settle().await;
        for about in ["Stalled", "Ready"] {
            let (_, reason, message) = cluster.condition("db", about);
            assert_eq!(reason, "NameTaken", "{kind}");
            assert!(message.contains(&format!("{kind} {name}")), "{message}");
            assert!(message.contains("belongs to the Shop books"), "{message}");
            assert!(!message.contains("delet"), "{message}");
        }
        assert_eq!(cluster.get(kind, name).unwrap()["mine"], true, "{kind}");
        cluster.server.with(|store| {
            store.end(&Key::new(kind, "ns", name));
        });
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{kind}");
    }
}

#[tokio::test]
async fn a_pod_of_the_server_s_name_that_somebody_made_while_it_was_stopped_is_told() {
    let mut cluster = installed().await;
    cluster.change("db", |spec| spec["suspend"] = json!(true));
    cluster.settle().await;
    make(&cluster, "Pod", "db-0", json!({ "spec": { "containers": [{ "name": "mine", "image": "mine" }] } }));
    cluster.change("db", |spec| spec["suspend"] = json!(false));
    cluster.settle().await;
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NameTaken"));
    assert!(message.contains("Pod db-0") && !message.contains("delet"), "{message}");
    cluster.server.with(|store| store.end(&Key::new("Pod", "ns", "db-0")));
    cluster.settle().await;
    assert_eq!(cluster.condition("db", "Ready").1, "Serving");
}

#[tokio::test]
async fn two_databases_whose_names_meet_do_not_take_each_other_s_objects() {
    for (first, second) in [("a", "a-headless"), ("a-headless", "a")] {
        let mut cluster = Cluster::new();
        cluster.create(first, json!({}));
        cluster.settle().await;
        cluster.create(second, json!({}));
        cluster.settle().await;
        assert_eq!(cluster.condition(first, "Ready").1, "Serving");
        let (_, reason, message) = cluster.condition(second, "Stalled");
        assert_eq!(reason, "NameTaken");
        assert!(message.contains("Service a-headless"), "{message}");
        assert!(message.contains(&format!("belongs to the ProgressDB {first}")), "{message}");
    }
    // These only look alike.
    let mut cluster = Cluster::new();
    for name in ["a", "a-data", "a-0", "a-config", "a-api-keys", "a-data-0"] {
        cluster.create(name, json!({}));
    }
    cluster.settle().await;
    for name in ["a", "a-data", "a-0", "a-config", "a-api-keys", "a-data-0"] {
        assert_eq!(cluster.condition(name, "Ready").1, "Serving", "{name}");
    }
}

#[tokio::test]
async fn a_database_called_default_leaves_the_account_of_its_namespace_alone() {
    let mut cluster = Cluster::new();
    make(&cluster, "ServiceAccount", "default", json!({}));
    make(&cluster, "ConfigMap", "kube-root-ca.crt", json!({}));
    let before = cluster.get("ServiceAccount", "default");
    cluster.create("default", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.condition("default", "Ready").1, "Serving");
    assert_eq!(cluster.get("ServiceAccount", "default"), before);
    let pod = cluster.get("Pod", "default-0").unwrap();
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
    assert_ne!(account, "default");
    assert!(cluster.get("ServiceAccount", account).is_some());
}
