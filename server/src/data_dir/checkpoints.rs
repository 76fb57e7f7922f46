//! Checkpoints of the store: the ways back from a change of format.
//!
//! ```text
//! <db>/checkpoints/<format>-<time>/checkpoint.json   what it is a checkpoint of: `CheckpointOf`
//! <db>/checkpoints/<format>-<time>/store/            the files of the store; most are hard links
//! ```
//! One is made under a temporary name, synced, and renamed, so it is complete or not there. The newest one is kept. To go
//! back, its files are taken over into another store of the directory, and it stays as it is.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Directory, Error, remove_if_there};
use crate::files;

pub(super) const CHECKPOINTS: &str = "checkpoints";
const RECORD: &str = "checkpoint.json";
const RECORD_TMP: &str = "checkpoint.json.tmp";
const STORE: &str = "store";
/// What an unfinished one is called behind its name.
const UNFINISHED: &str = ".tmp";
/// Files that never change once they are written, so that two stores can share them.
const TABLES: &str = "sst";

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// `<format>-<time>`.
    pub name: String,
    /// What it says of itself.
    pub of: CheckpointOf,
    path: PathBuf,
}

/// The store that a checkpoint was made of, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointOf {
    /// Which database.
    #[serde(with = "hex")]
    pub database_id: [u8; 16],
    /// The format of the store.
    pub format: u32,
    /// Client writes that it holds.
    pub sequence: i64,
    /// Messages ever created until then.
    pub messages: i64,
    /// The version that made it.
    pub version: String,
    /// Unix nanoseconds.
    pub created_ns: u64,
}

impl Checkpoint {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Directory {
    /// Makes a checkpoint, and removes the older ones. `cut` makes the directory that it is given a copy of the store, on
    /// disk when it returns.
    pub fn make_checkpoint(
        &self,
        of: CheckpointOf,
        cut: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Checkpoint, Error> {
        let failed = |error| Error::io("cannot make a checkpoint", error);
        let all = self.checkpoints_path();
        make_directory(&all).map_err(failed)?;
        self.remove_unfinished_checkpoints()?;
        let older = self.checkpoints()?;
        let name = name_of(&of, &older);
        let tmp = all.join(format!("{name}{UNFINISHED}"));
        let made = make_directory(&tmp).and_then(|()| cut(&tmp.join(STORE))).and_then(|()| {
            let record = serde_json::to_vec(&of)?;
            // Syncs the directory as well.
            files::replace(&tmp.join(RECORD), &tmp.join(RECORD_TMP), &record)?;
            fs::rename(&tmp, all.join(&name))?;
            files::sync_directory_of(&tmp)
        });
        if let Err(error) = made {
            // What cannot be removed is, at the next start.
            let _ = fs::remove_dir_all(&tmp);
            return Err(failed(error));
        }
        for name in older {
            remove_if_there(&all.join(name))?;
        }
        Ok(Checkpoint { path: all.join(&name), name, of })
    }

    /// The names of the checkpoints that are complete, the newest last.
    pub fn checkpoints(&self) -> Result<Vec<String>, Error> {
        let all = self.checkpoints_path();
        let entries = entries_of(&all).map_err(|error| Error::io(format!("cannot list {}", all.display()), error))?;
        let names =
            entries.iter().filter(|path| path.join(RECORD).is_file()).filter_map(|path| path.file_name()?.to_str());
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(UNFINISHED)).map(str::to_owned).collect();
        // By time: the format comes first in the name.
        names.sort_by(|one, other| time_in(one).cmp(time_in(other)));
        Ok(names)
    }

    /// The checkpoint of that name, or the newest.
    pub fn find_checkpoint(&self, wanted: Option<&str>) -> Result<Checkpoint, Error> {
        let mut there = self.checkpoints()?;
        let Some(place) = there.iter().rposition(|name| wanted.is_none_or(|wanted| wanted == name)) else {
            return Err(Error::NoCheckpoint { path: self.path.clone(), wanted: wanted.map(str::to_owned), there });
        };
        let name = there.swap_remove(place);
        let path = self.checkpoints_path().join(&name);
        let record = path.join(RECORD);
        let read = fs::read(&record).map_err(|error| Error::io(format!("cannot read {}", record.display()), error))?;
        let of: CheckpointOf =
            serde_json::from_slice(&read).map_err(|_| Error::damaged(&path, format!("its {RECORD} is unreadable")))?;
        match of.database_id == self.database_id() {
            true => Ok(Checkpoint { name, of, path }),
            false => Err(Error::damaged(&path, "it is of another database")),
        }
    }

    /// Makes `store`, which must not exist, a store with what the checkpoint holds. It is on disk when this returns; a
    /// failure leaves nothing.
    pub fn take_over(&self, checkpoint: &Checkpoint, store: &Path) -> Result<(), Error> {
        copy_store(&checkpoint.path.join(STORE), store).map_err(|error| {
            // What cannot be removed counts for nothing: the marker does not name it.
            let _ = fs::remove_dir_all(store);
            Error::io(format!("cannot take over checkpoint {}", checkpoint.name), error)
        })
    }

    /// Removes what an interrupted [`Directory::make_checkpoint`] left.
    pub(super) fn remove_unfinished_checkpoints(&self) -> Result<(), Error> {
        let all = self.checkpoints_path();
        let failed = |error| Error::io(format!("cannot list {}", all.display()), error);
        let unfinished = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(UNFINISHED));
        entries_of(&all)
            .map_err(failed)?
            .iter()
            .filter(|path| unfinished(path))
            .try_for_each(|path| remove_if_there(path))
    }

    fn checkpoints_path(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }
}

/// `<format>-<time>`, and a number behind it if there is one of that second.
fn name_of(of: &CheckpointOf, others: &[String]) -> String {
    let created = jiff::Timestamp::from_nanosecond(of.created_ns.into()).unwrap_or_default();
    let name = format!("{}-{}", of.format, created.strftime("%Y%m%dT%H%M%SZ"));
    let is_free = |name: &String| !others.contains(name);
    let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
    [name.clone()].into_iter().chain(numbered).find(is_free).expect("there are a handful of them")
}

fn time_in(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, time)| time)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| files::sync_directory_of(path)),
    }
}

/// None if there is no such directory.
fn entries_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Tables are shared by hard links. All other files are copied: whoever opens the store may write to them.
fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for file in entries_of(from)? {
        let copy = to.join(file.file_name().unwrap_or_default());
        if file.extension().is_some_and(|extension| extension == TABLES) {
            fs::hard_link(&file, &copy)?;
        } else {
            fs::copy(&file, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()?;
    files::sync_directory_of(to)
}

#[cfg(test)]
mod tests;
