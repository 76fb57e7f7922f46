//! Bad releases: their canaries are taken away, nothing else is touched, and no more users met them than canaries serve.

use serde_json::json;

use super::*;
use crate::upgrade::migrating;

/// Users meet it, so that it shows; of all that they wrote meanwhile no more than the share of a canary.
async fn is_met_by_few(new: Image, said: &str) {
    let mut upgrading = to(new, json!({})).await;
    let before = upgrading.cluster.world.acknowledged().len();
    goes_back(&mut upgrading, said).await;
    let (all, few) = (upgrading.cluster.world.acknowledged().len() - before, met(&upgrading, NEW));
    assert!(few > 0 && few * 4 <= all, "{few} of {all} writes");
    assert_eq!(upgrading.gate("Metrics"), "Failed");
}

#[tokio::test]
async fn a_slow_release_goes_back() {
    is_met_by_few(Image { p99_micros: 400_000, ..release("0.4.0") }, "longer than the slowest of the stable pods")
        .await;
}

#[tokio::test]
async fn a_release_that_fails_requests_goes_back() {
    is_met_by_few(Image { errors: 100, ..release("0.4.0") }, "too many requests fail").await;
}

#[tokio::test]
async fn a_release_that_is_never_ready_is_met_by_nobody() {
    for new in [
        Image { never_ready: true, ..release("0.4.0") },
        Image { never_starts: true, ..release("0.4.0") },
        // It asks for tables that are not there, whatever `schema check` says.
        Image { reads: (2, 2), writes: 2, never_starts: true, ..release("0.4.0") },
    ] {
        let reads_data = new.reads.0 == 1;
        let mut upgrading = to(new, json!({})).await;
        match reads_data {
            true => goes_back(&mut upgrading, "").await,
            false => {
                upgrading.is_held("FormatNotReadable").await;
                assert_eq!((canaries(&upgrading), image_of(&upgrading, "db").as_deref()), (0, Some(OLD)));
            }
        }
        assert_eq!(met(&upgrading, NEW), 0);
    }
}

#[tokio::test]
async fn an_image_that_no_registry_has_is_met_by_nobody() {
    let mut upgrading = to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Approval").await;
    upgrading.cluster.world.missing_images.push(NEW.into());
    goes_back(&mut upgrading, "").await;
    assert_eq!(met(&upgrading, NEW), 0);
}

#[tokio::test]
async fn a_release_that_a_user_cannot_work_with_goes_back() {
    let mut upgrading = to(Image { fails_smoke: true, ..release("0.4.0") }, json!({})).await;
    goes_back(&mut upgrading, "an edit is lost").await;
}

#[tokio::test]
async fn a_release_that_ends_now_and_then_goes_back_at_the_first_time() {
    let mut upgrading = to(Image { restarts_after: 8, ..release("0.4.0") }, json!({})).await;
    goes_back(&mut upgrading, "was restarted").await;
}

#[tokio::test]
async fn a_release_that_logs_a_grave_fault_goes_back() {
    let log = "{\"event\":\"store.failing\"}\n".to_owned();
    let mut upgrading = to(Image { log, ..release("0.4.0") }, json!({})).await;
    goes_back(&mut upgrading, "store.failing").await;
}

#[tokio::test]
async fn the_log_of_a_canary_that_failed_is_in_the_report() {
    let log = "{\"event\":\"only.the.new.image.says.this\"}\n".to_owned();
    for new in [
        Image { fails_smoke: true, ..release("0.4.0") },
        Image { restarts_after: 8, ..release("0.4.0") },
        Image { never_starts: true, ..release("0.4.0") },
    ] {
        let mut upgrading = to(Image { log: log.clone(), ..new }, json!({})).await;
        goes_back(&mut upgrading, "").await;
        assert!(written_log(&upgrading).contains("only.the.new.image.says.this"), "{}", upgrading.record());
    }
}

#[tokio::test]
async fn the_log_of_a_server_that_failed_once_all_users_meet_it_is_in_the_report() {
    let mut upgrading = to(release("0.4.0"), json!({ "soak": "60s" })).await;
    upgrading.reaches("Promote").await;
    let said = "{\"event\":\"too.late\"}\n".to_owned();
    upgrading.program(|new| (new.never_starts, new.log) = (true, said));
    upgrading.ends("RolledBack").await;
    assert!(written_log(&upgrading).contains("too.late"), "{:#}", upgrading.record());
}

/// The log in the report of an upgrade.
fn written_log(upgrading: &Upgrading) -> String {
    let report = upgrading.cluster.get("ConfigMap", &upgrading.named("report")).expect("there is a report");
    report["data"]["log.txt"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_test_of_ones_own_has_the_last_word() {
    let template = json!({ "spec": { "containers": [{ "name": "mine", "image": "tool:1" }] } });
    let mut upgrading = to(release("0.4.0"), json!({ "gates": { "job": { "template": template } } })).await;
    upgrading.cluster.world.failing_jobs.insert("-gate-".into(), "no".into());
    goes_back(&mut upgrading, "").await;
    assert_eq!(upgrading.gate("Job"), "Failed");
}

#[tokio::test]
async fn what_turns_out_bad_for_all_users_goes_back_server_by_server() {
    let mut upgrading = to(release("0.4.0"), json!({ "soak": "60s" })).await;
    upgrading.reaches("Soak").await;
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("RolledBack").await;
    runs(&upgrading, OLD, 3);
}

#[tokio::test]
async fn servers_of_the_new_image_that_do_not_start_hold_the_promotion_up() {
    let mut upgrading = to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Promote").await;
    upgrading.program(|new| new.never_starts = true);
    // The canary and all old servers but none serve on: the Deployment waits for the first new one.
    upgrading.least = 3;
    upgrading.ends("RolledBack").await;
    runs(&upgrading, OLD, 3);
}

#[tokio::test]
async fn a_migration_without_a_backup_waits_for_a_person() {
    let mut upgrading = to(migrating(), json!({})).await;
    upgrading.is_held("Unprotected").await;
    assert_eq!(canaries(&upgrading), 0);
    upgrading.annotate("progressdb.io/abort", "ID");
    upgrading.ends("Aborted").await;
    runs(&upgrading, OLD, 3);
}
