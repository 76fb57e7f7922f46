//! From an own disk to a store that servers share, and back.

use std::fs::{self, File};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use testing::filled::{MASTER_KEY, with_master_key};
use testing::servers::cassandra::Ring;
use testing::waiting::{GENEROUS, poll};
use testing::{Server, Setup, THREADS, wait_until};

use crate::killed::large;
use crate::world::{export, export_to, filled, filled_and_sealed, import, root, rows, said, sealed, seen, write_more};

fn new_keyspace() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("moved_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_database_moves_to_shared_servers_and_back() {
    let Some(ring) = Ring::shared("a_database_moves_to_shared_servers_and_back") else { return };
    for is_sealed in [false, true] {
        let setup = || if is_sealed { sealed() } else { Setup::new() };
        let source = if is_sealed { filled_and_sealed() } else { filled() };
        let there = setup().on_cassandra(ring, &new_keyspace());
        let file = export(&source, "x");
        let imported = said(&import(&there, &file));
        assert_eq!((&imported["outcome"], &imported["digest"]["root"]), (&json!("ok"), &root(&source)));
        assert_eq!(root(&there), root(&source));
        there.run(&["verify"]).check_code(0);
        let inspected = said(&there.run(&["inspect", "--json"]));
        let before = said(&source.run(&["inspect", "--json"]));
        for same in ["database_id", "format", "sequence", "threads", "messages", "users"] {
            assert_eq!(inspected[same], before[same], "{same}");
        }
        assert_ne!(inspected["incarnation"], before["incarnation"]);

        let served = seen(&source.start());
        let server = there.start();
        assert_eq!(seen(&server), served, "sealed: {is_sealed}");
        let ann = server.user("ann");
        let again = json!({ "title": "kept", "metadata": { "a": 1 } });
        let again = ann.send(&ann.request("POST", THREADS).header("Idempotency-Key", "t").json(&again));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        ann.append(&again.written(), "written there");
        server.user("zoe").append(&server.user("zoe").create_thread("made there"), "1");
        let served = seen(&server);
        server.stop().check_code(0);

        let back = export(&there, "back");
        let home = setup();
        assert_eq!(said(&import(&home, &back))["digest"]["root"], root(&there));
        home.run(&["verify"]).check_code(0);
        let mut both = [rows(&back), rows(&export(&home, "again"))];
        assert_ne!(both[0], both[1], "the engines list threads in other orders");
        // The last line counts both alike; the others differ in their checksums, which hold their places.
        assert_eq!(without_sum(both[0].pop().unwrap()), without_sum(both[1].pop().unwrap()));
        let [mut one, mut other] = both.map(|lines| lines.into_iter().map(without_sum).collect::<Vec<_>>());
        one.sort();
        other.sort();
        assert_eq!(one, other, "sealed: {is_sealed}");
        let server = home.start();
        assert_eq!(seen(&server), served, "sealed: {is_sealed}");
        assert_eq!(server.user("zoe").thread_keys("").len(), 1);
    }
}

fn without_sum(line: String) -> String {
    line.rsplit_once(",\"sum\":").unwrap().0.to_owned()
}

