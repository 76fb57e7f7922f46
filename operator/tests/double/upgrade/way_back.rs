//! The way back after the data was changed: from a snapshot, onto another claim, with everything that clients wrote.

use serde_json::json;

use super::{NEW, OLD, Upgrading, finalizing, migrating};
use crate::world::Image;

#[tokio::test]
async fn after_migrations_at_the_start_the_old_image_runs_on_a_claim_that_is_restored() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-1").await;
    assert_eq!(upgrading.cluster.world.data("ns", "db-data-1").unwrap().prepared, 1);
    assert_eq!(upgrading.resource()["status"]["claim"], "db-data-1");
    let snapshots =
        ["db-ID-last", "db-ID-online", "content-db-ID-last Delete", "content-db-ID-online Delete"].map(str::to_owned);
    let claims = ["db-data-0 failed", "db-data-1 current"].map(str::to_owned);
    assert_eq!(upgrading.left(), [&claims[..], &snapshots].concat());
    // The volume of the failed one stays for a week, and its snapshots for three days.
    upgrading.cluster.server.with(|store| store.advance(167 * 3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), claims);
    upgrading.cluster.server.with(|store| store.advance(3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), claims[1..]);
    upgrading.runs(OLD, "db-data-1").await;
    // And the next upgrade, of what is right now, works on that claim.
    upgrading.program(|new| *new = migrating());
    upgrading.ask(OLD);
    upgrading.rests().await;
    upgrading.ask(NEW);
    upgrading.until("another upgrade", |upgrading| upgrading.record()["outcome"].is_null()).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-1").await;
}

/// The new release fails once the format of the data was changed.
pub async fn fails_finalization(new: Image, starts: bool) -> Upgrading {
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("FinalizeStart").await;
    upgrading.program(|new| (new.fails_smoke, new.never_starts) = (!starts, starts));
    upgrading.reaches("RollbackRestore").await;
    upgrading.program(|new| (new.fails_smoke, new.never_starts) = (false, false));
    upgrading
}

#[tokio::test]
async fn a_finalization_that_fails_is_undone_on_a_claim_that_is_restored() {
    for (new, starts) in [(finalizing(), false), (migrating(), false), (migrating(), true)] {
        let mut upgrading = fails_finalization(new, starts).await;
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-1").await;
        let of_claim = |claim: &str| upgrading.cluster.world.data("ns", claim).unwrap().format;
        assert_eq!((of_claim("db-data-0"), of_claim("db-data-1")), (2, 1));
        assert!(upgrading.text("/message").contains("still the old one"), "{}", upgrading.text("/message"));
        assert_eq!(upgrading.left()[..2], ["db-data-0 failed", "db-data-1 current"]);
    }
}

#[tokio::test]
async fn a_finalization_whose_job_fails_is_undone() {
    let mut upgrading = Upgrading::to(finalizing(), json!({})).await;
    upgrading.cluster.world.failing_jobs.insert("-finalize-".into(), "error: no space left".into());
    upgrading.ends("Succeeded").await;
    // Nothing was changed, so nothing is restored.
    upgrading.runs(NEW, "db-data-0").await;
    assert_eq!(upgrading.cluster.world.data("ns", "db-data-0").unwrap().format, 1);
    assert!(upgrading.text("/message").contains("no space left"), "{}", upgrading.text("/message"));
}

#[tokio::test]
async fn a_way_back_that_is_blocked_starts_nothing_and_goes_on_when_it_can() {
    let new = Image { fails_smoke: true, rehearses_well: true, ..migrating() };
    // The restored data is not what was stopped.
    let mut upgrading = Upgrading::to(new.clone(), json!({})).await;
    let other = json!({ "database_id": "another", "sequence": 1, "format": 1 }).to_string();
    upgrading.cluster.world.job_messages.insert("-identity-".into(), other);
    upgrading.is_held("RollbackStuck").await;
    assert!(!upgrading.serves().await && upgrading.cluster.get("Pod", "db-0").is_none());
    assert!(upgrading.left().contains(&"db-data-0 current".to_owned()), "{:?}", upgrading.left());
    // Whoever has cleared it up deletes the Job.
    upgrading.cluster.world.job_messages.clear();
    let job = upgrading.named("identity");
    upgrading.delete("Job", &job);
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-1").await;

    // The old server does not get ready.
    let mut upgrading = Upgrading::to(new, json!({})).await;
    upgrading.reaches("RollbackStart").await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().never_ready = true;
    upgrading.reaches("RollbackGate").await;
    upgrading.cluster.server.with(|store| store.advance(601));
    upgrading.is_held("RollbackStuck").await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().never_ready = false;
    upgrading.ends("RolledBack").await;
    upgrading.runs(OLD, "db-data-1").await;
}
