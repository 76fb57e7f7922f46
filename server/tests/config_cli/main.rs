//! The command line: where settings come from, how wrong ones are refused, and the commands that start nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../harness/mod.rs"]
mod harness;

mod commands;
mod documentation;
mod seeds;
mod settings;
mod start;

use std::fs;
use std::path::Path;

const SECRETS: [&str; 4] = [harness::BACKEND_KEY, harness::FRONTEND_KEY, harness::ADMIN_KEY, harness::SIGNING_KEY];

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn check_no_secrets(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is shown in:\n{text}");
    }
}
