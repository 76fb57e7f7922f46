//! The sealed format, held to its description by another implementation.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{finish, skip, variable};

#[test]
fn an_independent_implementation_opens_what_we_sealed() {
    let test = "an_independent_implementation_opens_what_we_sealed";
    let home = variable("HOME").unwrap_or_default();
    let python = variable("PROGRESSDB_TEST_PYTHON")
        .map_or_else(|| PathBuf::from(home).join(".cache/progressdb/venv/bin/python"), PathBuf::from);
    let mut probe = Command::new(&python);
    probe.args(["-c", "import cryptography"]);
    if !python.exists() || finish(probe).code != Some(0) {
        let reason = format!("{} has no cryptography; type: make test", python.display());
        assert!(variable("CI").as_deref() != Some("true"), "{reason}");
        return skip(test, &reason);
    }
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut check = Command::new(&python);
    check.env("PYTHONDONTWRITEBYTECODE", "1");
    check.arg(format!("{vectors}/sealed.py")).arg("check").arg(format!("{vectors}/sealed-by-rust.json"));
    finish(check).check_code(0).check_says(&["6 vectors opened"]);
}
