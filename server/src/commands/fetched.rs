//! What `--in` means to a command that reads one backup: an artefact, or a backup in an object store, which is fetched first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use crate::backup::remote::{Error, Location, Remote};
use crate::backup::{Manifest, Progress, Temporary};
use crate::config::Config;
use crate::files::{self, Made};
use crate::format::Formats;
use crate::serve::check_room;

const PREFIX: &str = "progressdb-fetched-";

/// An artefact on this machine. What was fetched for it is removed when this is dropped.
pub(super) struct Fetched {
    path: PathBuf,
    /// Where it was fetched to, and the directories that were made for that, which are removed last.
    _temporary: Option<(Temporary, Made)>,
}

impl Fetched {
    /// Fetches below `scratch`, or beside the data directory, if there is room. Before that `check` is given this place and
    /// the manifest, and says how many times the files will be there: as they are fetched, and as they are unpacked.
    pub(super) fn get(
        from: &Path,
        scratch: Option<&Path>,
        config: &Config,
        formats: &Formats,
        progress: &Arc<Progress>,
        check: impl FnOnce(&Path, &Manifest) -> Result<u64, Failure>,
    ) -> Result<Self, Failure> {
        let Some(url) = from.to_str().filter(|text| Location::is_url(text)) else {
            return Ok(Self { path: from.to_owned(), _temporary: None });
        };
        let remote = Remote::open(&Location::parse(url)?, &config.backup.access, false)?;
        let name = remote.choose(formats, progress)?;
        let manifest = remote.manifest(&name, formats, progress)?;
        let place = scratch.or(config.db_path.parent()).unwrap_or(Path::new(""));
        let copies = check(place, &manifest)?;
        let cannot = |source| Error::Io {
            what: format!("cannot fetch into {}: name another directory with --scratch", place.display()),
            source,
        };
        let made = files::create_directories(place, 0o777).map_err(cannot)?;
        let temporary = Temporary::directory(place, PREFIX).map_err(cannot)?;
        check_room(place, files::free_bytes(place).map_err(cannot)?, manifest.bytes().saturating_mul(copies))?;
        let path = temporary.path().join("backup");
        remote.fetch(&name, &path, formats, progress)?;
        Ok(Self { path, _temporary: Some((temporary, made)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
