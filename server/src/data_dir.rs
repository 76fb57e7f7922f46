//! The data directory: who may open it, what is in it, and whether its file system keeps what was synced.
//!
//! ```text
//! <db>/PROGRESSDB   marker, one JSON line: see `data_dir/marker.rs`
//! <db>/lock         held by flock for the life of the process, and says where it is reached: see `data_dir/lock.rs`
//! <db>/server.sock  where the running server answers commands: see `data_dir/socket.rs`
//! <db>/store-<n>/   the engine's; the marker names the one that counts (`store/` where layout 1 made it)
//! <db>/wal.json     the newest log of the store, while it is needed: see `store/rocks/logs.rs`
//! <db>/tmp/         emptied at every start
//! <db>/checkpoints/ ways back from a change of format: see `data_dir/checkpoints.rs`
//! ```
//! A [`Directory`] is opened and locked: no other process has it, it is a database of ours, it is of a layout that this
//! version reads (an older layout is moved up), and its file system keeps what was synced. A directory of something else is
//! left exactly as it was.
//!
//! Creation survives a crash at any step: the marker says `creating` until the caller has made the store and calls
//! [`Directory::mark_ready`]. Nothing can have been acknowledged before that, so the next start begins anew. A creation
//! that is refused before that call is undone when the [`Directory`] is dropped. What is in the store is for the engine to
//! check, and its format for the database.

mod checkpoints;
mod creation;
mod error;
mod filesystem;
mod foreign;
mod lock;
mod marker;
mod reset;
mod socket;
mod stores;
mod target;

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::files::{self, Made};
use crate::format::Identity;

pub use self::checkpoints::{Checkpoint, CheckpointOf};
use self::creation::create_directory;
pub use self::error::Error;
pub use self::lock::Holder;
use self::lock::LOCK;
pub use self::marker::LAYOUT;
use self::marker::{MARKER, MARKER_TMP, Marker, State};
pub use self::reset::{CheckStore, Reset};
pub use self::socket::Reachable;
use self::socket::SOCKET;
pub use self::stores::Former;
pub use self::target::{Committed, Existing, Replacement, Target, check_owner};

const TMP: &str = "tmp";

/// What identifies a new database; time and randomness come from the caller.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Random.
    pub identity: Identity,
    /// Unix nanoseconds.
    pub created_ns: u64,
}

/// What the undoing of a creation removes besides the store; the lock last.
const PARTS: [&str; 8] = [TMP, "dev-keys.json", "wal.json", "wal.json.tmp", SOCKET, MARKER_TMP, MARKER, LOCK];

/// A data directory that no other process can open as long as this lives.
///
/// If one that [`Directory::open`] began is dropped before [`Directory::mark_ready`], it is removed, with the directories
/// that were made for it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    marker: Marker,
    /// Closing it releases the lock.
    lock: File,
    /// Removed together with a database that did not become ready.
    made: Made,
    /// The marker was there before: nothing is undone.
    found: bool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_new() || self.found {
            self.made.keep();
            return;
        }
        for part in [self.store_path()].into_iter().chain(PARTS.map(|part| self.path.join(part))) {
            // Whatever remains is what a crash could have left as well: the next start copes with it.
            let _ = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        }
    }
}

