//! Removing a database: everything of it in its directory, and nothing else.
//!
//! 1. the directory is locked, and every entry is looked at: ours, known to stay, or a reason to refuse
//! 2. the marker says `resetting`, so nobody serves what is left from here on
//! 3. stores, checkpoints and the rest are removed
//! 4. the marker and the lock are removed; where other files stay, the marker becomes that of a new database instead,
//!    which the next start makes beside them
//!
//! A crash behind step 2 leaves a directory that the same command finishes.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoints::CHECKPOINTS;
use super::lock::{self, LOCK};
use super::marker::{MARKER, MARKER_TMP, Marker, State, is_store_name};
use super::{Birth, Error, TMP, foreign, remove_if_there};
use crate::files;

/// Files of a database that are neither stores nor the marker nor the lock.
const FILES: [&str; 4] = ["wal.json", "wal.json.tmp", "server.sock", MARKER_TMP];
/// Directories of a database besides its stores.
const DIRECTORIES: [&str; 2] = [TMP, CHECKPOINTS];
/// What stays, whoever made it.
const STAY: [&str; 2] = ["dev-keys.json", "lost+found"];

/// Says what is wrong with a directory of a store: with a file in it that no store has or, if it must be `whole`, that it
/// cannot be opened. Which files those are is the engine's to know.
pub type CheckStore = fn(&Path, bool) -> Result<(), String>;

/// A database that can be removed.
#[derive(Debug)]
pub struct Reset {
    path: PathBuf,
    marker: Marker,
    /// What goes before the marker does.
    parts: Vec<PathBuf>,
    /// Something stays beside it.
    shared: bool,
}

impl Reset {
    /// Looks at the database in `path` and changes nothing; none if there is none. `named` are the files that the
    /// configuration names: they stay.
    pub fn look(path: &Path, named: &[PathBuf], check_store: CheckStore) -> Result<Option<Self>, Error> {
        lock::check_free(path)?;
        Self::find(path, named, check_store)
    }

    fn find(path: &Path, named: &[PathBuf], check_store: CheckStore) -> Result<Option<Self>, Error> {
        let listed = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::not_ours(path, "it is not a directory"));
            }
            listed => listed.and_then(Iterator::collect::<io::Result<Vec<DirEntry>>>),
        };
        let listed = listed.map_err(|error| Error::io(format!("cannot list {}", path.display()), error))?;
        let mut entries: Vec<_> = listed.iter().map(DirEntry::path).collect();
        entries.sort();
        let marker = match Marker::read(path)? {
            Some(marker) => marker,
            None if entries.iter().all(|entry| stays(entry, named)) => return Ok(None),
            None => return foreign::refuse(path).map(|()| None),
        };
        let mut found = Self { path: path.to_owned(), marker, parts: Vec::new(), shared: false };
        entries.iter().try_for_each(|entry| found.take(entry, named, check_store))?;
        if found.marker.state == State::Ready && !found.parts.contains(&path.join(found.marker.store())) {
            return Err(Error::damaged(path, format!("its store directory {} is missing", found.marker.store())));
        }
        let is_new = found.marker.state == State::Creating && found.parts.is_empty();
        Ok((!is_new).then_some(found))
    }

    /// Sorts one entry of the directory.
    fn take(&mut self, entry: &Path, named: &[PathBuf], check_store: CheckStore) -> Result<(), Error> {
        let name = entry.file_name().unwrap_or_default().to_str().unwrap_or_default();
        let kind = fs::symlink_metadata(entry).map_err(|error| self.cannot_read(entry, error))?.file_type();
        let refuse = |what: String| Err(Error::not_ours(&self.path, what));
        if stays(entry, named) {
            self.shared = true;
            return Ok(());
        }
        let is_part = is_store_name(name) || DIRECTORIES.contains(&name);
        if !is_part && !FILES.contains(&name) && ![MARKER, LOCK].contains(&name) {
            return refuse(format!("it holds {name:?}, which no database has: move it away first"));
        }
        if kind.is_symlink() {
            return refuse(format!("{name} is a symbolic link"));
        }
        if kind.is_dir() != is_part {
            return refuse(format!("{name} is {}", if kind.is_dir() { "a directory" } else { "no directory" }));
        }
        if is_store_name(name) {
            let whole = self.marker.state == State::Ready && self.marker.store() == name;
            if let Err(what) = check_store(entry, whole) {
                return refuse(what);
            }
        } else if kind.is_dir() {
            self.refuse_links(entry)?;
        }
        if ![MARKER, LOCK].contains(&name) {
            self.parts.push(entry.to_owned());
        }
        Ok(())
    }

    /// Refuses a symbolic link anywhere in a directory.
    fn refuse_links(&self, directory: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(directory).map_err(|error| self.cannot_read(directory, error))? {
            let entry = entry.map_err(|error| self.cannot_read(directory, error))?;
            let kind = entry.file_type().map_err(|error| self.cannot_read(directory, error))?;
            if kind.is_symlink() {
                let what = format!("{} is a symbolic link", entry.path().display());
                return Err(Error::not_ours(&self.path, what));
            }
            if kind.is_dir() {
                self.refuse_links(&entry.path())?;
            }
        }
        Ok(())
    }

    fn cannot_read(&self, path: &Path, error: io::Error) -> Error {
        Error::io(format!("cannot read {} in {}", path.display(), self.path.display()), error)
    }

    /// What would be removed.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let marker = [MARKER, LOCK].map(|name| self.path.join(name));
        self.parts.iter().cloned().chain(marker.into_iter().filter(|path| !self.shared && path.exists()))
    }

    /// Removes the database in `path`; false if there is none. `birth` is that of the next one.
    pub fn remove(path: &Path, named: &[PathBuf], check_store: CheckStore, birth: Birth) -> Result<bool, Error> {
        // Before the lock, which would be a new file in a directory of somebody else's.
        if Self::look(path, named, check_store)?.is_none() {
            return Ok(false);
        }
        let _lock = lock::acquire(path)?;
        let Some(found) = Self::find(path, named, check_store)? else { return Ok(false) };
        found.marker.in_state(State::Resetting).write(path)?;
        for part in &found.parts {
            if part.is_dir() { remove_if_there(part) } else { remove_file(part) }?;
        }
        if found.shared {
            Marker::create(path, birth)?;
        } else {
            remove_file(&path.join(MARKER))?;
            remove_file(&path.join(LOCK))?;
        }
        Ok(true)
    }
}

/// Neither a reset nor its refusal is about this entry.
fn stays(entry: &Path, named: &[PathBuf]) -> bool {
    STAY.iter().any(|name| entry.ends_with(name)) || named.iter().any(|file| is_same(file, entry))
}

fn remove_file(path: &Path) -> Result<(), Error> {
    files::remove(path).map_err(|error| Error::io(format!("cannot remove {}", path.display()), error))
}

/// Whether both are one name in one directory.
fn is_same(file: &Path, entry: &Path) -> bool {
    let parent = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::canonicalize(parent).ok()
    };
    file.file_name() == entry.file_name() && parent(file).is_some() && parent(file) == parent(entry)
}
