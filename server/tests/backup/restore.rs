//! `progressdb restore`: what comes back, what is refused, and that what was there stays until the last step.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use testing::disk::Disk;
use testing::http::Request;
use testing::{Server, Setup, copy_directory, skip, temporary_directory};

use crate::tree::{names, tree_without_lock};
use crate::world::{
    back_up, break_counter, database_id, digest, filled, marker, sealed, sealed_at, verify, with_master_key,
};

/// Restores into the directory of `setup`, with these words besides, and expects this exit code.
#[track_caller]
fn restore(setup: &Setup, from: &Path, words: &[&str], code: i32) -> testing::Finished {
    let all = [&["restore", "--in", from.to_str().unwrap()], words].concat();
    let finished = setup.run(&all);
    finished.check_code(code);
    // What is no command line begins nothing.
    if ![0, 2].contains(&code) {
        finished.check_says(&["cli.restore_failed"]);
    }
    finished
}

/// A stopped database that differs from every backup.
fn other() -> Setup {
    let setup = Setup::new();
    let server = setup.start();
    server.user("zoe").create_thread("there before");
    server.stop().check_code(0);
    setup
}

/// It is refused, and the database that was there is as it was.
#[track_caller]
fn check_untouched(setup: &Setup, from: &Path, words: &[&str], code: i32, what: &str) {
    let before = tree_without_lock(setup.db());
    restore(setup, from, words, code).check_says(&[what]);
    assert_eq!(tree_without_lock(setup.db()), before);
}

#[test]
fn a_backup_comes_back_with_all_that_it_holds_as_another_incarnation() {
    for (made, fresh) in [(Setup::new(), Setup::new()), (sealed(), sealed())] {
        filled(&made);
        for form in ["tar", "dir"] {
            let backup = made.root().join(form);
            made.run(&["backup", "--format", form, "--out", backup.to_str().unwrap()]).check_code(0);
            let setup = Setup::with_db(&fresh.root().join(form));
            let setup =
                if names(made.root()).contains(&"master.key".to_owned()) { sealed_at(setup.db()) } else { setup };
            let finished = restore(&setup, &backup, &[], 0);
            finished.check_says(&["cli.restore_complete", "outcome=\"ok\""]);
            assert_eq!(finished.stdout, format!("restore=ok data_dir={}\n", setup.db().display()));
            assert_eq!(digest(&setup), digest(&made));
            assert_eq!(verify(&setup, 0)["ok"], json!(true));
            let (old, new) = (marker(made.db()), marker(setup.db()));
            assert_eq!((&new["state"], &new["store"]), (&json!("ready"), &json!("store-1")));
            assert_eq!(new["database_id"], old["database_id"]);
            assert_ne!(new["incarnation"], old["incarnation"]);
            let mode = fs::metadata(setup.db()).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o700);
            let server = setup.start();
            assert_eq!(server.send(&Request::get("/readyz")).json()["incarnation"], new["incarnation"]);
            assert_eq!(server.user("ann").thread_keys("").len(), 1);
            server.user("ann").create_thread("goes on");
            server.stop().check_code(0);
            assert_eq!(verify(&setup, 0)["ok"], json!(true));
        }
    }
}

#[test]
fn a_database_that_is_there_is_refused_with_6_and_replaced_with_force() {
    let (made, setup) = (Setup::new(), Setup::new());
    filled(&made);
    copy_directory(made.db(), setup.db());
    let backup = back_up(&made, "backup.pdbk");
    check_untouched(&setup, &backup, &[], 6, "--force");
    check_untouched(&setup, &backup, &["--dry-run"], 6, "--force");
    setup.run(&["restore", "--in", backup.to_str().unwrap(), "--keep-old"]).check_code(2);
    let before = tree_without_lock(setup.db());
    restore(&setup, &backup, &["--force", "--dry-run"], 0).check_says(&["would restore:", "dry-run:"]);
    assert_eq!(tree_without_lock(setup.db()), before, "a dry run changes nothing");
    let server = setup.start();
    server.user("zoe").create_thread("made since");
    server.stop().check_code(0);
    restore(&setup, &backup, &["--force"], 0);
    assert_eq!(digest(&setup), digest(&made));
    assert!(names(setup.db()).contains(&"store-2".to_owned()) && !names(setup.db()).contains(&"store-1".to_owned()));
    assert_eq!(marker(setup.db())["database_id"], marker(made.db())["database_id"]);
    setup.start().stop().check_code(0);
}

