//! Directories that are made for a new database, and removed again if it does not become one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Error;
use crate::files;

/// Directories that were made, outermost first. When this is dropped, those that are empty are removed.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// They stay.
    pub(super) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Creates the directory for its owner only, and its parents. They are removed when the result is dropped, unless it is
/// told to keep them.
pub(super) fn create_directory(path: &Path) -> Result<Made, Error> {
    let failed = |error| Error::io(format!("cannot create {}", path.display()), error);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(Made::default()),
        Ok(_) => return Err(Error::not_ours(path, "it is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let mut missing: Vec<_> = path.ancestors().take_while(missing).collect();
    missing.reverse();
    let mut made = Made::default();
    for step in missing {
        // Its parents may serve others as well.
        let mode = if step == path { 0o700 } else { 0o777 };
        match DirBuilder::new().mode(mode).create(step) {
            Ok(()) => made.0.push(step.to_owned()),
            // Another process made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    files::sync_directory_of(path).map_err(|error| Error::cannot_sync(path, error))?;
    Ok(made)
}