impl Directory {
    /// Opens the directory to serve from it. One that is missing or empty is made into a new database.
    pub fn open(path: &Path, birth: Birth, allow_volatile_fs: bool) -> Result<Self, Error> {
        // Before anything is made: a refusal leaves nothing.
        if path.is_dir() {
            foreign::refuse(path)?;
        }
        filesystem::check(path, allow_volatile_fs)?;
        let made = create_directory(path)?;
        let lock = lock::acquire(path)?;
        // Under the lock: another process may have made one meanwhile.
        let (marker, found) = match Marker::read(path)? {
            Some(marker) => (marker.move_up(path, birth)?, true),
            None => (Marker::create(path, birth)?, false),
        };
        let mut directory = Self { path: path.to_owned(), marker, lock, made, found };
        match directory.marker.state {
            State::Creating if found => {
                remove_if_there(&directory.store_path())?;
                // Nothing was acknowledged under its former name.
                directory.marker = Marker::create(path, birth)?;
            }
            State::Creating => {}
            State::Ready => {
                check_store(path, &directory.marker)?;
                stores::remove_leftovers(path, Some(&directory.marker))?;
            }
            State::Restoring => return Err(Error::Restoring { path: path.to_owned() }),
            State::Resetting => return Err(Error::Resetting { path: path.to_owned() }),
        }
        remove_if_there(&directory.tmp_path())?;
        directory.remove_unfinished_checkpoints()?;
        create_directory(&directory.tmp_path())?.keep();
        filesystem::self_test(&directory.tmp_path())?;
        Ok(directory)
    }

    /// Opens a database that exists, to read it: creates nothing but the lock.
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
            Ok(_) => foreign::refuse(path)?,
        }
        if Marker::read(path)?.is_none_or(|marker| marker.state == State::Creating) {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let lock = lock::acquire(path)?;
        let marker = Marker::read(path)?.ok_or_else(|| Error::Missing { path: path.to_owned() })?;
        match marker.state {
            State::Creating | State::Ready => {}
            State::Restoring => return Err(Error::Restoring { path: path.to_owned() }),
            State::Resetting => return Err(Error::Resetting { path: path.to_owned() }),
        }
        check_store(path, &marker)?;
        Ok(Self { path: path.to_owned(), marker, lock, made: Made::default(), found: true })
    }

    /// Whether the store is still to be made, after which [`Directory::mark_ready`] must be called.
    pub fn is_new(&self) -> bool {
        self.marker.state == State::Creating
    }

    /// Ends the creation. Call it when the store is synced and before anything is acknowledged.
    pub fn mark_ready(&mut self) -> Result<(), Error> {
        let ready = self.marker.in_state(State::Ready);
        let store = self.store_path();
        files::sync_directory_of(&store).map_err(|error| Error::cannot_sync(&store, error))?;
        ready.write(&self.path)?;
        self.marker = ready;
        Ok(())
    }

    /// The same for the life of the database.
    pub fn database_id(&self) -> [u8; 16] {
        self.marker.identity().database_id
    }

    /// Which database it is.
    pub fn identity(&self) -> Identity {
        self.marker.identity()
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its files; does not exist while the directory is new.
    pub fn store_path(&self) -> PathBuf {
        self.path.join(self.marker.store())
    }

    /// Listens at the socket for commands, in place of what a former server left there.
    pub fn bind_socket(&self) -> io::Result<UnixListener> {
        socket::bind(&self.path, &self.tmp_path())
    }

    /// Removes the socket, so that nobody tries it in vain.
    pub fn remove_socket(&self) {
        // A command asks the lock first whether anybody is there.
        let _ = fs::remove_file(self.path.join(SOCKET));
    }

    /// Says in the lock file where this process is reached: at `address`, and at the socket if it listens there.
    pub fn announce(&self, address: SocketAddr, socket: bool) -> io::Result<()> {
        lock::announce(&self.lock, Some(address), socket.then_some(SOCKET))
    }

    /// On the same file system as the store, emptied at every start.
    pub fn tmp_path(&self) -> PathBuf {
        tmp_of(&self.path)
    }
}

/// A store that is gone must not pass for one that is still to be made. What lies in it is the engine's to judge.
fn check_store(path: &Path, marker: &Marker) -> Result<(), Error> {
    match path.join(marker.store()).is_dir() {
        true => Ok(()),
        false => Err(Error::damaged(path, format!("its store directory {} is missing", marker.store()))),
    }
}

/// Where whoever has the data directory at `path` keeps what is temporary.
pub fn tmp_of(path: &Path) -> PathBuf {
    path.join(TMP)
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