#[test]
fn another_database_is_given_up_only_by_its_id() {
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let (there, ours) = (database_id(setup.db()), database_id(made.db()));
    let text = format!(
        "{} holds database {there}, and this is a backup of database {ours}: to give up the one that is there, add --replace-database {there}",
        setup.db().display()
    );
    for words in [&["--force"][..], &["--force", "--dry-run"], &["--force", "--replace-database", &ours]] {
        check_untouched(&setup, &backup, words, 6, &text);
    }
    let url = format!("file://{}", made.root().join("backups").display());
    made.run(&["backup", "--out", &url]).check_code(0);
    check_untouched(&setup, Path::new(&url), &["--force"], 6, &text);
    check_untouched(&setup, &backup, &["--replace-database", &there], 2, "--force");
    check_untouched(&setup, &backup, &["--force", "--replace-database", "1"], 2, "32 hexadecimal digits");
    restore(&setup, &backup, &["--force", "--replace-database", &there], 0);
    assert_eq!((digest(&setup), database_id(setup.db())), (digest(&made), ours));
}

#[test]
fn a_dry_run_asks_the_kms_for_the_keys_and_changes_nothing() {
    let made = sealed();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let right = sealed_at(&made.root().join("elsewhere"));
    restore(&right, &backup, &["--dry-run"], 0).check_says(&["would restore:"]);
    let wrong = with_master_key(Setup::with_db(right.db()), &"11".repeat(32));
    restore(&wrong, &backup, &["--dry-run"], 78)
        .check_says(&["startup.keys_unusable", "is configured: bring the former back"]);
    restore(&Setup::with_db(right.db()), &backup, &["--dry-run"], 78).check_says(&["encryption.enabled"]);
    assert!(!right.db().exists());
}

