//! `progressdb reset`: what it removes, what it leaves, and what it refuses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use testing::command::program;
use testing::{Finished, Server, Setup, finish, kill_at_each_change};

use crate::tree::{names, tree, tree_without_lock};

/// A stopped database with a thread.
fn stopped() -> Setup {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    server.stop().check_code(0);
    setup
}

fn marker(db: &Path) -> Value {
    serde_json::from_slice(&fs::read(db.join("PROGRESSDB")).unwrap()).unwrap()
}

/// It was refused with 7, named `what`, and changed nothing.
#[track_caller]
fn check_refused(setup: &Setup, what: &str) {
    let before = tree_without_lock(setup.db());
    for words in [&["reset"][..], &["reset", "--confirm"]] {
        setup.run(words).check_code(7).check_says(&[what]);
        assert_eq!(tree_without_lock(setup.db()), before, "{words:?}");
    }
}

#[test]
fn a_dry_run_names_what_would_go_and_touches_nothing() {
    let setup = stopped();
    let before = tree(setup.db());
    let finished = setup.run(&["reset"]);
    finished.check_code(0);
    let db = setup.db().display();
    let wanted = ["store-1", "tmp", "PROGRESSDB", "lock"].map(|name| format!("would remove: {db}/{name}\n")).concat();
    assert_eq!(finished.stdout, wanted + "dry-run: pass --confirm to proceed\n");
    assert_eq!(tree(setup.db()), before);
    setup.start().stop().check_code(0);
}

#[test]
fn a_confirmed_reset_removes_the_database_and_the_next_start_makes_another() {
    let setup = stopped();
    let before = marker(setup.db());
    let finished = setup.run(&["reset", "--confirm"]);
    finished.check_code(0).check_says(&["cli.reset_complete", "outcome=\"ok\"", "data_dir="]);
    assert_eq!(finished.stdout, "");
    assert_eq!(names(setup.db()), [""; 0]);
    let server = setup.start();
    assert_eq!(server.user("user1").thread_keys(""), [""; 0]);
    server.stop().check_code(0);
    assert_ne!(marker(setup.db())["database_id"], before["database_id"]);
}

#[test]
fn where_nothing_is_a_reset_has_nothing_to_do() {
    let setup = Setup::new();
    let nothing = |finished: &Finished| {
        finished.check_code(0).check_says(&["cli.reset_complete", "outcome=\"noop\""]);
    };
    nothing(&setup.run(&["reset", "--confirm"]));
    assert!(!setup.db().exists(), "it made the directory");
    fs::create_dir_all(setup.db().join("lost+found")).unwrap();
    nothing(&setup.run(&["reset", "--confirm"]));
    assert_eq!(setup.run(&["reset"]).check_code(0).stdout, "dry-run: pass --confirm to proceed\n");
    assert_eq!(names(setup.db()), ["lost+found"]);
}

#[test]
fn a_mistyped_directory_is_refused_with_7_and_left_alone() {
    let setup = Setup::new();
    for name in ["CURRENT", "MANIFEST-000001", "store-1/000001.sst"] {
        fs::create_dir_all(setup.db().join(name).parent().unwrap()).unwrap();
        fs::write(setup.db().join(name), "somebody's own").unwrap();
    }
    check_refused(&setup, "it has no PROGRESSDB file");
    assert!(!setup.db().join("lock").exists(), "it made a lock in a directory of somebody else's");
    fs::write(setup.db().join("PROGRESSDB"), "{\"name\":\"other\",\"layout\":1}").unwrap();
    check_refused(&setup, "belongs to something else");
    let file = Setup::new();
    fs::write(file.db(), "a file").unwrap();
    file.run(&["reset", "--confirm"]).check_code(7).check_says(&["it is not a directory"]);
    assert_eq!(fs::read(file.db()).unwrap(), b"a file");
}

#[test]
fn what_no_database_has_is_named_and_nothing_goes() {
    let setup = stopped();
    let db = setup.db();
    fs::write(db.join("notes.txt"), "somebody's own").unwrap();
    check_refused(&setup, "\"notes.txt\"");
    fs::rename(db.join("notes.txt"), db.join("store-1/notes.txt")).unwrap();
    check_refused(&setup, "store-1/notes.txt");
    fs::rename(db.join("store-1/notes.txt"), db.join("store-7")).unwrap();
    check_refused(&setup, "store-7 is no directory");
    fs::remove_file(db.join("store-7")).unwrap();
    setup.run(&["reset", "--confirm"]).check_code(0);
}

#[test]
fn symbolic_links_are_named_and_nothing_behind_them_goes() {
    let setup = stopped();
    let (db, precious) = (setup.db(), setup.root().join("precious"));
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "somebody's own").unwrap();
    for name in ["store-2", "checkpoints", "wal.json", "tmp/backup-1", "store-1/000999.sst"] {
        symlink(&precious, db.join(name)).unwrap();
        check_refused(&setup, name);
        fs::remove_file(db.join(name)).unwrap();
    }
    assert_eq!(names(&precious), ["file"]);
    setup.run(&["reset", "--confirm"]).check_code(0);
}

