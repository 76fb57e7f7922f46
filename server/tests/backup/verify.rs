//! `progressdb verify`: a whole store passes, damage is named with code 7, and nothing is changed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testing::{Setup, THREADS};

use crate::tree::{names, tree_without_lock};
use crate::world::{back_up, break_counter, digest, filled, sealed, sealed_at, verify, write_everything};

#[test]
fn a_whole_database_passes_and_the_report_counts_everything() {
    for setup in [Setup::new(), sealed()] {
        filled(&setup);
        let before = tree_without_lock(setup.db());
        let report = verify(&setup, 0);
        assert_eq!((&report["ok"], &report["wrong"], &report["findings"]), (&json!(true), &json!(0), &json!([])));
        let counts = &report["counts"];
        for (name, count) in [
            ("threads", 3),
            ("live_threads", 2),
            ("messages", 4),
            ("versions", 1),
            ("deleted", 1),
            ("users", 2),
            ("answers", 2),
            ("receipts", 1),
        ] {
            assert_eq!(counts[name], json!(count), "{name} of {counts}");
        }
        assert_eq!(report["digest"]["root"], digest(&setup));
        assert_eq!(tree_without_lock(setup.db()), before, "it changed something");
        let words = setup.run(&["verify"]);
        words.check_code(0).check_says(&["cli.verify_complete", "outcome=\"ok\"", "live threads: 2"]);
        let last = words.stdout.lines().last().unwrap();
        assert_eq!(last, format!("verify=ok path={}", setup.db().display()));
    }
}

#[test]
fn a_database_passes_after_kill_9_and_while_its_log_is_still_to_be_replayed() {
    for setup in [Setup::new(), sealed()] {
        for _ in 0..2 {
            let server = setup.start();
            write_everything(&server);
            server.kill();
            assert_eq!(verify(&setup, 0)["ok"], json!(true));
        }
    }
}

#[test]
fn without_the_kms_sealed_rows_are_counted_and_not_opened() {
    let setup = sealed();
    filled(&setup);
    let closed = Setup::with_db(setup.db());
    let report = verify(&closed, 0);
    assert!(report["counts"]["not_opened"].as_u64().unwrap() > 10, "{report}");
    assert_eq!((&report["counts"]["opened"], &report["digest"]), (&json!(0), &Value::Null));
    closed.run(&["verify"]).check_code(0).check_says(&["digest: none, not all rows were opened"]);
    let wrong = crate::world::with_master_key(Setup::with_db(setup.db()), &"11".repeat(32));
    wrong.run(&["verify"]).check_code(78).check_says(&["startup.keys_unusable"]);
}

/// Flips a bit in the largest table, behind what opening the store reads.
fn damage(store: &Path) {
    let tables = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    for path in tables {
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len().min(16) {
            bytes[at] ^= 0x55;
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_store_is_refused() {
    let setup = Setup::new();
    filled(&setup);
    damage(&setup.db().join("store-1"));
    let finished = setup.run(&["verify"]);
    assert!(matches!(finished.code, Some(1 | 7)), "{finished:?}");
    finished.check_says(&["orruption"]);
}

/// Every digest of the backup is right, and still what it holds is not whole.
#[test]
fn rows_that_do_not_fit_together_are_named_with_7() {
    let setup = Setup::new();
    filled(&setup);
    break_counter(setup.db());
    let report = verify(&setup, 7);
    assert_eq!((&report["ok"], &report["wrong"]), (&json!(false), &json!(1)));
    let finding = &report["findings"][0];
    assert_eq!((&finding["row"], &finding["found"]), (&json!("s:threads"), &json!("99")));
    let said = ["verify.findings", "row s:threads", "99", "2: so many live threads there are"];
    let finished = setup.run(&["verify"]);
    finished.check_code(7).check_says(&said);
    assert_eq!(finished.stdout.lines().last(), Some(&*format!("verify=1 wrong path={}", setup.db().display())));
    let backup = back_up(&setup, "backup.pdbk");
    setup.run(&["verify", "--in", backup.to_str().unwrap()]).check_code(7).check_says(&said);
}

#[test]
fn what_is_not_there_or_in_use_is_said_by_the_exit_code() {
    let setup = Setup::new();
    setup.run(&["verify"]).check_code(5).check_says(&["startup.store_missing"]);
    setup.run(&["verify", "--in", "nowhere.pdbk"]).check_code(5).check_says(&["nowhere.pdbk does not exist"]);
    let server = setup.start();
    setup.run(&["verify"]).check_code(75).check_says(&["startup.store_in_use"]);
    server.stop().check_code(0);
    setup.run(&["verify", "--scratch", "."]).check_code(2);
}

#[test]
fn a_backup_is_opened_and_every_row_of_it_checked() {
    for setup in [Setup::new(), sealed()] {
        filled(&setup);
        let backup = back_up(&setup, "backup.pdbk");
        let finished = setup.run(&["verify", "--json", "--in", backup.to_str().unwrap()]);
        finished.check_code(0);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(report["digest"]["root"], digest(&setup));
        assert_eq!((&report["verified"], &report["ok"]), (&json!(backup), &json!(true)));
        assert_eq!(report["backup"]["id"].as_str().map(str::len), Some(32));
        let left: Vec<_> = names(setup.root()).into_iter().filter(|name| name.ends_with(".tmp")).collect();
        assert_eq!(left, [""; 0], "it left what it had unpacked");
    }
}

/// Bytes that were altered anywhere, and a file that ends early.
#[test]
fn a_damaged_backup_is_refused_with_7_and_leaves_nothing() {
    let setup = Setup::new();
    filled(&setup);
    let backup = back_up(&setup, "backup.pdbk");
    let bytes = fs::read(&backup).unwrap();
    let altered = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        bytes
    };
    let cases = [
        Vec::new(),
        b"garbage".to_vec(),
        vec![0; 100_000],
        bytes[..bytes.len() / 2].to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        altered(bytes.len() / 3),
        altered(bytes.len() / 2),
        altered(bytes.len() - 2),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        fs::write(&backup, case).unwrap();
        setup.run(&["verify", "--in", backup.to_str().unwrap()]).check_code(7);
        let left: Vec<_> = names(setup.root()).into_iter().filter(|name| name.ends_with(".tmp")).collect();
        assert_eq!(left, [""; 0], "case {number}");
    }
}

#[test]
fn the_report_goes_to_a_file_too() {
    let setup = sealed_at(&Setup::new().root().join("db"));
    let server = setup.start();
    server.user("ann").post(THREADS, &json!({ "title": "t" })).written();
    server.stop().check_code(0);
    let out = setup.root().join("report.json");
    setup.run(&["verify", "--out", out.to_str().unwrap()]).check_code(0);
    let report: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(report["counts"]["threads"], json!(1));
}
