//! The way that an upgrade takes: the new version on the old format, the old version again, the new one, the change of
//! format, and back to the checkpoint.

use std::fs;

use serde_json::{Value, json};
use testing::Setup;

use crate::{Versions, formats, inspect, names, replies, root, write_thread};

const START: &str = "index-of-replies";
const FINALIZE: &str = "heads-of-format-2";

#[test]
fn a_plain_store_takes_both_steps_and_comes_back_with_all_that_was_written() {
    take_both_steps(&Versions::new().manual());
}

#[test]
fn a_sealed_store_takes_both_steps_and_comes_back_with_all_that_was_written() {
    take_both_steps(&Versions::sealed().manual());
}

fn take_both_steps(Versions { old, next }: &Versions) {
    let server = old.start();
    write_thread(&server, "by the old version");
    let expected = json!({ "data": 1, "reads": [1, 1], "writes": 1, "pending": [] });
    assert_eq!(formats(&server), expected);
    server.stop().check_code(0);

    // The first step is free: both versions serve the store in turn.
    next_serves_the_old_format(next, "by the new version", 2);
    let after_first_step = root(next);
    assert_eq!(root(old), after_first_step, "the older version reads what the newer wrote");
    let server = old.start();
    write_thread(&server, "by the old version again");
    server.stop().check_code(0);
    assert_eq!(names(&inspect(next)["pending"]["start"]), [START], "what the older version wrote lacks the index");
    next_serves_the_old_format(next, "by the new version again", 4);

    // The second step is announced, taken, and closed to the old version.
    let whole = root(next);
    check_dry_run(next);
    assert_eq!(root(old), whole, "a dry run changes nothing");
    let out = next.root().join("report");
    let migrated = next.run(&["migrate", "--finalize", "--out", out.to_str().unwrap()]);
    migrated.check_code(0).check_says(&["migrate=ok format=2 checkpoint=1-", "cli.migrate_complete", "format.raised"]);
    let report: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&report["format"], names(&report["ran"])), (&json!(2), vec![FINALIZE]), "{report}");
    next.run(&["migrate", "--out", "/nowhere/report"]).check_code(1).check_says(&["/nowhere/report"]);
    assert_eq!(root(next), whole, "the same data in another format");
    let inspected = inspect(next);
    assert_eq!((&inspected["format"], &inspected["pending"]["raise_to"]), (&json!(2), &Value::Null));
    let checkpoint = inspected["checkpoints"][0].as_str().unwrap().to_owned();
    let refused = old.refused_start();
    refused.check_code(78).check_says(&["startup.schema_version_too_new", "store format 2 is too new"]);
    refused.check_says(&["this version reads up to 1", &checkpoint, "progressdb rollback"]);
    let server = next.start();
    assert_eq!(formats(&server), json!({ "data": 2, "reads": [1, 2], "writes": 2, "pending": [] }));
    server.stop().check_code(0);

    // Nothing was written since, so the way back needs no more than the command.
    let back = next.run(&["rollback"]);
    back.check_code(0).check_says(&[&format!("rollback=ok checkpoint={checkpoint} format=1 kept=store-1")]);
    assert_eq!(root(old), whole);
    next.run(&["rollback", "--confirm"]).check_code(0).check_says(&["rollback=noop"]);
    let now = inspect(old);
    assert_eq!((&now["database_id"], &now["kept"]), (&inspected["database_id"], &json!(["store-1"])));
    assert_ne!(now["incarnation"], inspected["incarnation"], "it is another incarnation of the same database");
    let server = old.start();
    write_thread(&server, "by the old version in the end");
    server.stop().check_code(0);
}

/// The next version serves, writes a thread, and leaves the format as it is.
fn next_serves_the_old_format(next: &Setup, title: &str, expected: usize) {
    let server = next.start();
    server.wait_for_line("format.pending");
    assert_eq!(formats(&server), json!({ "data": 1, "reads": [1, 2], "writes": 2, "pending": [FINALIZE] }));
    write_thread(&server, title);
    server.stop().check_code(0);
    let inspected = inspect(next);
    assert_eq!((&inspected["format"], &inspected["pending"]["raise_to"]), (&json!(1), &json!(2)));
    assert_eq!(inspected["formats"], json!({ "reads": [1, 2], "writes": 2 }));
    // The store remembers that the start migration ran; this version's own writes would keep the index up.
    assert_eq!(names(&inspected["pending"]["start"]), [""; 0]);
    assert_eq!(names(&inspected["pending"]["finalize"]), [FINALIZE]);
    let server = next.start();
    // All but the one written since, as the next version of the tests does not write the index.
    assert_eq!(replies(&server), expected - 1);
    server.stop().check_code(0);
}