#[test]
fn a_shared_store_refuses_what_a_directory_does() {
    let Some(ring) = Ring::shared("a_shared_store_refuses_what_a_directory_does") else { return };
    let source = filled();
    let file = export(&source, "x");
    let there = Setup::new().with_keyspace(ring, &new_keyspace());
    import(&there, &file).check_code(78).check_says(&["progressdb schema apply"]);
    there.run(&["schema", "apply"]).check_code(0);
    export_to(&there, &there.root().join("y"), &[]).check_code(5).check_says(&["holds no database"]);
    assert!(!there.root().join("y").exists());

    // A part of a database is not served, and only the same export ends it.
    let torn = there.root().join("torn");
    let whole = fs::read(&file).unwrap();
    fs::write(&torn, &whole[..whole.len() - 10]).unwrap();
    let piped = there.command(&["import", "--from", "-"]).stdin(File::open(&torn).unwrap()).output().unwrap();
    assert_eq!(piped.status.code(), Some(7), "{piped:?}");
    for words in [&["serve"][..], &["inspect"], &["verify"], &["export", "--to", torn.to_str().unwrap(), "--resume"]] {
        let refused = there.run(words);
        refused.check_code(7).check_says(&[
            "holds an import that did not end",
            "progressdb import",
            "drop the keyspace",
        ]);
    }
    import(&there, &export(&source, "other")).check_code(6).check_says(&["holds a part of export", "keyspace"]);
    assert_eq!(said(&import(&there, &file))["outcome"], "ok");
    assert_eq!(said(&import(&there, &file))["outcome"], "noop");

    let server = there.start();
    export_to(&there, &there.root().join("y"), &[]).check_code(75).check_says(&["1 servers run on this store"]);
    import(&there, &file).check_code(75).check_says(&["1 servers run on this store", "cli.import_failed"]);
    assert!(!there.root().join("y").exists());
    server.stop().check_code(0);
    write_more(&there);
    import(&there, &file).check_code(6).check_says(&["other content than the export"]);
    import(&there, &export(&filled(), "z")).check_code(6).check_says(&["holds database", "storage.cassandra.keyspace"]);
}

/// What the process had in hand when it was killed is put again, counters included.
#[test]
fn an_import_into_a_shared_store_that_is_killed_is_ended_by_the_next() {
    let Some(ring) = Ring::shared("an_import_into_a_shared_store_that_is_killed_is_ended_by_the_next") else { return };
    let keyspace = new_keyspace();
    let there = sealed().on_cassandra(ring, &keyspace);
    let source = large();
    let file = export(&source, "x");
    let importing = Server::begin(there.command(&["import", "--from", file.to_str().unwrap()]));
    let threads = || ring.execute(&format!("SELECT DISTINCT id FROM {keyspace}.thread")).len();
    wait_until("more is there than it repeats", || threads() > 10);
    importing.kill();
    there.run(&["inspect"]).check_code(7).check_says(&["holds an import that did not end"]);
    // It has the store alone until its claim expires.
    let mut outcome = Value::Null;
    let ended = poll(GENEROUS, || {
        let finished = import(&there, &file);
        if finished.code == Some(75) {
            finished.check_says(&["a command works on this store alone"]);
            return None;
        }
        outcome = said(&finished);
        Some(())
    });
    assert!(ended.is_some() && outcome["outcome"] == "ok", "{outcome}");
    assert_eq!(outcome["resumed"], true, "it goes on behind what is there");
    assert_eq!(outcome["digest"]["root"], root(&source));
    there.run(&["verify"]).check_code(0);
}

/// With the KMS of the one and of the other: what was sealed on a disk is opened by servers that share a store.
#[test]
fn keys_move_with_the_database() {
    let Some(ring) = Ring::shared("keys_move_with_the_database") else { return };
    let source = filled_and_sealed();
    let there = Setup::new().on_cassandra(ring, &new_keyspace());
    let file = export(&source, "x");
    assert_eq!(said(&import(&there, &file))["digest"], Value::Null, "no KMS is configured");
    there.refused_start().check_code(78);
    let there = with_master_key(there, MASTER_KEY);
    assert_eq!(root(&there), root(&source));
    there.run(&["kms", "verify"]).check_code(0);
}

#[test]
fn a_row_that_the_engine_does_not_take_is_said_so() {
    let Some(ring) = Ring::shared("a_row_that_the_engine_does_not_take_is_said_so") else { return };
    let source = Setup::new().set("server.max_payload_size", "8MB");
    let server = source.start();
    let ann = server.user("ann");
    ann.append(&ann.create_thread("large"), "x".repeat(5 << 20));
    server.stop().check_code(0);
    let file = export(&source, "x");
    let there = Setup::new().on_cassandra(ring, &new_keyspace());
    import(&there, &file).check_code(1).check_says(&["a row cannot move to this engine", "the storage engine takes"]);
    there.refused_start().check_code(7).check_says(&["holds an import that did not end"]);
}
