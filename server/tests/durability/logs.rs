//! Files of the write-ahead log that are gone: refused where writes went with them, and no alarm where none did.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use testing::{Random, Server, Setup, User, copy_directory, messages, thread, wait_until};

/// The files of the write-ahead log, the oldest first.
fn logs(db: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(db.join("store-1")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect();
    logs.sort();
    assert!(!logs.is_empty(), "a store without any log");
    logs
}

/// A database with a thread of three messages whose server was killed.
fn killed() -> (Setup, String) {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    for n in 0..3 {
        user.append(&t, n);
    }
    server.kill();
    (setup, t)
}

#[track_caller]
fn check_messages(server: &Server, t: &str, count: usize) {
    let page = server.user("user1").get(&messages(t)).check_status(200).json();
    assert_eq!(page["pagination"]["total"], json!(count));
}

#[track_caller]
fn check_refused(setup: &Setup, words: &[&str]) {
    for command in ["serve", "inspect"] {
        let refused = setup.run(&[command]);
        refused.check_code(7).check_says(&["startup.log_missing", ".log", "restore a backup"]).check_says(words);
    }
}

#[test]
fn a_copy_without_its_logs_is_refused_with_7_until_they_are_back() {
    let (setup, t) = killed();
    let incomplete = Setup::with_db(&setup.root().join("copy"));
    copy_directory(setup.db(), incomplete.db());
    for log in logs(incomplete.db()) {
        fs::remove_file(log).unwrap();
    }
    check_refused(&incomplete, &["is missing"]);
    check_refused(&incomplete, &["is missing"]);
    for log in logs(setup.db()) {
        fs::copy(&log, incomplete.db().join("store-1").join(log.file_name().unwrap())).unwrap();
    }
    check_messages(&incomplete.start(), &t, 3);
    check_messages(&setup.start(), &t, 3);
}

#[test]
fn logs_removed_under_a_running_server_that_is_killed_are_missed() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("lost");
    for log in logs(setup.db()) {
        fs::remove_file(log).unwrap();
    }
    server.kill();
    check_refused(&setup, &["is missing"]);
}

#[test]
fn logs_removed_under_a_running_server_that_is_stopped_cost_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    user.append(&t, 1);
    for log in logs(setup.db()) {
        fs::remove_file(log).unwrap();
    }
    server.stop().check_code(0);
    check_messages(&setup.start(), &t, 1);
}

#[test]
fn a_log_that_was_emptied_is_missed() {
    let (setup, _) = killed();
    fs::write(logs(setup.db()).last().unwrap(), "").unwrap();
    check_refused(&setup, &["has 0 bytes of at least"]);
}

/// The write after the removal finds out, and puts what only memory holds into files of its own.
#[test]
fn logs_removed_under_a_running_server_cost_nothing_once_it_writes_again() {
    let setup = Setup::new();
    let mut server = setup.start();
    let t = server.user("user1").create_thread("kept");
    for count in 1..4 {
        for log in logs(setup.db()) {
            fs::remove_file(log).unwrap();
        }
        server.user("user1").append(&t, count);
        assert!(server.log().contains("store.log_removed"), "{}", server.log());
        server.kill();
        server = setup.start();
        check_messages(&server, &t, count);
        server.user("user1").put(&thread(&t), &json!({ "title": format!("kept {count}") })).written();
    }
}

/// Writes until there are `wanted` logs at one time.
fn write_until_logs(user: &User, db: &Path, t: &str, wanted: usize) -> usize {
    let mut written = 0;
    wait_until("there are several logs", || {
        user.append(t, "x".repeat(60_000));
        written += 1;
        logs(db).len() >= wanted
    });
    written
}

