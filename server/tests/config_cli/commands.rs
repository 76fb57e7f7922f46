//! The commands that start nothing.

use std::fs;
use std::io::PipeWriter;
use std::process::Stdio;

use serde_json::{Value, json};
use testing::http::Request;
use testing::{Setup, finish, message, program};

use crate::write;

#[test]
fn usage_errors_exit_with_2() {
    let setup = Setup::new();
    for words in
        [&["--nonsense"][..], &["dance"], &["serve", "extra"], &["--db"], &["config", "dance"], &["version", "-x"]]
    {
        let finished = finish(program(words, setup.root()));
        assert_eq!(finished.code, Some(2), "{words:?}: {finished:?}");
        assert!(finished.stderr.contains("--help"), "{words:?}: {finished:?}");
    }
    let help = finish(program(&["--help"], setup.root()));
    help.check_code(0).check_says(&["serve", "config", "inspect", "version", "--db", "--addr", "--config"]);
}

#[test]
fn the_version_is_printed_without_opening_anything() {
    let setup = Setup::new();
    let finished = setup.run(&["version", "--json"]);
    finished.check_code(0);
    let version: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(version["version"], json!(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(version.get("commit").is_some(), "{version}");
    assert!(version.to_string().contains("\"reads\":[") && version.to_string().contains("\"writes\":"), "{version}");
    let out = setup.root().join("report");
    let words = setup.run(&["version", "--out", out.to_str().unwrap()]);
    words.check_code(0).check_says(&[env!("CARGO_PKG_VERSION")]);
    assert!(!words.stdout.contains('{'), "{words:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), finished.stdout, "the file has the line of --json");
    setup.run(&["version", "--out", "/nowhere/report"]).check_code(1).check_says(&["/nowhere/report"]);
    assert!(!setup.db().exists());
    let flag = finish(program(&["--version"], setup.root()));
    flag.check_code(0).check_says(&[env!("CARGO_PKG_VERSION")]);
    // Also with a configuration that would not start.
    let broken = write(setup.root(), "broken.yaml", "server: [");
    finish(program(&["version", "--json", "--config", &broken], setup.root())).check_code(0);
}

#[test]
fn openapi_is_printed_as_it_is_served() {
    let setup = Setup::new();
    let printed = setup.run(&["openapi"]);
    printed.check_code(0);
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    let server = setup.start();
    assert_eq!(printed, server.send(&Request::get("/openapi.json")).check_status(200).json());
}

#[test]
fn a_stopped_store_is_inspected_and_not_changed() {
    let setup = Setup::new();
    setup.run(&["inspect", "--json"]).check_code(5);
    assert!(!setup.db().exists(), "looking made a data directory");

    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    user.append(&t, 2);
    user.delete(&message(&t, &m)).written();
    let sequence = server.send(&Request::get("/readyz")).json()["sequence"].clone();
    setup.run(&["inspect", "--json"]).check_code(75);
    server.stop().check_code(0);

    let finished = setup.run(&["inspect", "--json"]);
    finished.check_code(0);
    assert_eq!(finished.stdout.trim_end().lines().count(), 1, "{}", finished.stdout);
    let found: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(found["sequence"], sequence, "{found}");
    assert_eq!(sequence, json!(4));
    for field in ["database_id", "incarnation", "format"] {
        assert!(found.get(field).is_some_and(|value| !value.is_null()), "{field} is not in {found}");
    }
    assert!(found.to_string().contains("\"threads\":1") && found.to_string().contains("\"messages\":2"), "{found}");
    assert_eq!(setup.run(&["inspect", "--json"]).stdout, finished.stdout, "looking changed what there is");
    setup.run(&["inspect"]).check_code(0);
    let out = setup.root().join("report");
    setup.run(&["inspect", "--out", out.to_str().unwrap()]).check_code(0);
    assert_eq!(fs::read_to_string(&out).unwrap(), finished.stdout, "the file has the line of --json");
    setup.run(&["inspect", "--out", "/nowhere/report"]).check_code(1).check_says(&["/nowhere/report"]);

    let server = setup.start();
    assert_eq!(server.send(&Request::get("/readyz")).json()["sequence"], sequence);
    server.kill();
    setup.run(&["inspect", "--json"]).check_code(0).check_says(&["\"sequence\":4"]);
}

/// A pipe whose reader has left.
fn left() -> PipeWriter {
    std::io::pipe().unwrap().1
}

/// `progressdb ... | head`: the reader leaves, and that is no failure of ours, on whichever stream.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let setup = Setup::new().set("nobody.knows", "this");
    setup.start().stop().check_code(0);
    let lines = [&["openapi"][..], &["config"], &["config", "check"], &["version"], &["inspect"], &["--help"]];
    for words in lines.into_iter().chain([&["config", "check", "--json"][..], &["kms", "--help"]]) {
        let mut command = setup.command(words);
        let child = command.stdin(Stdio::null()).stdout(left()).stderr(Stdio::piped()).spawn().unwrap();
        let finished = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&finished.stderr);
        assert_eq!(finished.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panic"), "{words:?}: {said}");

        let status = command.stdout(left()).stderr(left()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{words:?} with both streams closed");
    }
    // A verdict stays a verdict.
    let wrong = Setup::new().set("server.port", 70_000);
    let status = wrong.command(&["config", "check", "--json"]).stdout(left()).stderr(left()).status().unwrap();
    assert_eq!(status.code(), Some(78));
    // A disk without space is no reader that left.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let full = setup.command(&["openapi"]).stdout(full).output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("cannot write the output"));
}

#[test]
fn a_stopped_store_is_read_to_one_digest_that_a_copy_shares() {
    let setup = Setup::new();
    setup.run(&["verify", "--digest"]).check_code(5);
    setup.run(&["verify"]).check_code(5);
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    user.append(&t, 1);
    setup.run(&["verify", "--digest", "--json"]).check_code(75);
    server.stop().check_code(0);

    let digest = |setup: &Setup| -> Value {
        let finished = setup.run(&["verify", "--digest", "--json"]);
        finished.check_code(0);
        assert_eq!(finished.stdout.trim_end().lines().count(), 1, "{}", finished.stdout);
        serde_json::from_str(&finished.stdout).unwrap()
    };
    let found = digest(&setup);
    let counts = ["version", "threads", "messages", "participants"].map(|field| found[field].as_u64());
    assert_eq!(counts, [Some(2), Some(1), Some(1), Some(1)], "{found}");
    let copy = Setup::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(setup.db()).arg(copy.db()).status().unwrap();
    assert!(copied.success());
    assert_eq!(digest(&copy)["root"], found["root"], "a copy has another digest");

    let (out, threads) = (setup.root().join("report"), setup.root().join("threads"));
    let arguments = ["verify", "--digest", "--out", out.to_str().unwrap(), "--threads", threads.to_str().unwrap()];
    setup.run(&arguments).check_code(0);
    let report: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(report["root"], found["root"]);
    let list = fs::read_to_string(&threads).unwrap();
    assert!(list.lines().count() == 1 && list.trim_end().len() > 64, "{list}");
    setup.run(&["verify", "--digest", "--threads", "/nowhere/list"]).check_code(1).check_says(&["/nowhere/list"]);

    let server = setup.start();
    server.user("user1").append(&t, 2);
    server.stop().check_code(0);
    assert_ne!(digest(&setup)["root"], found["root"], "another message is not in the digest");
}
