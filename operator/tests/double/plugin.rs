//! What `kubectl progressdb` says of resources that a newer operator, or somebody else, has written to.

use progressdb_operator::{args::PluginCommand, plugin};
use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster, fleet, successor::installed};

async fn status(cluster: &Cluster) -> String {
    let (mut out, command) = (Vec::new(), PluginCommand::Status { name: "db".into() });
    plugin::execute(&cluster.server.client(), "ns", &command, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_status_of_which_a_part_cannot_be_read_is_shown_without_that_part() {
    let cluster = installed(json!({})).await;
    let before = status(&cluster).await;
    assert!(before.contains("version      0.3.0"), "{before}");
    cluster.server.with(|store| {
        store.edit(&Key::new("ProgressDB", "ns", "db"), |resource| {
            resource["status"]["dataFormat"] = json!({ "reads": [1, 2] });
            resource["status"]["conditions"].as_array_mut().unwrap().push(json!({ "type": 7 }));
        });
    });
    assert_eq!(status(&cluster).await, before.replace("data format  1", "data format  -"));
}

#[tokio::test]
async fn a_fleet_is_shown_with_how_many_servers_it_has_and_the_logs_of_each() {
    let mut cluster = Cluster::new();
    cluster.create("db", fleet::spec(json!({ "replicas": 2 })));
    cluster.settle().await;
    let shown = status(&cluster).await;
    assert!(shown.contains("servers      2 of 2 take requests"), "{shown}");
    let (mut out, command) = (Vec::new(), PluginCommand::Report { name: "db".into(), upgrade: None });
    plugin::execute(&cluster.server.client(), "ns", &command, &mut out).await.unwrap();
    let report: Value = serde_saphyr::from_str(&String::from_utf8(out).unwrap()).unwrap();
    let logs: Vec<&String> = report["logs"].as_object().unwrap().keys().collect();
    assert!(logs.len() == 2 && logs.iter().all(|pod| pod.starts_with("db-")), "{logs:?}");
    let kinds: Vec<&Value> = report["objects"].as_array().unwrap().iter().map(|object| &object["kind"]).collect();
    assert!(kinds.contains(&&json!("Deployment")) && kinds.contains(&&json!("PodDisruptionBudget")), "{kinds:?}");
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_is_shown_by_what_was_told_of_it() {
    let mut cluster = installed(json!({})).await;
    cluster.change("db", |spec| spec["deletionPolicy"] = json!("Archive"));
    cluster.settle().await;
    let status = status(&cluster).await;
    assert!(status.contains("Unreadable") && status.contains("spec.deletionPolicy"), "{status}");
}