/// Whichever file of the log is gone: all is there without it, or the start is refused.
#[test]
fn no_single_log_goes_unmissed() {
    let setup = Setup::new().set("storage.memory", "16MiB").set("server.max_payload_size", "1MiB");
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let written = write_until_logs(&user, setup.db(), &t, 3);
    server.kill();
    let (mut refused, all) = (0, logs(setup.db()));
    for (n, log) in all.iter().enumerate() {
        let without = Setup::with_db(&setup.root().join(format!("without-{n}")));
        copy_directory(setup.db(), without.db());
        fs::remove_file(without.db().join("store-1").join(log.file_name().unwrap())).unwrap();
        let inspected = without.run(&["inspect"]);
        if inspected.code == Some(7) {
            check_refused(&without, &[log.file_name().unwrap().to_str().unwrap()]);
            refused += 1;
        } else {
            check_messages(&without.start(), &t, written);
        }
    }
    assert!(refused > 0, "none of {all:?} held anything");
    check_messages(&setup.start(), &t, written);
}

#[test]
fn a_database_that_was_stopped_needs_no_logs() {
    let (setup, t) = killed();
    setup.start().stop().check_code(0);
    assert!(!setup.db().join("wal.json").exists());
    for log in logs(setup.db()) {
        fs::remove_file(log).unwrap();
    }
    setup.run(&["inspect"]).check_code(0);
    check_messages(&setup.start(), &t, 3);
}

/// After a restore the record is still that of the store before it, until the first commit.
#[test]
fn the_record_of_another_store_raises_no_alarm() {
    let setup = Setup::new();
    let mut server = setup.start();
    let t = server.user("user1").create_thread("kept");
    server.user("user1").append(&t, 1);
    server.stop().check_code(0);
    server = setup.start();
    server.user("user1").append(&t, 2);
    server.kill();
    let restored = setup.db().join("store-2");
    copy_directory(&setup.db().join("store-1"), &restored);
    for log in logs(setup.db()) {
        fs::remove_file(restored.join(log.file_name().unwrap())).unwrap();
    }
    let marker = fs::read_to_string(setup.db().join("PROGRESSDB")).unwrap();
    fs::write(setup.db().join("PROGRESSDB"), marker.replace("store-1", "store-2")).unwrap();

    let record = fs::read_to_string(setup.db().join("wal.json")).unwrap();
    let nameless = record.replace("\"store\":\"store-1\",", "");
    assert_ne!(record, nameless);
    fs::write(setup.db().join("wal.json"), nameless).unwrap();
    check_refused(&setup, &["store-2/", "is missing"]);
    fs::write(setup.db().join("wal.json"), record).unwrap();
    setup.run(&["inspect"]).check_code(0);
    server = setup.start();
    check_messages(&server, &t, 1);
    server.user("user1").append(&t, 3);
    server.kill();
    let record = fs::read_to_string(setup.db().join("wal.json")).unwrap();
    assert!(record.contains("\"store\":\"store-2\""), "{record}");
}

#[test]
fn a_directory_of_an_older_version_or_with_a_damaged_record_opens() {
    for record in [None, Some(""), Some("{"), Some("{\"manifest\":\"MANIFEST-000001\",\"log\":999999,\"bytes\":1}")] {
        let (setup, t) = killed();
        match record {
            Some(text) => fs::write(setup.db().join("wal.json"), text).unwrap(),
            None => fs::remove_file(setup.db().join("wal.json")).unwrap(),
        }
        check_messages(&setup.start(), &t, 3);
    }
}

/// At whatever moment a start is killed, the next one misses nothing.
#[test]
fn a_kill_during_any_start_raises_no_alarm() {
    let setup = Setup::new().set("storage.memory", "16MiB").set("server.max_payload_size", "1MiB");
    let mut server = setup.start();
    let t = server.user("user1").create_thread("kept");
    let mut written = 0;
    let mut random = Random::seeded();
    for _ in 0..6 {
        written += write_until_logs(&server.user("user1"), setup.db(), &t, 2);
        server.kill();
        for _ in 0..4 {
            let mut command = setup.command(&["serve"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut polls = random.below(60);
            wait_until("its moment has come", || {
                polls = polls.saturating_sub(1);
                polls == 0
            });
            child.kill().unwrap();
            child.wait().unwrap();
        }
        server = setup.start();
        check_messages(&server, &t, written);
    }
}