#[test]
fn the_old_store_is_kept_on_request_and_survives_starts_and_restores() {
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let there = database_id(setup.db());
    let kept = restore(&setup, &backup, &["--force", "--keep-old", "--replace-database", &there], 0);
    kept.check_says(&[&format!("kept={}", setup.db().join("store-1").display())]);
    setup.start().stop().check_code(0);
    fs::create_dir_all(setup.db().join("checkpoints/1-20260101T000000Z")).unwrap();
    restore(&setup, &backup, &["--force"], 0);
    assert!(!setup.db().join("checkpoints").exists(), "a way back behind the restore");
    setup.start().stop().check_code(0);
    assert_eq!(marker(setup.db())["kept"], json!(["store-1"]));
    let stores: Vec<_> = names(setup.db()).into_iter().filter(|name| name.starts_with("store")).collect();
    assert_eq!(stores, ["store-1", "store-3"]);
    setup.run(&["reset", "--confirm"]).check_code(0);
    assert_eq!(names(setup.db()), [""; 0]);
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_is_touched() {
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    check_untouched(&setup, Path::new("nowhere.pdbk"), &["--force"], 5, "nowhere.pdbk does not exist");
    let bytes = fs::read(&backup).unwrap();
    let bad = made.root().join("bad.pdbk");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (content, what) in [
        (b"garbage".to_vec(), "bad.pdbk"),
        (Vec::new(), "bad.pdbk"),
        (bytes[..bytes.len() / 2].to_vec(), "damaged"),
        (flipped, "damaged"),
    ] {
        fs::write(&bad, content).unwrap();
        check_untouched(&setup, &bad, &["--force"], 7, what);
    }
    let fresh = Setup::new();
    restore(&fresh, &bad, &[], 7);
    assert!(!fresh.db().exists(), "a refused restore made the directory");
}

#[test]
fn a_backup_of_a_newer_version_is_refused_with_78_and_both_versions() {
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = made.root().join("dir");
    made.run(&["backup", "--format", "dir", "--out", backup.to_str().unwrap()]).check_code(0);
    let header = backup.join("progressdb-backup.json");
    let text = fs::read_to_string(&header).unwrap();
    for (old, new) in [("\"layout\":1", "\"layout\":9"), ("\"store_format\":1", "\"store_format\":9")] {
        assert!(text.contains(old));
        fs::write(&header, text.replace(old, new)).unwrap();
        check_untouched(&setup, &backup, &["--force"], 78, "9");
    }
}

#[test]
fn a_running_server_is_refused_with_75_and_serves_on() {
    let (made, setup) = (Setup::new(), Setup::new());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let server = setup.start();
    for words in [&["--force"][..], &[], &["--force", "--dry-run"]] {
        restore(&setup, &backup, words, 75).check_says(&["startup.store_in_use"]);
    }
    server.user("zoe").create_thread("still served");
    server.stop().check_code(0);
    assert_eq!(setup.start().user("zoe").thread_keys("").len(), 1);
}

/// While one restore is at work, stopped in the middle of it, nobody else gets the directory.
#[test]
fn a_second_restore_and_a_server_are_refused_with_75_while_a_restore_runs() {
    let (made, setup) = (Setup::new(), Setup::new());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    copy_directory(made.db(), setup.db());
    let words = ["restore", "--force", "--in", backup.to_str().unwrap()];
    let running = (0..50).find_map(|_| {
        let next = setup.db().join(format!("store-{}", number_of_store(&setup) + 1));
        let mut running = Server::begin(setup.command(&words));
        while !next.exists() && running.runs() {
            std::thread::yield_now();
        }
        running.signal(Signal::STOP);
        // It may have come to its end before it was stopped: then the next one is caught.
        let caught = next.exists() && format!("store-{}", number_of_store(&setup)) != next.file_name()?.to_str()?;
        running.signal(if caught { Signal::STOP } else { Signal::CONT });
        if caught {
            return Some(running);
        }
        running.wait().check_code(0);
        None
    });
    let running = running.expect("one of fifty was stopped in time");
    restore(&setup, &backup, &["--force"], 75).check_says(&["startup.store_in_use", &running.pid().to_string()]);
    setup.refused_start().check_code(75).check_says(&["startup.store_in_use"]);
    setup.run(&["reset", "--confirm"]).check_code(75);
    running.signal(Signal::CONT);
    running.wait().check_code(0);
    assert_eq!(digest(&setup), digest(&made));
}

fn number_of_store(setup: &Setup) -> u32 {
    marker(setup.db())["store"].as_str().unwrap().trim_start_matches("store-").parse().unwrap()
}

#[test]
fn a_wrong_or_missing_kms_is_refused_before_the_swap() {
    let made = sealed();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let setup = other();
    let force = ["--force", "--replace-database", &database_id(setup.db())];
    check_untouched(&setup, &backup, &force, 78, "encryption.enabled");
    let wrong = with_master_key(Setup::with_db(setup.db()), &"11".repeat(32));
    check_untouched(&wrong, &backup, &force, 78, "startup.keys_unusable");
    let fresh = Setup::new();
    restore(&fresh, &backup, &[], 78);
    assert!(!fresh.db().exists(), "a refused restore left something");
}

#[test]
fn a_backup_whose_rows_do_not_fit_together_is_refused_before_the_swap() {
    let made = Setup::new();
    filled(&made);
    break_counter(made.db());
    let backup = back_up(&made, "backup.pdbk");
    let setup = other();
    let force = ["--force", "--replace-database", &database_id(setup.db())];
    check_untouched(&setup, &backup, &force, 7, "row s:threads");
    let fresh = Setup::new();
    restore(&fresh, &backup, &[], 7);
    assert!(!fresh.db().exists(), "a refused restore left something");
}

/// Encryption may be on for a backup that was never sealed: the next start seals it.
#[test]
fn a_plain_backup_is_restored_where_encryption_is_on() {
    let made = Setup::new();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let setup = sealed();
    restore(&setup, &backup, &[], 0);
    let server = setup.start();
    assert_eq!(server.user("ann").thread_keys("").len(), 1);
    server.stop().check_code(0);
    assert_eq!(digest(&setup), digest(&made));
}

#[test]
fn foreign_directories_and_links_are_refused_with_7() {
    let made = Setup::new();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let setup = Setup::new();
    fs::create_dir(setup.db()).unwrap();
    fs::write(setup.db().join("notes.txt"), "somebody's own").unwrap();
    check_untouched(&setup, &backup, &["--force"], 7, "notes.txt");
    assert_eq!(names(setup.db()), ["notes.txt"]);
    let setup = other();
    symlink(made.root(), setup.db().join("store-9")).unwrap();
    check_untouched(&setup, &backup, &["--force"], 7, "store-9 is a symbolic link");
}

#[test]
fn a_volatile_file_system_is_refused_with_78() {
    const TEST: &str = "a_volatile_file_system_is_refused_with_78";
    let made = Setup::new();
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some("/dev/shm") && line.starts_with("tmpfs ")) {
        return skip(TEST, "/dev/shm is no tmpfs here");
    }
    let directory = tempfile::Builder::new().prefix("progressdb-").tempdir_in("/dev/shm").unwrap();
    let setup = Setup::with_db(&directory.path().join("db"));
    restore(&setup, &backup, &[], 78).check_says(&["tmpfs"]);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_directory_of_another_user_is_refused_where_root_would_take_it_away() {
    const TEST: &str = "a_directory_of_another_user_is_refused_where_root_would_take_it_away";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "not root");
    }
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    chown(setup.db(), Some(1000), Some(1000)).unwrap();
    let force = ["--force", "--replace-database", &database_id(setup.db())];
    check_untouched(&setup, &backup, &force, 1, "belongs to user 1000");
}

