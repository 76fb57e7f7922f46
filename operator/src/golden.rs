//! Generated files are committed and tests hold them; `UPDATE=1` rewrites them.

use std::{fs, path::Path};

/// A file of the repository, by its path there.
pub(crate) fn read(path: &str) -> String {
    let file = root().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The file names in a directory of the repository, sorted.
pub(crate) fn list(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(directory)).expect(directory);
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect(directory).file_name().into_string().expect("names are ASCII")).collect();
    names.sort();
    names
}

/// Holds a file to a text.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the switch that rewrites generated files; no product reads it")]
pub(crate) fn check(path: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), text).expect(path);
    }
    let committed = fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(
        committed == text,
        "{path} differs from what the code makes: UPDATE=1 rewrites it, then look at the difference"
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}
