//! A data directory that a backup is restored into.
//!
//! 1. it is locked: nobody serves it. Where a database is, it has to be given up on purpose; another one than that which is
//!    restored, by its id
//! 2. where none is, the marker says `restoring`, so that no server makes an empty one there
//! 3. the restored store is made beside the live one, and checked
//! 4. one rename of the marker makes it the one that counts
//! 5. the former store is removed, unless it is kept, and so are checkpoints
//!
//! A crash before step 4 leaves what was there before, and a leftover that the next start or restore removes; or a directory
//! that says `restoring`. A failure takes back everything that was made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::checkpoints::CHECKPOINTS;
use super::creation::create_directory;
use super::lock::{self, LOCK};
use super::marker::{MARKER, Marker, State};
use super::{Birth, Error, filesystem, foreign, remove_if_there, stores};
use crate::files::{self, Made};

/// What may become of a database that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: it is refused.
    Refuse,
    /// It is replaced and removed.
    Replace,
    /// It is replaced, and its store is kept beside the new one.
    Keep,
}

/// Whose store is to count, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Replacement {
    /// The database that the store is of.
    pub by: [u8; 16],
    /// What may become of a database that is there.
    pub existing: Existing,
    /// The other database that may be given up for it.
    pub given_up: Option<[u8; 16]>,
}

/// A directory that nobody else can open as long as this lives. If it is dropped before [`Target::commit`], it is as it was.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// That of the database which is there, or of one that is half restored.
    before: Option<Marker>,
    /// Where the store is made; none before [`Target::begin`].
    store: Option<PathBuf>,
    /// The marker is ours to take back.
    marked: bool,
    /// Directories that were made for it.
    made: Made,
    /// Closing it releases the lock.
    _lock: File,
}

impl Target {
    /// Looks at the directory like [`Target::open`], and changes nothing.
    pub fn look(path: &Path, wanted: Replacement, allow_volatile_fs: bool) -> Result<(), Error> {
        if path.exists() {
            foreign::refuse(path)?;
            lock::check_free(path)?;
            find_database(path, wanted)?;
        }
        filesystem::check(path, allow_volatile_fs)
    }

    /// Locks the directory, which is made if it is absent.
    pub fn open(path: &Path, wanted: Replacement, allow_volatile_fs: bool) -> Result<Self, Error> {
        // Before anything is made: a refusal leaves nothing.
        Self::look(path, wanted, allow_volatile_fs)?;
        check_owner(path)?;
        let made = create_directory(path)?;
        let lock = lock::acquire(path)?;
        let mut target = Self { path: path.to_owned(), before: None, store: None, marked: false, made, _lock: lock };
        target.before = find_database(path, wanted)?;
        Ok(target)
    }

    /// Bytes that are free for the store.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let cannot = |error| Error::io(format!("cannot find what is free in {}", self.path.display()), error);
        files::free_bytes(&self.path).map_err(cannot)
    }

    /// Removes what interrupted restores left, and says where the store is to be made. `birth` is of the restored database.
    pub fn begin(&mut self, birth: Birth) -> Result<PathBuf, Error> {
        stores::remove_leftovers(&self.path, self.before.as_ref().filter(|before| before.state == State::Ready))?;
        let store = stores::next_store(&self.path, self.before.as_ref())?;
        if self.before.as_ref().is_none_or(|before| before.state != State::Ready) {
            let of_ours = self.before.as_ref().is_none_or(|before| before.state == State::Creating);
            self.marked = of_ours;
            // In one write: whatever says `creating` is made into an empty database by the next start.
            Marker::new(birth).in_state(State::Restoring).write(&self.path)?;
        }
        self.store = Some(store.clone());
        Ok(store)
    }

    /// Makes the store the one that counts. Its files are synced.
    pub fn commit(mut self, birth: Birth, existing: Existing) -> Result<Committed, Error> {
        let store = self.store.take().expect("it was begun");
        let failed = |error| Error::cannot_sync(&store, error);
        let name = store.file_name().and_then(|name| name.to_str()).expect("it is a store's name");
        // It names a log of the former store, or of any if an older version wrote it.
        let committed = files::sync_directory_of(&store).map_err(failed).and_then(|()| {
            let path = self.path.join("wal.json");
            files::remove(&path).map_err(|error| Error::io(format!("cannot remove {}", path.display()), error))?;
            Marker::restored(birth, name, self.before.as_ref(), existing == Existing::Keep).write(&self.path)
        });
        if let Err(error) = committed {
            match self.names(name) {
                false => self.store = Some(store),
                // Renamed, and only not synced: then nothing that a marker may name is removed.
                true => {
                    self.marked = false;
                    self.made.keep();
                }
            }
            return Err(error);
        }
        self.marked = false;
        self.made.keep();
        let former = self.before.as_ref().filter(|before| before.state == State::Ready);
        let former = former.map(|before| self.path.join(before.store()));
        Ok(Committed { target: self, former, kept: existing == Existing::Keep })
    }

    /// Whether the marker says that this store counts, or may say so.
    fn names(&self, store: &str) -> bool {
        match Marker::read(&self.path) {
            Ok(Some(marker)) => marker.state == State::Ready && marker.store() == store,
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            // What cannot be removed counts for nothing: no marker names it.
            let _ = fs::remove_dir_all(store);
        }
        if self.marked {
            let _ = match &self.before {
                Some(before) => before.write(&self.path).is_ok(),
                None => files::remove(&self.path.join(MARKER)).is_ok(),
            };
        }
        if self.before.is_none() && (self.marked || self.store.is_none()) && !self.path.join(MARKER).exists() {
            let _ = fs::remove_file(self.path.join(LOCK));
        }
    }
}

/// A directory whose restored store counts. It stays locked as long as this lives.
#[derive(Debug)]
pub struct Committed {
    target: Target,
    /// The store that counted before.
    former: Option<PathBuf>,
    kept: bool,
}

impl Committed {
    /// Removes the former store, unless it is kept, and the checkpoints, which are ways back for the former store only.
    /// Says which store is kept.
    pub fn finish(self) -> Option<PathBuf> {
        let Self { target, former, kept } = self;
        let goes = former.clone().filter(|_| !kept).into_iter().chain([target.path.join(CHECKPOINTS)]);
        for error in goes.filter_map(|path| remove_if_there(&path).err()) {
            // The restore is done all the same.
            tracing::warn!(event = "cli.former_store_left", %error);
        }
        drop(target);
        former.filter(|_| kept)
    }
}

/// The marker of the database that is there, if it may be replaced, or of a restore that did not end.
fn find_database(path: &Path, wanted: Replacement) -> Result<Option<Marker>, Error> {
    let Some(marker) = Marker::read(path)? else { return Ok(None) };
    let (path, there) = (path.to_owned(), marker.identity().database_id);
    match marker.state {
        State::Ready if wanted.existing == Existing::Refuse => Err(Error::Exists { path }),
        State::Ready if there != wanted.by && wanted.given_up != Some(there) => {
            Err(Error::OtherDatabase { path, there, backup: wanted.by })
        }
        State::Resetting => Err(Error::Resetting { path }),
        _ => Ok(Some(marker)),
    }
}

/// What root restores or imports belongs to root, and the user whose database it is could not open it.
pub fn check_owner(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if rustix::process::geteuid().is_root() && metadata.uid() != 0 {
        let what = format!("{} belongs to user {}: run this command as that user", path.display(), metadata.uid());
        return Err(Error::io(what, io::Error::from(io::ErrorKind::PermissionDenied)));
    }
    Ok(())
}
