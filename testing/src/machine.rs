//! What a test needs of the machine, and how a test is skipped that does not find it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An environment variable of the test run.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reports that a test is skipped. The test runner does not capture the line, so that a log shows and counts it.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Reports that a test is skipped for want of something that `make test` sets up; in CI the test fails.
#[track_caller]
pub fn missing(test: &str, what: &str) {
    let reason = format!("{what}; type: make test");
    assert!(variable("CI").as_deref() != Some("true"), "{reason}");
    skip(test, &reason);
}

/// The Python of the virtual environment that `make test` sets up, if that has what `test` imports.
#[track_caller]
pub fn python(test: &str, import: &str) -> Option<PathBuf> {
    let python = variable("PROGRESSDB_TEST_PYTHON").map_or_else(
        || PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache/progressdb/venv/bin/python"),
        PathBuf::from,
    );
    let mut probe = Command::new(&python);
    probe.args(["-c", &format!("import {import}")]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Some(python);
    }
    missing(test, &format!("{} has no {import}", python.display()));
    None
}

/// A directory of a test, on a real disk: the server refuses a file system in memory. Removed when dropped.
pub fn temporary_directory() -> tempfile::TempDir {
    let parent = build_directory().parent().unwrap().join("tmp");
    std::fs::create_dir_all(&parent).unwrap();
    tempfile::Builder::new().prefix("progressdb-").tempdir_in(parent).unwrap()
}

/// Where cargo puts programs of this profile; tests run from `deps` in it.
pub fn build_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}
