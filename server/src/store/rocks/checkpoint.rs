//! A checkpoint: another directory with the store as it is now. Its table files are hard links, so that it takes no time
//! and hardly any room at first, and pins what compaction would remove.
//!
//! It is cut by the committer between two groups: it holds every commit that was acknowledged before, and nothing else. The
//! logs are copied and memtables are not flushed: commits wait for that some ten milliseconds, where a flush under load takes
//! half a second, and fails for good on a full disk. Whoever opens the checkpoint replays up to 64 MiB of log.

use std::fs;
use std::path::Path;

use rocksdb::ReadTier;
use rocksdb::checkpoint::Checkpoint;

use super::database::Database;
use crate::keys::Key;
use crate::store::Error;

/// Of any size: no log makes RocksDB flush first.
const FLUSH_ABOVE: u64 = u64::MAX;
/// How RocksDB says that the disk became full meanwhile.
const NO_SPACE: &str = "No space left";

/// Makes the checkpoint `path`, which must not exist and must lie on the store's file system, and returns the values that
/// `keys` have in it. A failure leaves nothing. Nobody may write meanwhile.
pub(super) fn cut(database: &Database, path: &Path, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    // What is there already is somebody's, and must not be removed after a failure.
    if path.symlink_metadata().is_ok() {
        return Err(Error::Checkpoint(format!("{} exists", path.display())));
    }
    // A log that is needed is hardly longer than the memtables that it fills.
    if database.lacks(database.sum_of("rocksdb.cur-size-all-mem-tables")) {
        return Err(Error::DiskFull);
    }
    let values = keys.iter().map(|key| Ok(database.get(key, ReadTier::All)?)).collect::<Result<_, Error>>()?;
    let cut = Checkpoint::new(&database.db)
        .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(path, FLUSH_ABOVE));
    cut.map_err(|error| {
        remove(path);
        let error = error.into_string();
        if error.contains(NO_SPACE) { Error::DiskFull } else { Error::Checkpoint(error) }
    })?;
    Ok(values)
}

/// Removes what there is of a checkpoint that was not finished.
fn remove(path: &Path) {
    // RocksDB gathers the files there and renames it at the end.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    for left in [path, Path::new(&unfinished)] {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{Engine, Settings, Store};

    fn open(path: &Path, reserve_bytes: u64, read_only: bool) -> Engine {
        let (path, create) = (path.join("store-1"), !read_only);
        Engine::open(Settings { path, create, memory_bytes: 16 << 20, reserve_bytes, max_tables: 64, read_only })
            .expect("it opens")
    }

    #[track_caller]
    fn check_refused(engine: &Engine, directory: &Path, why: &Error) {
        assert_eq!(engine.checkpoint(&directory.join("checkpoint"), &[]).as_ref(), Err(why));
        let names: Vec<_> =
            fs::read_dir(directory).expect("there").map(|entry| entry.expect("read").file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("checkpoint")), "{names:?}");
    }

    #[test]
    fn a_cut_that_cannot_be_made_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        check_refused(&open(path, u64::MAX, false), path, &Error::DiskFull);
        check_refused(&open(path, 0, true), path, &Error::Unsupported);
        check_refused(&Engine::of(Store::Memory(Memory::default())), path, &Error::Unsupported);

        let engine = open(path, 0, false);
        let nowhere = engine.checkpoint(&path.join("nowhere/checkpoint"), &[]);
        assert!(matches!(nowhere, Err(Error::Checkpoint(_))), "{nowhere:?}");
        engine.checkpoint(&path.join("kept"), &[]).expect("the one before left nothing in the way");
        let there = engine.checkpoint(&path.join("kept"), &[]);
        assert!(matches!(there, Err(Error::Checkpoint(_))), "{there:?}");
        assert!(path.join("kept/CURRENT").exists(), "it was somebody's");
        engine.close().expect("flushed");
        check_refused(&engine, path, &Error::Stopped("shutting down".into()));
    }
}
