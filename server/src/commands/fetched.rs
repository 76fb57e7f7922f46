//! What `--in` means to a command that reads one backup: an artefact, or a backup in an object store, which is fetched first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use crate::backup::remote::{Location, Remote};
use crate::backup::{Progress, Stamp};
use crate::config::Config;
use crate::format::Formats;

/// An artefact on this machine. What was fetched for it is removed when this is dropped.
pub(super) struct Fetched {
    path: PathBuf,
    is_temporary: bool,
}

impl Fetched {
    /// Fetches below `scratch`, or beside the data directory.
    pub(super) fn get(
        from: &Path,
        scratch: Option<&Path>,
        config: &Config,
        formats: &Formats,
        progress: &Arc<Progress>,
    ) -> Result<Self, Failure> {
        let Some(url) = from.to_str().filter(|text| Location::is_url(text)) else {
            return Ok(Self { path: from.to_owned(), is_temporary: false });
        };
        let remote = Remote::open(&Location::parse(url)?, &config.backup.access, false)?;
        let name = remote.resolve(progress)?;
        let parent = scratch.or(config.db_path.parent()).unwrap_or(Path::new(""));
        let path = parent.join(format!("progressdb-fetched-{}.tmp", hex::encode(Stamp::now().id)));
        let fetched = Self { path, is_temporary: true };
        remote.fetch(&name, &fetched.path, formats, progress)?;
        Ok(fetched)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if self.is_temporary {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