/// A disk that has no room for the store, and one that fills up on the way.
#[test]
fn a_full_disk_leaves_what_was_there() {
    const TEST: &str = "a_full_disk_leaves_what_was_there";
    let made = Setup::new();
    let server = made.start();
    let ann = server.user("ann");
    let thread = ann.create_thread("large");
    let mut random = testing::Random::seeded();
    for _ in 0..100 {
        let text: String = (0..60_000).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect();
        ann.append(&thread, text);
    }
    server.stop().check_code(0);
    let backup = back_up(&made, "backup.pdbk");
    let directory = temporary_directory();
    let mkfs = ["mkfs.ext4", "-q", "-F", "-m", "0"];
    let Some(disk) = Disk::make(TEST, directory.path(), 12 << 20, &mkfs, "errors=remount-ro") else { return };
    let setup = Setup::with_db(&disk.at.join("db")).set("storage.reserve", "1MiB");
    copy_directory(other().db(), setup.db());
    let filler = disk.at.join("filler");
    fs::write(&filler, vec![7; usize::try_from(disk.free()).unwrap() - (2 << 20)]).unwrap();
    let force = ["--force", "--replace-database", &database_id(setup.db())];
    check_untouched(&setup, &backup, &force, 1, "do not fit into");
    fs::remove_file(&filler).unwrap();
    let fresh = Setup::with_db(&disk.at.join("fresh")).set("storage.reserve", "1MiB");
    fs::write(&filler, vec![7; usize::try_from(disk.free()).unwrap() - (2 << 20)]).unwrap();
    restore(&fresh, &backup, &[], 1);
    assert!(!fresh.db().exists(), "a refused restore left something");
    fs::remove_file(&filler).unwrap();
    assert_eq!(setup.start().user("zoe").thread_keys("").len(), 1);
}

#[test]
fn a_directory_that_was_reset_takes_a_backup_and_keeps_its_keys() {
    let (made, setup) = (Setup::new(), other());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    fs::write(setup.db().join("dev-keys.json"), "{}").unwrap();
    setup.run(&["reset", "--confirm"]).check_code(0);
    restore(&setup, &backup, &[], 0);
    assert_eq!(fs::read(setup.db().join("dev-keys.json")).unwrap(), b"{}");
    assert_eq!(digest(&setup), digest(&made));
}

/// A server that was killed left a log that its record names. It must not count for the restored store.
#[test]
fn a_restore_over_a_killed_server_is_not_held_to_its_log() {
    let (made, setup) = (Setup::new(), Setup::new());
    filled(&made);
    let backup = back_up(&made, "backup.pdbk");
    let server = setup.start();
    server.user("zoe").create_thread("there before");
    server.kill();
    assert!(setup.db().join("wal.json").exists());
    restore(&setup, &backup, &["--force", "--replace-database", &database_id(setup.db())], 0);
    assert!(!setup.db().join("wal.json").exists());
    setup.start().stop().check_code(0);
}
