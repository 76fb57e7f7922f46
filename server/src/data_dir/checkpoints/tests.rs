use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::data_dir::Birth;
use crate::format::Identity;
use crate::model::Incarnation;

const SECOND: u64 = 1_000_000_000;
const TIME: u64 = 1_763_700_000 * SECOND;

/// A database whose store is two files.
fn directory(root: &Path) -> Directory {
    let identity = Identity { database_id: [1; 16], incarnation: Incarnation(1) };
    let mut directory = Directory::open(&root.join("db"), Birth { identity, created_ns: 0 }, true).unwrap();
    fs::create_dir(directory.store_path()).unwrap();
    fs::write(directory.store_path().join("000001.sst"), "table").unwrap();
    fs::write(directory.store_path().join("CURRENT"), "MANIFEST-1").unwrap();
    directory.mark_ready().unwrap();
    directory
}

fn of(format: u32, created_ns: u64) -> CheckpointOf {
    let version = "0.3.0".to_owned();
    CheckpointOf { database_id: [1; 16], format, sequence: 7, messages: 5, version, created_ns }
}

/// What an engine does, as far as files go.
fn cut(store: PathBuf) -> impl FnOnce(&Path) -> io::Result<()> {
    move |path| copy_store(&store, path)
}

fn make(directory: &Directory, of: CheckpointOf) -> Checkpoint {
    directory.make_checkpoint(of, cut(directory.store_path())).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = entries_of(path).unwrap().into_iter();
    let mut names: Vec<_> = entries.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_newest_checkpoint_is_kept_and_says_what_it_is_of() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(root.path());
    assert_eq!(directory.checkpoints().unwrap(), [""; 0]);
    for (made, name) in [
        (of(1, TIME), "1-20251121T044000Z"),
        // Two in one second, and one by a clock that went back.
        (of(1, TIME + 1), "1-20251121T044000Z-2"),
        (of(2, TIME - SECOND), "2-20251121T043959Z"),
    ] {
        let checkpoint = make(&directory, made.clone());
        assert_eq!((checkpoint.name.as_str(), &checkpoint.of), (name, &made));
        assert_eq!(directory.checkpoints().unwrap(), [name]);
        assert_eq!(directory.find_checkpoint(Some(name)).unwrap(), checkpoint);
        assert_eq!(directory.find_checkpoint(None).unwrap(), checkpoint);
    }
    let refused = directory.find_checkpoint(Some("1-never")).unwrap_err();
    assert_eq!(refused.exit_code(), 5);
    let said = refused.to_string().replace(&directory.path().display().to_string(), "DB");
    assert_eq!(said, "DB has no checkpoint 1-never to go back to, only 2-20251121T043959Z: restore a backup");
}

#[test]
fn the_newest_is_the_last_by_time_whatever_its_format() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(root.path());
    let checkpoint = make(&directory, of(10, TIME));
    let older = checkpoint.path.with_file_name("9-20241121T044000Z");
    fs::create_dir(&older).unwrap();
    fs::copy(checkpoint.path.join(RECORD), older.join(RECORD)).unwrap();
    assert_eq!(directory.find_checkpoint(None).unwrap().name, checkpoint.name);
}

#[test]
fn a_checkpoint_is_complete_or_not_there() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(root.path());
    let kept = make(&directory, of(1, TIME));
    let all = directory.checkpoints_path();
    let full = |path: &Path| {
        fs::create_dir(path)?;
        fs::write(path.join("000001.sst"), "ta")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    directory.make_checkpoint(of(1, TIME + SECOND), full).unwrap_err();
    assert_eq!(names(&all), [kept.name.as_str()]);
    // One that a crash ended goes with the next start.
    let unfinished = all.join("1-20251121T050000Z.tmp");
    fs::create_dir_all(unfinished.join("store")).unwrap();
    fs::copy(all.join(&kept.name).join(RECORD), unfinished.join(RECORD)).unwrap();
    assert_eq!(directory.checkpoints().unwrap(), [kept.name.as_str()]);
    let path = directory.path().to_owned();
    drop(directory);
    let identity = Identity { database_id: [1; 16], incarnation: Incarnation(1) };
    drop(Directory::open(&path, Birth { identity, created_ns: 0 }, true).unwrap());
    assert_eq!(names(&all), [kept.name.as_str()]);
}

#[test]
fn a_store_that_takes_a_checkpoint_over_shares_its_tables_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let directory = directory(root.path());
    let checkpoint = make(&directory, of(1, TIME));
    let store = directory.next_store().unwrap();
    directory.take_over(&checkpoint, &store).unwrap();
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let [table, current] =
        ["000001.sst", "CURRENT"].map(|name| [&store, &checkpoint.path.join(STORE)].map(|path| inode(path.join(name))));
    assert!(table[0] == table[1] && current[0] != current[1], "{table:?} {current:?}");
    assert_eq!(fs::read_to_string(store.join("CURRENT")).unwrap(), "MANIFEST-1");
    // What cannot be taken over leaves nothing.
    fs::create_dir(checkpoint.path.join(STORE).join("directory")).unwrap();
    let other = directory.next_store().unwrap();
    directory.take_over(&checkpoint, &other).unwrap_err();
    assert!(store.exists() && !other.exists());
}
