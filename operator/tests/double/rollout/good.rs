//! Rollouts that succeed.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    api::Key,
    upgrade::{finalizing, migrating},
};

#[tokio::test]
async fn a_good_release_is_tried_beside_the_old_one_and_then_takes_its_place() {
    let mut upgrading = to(release("0.4.0"), json!({})).await;
    upgrading.reaches("MetricGate").await;
    assert_eq!((canaries(&upgrading), ready(&upgrading.cluster)), (1, 4));
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
    let record = upgrading.record();
    assert_eq!((&record["backing"], &record["promoted"]), (&json!("NotApplicable"), &json!(true)));
    for gate in ["Schema", "Health", "Smoke", "Logs", "Metrics"] {
        assert_eq!(upgrading.gate(gate), "Passed", "{gate}: {record:#}");
    }
    assert_eq!(record["downtimeMillis"], json!(null), "{record:#}");
    assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "Succeeded");
    assert_eq!(upgrading.resource()["status"]["history"].as_array().unwrap().len(), 1);
    assert_eq!(upgrading.resource()["status"]["image"], NEW);
}

#[tokio::test]
async fn more_and_more_users_meet_the_new_image() {
    let policy = json!({ "canary": { "steps": [1, "25%", "50%", "100%"], "stepDuration": "10s" } });
    let mut upgrading = installed(policy, json!({ "replicas": 4 })).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.ask(NEW);
    let mut seen = Vec::new();
    while upgrading.record()["promoted"] != true {
        upgrading.second().await;
        seen.push(canaries(&upgrading));
        seen.dedup();
    }
    // A quarter of four is the one that is there already.
    assert_eq!(seen, [0, 1, 2, 4]);
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 4);
}

#[tokio::test]
async fn settings_alone_are_tried_on_one_canary_and_compared_with_nothing() {
    let policy = json!({ "canary": { "steps": [1, "100%"], "stepDuration": "1h" } });
    let mut upgrading = installed(policy, json!({})).await;
    upgrading.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    upgrading.reaches("HealthGate").await;
    assert_eq!(canaries(&upgrading), 1);
    upgrading.ends("Succeeded").await;
    runs(&upgrading, OLD, 3);
}

#[tokio::test]
async fn tables_that_the_new_image_needs_are_added_before_it_starts() {
    let mut upgrading = to(Image { tables: 2, ..release("0.4.0") }, json!({})).await;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
    assert_eq!(upgrading.cluster.times_made("Job", &upgrading.named("schema-apply")), 1);
}

fn format(upgrading: &Upgrading) -> i32 {
    upgrading.cluster.world.keyspace("ns", "chat").unwrap().format
}

/// A fleet that runs an image which changes the format only while no server runs.
async fn with_old_format(new: Image) -> Upgrading {
    let backup = json!({ "template": { "spec": { "containers": [{ "name": "medusa", "image": "medusa:1" }] } } });
    let mut upgrading = to(new, json!({ "snapshot": { "job": backup } })).await;
    upgrading.ends("Succeeded").await;
    upgrading
}

#[tokio::test]
async fn a_format_that_is_not_changed_beside_servers_stays_as_it_is_and_nothing_stops_for_it() {
    for new in [finalizing(), migrating()] {
        let upgrading = with_old_format(new).await;
        runs(&upgrading, NEW, 3);
        assert_eq!(format(&upgrading), 1);
        assert_eq!(upgrading.cluster.times_made("Job", &upgrading.named("finalize")), 1);
        assert_eq!(upgrading.cluster.times_made("Job", &upgrading.named("backup-final")), 1);
        let (record, said) = (upgrading.record(), upgrading.text("/message"));
        assert_eq!(record["backing"], "EngineBackup");
        assert!(record["dataMutationStarted"] != true && record["finalizing"] != true, "{record:#}");
        assert!(said.contains("still the old one") && said.ends_with("3 servers run on this store: stop them first"));
        assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "Succeeded");
    }
}

/// As the page about upgrades says it: the server's own pod, with another command, while no server runs.
#[tokio::test]
async fn the_format_is_changed_by_a_person_while_the_fleet_is_stopped() {
    let mut upgrading = with_old_format(finalizing()).await;
    upgrading.least = 0;
    upgrading.cluster.change("db", |spec| spec["suspend"] = json!(true));
    upgrading.until("the stop", |upgrading| fleet::servers(&upgrading.cluster).is_empty()).await;
    upgrading.rests().await;
    assert_eq!(upgrading.resource()["status"]["dataFormat"], 1, "nobody can be asked, and it is known");
    let mut template = upgrading.cluster.get("Deployment", "db").unwrap()["spec"]["template"].clone();
    template["metadata"].as_object_mut().unwrap().remove("labels");
    template["spec"]["restartPolicy"] = json!("Never");
    template["spec"]["containers"][0]["args"] = json!(["migrate", "--finalize"]);
    upgrading.cluster.server.with(|store| {
        let job = json!({ "spec": { "backoffLimit": 0, "template": template } });
        store.create(&Key::new("Job", "ns", "finalize"), job, BTreeMap::new()).unwrap();
    });
    upgrading.seconds(5).await;
    upgrading.cluster.change("db", |spec| spec["suspend"] = json!(false));
    upgrading.until("serving", |upgrading| ready(&upgrading.cluster) == 3).await;
    upgrading.rests().await;
    assert_eq!((format(&upgrading), upgrading.resource()["status"]["dataFormat"].clone()), (2, json!(2)));
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn two_fleets_take_a_new_image_at_once() {
    let mut upgrading = installed(json!({}), json!({})).await;
    let mut other = fleet::spec(json!({}));
    other["storage"]["cassandra"]["keyspace"] = json!("mail");
    other["upgrade"] = upgrading.resource()["spec"]["upgrade"].clone();
    upgrading.cluster.create("other", other);
    upgrading.cluster.settle().await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.least = 6;
    upgrading.ask(NEW);
    upgrading.cluster.change("other", |spec| spec["image"] = json!(NEW));
    upgrading.ends("Succeeded").await;
    let other = upgrading.cluster.get("ProgressDB", "other").unwrap();
    assert_eq!(other["status"]["upgrade"]["outcome"], "Succeeded", "{:#}", other["status"]);
    assert!(fleet::servers(&upgrading.cluster).iter().all(|pod| pod["spec"]["containers"][0]["image"] == NEW));
    for keyspace in ["chat", "mail"] {
        assert_eq!(upgrading.cluster.world.lost_in_keyspace("ns", keyspace), Vec::<u64>::new());
    }
}
