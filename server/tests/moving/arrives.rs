//! What is imported is what was exported: to the row, to the byte, and to every client.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testing::filled::{MASTER_KEY, with_master_key};
use testing::{Setup, THREADS, finish};

use crate::world::{
    export, export_to, filled, filled_and_sealed, import, marker, root, rows, said, sealed, seen, write_more,
};

/// A setup to import into, with the configuration of `sealed` databases if it is one.
fn target(is_sealed: bool) -> Setup {
    if is_sealed { sealed() } else { Setup::new() }
}

#[test]
fn a_database_arrives_as_it_was_plain_and_sealed() {
    for is_sealed in [false, true] {
        let source = if is_sealed { filled_and_sealed() } else { filled() };
        let file = source.root().join("x");
        let exported = said(&export_to(&source, &file, &["--json"]));
        let (target, whole) = (target(is_sealed), root(&source));
        let imported = said(&import(&target, &file));
        assert_eq!((&imported["outcome"], &imported["resumed"]), (&json!("ok"), &json!(false)));
        assert_eq!((&exported["digest"]["root"], &imported["digest"]["root"]), (&whole, &whole));
        assert_eq!(root(&target), whole);
        target.run(&["verify"]).check_code(0);
        // The same rows in the same order, and so the same lines behind the first.
        assert_eq!(rows(&export(&target, "y")), rows(&file), "sealed: {is_sealed}");

        let (there, here) = (marker(source.db()), marker(target.db()));
        assert_eq!((&here["database_id"], &here["state"]), (&there["database_id"], &json!("ready")));
        assert_ne!(here["incarnation"], there["incarnation"], "another copy of the same database");
        assert_eq!(here["incarnation"], imported["incarnation"]);

        let served = seen(&source.start());
        let server = target.start();
        assert_eq!(seen(&server), served, "sealed: {is_sealed}");
        // Answers that are kept for repetitions have moved as well.
        let ann = server.user("ann");
        let again = json!({ "title": "kept", "metadata": { "a": 1 } });
        let again = ann.send(&ann.request("POST", THREADS).header("Idempotency-Key", "t").json(&again));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(json!(again.written()), served["ann"]["threads"]["threads"][0]["key"]);
        ann.append(&again.written(), "it goes on");
        server.stop().check_code(0);
        target.run(&["verify"]).check_code(0);
    }
}

#[test]
fn sealed_values_stay_sealed_and_the_file_is_its_owners() {
    let source = sealed();
    let server = source.start();
    let ann = server.user("ann-canary-4c1e8f");
    ann.append(&ann.create_thread("canary-4c1e8f"), "canary-4c1e8f");
    server.stop().check_code(0);
    let file = export(&source, "x");
    let text = fs::read_to_string(&file).unwrap();
    let plain = |value: &str| base64_of(value).iter().any(|part| text.contains(part)) || text.contains(value);
    assert!(!plain("canary-4c1e8f"));
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777, 0o600);
    // What is plain in the store is seen this way, so the search above can find something.
    let plain_source = filled();
    let text = fs::read_to_string(export(&plain_source, "x")).unwrap();
    assert!(base64_of("bob's").iter().any(|part| text.contains(part)));
}

/// How a text looks in base64, wherever it stands in what is encoded.
fn base64_of(text: &str) -> [String; 3] {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    [0, 1, 2].map(|before| {
        let encoded = BASE64_STANDARD.encode([&vec![b' '; before], text.as_bytes()].concat());
        // Digits that hold bits of a neighbour differ with it.
        let whole = (before + text.len()) / 3 * 4;
        encoded[if before == 0 { 0 } else { 4 }..whole].to_owned()
    })
}

