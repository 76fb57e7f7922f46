use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::model::Incarnation;

const IDENTITY: Identity = Identity { database_id: [0xab; 16], incarnation: Incarnation(0x0123_4567_89ab_cdef) };
const BIRTH: Birth = Birth { identity: IDENTITY, created_ns: 1_763_700_000_000_000_000 };
const LAYOUT_1: &str = "{\"name\":\"progressdb\",\"layout\":1,\"database_id\":\"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\",\"state\":\"ready\",\"created\":\"2025-11-21T04:40:00Z\"}\n";

/// A directory under test; on whatever file system the tests run.
struct Db(TempDir);

impl Db {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("db")
    }

    fn open(&self) -> Result<Directory, Error> {
        Directory::open(&self.path(), BIRTH, true)
    }

    /// Creates a database with a store that looks like one.
    fn ready(self) -> Self {
        let mut directory = self.open().unwrap();
        make_store(&directory.store_path());
        directory.mark_ready().unwrap();
        self
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path().join(name).parent().unwrap()).unwrap();
        fs::write(self.path().join(name), text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn make_store(store: &Path) {
    fs::create_dir(store).unwrap();
    fs::write(store.join("rows"), "").unwrap();
}

#[track_caller]
fn check_refused(db: &Db, exit_code: u8, text: &str) {
    let error = db.open().unwrap_err();
    assert_eq!(error.to_string().replace(&db.path().display().to_string(), "DB"), text);
    assert_eq!(error.exit_code(), exit_code);
}

#[test]
fn a_new_directory_is_created_for_its_owner_only() {
    let db = Db::new();
    let mut directory = db.open().unwrap();
    assert!(directory.is_new());
    assert_eq!(directory.database_id(), [0xab; 16]);
    assert_eq!(fs::metadata(db.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(db.names(), ["PROGRESSDB", "lock", "tmp"]);
    make_store(&directory.store_path());
    directory.mark_ready().unwrap();
    assert_eq!(
        fs::read_to_string(db.path().join("PROGRESSDB")).unwrap(),
        "{\"name\":\"progressdb\",\"layout\":2,\"database_id\":\"abababababababababababababababab\",\"incarnation\":\"0123456789abcdef\",\"state\":\"ready\",\"store\":\"store-1\",\"created\":\"2025-11-21T04:40:00Z\"}\n"
    );
}

#[test]
fn a_ready_directory_keeps_its_identity() {
    let db = Db::new().ready();
    let identity = Identity { database_id: [1; 16], incarnation: Incarnation(1) };
    let other = Birth { identity, created_ns: 0 };
    let directory = Directory::open(&db.path(), other, true).unwrap();
    assert!(!directory.is_new());
    assert_eq!(directory.identity(), IDENTITY);
}

#[test]
fn a_creation_that_crashed_begins_again() {
    let db = Db::new();
    let directory = db.open().unwrap();
    let marker = fs::read_to_string(db.path().join(MARKER)).unwrap();
    drop(directory);
    db.write(MARKER, &marker);
    db.write("store-1/000001.log", "half");
    let other = Birth { identity: Identity { database_id: [2; 16], incarnation: Incarnation(2) }, created_ns: 1 };
    let directory = Directory::open(&db.path(), other, true).unwrap();
    assert!(directory.is_new());
    assert!(!directory.store_path().exists());
    assert_eq!(directory.identity(), other.identity, "nothing was acknowledged under its former name");
}

#[test]
fn a_creation_that_is_given_up_leaves_nothing_that_was_not_there() {
    let db = Db::new();
    let nested = db.path().join("a/b");
    let directory = Directory::open(&nested, BIRTH, true).unwrap();
    make_store(&directory.store_path());
    drop(directory);
    assert!(!db.path().exists());
    fs::create_dir_all(db.path().join("lost+found")).unwrap();
    drop(db.open().unwrap());
    assert_eq!(db.names(), ["lost+found"]);
}

#[test]
fn a_lock_whose_file_is_gone_holds_nobody_off() {
    let db = Db::new().ready();
    let held = db.open().unwrap();
    assert!(crate::files::is_same_file(&held.lock, &db.path().join(LOCK)));
    fs::remove_file(db.path().join(LOCK)).unwrap();
    assert!(!crate::files::is_same_file(&held.lock, &db.path().join(LOCK)));
}

#[test]
fn leftovers_from_before_the_marker_are_harmless() {
    for name in ["lock", "PROGRESSDB.tmp", "lost+found/x"] {
        let db = Db::new();
        db.write(name, "");
        assert!(db.open().unwrap().is_new(), "{name}");
    }
}

#[test]
fn leftovers_in_tmp_go_at_the_next_start() {
    let db = Db::new().ready();
    db.write("tmp/old/file", "x");
    let directory = db.open().unwrap();
    assert_eq!(fs::read_dir(directory.tmp_path()).unwrap().count(), 0);
}

#[test]
fn a_second_process_is_refused_and_told_by_whom() {
    let db = Db::new();
    let _held = db.open().unwrap();
    let pid = std::process::id();
    let text = format!("DB is in use by process {pid}: stop that process, or choose another directory with --db");
    check_refused(&db, 75, &text);
}

#[test]
fn a_server_is_found_by_the_directory_that_it_serves() {
    let db = Db::new();
    let held = db.open().unwrap();
    let address = ([127, 0, 0, 1], 8080).into();
    held.announce(address, true).unwrap();
    let pid = std::process::id();
    let text = format!(
        "DB is in use by process {pid}, a server at 127.0.0.1:8080: stop that process, or choose another directory with --db"
    );
    check_refused(&db, 75, &text);
    let Err(Error::InUse { holder, .. }) = db.open() else {
        panic!("it is in use");
    };
    let socket = Some(db.path().join("server.sock"));
    assert_eq!(holder, Holder { pid: Some(pid), address: Some(address), socket });
}

#[test]
fn the_lock_ends_with_its_holder() {
    let db = Db::new();
    drop(db.open().unwrap());
    db.open().unwrap();
}

#[test]
fn a_directory_of_something_else_is_left_as_it_was() {
    let db = Db::new();
    for name in ["notes.txt", "photos/1", "a", "b", "c", "d"] {
        db.write(name, "x");
    }
    check_refused(
        &db,
        7,
        "DB is not a data directory of ours: it has no PROGRESSDB file but holds a, b, c, d, notes.txt and more; choose an empty or new directory with --db",
    );
    assert_eq!(db.names(), ["a", "b", "c", "d", "notes.txt", "photos"]);
}

#[test]
fn a_database_of_go_0_2_is_recognised() {
    let db = Db::new();
    for name in ["store/CURRENT", "index/CURRENT", "wal/CURRENT", "state/audit/x"] {
        db.write(name, "MANIFEST-000001\n");
    }
    check_refused(
        &db,
        7,
        "DB is not a data directory of ours: it looks like a database of ProgressDB 0.2, which this version cannot open; choose an empty or new directory with --db",
    );
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let db = Db::new();
    fs::write(db.path(), "x").unwrap();
    check_refused(
        &db,
        7,
        "DB is not a data directory of ours: it is not a directory; choose an empty or new directory with --db",
    );
}

#[test]
fn symbolic_links_in_place_of_our_entries_are_refused() {
    for name in ["PROGRESSDB", "lock", "store-1", "tmp", "checkpoints"] {
        let db = Db::new().ready();
        fs::create_dir_all(db.path().join("checkpoints")).unwrap();
        let elsewhere = db.0.path().join("elsewhere");
        fs::rename(db.path().join(name), &elsewhere).unwrap();
        symlink(&elsewhere, db.path().join(name)).unwrap();
        let text = format!(
            "DB is not a data directory of ours: {name} is a symbolic link; choose an empty or new directory with --db"
        );
        check_refused(&db, 7, &text);
    }
}

#[test]
fn a_store_that_is_gone_is_damage_not_a_new_database() {
    let db = Db::new().ready();
    fs::remove_dir_all(db.path().join("store-1")).unwrap();
    let text = "DB is damaged: its store directory store-1 is missing; keep a copy and restore a backup";
    check_refused(&db, 7, text);
}

#[test]
fn markers_of_others_damaged_and_newer_ones_are_told_apart() {
    let check = |marker: &str, exit_code, text: &str| {
        let db = Db::new().ready();
        db.write("PROGRESSDB", marker);
        check_refused(&db, exit_code, text);
        assert_eq!(fs::read_to_string(db.path().join("PROGRESSDB")).unwrap(), marker);
    };
    let damaged = "DB is damaged: its PROGRESSDB file cannot be understood; keep a copy and restore a backup";
    for marker in ["", "{", "\0\0\0", "{\"name\":\"progressdb\",\"layout\":1}"] {
        check(marker, 7, damaged);
    }
    check(
        "{\"name\":\"other\",\"layout\":1}",
        7,
        "DB is not a data directory of ours: its PROGRESSDB file belongs to something else; choose an empty or new directory with --db",
    );
    check(
        "{\"name\":\"progressdb\",\"layout\":3,\"shape\":\"new\"}",
        78,
        "directory layout 3 is too new: this version reads up to 2; start the version that wrote it",
    );
}

#[test]
fn looking_at_a_database_creates_none() {
    let db = Db::new();
    assert_eq!(Directory::open_existing(&db.path()).unwrap_err().exit_code(), 5);
    fs::create_dir(db.path()).unwrap();
    assert_eq!(Directory::open_existing(&db.path()).unwrap_err().exit_code(), 5);
    assert!(db.names().is_empty());
    let db = Db::new().ready();
    let held = Directory::open_existing(&db.path()).unwrap();
    assert_eq!(held.database_id(), [0xab; 16]);
    assert_eq!(Directory::open_existing(&db.path()).unwrap_err().exit_code(), 75);
}

/// A directory as a version of layout 1 left it.
fn of_layout_1() -> Db {
    let db = Db::new();
    db.write("lock", "");
    db.write(MARKER, LAYOUT_1);
    make_store(&db.path().join("store"));
    db
}

#[test]
fn a_directory_of_layout_1_is_moved_up_once() {
    let db = of_layout_1();
    let seen = Directory::open_existing(&db.path()).unwrap().identity();
    assert_eq!(seen, Identity { database_id: [0xcd; 16], incarnation: Incarnation(1) }, "looking changes nothing");
    assert_eq!(fs::read_to_string(db.path().join(MARKER)).unwrap(), LAYOUT_1);
    let moved = db.open().unwrap();
    let identity = Identity { database_id: [0xcd; 16], ..IDENTITY };
    assert_eq!((moved.is_new(), moved.identity(), moved.store_path()), (false, identity, db.path().join("store")));
    let marker = fs::read_to_string(db.path().join(MARKER)).unwrap();
    assert!(marker.contains("\"layout\":2") && marker.contains("\"store\":\"store\""), "{marker}");
    drop(moved);
    let other = Birth { identity: Identity { database_id: [1; 16], incarnation: Incarnation(1) }, created_ns: 0 };
    assert_eq!(Directory::open(&db.path(), other, true).unwrap().identity(), identity, "its incarnation stays");
}

/// Moving up is: write a temporary file, rename it. A process can die in front of each, and in the middle of the first.
#[test]
fn a_move_to_the_new_layout_that_was_cut_off_anywhere_goes_on() {
    let moved = of_layout_1();
    drop(moved.open().unwrap());
    let marker = fs::read_to_string(moved.path().join(MARKER)).unwrap();
    for written in [0, 1, marker.len() / 2, marker.len()] {
        let db = of_layout_1();
        db.write(MARKER_TMP, &marker[..written]);
        let opened = db.open().unwrap();
        let identity = Identity { database_id: [0xcd; 16], ..IDENTITY };
        assert_eq!((opened.is_new(), opened.identity()), (false, identity), "{written} bytes");
    }
}

#[test]
fn a_creation_in_layout_1_that_crashed_begins_again() {
    let db = Db::new();
    db.write(MARKER, &LAYOUT_1.replace("ready", "creating"));
    db.write("store/000001.log", "half");
    let directory = db.open().unwrap();
    assert!(directory.is_new() && !directory.store_path().exists());
}

#[test]
fn the_marker_names_the_store_that_counts() {
    let db = Db::new().ready();
    make_store(&db.path().join("store-2"));
    let marker = fs::read_to_string(db.path().join(MARKER)).unwrap();
    db.write(MARKER, &marker.replace("store-1", "store-2"));
    assert_eq!(db.open().unwrap().store_path(), db.path().join("store-2"));
    for name in ["../store-1", "store-01", "store-", "storage", "", "store-1/x"] {
        db.write(MARKER, &marker.replace("store-1", name));
        check_refused(
            &db,
            7,
            "DB is damaged: its PROGRESSDB file cannot be understood; keep a copy and restore a backup",
        );
    }
}

#[test]
fn a_restore_that_did_not_end_is_refused_with_the_command_that_ends_it() {
    let db = Db::new().ready();
    let marker = fs::read_to_string(db.path().join(MARKER)).unwrap().replace("\"ready\"", "\"restoring\"");
    db.write(MARKER, &marker);
    let text = "DB holds a restore that did not end: repeat it with `progressdb restore`, or undo it with `progressdb reset --confirm`";
    check_refused(&db, 7, text);
    assert_eq!(Directory::open_existing(&db.path()).unwrap_err().exit_code(), 7);
    assert_eq!(fs::read_to_string(db.path().join(MARKER)).unwrap(), marker);
}
