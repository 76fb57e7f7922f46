//! The backup of the engine, which only its owner's Job can make, and the tables.

use serde_json::json;

use super::*;
use crate::upgrade::{finalizing, migrating};

fn policy(need: &str, has_job: bool) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "medusa", "image": "medusa:1" }] } });
    let mut snapshot = json!({ "policy": need });
    if has_job {
        snapshot["job"] = json!({ "template": template });
    }
    json!({ "snapshot": snapshot })
}

#[tokio::test]
async fn a_backup_that_is_made_backs_the_upgrade() {
    for need in ["Required", "BestEffort"] {
        let mut upgrading = to(release("0.4.0"), policy(need, true)).await;
        upgrading.ends("Succeeded").await;
        runs(&upgrading, NEW, 3);
        assert_eq!((upgrading.text("/backing"), upgrading.gate("Snapshot")), ("EngineBackup".into(), "Passed".into()));
    }
}

#[tokio::test]
async fn a_backup_that_is_required_and_fails_holds_it_before_anything_is_tried() {
    let mut upgrading = installed(policy("Required", true), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.cluster.world.failing_jobs.insert("-backup-".into(), "the disk is full".into());
    upgrading.ask(NEW);
    upgrading.is_held("SnapshotFailed").await;
    assert!(upgrading.text("/hold/message").contains("the disk is full"), "{}", upgrading.record());
    assert_eq!((canaries(&upgrading), met(&upgrading, NEW)), (0, 0));
    // Its command leads on.
    let job = upgrading.named("backup");
    assert_eq!(upgrading.text("/hold/nextCommand"), format!("kubectl delete job {job}"));
    upgrading.cluster.world.failing_jobs.clear();
    upgrading.delete("Job", &job);
    upgrading.ends("Succeeded").await;
    assert_eq!(upgrading.text("/backing"), "EngineBackup");
}

#[tokio::test]
async fn a_backup_that_is_not_required_and_fails_is_said_to_be_none() {
    let mut upgrading = installed(policy("BestEffort", true), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.cluster.world.failing_jobs.insert("-backup-".into(), "the disk is full".into());
    upgrading.ask(NEW);
    upgrading.ends("Succeeded").await;
    assert_eq!((upgrading.text("/backing"), upgrading.gate("Snapshot")), ("NotApplicable".into(), "Failed".into()));
}

#[tokio::test]
async fn a_backup_that_fails_holds_what_changes_data_when_it_starts_and_nothing_else() {
    for (new, holds) in [(migrating(), true), (finalizing(), false)] {
        let mut upgrading = installed(policy("BestEffort", true), json!({})).await;
        upgrading.cluster.world.images.insert(NEW.into(), new);
        upgrading.cluster.world.failing_jobs.insert("-backup-".into(), "the disk is full".into());
        upgrading.ask(NEW);
        if holds {
            upgrading.is_held("SnapshotFailed").await;
            assert_eq!(canaries(&upgrading), 0);
            upgrading.cluster.world.failing_jobs.clear();
            upgrading.delete("Job", &upgrading.named("backup"));
        }
        upgrading.ends("Succeeded").await;
        runs(&upgrading, NEW, 3);
    }
}

#[tokio::test]
async fn a_backup_that_is_required_and_that_nobody_can_make_holds_it() {
    let mut upgrading = to(release("0.4.0"), policy("Required", false)).await;
    upgrading.is_held("SnapshotsUnavailable").await;
    assert!(upgrading.text("/hold/message").contains("spec.upgrade.snapshot.job"), "{}", upgrading.record());
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("Aborted").await;
    runs(&upgrading, OLD, 3);
}

#[tokio::test]
async fn tables_that_cannot_be_added_hold_it_and_its_command_has_them_tried_again() {
    let mut upgrading = installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), Image { tables: 2, ..release("0.4.0") });
    upgrading.cluster.world.failing_jobs.insert("schema-apply".into(), "no rights on keyspace chat".into());
    upgrading.ask(NEW);
    upgrading.is_held("SchemaFailed").await;
    assert!(upgrading.text("/hold/message").contains("no rights on keyspace chat"), "{}", upgrading.record());
    upgrading.cluster.world.failing_jobs.clear();
    let command = upgrading.text("/hold/nextCommand");
    upgrading.delete("Job", command.strip_prefix("kubectl delete job ").unwrap());
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}
