//! Rollouts that succeed.

use serde_json::json;

use super::*;
use crate::upgrade::{finalizing, migrating};

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

#[tokio::test]
async fn the_format_is_changed_once_every_server_reads_it() {
    for new in [finalizing(), migrating()] {
        let backup = json!({ "template": { "spec": { "containers": [{ "name": "medusa", "image": "medusa:1" }] } } });
        let mut upgrading = to(new, json!({ "snapshot": { "job": backup } })).await;
        let format = |upgrading: &Upgrading| upgrading.cluster.world.keyspace("ns", "chat").unwrap().format;
        while upgrading.text("/step") != "FinalizeMigrate" {
            upgrading.second().await;
            assert_eq!(format(&upgrading), 1, "in {}", upgrading.text("/step"));
            assert_eq!(upgrading.record()["outcome"], json!(null), "{:#}", upgrading.record());
        }
        upgrading.ends("Succeeded").await;
        runs(&upgrading, NEW, 3);
        assert_eq!(format(&upgrading), 2);
        assert_eq!(upgrading.cluster.times_made("Job", &upgrading.named("backup-final")), 1);
        assert_eq!(upgrading.record()["backing"], "EngineBackup");
    }
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
