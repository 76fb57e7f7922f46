//! Several stores in one data directory: the one that counts, the next one in the making, and former ones that are kept.
//!
//! A store that is to take the place of the live one is made beside it under a name that nothing has, and synced. Then one
//! rename of the marker makes it the one that counts. Before that rename nothing has changed for whoever opens the
//! directory, and behind it everything.

use std::fs;
use std::path::{Path, PathBuf};

use super::marker::{Marker, store_name, store_number};
use super::{Directory, Error};
use crate::files;
use crate::model::Incarnation;

/// What becomes of the store that counted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// The marker names it as one that stays.
    Kept,
    /// Nothing names it any more: it is the caller's to remove.
    Dropped,
}

impl Directory {
    /// Where to make another store: a name that nothing in the directory has, and no store had that is kept.
    pub fn next_store(&self) -> Result<PathBuf, Error> {
        next_store(&self.path, Some(&self.marker))
    }

    /// Makes `store`, which lies in the directory and whose files are synced, the one that counts, as another incarnation
    /// of the same database. What fails before the marker is replaced changes nothing.
    pub fn switch_to(&mut self, store: &Path, incarnation: Incarnation, former: Former) -> Result<(), Error> {
        let name = store.file_name().and_then(|name| name.to_str()).filter(|name| store_number(name).is_some());
        let name = name.filter(|name| self.path.join(name) == store).ok_or_else(|| {
            Error::io("cannot switch", std::io::Error::other(format!("{} is no store's name", store.display())))
        })?;
        files::sync_directory_of(store).map_err(|error| Error::cannot_sync(store, error))?;
        let marker = self.marker.with_store(name, incarnation, former == Former::Kept);
        marker.write(&self.path)?;
        self.marker = marker;
        Ok(())
    }

    /// The names of former stores that are kept on purpose.
    pub fn kept(&self) -> &[String] {
        self.marker.kept()
    }
}

/// Where to make another store.
pub(super) fn next_store(path: &Path, marker: Option<&Marker>) -> Result<PathBuf, Error> {
    let named = marker.into_iter().flat_map(|marker| marker.kept().iter().map(String::as_str).chain([marker.store()]));
    let numbers = named.filter_map(store_number).max().unwrap_or(0);
    let there = stores_in(path)?.iter().filter_map(|store| store_number(&name_of(store))).max().unwrap_or(0);
    Ok(path.join(store_name(numbers.max(there) + 1)))
}

/// Removes every store that neither counts nor is kept on purpose: an interrupted restore or rollback left it.
pub(super) fn remove_leftovers(path: &Path, marker: Option<&Marker>) -> Result<(), Error> {
    let counts = |name: &str| {
        marker.is_some_and(|marker| marker.store() == name || marker.kept().iter().any(|kept| kept == name))
    };
    for leftover in stores_in(path)?.into_iter().filter(|store| !counts(&name_of(store))) {
        super::remove_if_there(&leftover)?;
        tracing::warn!(event = "startup.leftover_removed", path = %leftover.display(),
            "an interrupted restore or rollback had left it");
    }
    Ok(())
}

/// The directories in a data directory that have the name of a store.
fn stores_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::io(format!("cannot list {}", path.display()), error);
    let entries = fs::read_dir(path).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path()));
    let entries = entries.collect::<Result<Vec<_>, Error>>()?;
    Ok(entries.into_iter().filter(|entry| store_number(&name_of(entry)).is_some()).collect())
}

fn name_of(store: &Path) -> String {
    store.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::Birth;
    use crate::format::Identity;

    const IDENTITY: Identity = Identity { database_id: [1; 16], incarnation: Incarnation(1) };

    /// A database with `store-1`.
    fn directory(root: &Path) -> Directory {
        let mut directory = Directory::open(root, Birth { identity: IDENTITY, created_ns: 0 }, true).unwrap();
        fs::create_dir(directory.store_path()).unwrap();
        directory.mark_ready().unwrap();
        directory
    }

    fn reopened(directory: Directory) -> Directory {
        let path = directory.path().to_owned();
        drop(directory);
        Directory::open_existing(&path).unwrap()
    }

    #[test]
    fn the_next_store_has_a_name_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = directory(&root.path().join("db"));
        let next = |directory: &Directory| directory.next_store().unwrap().file_name().unwrap().to_owned();
        assert_eq!(next(&directory), "store-2");
        // What an interrupted switch left.
        fs::create_dir(directory.path().join("store-7")).unwrap();
        assert_eq!(next(&directory), "store-8");
        let store = directory.next_store().unwrap();
        fs::create_dir(&store).unwrap();
        directory.switch_to(&store, Incarnation(2), Former::Kept).unwrap();
        fs::remove_dir(directory.path().join("store-7")).unwrap();
        fs::create_dir(directory.path().join("notes")).unwrap();
        assert_eq!(next(&directory), "store-9");
        fs::remove_dir(&store).unwrap();
        assert_eq!(next(&directory), "store-9", "the one that counts has its name, whatever became of its files");
    }

    #[test]
    fn a_switch_changes_the_store_and_the_incarnation_and_keeps_the_database() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = directory(&root.path().join("db"));
        for (n, former, kept) in [(2, Former::Kept, &["store-1"][..]), (3, Former::Dropped, &["store-1"])] {
            let store = directory.next_store().unwrap();
            fs::create_dir(&store).unwrap();
            directory.switch_to(&store, Incarnation(n), former).unwrap();
            directory = reopened(directory);
            assert_eq!(directory.store_path(), store);
            assert_eq!(directory.identity(), Identity { incarnation: Incarnation(n), ..IDENTITY });
            assert_eq!(directory.kept(), kept);
        }
        // Back to one that was kept: it counts again, and is no former one.
        let first = directory.path().join("store-1");
        directory.switch_to(&first, Incarnation(4), Former::Kept).unwrap();
        assert_eq!(reopened(directory).kept(), ["store-3"]);
    }

    #[test]
    fn what_is_no_store_of_the_directory_cannot_be_switched_to() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = directory(&root.path().join("db"));
        for place in ["tmp", "store-01", "../store-2", "tmp/store-2"] {
            let store = directory.path().join(place);
            directory.switch_to(&store, Incarnation(2), Former::Kept).unwrap_err();
        }
        assert_eq!(reopened(directory).store_path().file_name().unwrap(), "store-1");
    }
}
