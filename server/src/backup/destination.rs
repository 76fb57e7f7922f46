//! Where a backup goes: an artefact on a disk, or an object store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::background::in_background;
use super::remote::{Access, Error, Location, Remote, Sent};
use super::{Failed, Form, Manifest, Progress, Source, Stamp, Summary, Target, create};
use crate::files;

/// Where a backup goes.
pub enum Destination {
    /// A new artefact, or one in a directory.
    Disk {
        /// Its name, or the directory.
        out: PathBuf,
        /// Its form.
        form: Form,
        /// The database, which does not hold its own backups.
        data_dir: PathBuf,
    },
    /// An object store.
    Remote(Box<Remote>),
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its path or its URL.
    pub at: String,
    /// Bytes that were written or sent for it; what an object store had already is not among them.
    pub bytes: u64,
    /// Bytes of files that the object store had already. An artefact stands alone.
    pub shared_bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Destination {
    /// What `--out` means: the URL of an object store, or a path. `form` is for a path.
    pub fn open(out: &Path, form: Form, data_dir: &Path, access: &Access) -> Result<Self, Error> {
        let Some(url) = out.to_str().filter(|text| Location::is_url(text)) else {
            let (out, data_dir) = (out.to_owned(), data_dir.to_owned());
            return Ok(Self::Disk { out, form, data_dir });
        };
        let location = Location::parse(url)?;
        if let Some(path) = location.directory().filter(|path| is_part_of(path, data_dir)) {
            return Err(Failed::Inside { path }.into());
        }
        Ok(Self::Remote(Box::new(Remote::open(&location, access, true)?)))
    }

    /// What `backup.destination` means: the URL of an object store, or a directory, which is made.
    pub fn open_directory(place: &str, data_dir: &Path, access: &Access) -> Result<Self, Error> {
        let path = Path::new(place);
        if !Location::is_url(place) {
            if is_part_of(path, data_dir) {
                return Err(Failed::Inside { path: path.to_owned() }.into());
            }
            let made = files::create_directories(path, 0o700);
            made.map_err(|error| Error::io(format!("cannot make the directory {place}"), error))?.keep();
        }
        Self::open(path, Form::Tar, data_dir, access)
    }

    /// Reads a backup that a server has written here, in the background. An artefact was read before it got its name.
    pub fn read_again(&self, made: &Made, progress: &Arc<Progress>) -> Result<(), Error> {
        let Self::Remote(remote) = self else { return Ok(()) };
        let location = Location::parse(&made.at)?;
        let check = || remote.check(location.backup().unwrap_or_default(), progress);
        let checked = in_background(check).map_err(no_thread)??;
        match checked.unmarked {
            None => Ok(()),
            Some(why) => Err(Error::io("the backup is right and cannot be marked as verified", io::Error::other(why))),
        }
    }

    /// Writes a backup of `source` there; in the background if it is live. It is there when this returns, and was not if this
    /// fails.
    pub fn write(&self, source: &Source, progress: &Arc<Progress>) -> Result<Made, Error> {
        match source.live {
            true => in_background(|| self.write_here(source, progress)).map_err(no_thread)?,
            false => self.write_here(source, progress),
        }
    }

    fn write_here(&self, source: &Source, progress: &Arc<Progress>) -> Result<Made, Error> {
        let stamp = Stamp::now();
        match self {
            Self::Disk { out, form, data_dir } => {
                let target = Target::resolve(out, *form, &stamp, data_dir)?;
                let Summary { path, bytes, manifest } = create(source, &target, &stamp, progress)?;
                Ok(Made { at: path.display().to_string(), bytes, shared_bytes: 0, manifest })
            }
            Self::Remote(remote) => {
                let Sent { url, manifest, sent_bytes, shared_bytes, .. } = remote.send(source, &stamp, progress)?;
                Ok(Made { at: url, bytes: sent_bytes, shared_bytes, manifest })
            }
        }
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::io("cannot start a thread", error)
}

/// Whether a directory, which need not exist, is `data_dir`, leads to it, or lies in it.
fn is_part_of(directory: &Path, data_dir: &Path) -> bool {
    files::is_inside(&directory.join("backup"), data_dir)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::backup::remote::tests::access;

    #[test]
    fn a_database_holds_no_backups_however_its_directory_is_called() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (data_dir, link, beside) = (root.join("db"), root.join("link"), root.join("db-backups"));
        fs::create_dir(&data_dir).unwrap();
        symlink(&data_dir, &link).unwrap();
        for inside in [&data_dir, &link, &data_dir.join("new"), &link.join("a/b")] {
            let url = format!("file://{}", inside.display());
            let opened = Destination::open(url.as_ref(), Form::Tar, &data_dir, &access());
            assert!(matches!(opened, Err(Error::Failed(Failed::Inside { .. }))), "{url}");
            let path = inside.to_str().unwrap();
            let opened = Destination::open_directory(path, &data_dir, &access());
            assert!(matches!(opened, Err(Error::Failed(Failed::Inside { .. }))), "{path}");
        }
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 0, "nothing was made there");
        let url = format!("file://{}", beside.display());
        Destination::open(url.as_ref(), Form::Tar, &data_dir, &access()).map(drop).unwrap();
    }
}