fn check_dry_run(next: &Setup) {
    let out = next.root().join("report");
    let foreseen = next.run(&["migrate", "--dry-run", "--finalize", "--json", "--out", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&out).unwrap(), foreseen.stdout, "the file has the line of --json");
    let foreseen: Value = serde_json::from_str(&foreseen.check_code(0).stdout).unwrap();
    assert_eq!((names(&foreseen["would_run"]), &foreseen["pending"]["raise_to"]), (vec![FINALIZE], &json!(2)));
    let heads = &foreseen["would_run"][0];
    assert_eq!((&heads["rows"], &heads["changes"], &heads["sample_rows"]), (&json!(4), &json!(4), &json!(4)));
    assert!(heads["sample_seconds"].as_f64().unwrap() > 0.0, "{heads}");
    let told = next.run(&["migrate", "--dry-run", "--finalize"]);
    told.check_code(0).check_says(&["would read 4 rows and change 4", "raised from 1 to 2", "nothing was changed"]);
}

#[test]
fn a_start_raises_the_format_by_itself_unless_it_is_told_not_to() {
    let Versions { old, next } = Versions::new().filled(3);
    let whole = root(&old);
    // A rehearsal tries the version on the data, not the way that cannot be gone back.
    let rehearsal = testing::Server::spawn(next.command(&["serve", "--rehearsal"])).ready();
    assert_eq!((formats(&rehearsal)["data"].clone(), replies(&rehearsal)), (json!(1), 3));
    rehearsal.stop().check_code(0);

    let server = next.start();
    for event in ["checkpoint.made", "format.raised", "migration.finished"] {
        server.wait_for_line(event);
    }
    assert_eq!(formats(&server)["data"], json!(2));
    server.stop().check_code(0);
    assert_eq!(root(&next), whole);

    // The way back hides what was written since, so it has to be confirmed; what is hidden is kept, and said.
    let server = next.start();
    write_thread(&server, "since");
    server.stop().check_code(0);
    let asked = next.run(&["rollback"]);
    asked.check_code(6).check_says(&["rollback.unconfirmed", "6 writes, 3 of them new messages", "--confirm"]);
    assert_eq!(inspect(&next)["format"], json!(2), "nothing was changed");
    let back = next.run(&["rollback", "--confirm", "--json"]);
    let back: Value = serde_json::from_str(&back.check_code(0).stdout).unwrap();
    assert_eq!((&back["writes_left_behind"], &back["messages_left_behind"]), (&json!(6), &json!(3)));
    assert!(old.db().join(back["kept"].as_str().unwrap()).is_dir());
    assert_eq!(root(&old), whole);

    // The checkpoint stays, and the next change of format makes another in its place.
    assert_eq!(inspect(&old)["checkpoints"].as_array().unwrap().len(), 1);
    let server = old.start();
    write_thread(&server, "by the old version");
    server.stop().check_code(0);
    let whole = root(&old);
    next.run(&["migrate", "--finalize"]).check_code(0);
    assert_eq!(inspect(&next)["checkpoints"].as_array().unwrap().len(), 1);
    // The old version refuses the store, and goes back all the same.
    old.refused_start().check_code(78);
    old.run(&["rollback"]).check_code(0);
    assert_eq!(root(&old), whole);
}

#[test]
fn a_new_store_has_the_newest_format_and_nothing_before_it() {
    let Versions { old, next } = Versions::new();
    let server = next.start();
    assert_eq!(formats(&server), json!({ "data": 2, "reads": [1, 2], "writes": 2, "pending": [] }));
    write_thread(&server, "new");
    server.stop().check_code(0);
    let refused = old.refused_start();
    refused.check_code(78).check_says(&["store format 2 is too new", "this version reads up to 1"]);
    assert!(!refused.said().contains("rollback"), "there is no checkpoint to go back to: {}", refused.said());
    let version = next.run(&["version", "--json"]);
    let version: Value = serde_json::from_str(&version.check_code(0).stdout).unwrap();
    assert_eq!(
        version["migrations"][1],
        json!({ "number": 1_000_002, "name": FINALIZE, "from": 1, "to": 2, "at": "finalize" })
    );
}
