//! The command line: where settings come from, how wrong ones are refused, and the commands that start nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod commands;
mod documentation;
mod seeds;
mod settings;
mod start;

use std::fs;
use std::path::Path;

const SECRETS: [&str; 4] = [testing::BACKEND_KEY, testing::FRONTEND_KEY, testing::ADMIN_KEY, testing::SIGNING_KEY];

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
