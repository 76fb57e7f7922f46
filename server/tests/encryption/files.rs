//! What the files of a data directory hold.

use std::path::{Path, PathBuf};

use testing::Setup;

use crate::{CANARY, encrypted, write_canaries};

/// The files under a directory whose bytes hold `needle`.
pub(crate) fn holding(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match std::fs::read(&path) {
                Ok(bytes) if bytes.windows(needle.len()).any(|window| window == needle) => found.push(path),
                Ok(_) => {}
                Err(_) if path.is_dir() => directories.push(path),
                // Compaction removes files while we look.
                Err(_) => {}
            }
        }
    }
    found
}

/// No file holds it.
#[track_caller]
pub(crate) fn check_none(files: &[PathBuf]) {
    assert!(files.is_empty(), "found in {files:?}");
}

#[test]
fn nothing_that_a_user_wrote_is_in_any_file() {
    let plain = Setup::new();
    let server = plain.start();
    write_canaries(&server);
    assert!(!holding(plain.db(), CANARY.as_bytes()).is_empty(), "without encryption it is there to be found");

    let setup = encrypted(Setup::new());
    let server = setup.start();
    write_canaries(&server);
    check_none(&holding(setup.db(), CANARY.as_bytes()));
    server.stop().check_code(0);
    check_none(&holding(setup.db(), CANARY.as_bytes()));
}
