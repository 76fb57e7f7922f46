//! Backups that a server makes of its own store: one at a time, until it stops.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::remote::Error;
use super::{Checkpoints, CutError, Destination, Failed, Form, Made, Progress};
use crate::clock::monotonic;

/// Makes backups of the store that this process serves; clones share it.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    checkpoints: Checkpoints,
    data_dir: PathBuf,
    /// Where backups go that somebody asks for by a name.
    root: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Progress>>,
    /// The server stops.
    stopped: bool,
}

/// Why a server made no backup of its store.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// It was not told where to.
    #[error("backup.root is not set: set it to a directory for backups and start the server again")]
    NoRoot,
    /// The place is not there, perhaps because a disk is not mounted.
    #[error("backup.root is not a directory: create or mount {}", .0.display())]
    RootMissing(PathBuf),
    /// The name leads elsewhere.
    #[error("not a name for a backup: want up to 100 letters, digits, dots, dashes and underscores, no dot first")]
    Name,
    /// One at a time.
    #[error("another backup is being made: wait until it has ended")]
    Running,
    /// The server stops.
    #[error("the server stops: ask again when it is back")]
    Stopped,
    /// There is no checkpoint.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// It could not be written, or not be sent.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Backups {
    /// Of the store below `data_dir`; those that are asked for by name go into `root`.
    pub fn new(checkpoints: Checkpoints, data_dir: PathBuf, root: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { checkpoints, data_dir, root, state: Mutex::default() }))
    }

    /// Makes a backup in `backup.root`, under a dated name if none is given. Blocks.
    pub fn make_in_root(&self, name: Option<&str>, form: Form) -> Result<(Made, Duration), MakeError> {
        let root = self.0.root.as_ref().ok_or(MakeError::NoRoot)?;
        if !root.is_dir() {
            return Err(MakeError::RootMissing(root.clone()));
        }
        let out = match name {
            None => root.clone(),
            Some(name) if is_name(name) => root.join(name),
            Some(_) => return Err(MakeError::Name),
        };
        // A link to a directory would lead out of it.
        if name.is_some() && fs::symlink_metadata(&out).is_ok() {
            return Err(Error::from(Failed::Exists { path: out }).into());
        }
        self.make(&Destination::Disk { out, form, data_dir: self.0.data_dir.clone() }, None)
    }

    /// Makes a backup there, at most at this rate in bytes a second, and says how long it took. Blocks.
    pub fn make(&self, destination: &Destination, rate: Option<u64>) -> Result<(Made, Duration), MakeError> {
        let begun = monotonic();
        let turn = Turn::take(self, Progress::new(rate))?;
        let hold = self.0.checkpoints.hold()?;
        let source = hold.checkpoint().source();
        let source = source.map_err(|error| Error::io("cannot read the checkpoint", error))?;
        match destination.write(&source, &turn.progress) {
            Err(_) if self.state().stopped => Err(MakeError::Stopped),
            made => Ok((made?, monotonic() - begun)),
        }
    }

    /// Gives up the backup that is being made, and makes no more.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.running.iter().for_each(|progress| progress.stop());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make a backup, as long as this lives.
struct Turn<'a> {
    backups: &'a Backups,
    progress: Arc<Progress>,
}

impl<'a> Turn<'a> {
    fn take(backups: &'a Backups, progress: Progress) -> Result<Self, MakeError> {
        let mut state = backups.state();
        match &state.running {
            _ if state.stopped => return Err(MakeError::Stopped),
            Some(_) => return Err(MakeError::Running),
            None => {}
        }
        let progress = Arc::new(progress);
        state.running = Some(progress.clone());
        Ok(Self { backups, progress })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.backups.state().running = None;
    }
}

/// Whether a backup may be asked for by this name: it is one part of a path and stays where it is put.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::LEASE;
    use crate::db::OpenError;
    use crate::store::memory::Memory;
    use crate::store::{Engine, Store};

    #[test]
    fn one_backup_is_made_at_a_time_and_none_once_the_server_stops() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::of(Store::Memory(Memory::default()));
        let checkpoints = Checkpoints::new(engine, "nowhere".into(), LEASE, Box::new(|_| Err(OpenError::Foreign)));
        let backups = Backups::new(checkpoints, "nowhere".into(), Some(root.path().to_owned()));
        let make = || backups.make_in_root(None, Form::Tar);
        assert!(matches!(make(), Err(MakeError::Cut(CutError::Engine(_)))), "this engine has no checkpoints");
        let turn = Turn::take(&backups, Progress::default()).ok().unwrap();
        assert!(matches!(make(), Err(MakeError::Running)));
        turn.progress.advance(1).unwrap();
        backups.stop();
        turn.progress.advance(1).unwrap_err();
        drop(turn);
        assert!(matches!(make(), Err(MakeError::Stopped)));
    }

    #[test]
    fn only_plain_names_are_names_of_backups() {
        for name in ["a", "daily.pdbk", "2026-01-02_x", &"x".repeat(100)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a b", "ä", "a\0", &"x".repeat(101)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
