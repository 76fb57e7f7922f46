//! Backups that a server makes by itself while it serves.

use std::fs;
use std::time::Duration;

use serde_json::json;
use testing::http::Request;
use testing::servers::listen::Reply;
use testing::servers::object_store::ObjectStore;
use testing::servers::proxy::Proxy;
use testing::{ADMIN_KEY, Server, Setup, timed, wait_until};

use crate::stores::{fill, list, setup_for, verify};
use crate::world::copies_of_erased;

const SUCCESS: &str = "progressdb_backup_last_success_timestamp_seconds";
const VERIFIED: &str = "progressdb_backup_last_verified_timestamp_seconds";

/// Every second.
fn scheduled(setup: Setup, destination: &str) -> Setup {
    setup.set("backup.schedule", "* * * * * *").set("backup.destination", destination)
}

fn count(server: &Server, event: &str) -> usize {
    server.log().matches(&format!("event=\"{event}\"")).count()
}

#[test]
fn a_server_makes_backups_on_schedule_and_keeps_so_many() {
    let Some(store) = ObjectStore::versitygw("a_server_makes_backups_on_schedule_and_keeps_so_many") else { return };
    let url = store.url("s");
    let setup = scheduled(setup_for(&store, store.addr), &url).set("backup.keep", 2);
    let server = setup.start();
    let user = server.user("ada");
    let thread = user.create_thread("t");
    for round in 1..=4 {
        user.append(&thread, format!("message {round}"));
        wait_until("one more backup is verified", || count(&server, "backup.verified") >= round);
    }
    for name in [SUCCESS, VERIFIED] {
        assert!(server.metric(name) > 1e9, "{name}");
    }
    assert!((server.metric("progressdb_backup_interval_seconds") - 1.0).abs() < f64::EPSILON);
    assert!(server.metric("progressdb_backup_bytes") > 0.0);
    assert!(server.metric("progressdb_backup_duration_seconds") > 0.0);
    assert!(server.metric("progressdb_backup_failures_total{reason=\"store\"}") == 0.0);
    wait_until("old ones are removed", || count(&server, "backup.pruned") > 0);
    server.stop().check_code(0);
    let listed = list(&setup, &url);
    assert!((2..=3).contains(&listed.len()), "{listed:?}");
    let sequences: Vec<_> = listed.iter().map(|backup| backup["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted() && sequences.last() >= Some(&5), "{sequences:?}");
    for backup in &listed {
        verify(&setup, backup["at"].as_str().unwrap()).check_code(0);
    }
    let setup = setup.set("backup.schedule", "0 0 1 1 *");
    let again = setup.start();
    wait_until("the next start knows of them", || again.log().contains("server.ready") && has(&again, SUCCESS));
    assert!(again.metric(SUCCESS) > 1e9 && again.metric(VERIFIED) > 1e9);
}

fn has(server: &Server, name: &str) -> bool {
    server.admin("/metrics").text().lines().any(|line| line.starts_with(name))
}

#[test]
fn a_directory_is_made_and_gets_one_file_for_each() {
    let setup = Setup::new();
    let directory = setup.root().join("not/yet/there");
    let place = directory.to_str().unwrap();
    let setup = scheduled(setup, place).set("backup.keep", 1);
    let server = setup.start();
    server.user("ada").create_thread("t");
    wait_until("old ones are removed", || count(&server, "backup.pruned") > 0);
    server.stop().check_code(0);
    verify(&setup, place).check_code(0);
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(name).collect();
    assert!(names.iter().all(|name| name.ends_with(".pdbk")), "{names:?}");
    assert!((1..=2).contains(&names.len()), "{names:?}");
}

#[test]
fn a_receipt_of_an_erasure_names_the_oldest_backup_that_is_kept() {
    let setup = Setup::new();
    let directory = setup.root().join("backups");
    let setup = scheduled(setup, directory.to_str().unwrap()).set("backup.keep", 2);
    let server = setup.start();
    let ann = server.user("ann");
    assert_eq!(copies_of_erased(&ann), [""; 0], "there is none yet");
    wait_until("old ones are removed", || count(&server, "backup.pruned") > 0);
    let known = copies_of_erased(&ann);
    assert!(known.iter().any(|copy| copy.starts_with(directory.to_str().unwrap())), "{known:?}");
    server.stop().check_code(0);
    let setup = setup.set("backup.schedule", "0 0 1 1 *");
    let listed = list(&setup, directory.to_str().unwrap());
    assert!(listed.len() >= 2, "{listed:?}");
    let again = setup.start();
    wait_until("the next start has looked", || has(&again, SUCCESS) && again.metric(SUCCESS) > 1e9);
    assert_eq!(copies_of_erased(&again.user("ann")), [listed[0]["at"].as_str().unwrap()]);
    again.stop().check_code(0);
}

#[test]
fn a_failure_is_counted_and_the_next_run_succeeds() {
    let Some(store) = ObjectStore::versitygw("a_failure_is_counted_and_the_next_run_succeeds") else { return };
    let proxy = Proxy::before(store.addr);
    let setup = scheduled(setup_for(&store, proxy.addr), &store.url("s"));
    let xml = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    proxy.when(|call| call.method == "PUT", Reply::text(403, xml));
    let server = setup.start();
    let line = server.wait_for_line("backup.failed");
    assert!(line.contains("denied") && line.contains("check the credentials"), "{line}");
    assert!(server.metric("progressdb_backup_failures_total{reason=\"denied\"}") >= 1.0);
    assert!(server.metric(SUCCESS) == 0.0, "never");
    proxy.clear();
    wait_until("a backup is verified", || count(&server, "backup.verified") > 0);
    assert!(server.metric(SUCCESS) > 1e9);
    assert!(server.admin("/readyz").status == 200);
}

#[test]
fn a_slow_backup_makes_others_skip_and_does_not_hold_up_a_stop() {
    let setup = Setup::new();
    fill(&setup, 2);
    let destination = format!("file://{}", setup.root().join("backups").display());
    let setup = scheduled(setup, &destination).set("backup.rate_limit", "1MB");
    let server = setup.start();
    server.wait_for_line("backup.skipped");
    server.stop().check_code(0);
    let setup = setup.set("backup.rate_limit", "1KB");
    let server = setup.start();
    let tmp = setup.db().join("tmp");
    let left = || fs::read_dir(&tmp).into_iter().flatten().count();
    wait_until("the store is cut", || left() > 0);
    let (stopped, took) = timed(|| server.stop());
    stopped.check_code(0);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(left(), 0, "what was cut is removed");
    let setup = setup.set("backup.schedule", "0 0 1 1 *");
    let server = setup.start();
    server.stop().check_code(0);
}

#[test]
fn a_scheduled_backup_and_one_that_is_asked_for_are_not_made_at_once() {
    let setup = Setup::new();
    fill(&setup, 2);
    let root = setup.root().join("root");
    fs::create_dir(&root).unwrap();
    let destination = setup.root().join("backups");
    let setup = scheduled(setup, destination.to_str().unwrap()).set("backup.rate_limit", "10KB");
    let setup = setup.set("backup.root", root.to_str().unwrap());
    let server = setup.start();
    server.wait_for_line("backup.scheduled");
    let ask = || server.send(&Request::new("POST", "/admin/backup").key(ADMIN_KEY).json(&json!({})));
    wait_until("the other one is refused", || ask().text().contains("another backup is being made"));
    server.stop().check_code(0);
}
