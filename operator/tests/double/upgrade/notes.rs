//! What a release says of itself is known before anybody has to decide, and one that is too far away is refused.

use serde_json::json;

use super::*;
use crate::rollout;

const BETWEEN: &str = "registry/progressdb:0.3.5";

/// A release that tells what it is, and follows on this version.
fn telling(upgrades_from: &str) -> Image {
    let migration = json!({
        "number": 2, "name": "heads", "from": 1, "to": 2, "at": "finalize", "cost": "a minute", "undo": "a restore",
    });
    let told = json!({
        "upgrades_from": upgrades_from, "breaking": ["`GET /a` is gone."], "migrations": [migration],
    });
    Image { release: told, ..finalizing() }
}

/// A single server and a fleet that are asked for this image.
async fn both(new: Image) -> [Upgrading; 2] {
    let policy = json!({ "approval": "Manual" });
    [Upgrading::to(new.clone(), policy.clone()).await, rollout::to(new, policy).await]
}

#[tokio::test]
async fn what_a_release_says_of_itself_is_known_before_it_is_approved() {
    for mut upgrading in both(telling("0.3.0")).await {
        upgrading.reaches("Approval").await;
        let notes = json!({
            "upgradesFrom": "0.3.0", "breaking": ["`GET /a` is gone."], "readsFrom": 1, "readsTo": 2, "writes": 2,
            "migrations": [
                { "name": "heads", "from": 1, "to": 2, "at": "finalize", "cost": "a minute", "undo": "a restore" },
            ],
        });
        assert_eq!(upgrading.record()["notes"], notes);
        upgrading.is_held("ApprovalNeeded").await;
        let said = upgrading.text("/hold/message");
        assert!(said.ends_with("; it changes 1 thing on which somebody may rest: see status.upgrade.notes"), "{said}");
        upgrading.annotate("progressdb.io/approve", "ID");
        upgrading.ends("Succeeded").await;
        assert_eq!(upgrading.record()["notes"], notes, "it stays on record");
    }
}

#[tokio::test]
async fn a_release_that_says_nothing_of_itself_is_taken_as_before() {
    for mut upgrading in both(release("0.4.0")).await {
        upgrading.is_held("ApprovalNeeded").await;
        assert!(!upgrading.text("/hold/message").contains("notes"), "{}", upgrading.record());
        upgrading.annotate("progressdb.io/approve", "ID");
        upgrading.ends("Succeeded").await;
        assert!(upgrading.record()["notes"].is_null());
    }
}

#[tokio::test]
async fn a_release_that_does_not_follow_on_what_runs_is_reached_by_the_one_between() {
    for mut upgrading in both(telling("0.3.5")).await {
        upgrading.cluster.world.images.insert(BETWEEN.into(), release("0.3.5"));
        upgrading.cluster.change("db", |spec| spec["upgrade"]["approval"] = json!("Automatic"));
        upgrading.is_held("VersionTooOld").await;
        assert_eq!(upgrading.text("/step"), "Preflight");
        let said = upgrading.text("/hold/message");
        assert!(said.contains("db runs 0.3.0, and 0.4.0 is upgraded to from 0.3.5 on"), "{said}");
        let command = upgrading.text("/hold/nextCommand");
        assert_eq!(command, format!("kubectl progressdb upgrade db --image {BETWEEN}"));
        for image in [BETWEEN, NEW] {
            upgrading.ask(image);
            upgrading.until(image, |upgrading| upgrading.text("/to/image") == image).await;
            upgrading.ends("Succeeded").await;
        }
        assert_eq!(upgrading.resource()["status"]["version"], "0.4.0");
    }
}
