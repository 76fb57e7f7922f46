//! What a migration and a way back are refused for, with which exit code and which next command.

use std::fs;

use testing::http::Request;

use crate::{Versions, inspect, root};

#[test]
fn a_migration_that_fails_exits_with_70_and_says_what_to_do() {
    let Versions { old, next } = Versions::new().filled(3);
    let whole = root(&old);
    // Less than the reserve is free: the first row cannot be written, nor a checkpoint be made.
    let full = testing::Setup::with_db(old.db()).next_version("next").set("storage.reserve", "1TiB");
    for words in [&["serve"][..], &["migrate"], &["migrate", "--finalize"]] {
        let failed = full.run(words);
        failed.check_code(70).check_says(&["migration.failed", "index-of-replies", "start again", "disk almost full"]);
    }
    assert_eq!(root(&old), whole);
    next.run(&["migrate"]).check_code(0);
    let failed = full.run(&["migrate", "--finalize"]);
    failed.check_code(70).check_says(&["the format was not changed", "the store is as it was", "storage.reserve"]);
    assert_eq!((inspect(&old)["format"].as_u64(), names_in(&old, "checkpoints")), (Some(1), 0));
    assert_eq!(root(&old), whole);
}

/// How many entries there are below the directory of this name.
fn names_in(setup: &testing::Setup, name: &str) -> usize {
    fs::read_dir(setup.db().join(name)).map_or(0, Iterator::count)
}

#[test]
fn a_way_back_is_refused_where_there_is_none_and_changes_nothing() {
    let Versions { old, next } = Versions::new().filled(2);
    let refused = next.run(&["rollback"]);
    refused.check_code(5).check_says(&["rollback.checkpoint_missing", "no checkpoint", "restore a backup"]);
    next.run(&["migrate", "--finalize"]).check_code(0);
    let whole = root(&next);
    let checkpoint = inspect(&next)["checkpoints"][0].as_str().unwrap().to_owned();
    next.run(&["rollback", "--to", "1-never"]).check_code(5).check_says(&["1-never", &checkpoint]);

    let server = next.start();
    next.run(&["rollback"]).check_code(75).check_says(&["startup.store_in_use"]);
    next.run(&["migrate", "--finalize"]).check_code(75);
    server.send(&Request::get("/readyz")).check_status(200);
    server.stop().check_code(0);

    // A checkpoint that is not whole, or another's, takes the place of nothing.
    let record = old.db().join("checkpoints").join(&checkpoint).join("checkpoint.json");
    let store = record.with_file_name("store");
    let said = fs::read_to_string(&record).unwrap();
    let database = inspect(&next)["database_id"].as_str().unwrap().to_owned();
    let current = fs::read(store.join("CURRENT")).unwrap();
    let table = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let table = table.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).max().unwrap();
    let refused = |what: &str| {
        next.run(&["rollback", "--confirm"]).check_code(7).check_says(&[&checkpoint, what]);
        assert!(!old.db().join("store-2").exists(), "something is left of the attempt");
    };
    fs::write(&record, "{").unwrap();
    refused("its checkpoint.json is unreadable");
    fs::write(&record, said.replace(&database, "00000000000000000000000000000000")).unwrap();
    refused("it is of another database");
    fs::write(&record, &said).unwrap();
    fs::write(store.join("CURRENT"), "MANIFEST-9\n").unwrap();
    refused("names no file that exists");
    fs::write(store.join("CURRENT"), &current).unwrap();
    let elsewhere = old.root().join("table");
    fs::rename(&table, &elsewhere).unwrap();
    refused(table.file_name().unwrap().to_str().unwrap());
    fs::rename(&elsewhere, &table).unwrap();
    assert_eq!(root(&next), whole);
    next.run(&["rollback", "--to", &checkpoint]).check_code(0);
    assert_eq!(root(&old), whole);
}

#[test]
fn a_way_back_needs_the_keys_of_the_store() {
    let Versions { old, next } = Versions::sealed().filled(2);
    next.run(&["migrate", "--finalize"]).check_code(0);
    let without = testing::Setup::with_db(old.db()).next_version("next");
    without.run(&["rollback"]).check_code(78).check_says(&["encryption.enabled"]);
    assert_eq!(inspect(&next)["format"].as_u64(), Some(2));
    next.run(&["rollback"]).check_code(0);
    old.start().stop().check_code(0);
}

#[test]
fn a_migration_of_nothing_is_done() {
    let Versions { old, next } = Versions::new().filled(1);
    old.run(&["migrate", "--finalize"]).check_code(0).check_says(&["migrate=ok format=1"]);
    next.run(&["migrate", "--finalize"]).check_code(0).check_says(&["migrate=ok format=2"]);
    let again = next.run(&["migrate", "--finalize"]);
    again.check_code(0).check_says(&["migrate=ok format=2\n"]);
    assert!(!again.stdout.contains("checkpoint="), "{}", again.stdout);
    let missing = Versions::new();
    missing.next.run(&["migrate"]).check_code(5);
    missing.next.run(&["rollback"]).check_code(5);
    assert!(!missing.next.db().exists(), "a command on a mistyped directory makes no database");
}