/// A marker alone does not prove that the directory is a database.
#[test]
fn a_store_that_is_none_is_refused() {
    let setup = stopped();
    fs::remove_file(setup.db().join("store-1/CURRENT")).unwrap();
    check_refused(&setup, "store-1/CURRENT cannot be read");
    fs::remove_dir_all(setup.db().join("store-1")).unwrap();
    check_refused(&setup, "store-1 is missing");
}

#[test]
fn a_directory_of_a_newer_version_is_refused_with_78() {
    let setup = stopped();
    let mut newer = marker(setup.db());
    newer["layout"] = json!(999);
    fs::write(setup.db().join("PROGRESSDB"), newer.to_string()).unwrap();
    setup.run(&["reset", "--confirm"]).check_code(78).check_says(&["999"]);
    assert!(setup.db().join("store-1").exists());
}

#[test]
fn a_running_server_is_refused_with_75() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    for words in [&["reset"][..], &["reset", "--confirm"]] {
        setup.run(words).check_code(75).check_says(&["startup.store_in_use", &server.pid().to_string()]);
    }
    assert_eq!(server.user("user1").thread_keys("").len(), 1);
    server.stop().check_code(0);
}

#[test]
fn generated_keys_stay_and_the_next_start_works_with_them() {
    let directory = testing::temporary_directory();
    let db = directory.path().join("database");
    let run = |words: &[&str]| {
        let mut command = program(words, directory.path());
        command.arg("--db").arg(&db).args(["--addr", "127.0.0.1:0"]);
        command
    };
    Server::spawn(run(&["serve"])).ready().stop().check_code(0);
    let keys = fs::read(db.join("dev-keys.json")).unwrap();
    for _ in 0..2 {
        finish(run(&["reset", "--confirm"])).check_code(0).check_says(&["outcome=\"ok\""]);
        assert_eq!(names(&db), ["PROGRESSDB", "dev-keys.json", "lock"]);
        finish(run(&["reset", "--confirm"])).check_code(0).check_says(&["outcome=\"noop\""]);
        finish(run(&["inspect"])).check_code(5);
        // A start that is refused takes nothing away either.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut refused = program(&["serve"], directory.path());
        refused.arg("--db").arg(&db).arg("--addr").arg(taken.local_addr().unwrap().to_string());
        finish(refused).check_code(1);
        assert_eq!(fs::read(db.join("dev-keys.json")).unwrap(), keys);
        Server::spawn(run(&["serve"])).ready().stop().check_code(0);
        assert_eq!(fs::read(db.join("dev-keys.json")).unwrap(), keys);
    }
}

#[test]
fn files_that_the_configuration_names_stay_beside_the_next_database() {
    let setup = stopped();
    let (config, keys) = (setup.db().join("config.yaml"), setup.db().join("backend.keys"));
    fs::write(&keys, "sk_from_a_file\n").unwrap();
    let settings = json!({ "server": {
        "db_path": setup.db(), "address": "127.0.0.1", "port": 0, "api_keys": { "backend_file": keys },
    }});
    fs::write(&config, settings.to_string()).unwrap();
    let run = |words: &[&str]| {
        let mut command = program(words, setup.root());
        command.arg("--config").arg(&config);
        command
    };
    finish(run(&["reset", "--confirm"])).check_code(0).check_says(&["outcome=\"ok\""]);
    assert_eq!(names(setup.db()), ["PROGRESSDB", "backend.keys", "config.yaml", "lock"]);
    Server::spawn(run(&["serve"])).ready().stop().check_code(0);
}

/// Afterwards the database is there as it was, or it is refused with the command that ends the reset, or it is gone.
#[test]
fn a_reset_that_is_killed_anywhere_is_finished_by_its_repetition() {
    const TEST: &str = "a_reset_that_is_killed_anywhere_is_finished_by_its_repetition";
    let made = stopped();
    let setup = Setup::with_db(&made.root().join("copy"));
    let copy = || {
        let _ = fs::remove_dir_all(setup.db());
        for (name, bytes) in tree(made.db()) {
            let path = setup.db().join(name);
            match bytes {
                None => fs::create_dir_all(path).unwrap(),
                Some(bytes) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes).unwrap();
                }
            }
        }
        setup.command(&["reset", "--confirm"])
    };
    let (mut untouched, mut unfinished, mut gone) = (0, 0, 0);
    let changes = kill_at_each_change(TEST, copy, |change| {
        if setup.db().join("PROGRESSDB").exists() {
            let state = marker(setup.db())["state"].clone();
            if state == "ready" {
                untouched += 1;
                let server = setup.start();
                assert_eq!(server.user("user1").thread_keys("").len(), 1, "killed at change {change}");
                server.stop().check_code(0);
            } else {
                unfinished += 1;
                let refused = setup.refused_start();
                refused.check_code(7).check_says(&["startup.reset_unfinished", "progressdb reset --confirm"]);
            }
        } else {
            gone += 1;
        }
        setup.run(&["reset", "--confirm"]).check_code(0);
        let left = names(setup.db());
        assert!(left.is_empty() || left == ["lock"], "killed at change {change}: {left:?}");
    });
    let Some(changes) = changes else { return };
    assert!(untouched > 0 && unfinished > 5 && gone > 0, "{untouched} {unfinished} {gone} of {changes}");
}