/// The KMS is needed to serve it, not to move it.
#[test]
fn a_sealed_database_moves_without_its_kms_and_is_compared_row_by_row() {
    let source = filled_and_sealed();
    let (without, whole) = (Setup::with_db(source.db()), root(&source));
    let file = source.root().join("x");
    let exported = export_to(&without, &file, &["--json"]);
    exported.check_says(&["no digest of all threads"]);
    assert_eq!(said(&exported)["digest"], Value::Null);
    let target = Setup::new();
    let imported = import(&target, &file);
    imported.check_says(&["not opened: no KMS is configured"]);
    assert_eq!((&said(&imported)["outcome"], &said(&imported)["digest"]), (&json!("ok"), &Value::Null));
    target.refused_start().check_code(78);
    let with_kms = with_master_key(Setup::with_db(target.db()), MASTER_KEY);
    assert_eq!(root(&with_kms), whole);
    // With the KMS at one end only: what was exported without a digest has one then.
    let other = sealed();
    assert_eq!(said(&import(&other, &file))["digest"]["root"], whole);
}

/// A KMS that is configured is no obstacle where nothing was ever sealed.
#[test]
fn a_plain_database_moves_to_where_encryption_is_on() {
    let source = filled();
    let file = export(&source, "x");
    let target = sealed();
    assert_eq!(said(&import(&target, &file))["digest"]["root"], root(&source));
    let server = target.start();
    testing::wait_until("everything is sealed", || {
        let status = server.admin("/admin/encryption/status").check_status(200).json();
        status["sealing"]["state"] == "done"
    });
    server.stop().check_code(0);
    assert_eq!(root(&target), root(&source));
}

#[test]
fn an_import_that_is_repeated_changes_nothing() {
    let source = filled();
    let file = export(&source, "x");
    let target = Setup::new();
    assert_eq!(said(&import(&target, &file))["outcome"], "ok");
    let (before, there) = (marker(target.db()), rows(&export(&target, "before")));
    for _ in 0..2 {
        assert_eq!(said(&import(&target, &file))["outcome"], "noop");
    }
    assert_eq!((marker(target.db()), rows(&export(&target, "after"))), (before, there.clone()));
    write_more(&target);
    let (before, more) = (marker(target.db()), rows(&export(&target, "more")));
    assert_ne!(more, there);
    import(&target, &file).check_code(6).check_says(&["other content than the export", "nothing was changed"]);
    assert_eq!((marker(target.db()), rows(&export(&target, "still"))), (before, more));
}

#[test]
fn an_export_goes_through_pipes() {
    let (source, target) = (filled(), Setup::new());
    let file = export(&source, "x");
    let mut exporting = source.command(&["export", "--json", "--to", "-"]);
    let mut exporting = exporting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut importing = target.command(&["import", "--json", "--from", "-"]);
    let importing = importing.stdin(exporting.stdout.take().unwrap()).output().unwrap();
    let exported = exporting.wait_with_output().unwrap();
    assert!(exported.status.success() && importing.status.success(), "{exported:?} {importing:?}");
    let reports: [Value; 2] = [
        String::from_utf8(exported.stderr).unwrap().lines().find_map(|line| serde_json::from_str(line).ok()).unwrap(),
        serde_json::from_slice(&importing.stdout).unwrap(),
    ];
    assert_eq!((&reports[0]["export"], &reports[1]["outcome"]), (&json!("standard output"), &json!("ok")));
    assert_eq!(reports[0]["id"], reports[1]["id"]);
    assert_eq!((root(&target), rows(&export(&target, "y"))), (root(&source), rows(&file)));
    // Again, from a file as standard input.
    let again = target.command(&["import", "--from", "-"]).stdin(File::open(&file).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("import=noop"), "{again:?}");
}

/// Nobody reads on: the export says so, and is no success.
#[test]
fn an_export_into_a_pipe_that_closes_fails() {
    let source = filled();
    let shell = Command::new("bash");
    let command = source.command(&["export", "--to", "-"]);
    let words: Vec<String> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let mut shell = shell;
    shell.args(["-c", &format!("{} | true; exit ${{PIPESTATUS[0]}}", words.join(" "))]).env_clear();
    shell.env("PATH", testing::variable("PATH").unwrap());
    let finished = finish(shell);
    finished.check_code(1).check_says(&["cannot write standard output", "cli.export_failed"]);
}
