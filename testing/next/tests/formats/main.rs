//! From one store format to the next and back, with this version's program and the one after it (`testing/next`): what
//! each of them reads, what is refused, and that nothing is lost on the way, however often it is interrupted.
//!
//! `PROGRESSDB_TORTURE_LOOPS` (default 10) says how often a process is killed; `PROGRESSDB_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod interrupted;
mod page;
mod refused;
mod torture;
mod two_steps;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testing::http::Request;
use testing::{Server, Setup, message, messages};

/// One data directory, and both versions to run on it.
pub(crate) struct Versions {
    /// The version that is released: it reads and writes format 1.
    pub(crate) old: Setup,
    /// The version after it: it reads 1 and 2, and writes 2.
    pub(crate) next: Setup,
}

impl Versions {
    /// With nothing in the directory yet.
    pub(crate) fn new() -> Self {
        let old = Setup::new();
        let next = Setup::with_db(old.db()).next_version("next");
        Self { old, next }
    }

    /// The same, sealed by a master key in a file.
    pub(crate) fn sealed() -> Self {
        let Self { old, next } = Self::new();
        let file = old.root().join("master.key");
        fs::write(&file, "8d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let sealed = |setup: Setup| {
            let setup = setup.set("encryption.enabled", true);
            setup.set("encryption.kms.master_key_file", file.to_str().unwrap())
        };
        Self { old: sealed(old), next: sealed(next) }
    }

    /// The next version does not raise the format by itself.
    pub(crate) fn manual(self) -> Self {
        Self { next: self.next.set("format.finalize", "manual"), ..self }
    }

    /// A store of format 1 with a few threads, and nobody serving it.
    pub(crate) fn filled(self, threads: usize) -> Self {
        let server = self.old.start();
        (0..threads).for_each(|n| write_thread(&server, &format!("old {n}")));
        server.stop().check_code(0);
        self
    }

    /// Replaces the directory by a copy of another one.
    pub(crate) fn copy_from(&self, other: &Path) {
        let _ = fs::remove_dir_all(self.old.db());
        let copied = Command::new("cp").arg("-a").args([other, self.old.db()]).status().unwrap();
        assert!(copied.success());
    }
}

/// A thread with a message, a reply, an edit and a deletion.
pub(crate) fn write_thread(server: &Server, title: &str) {
    let user = server.user("ann");
    let thread = user.create_thread(title);
    let first = user.append(&thread, format!("{title}: first"));
    let reply = json!({ "body": { "text": title }, "reply_to": first });
    user.post(&messages(&thread), &reply).written();
    user.put(&message(&thread, &first), &json!({ "body": "edited" })).written();
    let gone = user.append(&thread, "gone");
    user.delete(&message(&thread, &gone)).written();
}

/// The digest of all that the store holds.
#[track_caller]
pub(crate) fn root(setup: &Setup) -> String {
    let verified = setup.run(&["verify", "--digest", "--json"]);
    verified.check_code(0);
    let found: Value = serde_json::from_str(&verified.stdout).unwrap();
    found["root"].as_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn inspect(setup: &Setup) -> Value {
    let inspected = setup.run(&["inspect", "--json"]);
    inspected.check_code(0);
    serde_json::from_str(&inspected.stdout).unwrap()
}

/// The names of migrations in a list of a report.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|migration| migration["name"].as_str().unwrap()).collect()
}

/// The entries of the index that format 2 has.
#[track_caller]
pub(crate) fn replies(server: &Server) -> usize {
    let answer = server.admin("/admin/keys?limit=1000");
    let keys = answer.check_status(200).json()["keys"].clone();
    keys.as_array().unwrap().iter().filter(|key| key.as_str().unwrap().contains(":reply:")).count()
}

/// What `/readyz` says of formats.
#[track_caller]
pub(crate) fn formats(server: &Server) -> Value {
    server.send(&Request::get("/readyz")).check_status(200).json()["format"].clone()
}
