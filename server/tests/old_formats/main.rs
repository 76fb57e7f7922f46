//! Every version opens what every earlier version wrote: `tests/fixtures/format-<n>` holds data directories as the first
//! version of a format left them, one plain and stopped in order, one sealed and killed. They never change.
//!
//! `make.rs` made them. `expected.json` beside them is what they must be found to hold.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod make;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testing::{Server, Setup, copy_directory, messages};

pub(crate) const READER: &str = "ann";

/// Where the fixtures of a format lie.
pub(crate) fn fixtures(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// A setup whose data directory is a copy of a fixture, which has a master key beside it if it is sealed.
fn copy_of(fixture: &Path) -> Setup {
    let setup = Setup::new();
    copy_directory(fixture, setup.db());
    let key = fixture.with_file_name("master.key");
    // The rows are of another time than that of this machine.
    let setup = setup.argument("--accept-clock");
    if fixture.ends_with("plain") { setup } else { sealed(setup, &key) }
}

/// Encrypts with a copy of this master key, as safe as the server wants it.
pub(crate) fn sealed(setup: Setup, key: &Path) -> Setup {
    let copy = setup.root().join("master.key");
    fs::copy(key, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", copy.to_str().unwrap())
}

/// What a stopped store holds, as numbers and one digest.
#[track_caller]
pub(crate) fn held(setup: &Setup) -> Value {
    let report = |words: &[&str]| {
        let finished = setup.run(words);
        serde_json::from_str::<Value>(&finished.check_code(0).stdout).unwrap()
    };
    let (digest, inspected) = (report(&["verify", "--digest", "--json"]), report(&["inspect", "--json"]));
    let of_digest = ["version", "root", "threads", "messages", "versions", "deleted", "participants"];
    let of_store = ["database_id", "sequence", "threads", "messages", "users"];
    let take = |from: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), from[*name].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    json!({ "digest": take(&digest, &of_digest), "store": take(&inspected, &of_store) })
}

/// What a client reads: every thread of the reader with all its messages, word for word.
#[track_caller]
pub(crate) fn read(server: &Server) -> Value {
    let user = server.user(READER);
    let threads = user.get(&format!("{}?limit=100", testing::THREADS)).check_status(200).json()["threads"].clone();
    let of_thread = |thread: &Value| {
        let page = user.get(&format!("{}?limit=100", messages(thread["key"].as_str().unwrap())));
        json!({ "thread": thread, "messages": page.check_status(200).json()["messages"] })
    };
    threads.as_array().unwrap().iter().map(of_thread).collect()
}

#[test]
fn a_store_of_format_1_holds_what_it_held() {
    let fixtures = fixtures(1);
    let expected: Value = serde_json::from_slice(&fs::read(fixtures.join("expected.json")).unwrap()).unwrap();
    for name in ["plain", "sealed"] {
        let setup = copy_of(&fixtures.join(name));
        assert_eq!(held(&setup), expected[name]["held"], "{name}");
        let server = setup.start();
        assert_eq!(read(&server), expected[name]["read"], "{name}");
        // What was answered then is answered again, and what comes now goes on from there.
        let user = server.user(READER);
        let thread = user.create_thread("now");
        user.append(&thread, "now");
        server.stop().check_code(0);
        let after = held(&setup);
        let count = |held: &Value, what: &str| held["store"][what].as_u64().unwrap();
        assert_eq!(count(&after, "sequence"), count(&expected[name]["held"], "sequence") + 2, "{name}");
    }
}
