//! What is looked at before RocksDB opens a store, and what its refusal means. RocksDB itself would make an empty store
//! where the old one is damaged, and pass over a log that is gone.

use std::fs;
use std::path::Path;

use rocksdb::{DB, Options};

use super::family::Family;
use super::{Settings, logs};
use crate::store::{Error, OpenError};

/// Refuses a store that is damaged, incomplete or of a newer version; touches nothing.
pub(super) fn check(settings: &Settings) -> Result<(), OpenError> {
    let path = &settings.path;
    if !settings.create {
        check_manifest(path).map_err(OpenError::Damaged)?;
    }
    let unknown = unknown_families(path);
    if !unknown.is_empty() {
        return Err(OpenError::TooNew(unknown));
    }
    match logs::missing(path) {
        Some(what) => Err(OpenError::LogMissing(what)),
        None => Ok(()),
    }
}

/// What it means that RocksDB did not open the store at `path`.
pub(super) fn diagnose(path: &Path, error: rocksdb::Error) -> OpenError {
    let complaint = error.into_string();
    match logs::missing_by_manifest(path, &complaint) {
        Some(what) => OpenError::LogMissing(what),
        None if complaint.starts_with("Corruption") => OpenError::Damaged(complaint),
        None => OpenError::Failed(Error::Read(complaint)),
    }
}

/// `CURRENT` names the manifest, and the manifest everything else.
fn check_manifest(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().display();
    match fs::read_to_string(path.join("CURRENT")) {
        Ok(manifest) if !manifest.trim().is_empty() && path.join(manifest.trim()).is_file() => Ok(()),
        Ok(_) => Err(format!("{name}/CURRENT names no file that exists")),
        Err(_) => Err(format!("{name}/CURRENT cannot be read")),
    }
}

/// Says which file in the store's directory RocksDB does not make or, if the store is to be `whole`, why it cannot open.
pub(super) fn check_files(path: &Path, whole: bool) -> Result<(), String> {
    let directory = path.file_name().unwrap_or_default().display();
    let unreadable = |error| format!("{directory} cannot be read: {error}");
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_file = entry.file_type().map_err(unreadable)?.is_file();
        let name = entry.file_name();
        if !is_file || !name.to_str().is_some_and(is_file_of_store) {
            return Err(format!("{directory}/{} is no file of a store", name.display()));
        }
    }
    if whole { check_manifest(path) } else { Ok(()) }
}

/// Whether RocksDB gives files such a name.
fn is_file_of_store(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = |prefix| name.strip_prefix(prefix).is_some_and(is_number);
    let of_kind =
        |kinds: &[&str]| name.rsplit_once('.').is_some_and(|(number, kind)| is_number(number) && kinds.contains(&kind));
    ["CURRENT", "IDENTITY", "LOCK", "LOG"].contains(&name)
        || numbered("MANIFEST-")
        || numbered("OPTIONS-")
        || numbered("LOG.old.")
        || of_kind(&["sst", "log", "blob", "dbtmp"])
        || name.strip_suffix(".dbtmp").and_then(|name| name.strip_prefix("OPTIONS-")).is_some_and(is_number)
}

/// The families that this version does not know.
fn unknown_families(path: &Path) -> Vec<String> {
    let names = DB::list_cf(&Options::default(), path).unwrap_or_default();
    names.into_iter().filter(|name| Family::ALL.iter().all(|family| family.name() != name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Engine;

    fn settings(path: &Path, create: bool) -> Settings {
        let path = path.join("store-1");
        Settings { path, create, memory_bytes: 16 << 20, reserve_bytes: 0, max_tables: 64, read_only: false }
    }

    #[track_caller]
    fn check_damaged(path: &Path, what: &str) {
        for read_only in [false, true] {
            let refused = Engine::open(Settings { read_only, ..settings(path, false) }).err();
            assert_eq!(refused, Some(OpenError::Damaged(what.into())));
        }
    }

    #[test]
    fn a_store_whose_manifest_is_gone_is_damaged_and_not_a_new_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, store) = (directory.path(), directory.path().join("store-1"));
        Engine::open(settings(path, true)).expect("a new one").close().expect("flushed");
        Engine::open(settings(path, false)).expect("it is there").close().expect("flushed");
        fs::write(store.join("CURRENT"), "MANIFEST-999999\n").expect("written");
        check_damaged(path, "store-1/CURRENT names no file that exists");
        fs::write(store.join("CURRENT"), "").expect("written");
        check_damaged(path, "store-1/CURRENT names no file that exists");
        fs::remove_file(store.join("CURRENT")).expect("removed");
        check_damaged(path, "store-1/CURRENT cannot be read");
        assert!(!store.join("CURRENT").exists(), "nothing was made in its place");
    }

    #[test]
    fn a_file_that_no_store_has_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, store) = (directory.path(), directory.path().join("store-1"));
        let engine = Engine::open(settings(path, true)).expect("a new one");
        assert_eq!(check_files(&store, true), Ok(()), "also while it is open");
        engine.close().expect("flushed");
        drop(engine);
        drop(Engine::open(settings(path, false)).expect("it is there"));
        assert_eq!(check_files(&store, true), Ok(()));
        for name in ["notes.txt", "1.txt", "CURRENT.bak", "MANIFEST-", "000001.log.old", "log"] {
            fs::write(store.join(name), "somebody's own").expect("written");
            assert_eq!(check_files(&store, false), Err(format!("store-1/{name} is no file of a store")));
            fs::remove_file(store.join(name)).expect("removed");
        }
        fs::create_dir(store.join("000009.sst")).expect("made");
        assert_eq!(check_files(&store, false), Err("store-1/000009.sst is no file of a store".to_owned()));
        fs::remove_dir(store.join("000009.sst")).expect("removed");
        fs::remove_file(store.join("CURRENT")).expect("removed");
        assert_eq!(check_files(&store, false), Ok(()));
        assert_eq!(check_files(&store, true), Err("store-1/CURRENT cannot be read".to_owned()));
    }

    #[test]
    fn a_family_of_a_newer_version_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = ["default", "head", "archive"];
        drop(DB::open_cf(&options, directory.path().join("store-1"), families).expect("a newer version's store"));
        let refused = Engine::open(settings(directory.path(), false)).err();
        assert_eq!(refused, Some(OpenError::TooNew(vec!["archive".into()])));
    }
}
