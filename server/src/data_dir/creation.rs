//! Directories that are made for a new database.

use std::io;
use std::path::Path;

use super::Error;
use crate::files::{self, Made};

/// Creates the directory for its owner only, and its parents. They are removed when the result is dropped, unless it is
/// told to keep them.
pub(super) fn create_directory(path: &Path) -> Result<Made, Error> {
    files::create_directories(path, 0o700).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => Error::not_ours(path, "it is not a directory"),
        _ => Error::io(format!("cannot create {}", path.display()), error),
    })
}
