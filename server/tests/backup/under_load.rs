//! Backups of a server that is written to, one behind the other: each is whole, and holds what was acknowledged before it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use testing::{Random, Setup, variable, wait_until};

use crate::online::{append, path, read_all};

const WRITERS: usize = 16;
const THREADS: usize = 8;
/// One of so many is restored and read; all are verified.
const RESTORED: usize = 5;

/// Small memtables: a flush, a compaction or a new log at every moment. Some servers are killed in between.
#[test]
fn torture_every_backup_under_write_load_is_whole_and_holds_what_was_acknowledged() {
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(10, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let setup = Setup::new().set("storage.memory", "16MiB");
    let mut server = setup.start();
    let threads: Vec<String> = (0..THREADS).map(|n| server.user("writer").create_thread(&format!("{n}"))).collect();
    let out = setup.root().join("taken");
    let acknowledged: Mutex<Vec<String>> = Mutex::default();
    let count = || acknowledged.lock().unwrap().len();
    for turn in 0..loops {
        let (stop, until) = (AtomicBool::new(false), count() + random.below(1_000));
        let (before, finished) = std::thread::scope(|scope| {
            for n in 0..WRITERS {
                let (server, thread, acknowledged, stop) = (&server, &threads[n % THREADS], &acknowledged, &stop);
                scope.spawn(move || append(server, thread, acknowledged, stop));
            }
            wait_until("more is written", || count() > until);
            let before = count();
            let finished = setup.run(&["backup", "--json", "--format", "dir", "--out", path(&out)]);
            stop.store(true, Ordering::Relaxed);
            (before, finished)
        });
        let made: Value = serde_json::from_str(&finished.check_code(0).stdout).unwrap();
        let acknowledged = acknowledged.lock().unwrap();
        let held = check_whole(&setup, &out, &made, turn);
        assert!((before..=acknowledged.len()).contains(&held), "turn {turn}: {before} were there, {held} are in it");
        if turn % RESTORED == 0 {
            let found = restored(&out, &threads);
            assert_eq!(found.len(), held, "turn {turn}");
            let missing: Vec<&String> = acknowledged[..before].iter().filter(|key| !found.contains(*key)).collect();
            assert_eq!(missing, [""; 0], "turn {turn}: acknowledged before the backup");
            assert!(found.is_subset(&acknowledged.iter().cloned().collect()), "turn {turn}: nothing else is in it");
            server.kill();
            server = setup.start();
        }
        fs::remove_dir_all(&out).unwrap();
    }
    server.stop().check_code(0);
    println!("{loops} backups of up to {} messages", count());
}

/// Verifies the backup, which must be what the command said; returns how many messages are in it.
#[track_caller]
fn check_whole(setup: &Setup, backup: &Path, made: &Value, turn: usize) -> usize {
    let finished = setup.run(&["verify", "--json", "--in", path(backup)]);
    let found: Value = serde_json::from_str(&finished.check_code(0).stdout).unwrap();
    let (counts, messages) = (&made["counts"], found["counts"]["messages"].as_u64().unwrap());
    assert_eq!((&found["ok"], &found["counts"]["threads"]), (&json!(true), &json!(THREADS)), "turn {turn}");
    assert_eq!(counts, &json!({ "threads": THREADS, "messages": messages, "users": 1 }), "turn {turn}");
    assert_eq!(made["sequence"], json!(messages + THREADS as u64), "turn {turn}");
    usize::try_from(messages).unwrap()
}

/// What a server finds in the backup.
fn restored(backup: &Path, threads: &[String]) -> BTreeSet<String> {
    let setup = Setup::new();
    setup.run(&["restore", "--in", path(backup)]).check_code(0);
    let server = setup.start();
    let found = read_all(&server, threads);
    server.stop().check_code(0);
    found
}
