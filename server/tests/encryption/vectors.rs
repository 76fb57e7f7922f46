//! The sealed format, held to its description by another implementation.

use std::process::Command;

use testing::{finish, python};

#[test]
fn an_independent_implementation_opens_what_we_sealed() {
    let Some(python) = python("an_independent_implementation_opens_what_we_sealed", "cryptography") else { return };
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut check = Command::new(python);
    check.env("PYTHONDONTWRITEBYTECODE", "1");
    check.arg(format!("{vectors}/sealed.py")).arg("check").arg(format!("{vectors}/sealed-by-rust.json"));
    finish(check).check_code(0).check_says(&["6 vectors opened"]);
}
