//! What is there after a backup that succeeded, and after one that did not.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::json;
use tempfile::TempDir;

use super::super::{Counts, Description};
use super::*;

const STAMP: Stamp = Stamp { id: [0xab; 16], created_ns: 1_767_323_045_000_000_000 };
const FORMS: [Form; 2] = [Form::Tar, Form::Dir];

pub(in crate::backup) fn source(directory: &Path) -> Source {
    let store = directory.join("db/store-1");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("CURRENT"), vec![7; 100_000]).unwrap();
    let description = Description {
        database_id: [2; 16],
        incarnation: "00000000000000ab".to_owned(),
        version: "0.3.0".to_owned(),
        store_format: 1,
        engine: "memory".to_owned(),
        sequence: 7,
        counts: Counts::default(),
        kms: None,
        settings: json!({}),
    };
    Source::of_checkpoint(&store, description).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

fn setup() -> (TempDir, Source, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (source, out) = (source(directory.path()), directory.path().join("out"));
    fs::create_dir(&out).unwrap();
    (directory, source, out)
}

#[test]
fn names_of_artefacts_are_dated() {
    assert_eq!(STAMP.file_name(), "progressdb-20260102T030405Z.pdbk");
    assert_eq!(STAMP.created(), "2026-01-02T03:04:05Z");
    assert_ne!(Stamp::now().id, Stamp::now().id);
}

#[test]
fn a_live_store_is_written_as_a_stopped_one_is() {
    let (_directory, live, out) = setup();
    let mut noise = vec![0; 3_300_001];
    rand::fill(&mut noise).unwrap();
    fs::write(live.directory.join("CURRENT"), noise).unwrap();
    let stopped = Source { live: false, ..live.clone() };
    for form in FORMS {
        let target = |name: &str| Target { path: out.join(format!("{name}-{form:?}")), form };
        let make = |source, name| create(source, &target(name), &STAMP, &Progress::default()).unwrap();
        let (of_live, of_stopped) = (make(&live, "live"), make(&stopped, "stopped"));
        assert_eq!((&of_live.manifest, of_live.bytes), (&of_stopped.manifest, of_stopped.bytes));
        let read = |made: &Summary| match form {
            Form::Tar => fs::read(&made.path).unwrap(),
            Form::Dir => fs::read(made.path.join("store/CURRENT")).unwrap(),
        };
        assert!(read(&of_live) == read(&of_stopped), "{form:?}");
    }
}

#[test]
fn a_target_is_where_nothing_is_and_outside_of_the_data_directory() {
    let (directory, _, out) = setup();
    let db = directory.path().join("db");
    let resolve = |path: &Path| Target::resolve(path, Form::Tar, &STAMP, &db).map(|target| target.path);
    let code = |path: &Path| resolve(path).unwrap_err().exit_code();
    assert_eq!(resolve(&out).unwrap(), out.join("progressdb-20260102T030405Z.pdbk"));
    assert_eq!(resolve(&out.join("new/b")).unwrap(), out.join("new/b"));
    fs::write(out.join("there"), "").unwrap();
    assert_eq!(code(&out.join("there")), 6);
    symlink("nowhere", out.join("dangling")).unwrap();
    assert_eq!(code(&out.join("dangling")), 6, "a link to nowhere is not followed");
    fs::write(out.join(STAMP.file_name()), "").unwrap();
    assert_eq!(code(&out), 6);
    symlink(&db, out.join("link")).unwrap();
    for inside in [db.clone(), db.join("b"), db.join("store-1"), db.join("new/b"), out.join("link"), out.join("link/b")]
    {
        assert_eq!(code(&inside), 2, "{}", inside.display());
    }
}

#[test]
fn an_artefact_is_for_its_owner_and_nothing_temporary_is_left() {
    for form in FORMS {
        let (directory, source, out) = setup();
        let target = Target { path: out.join("deep/er/b.pdbk"), form };
        let made = create(&source, &target, &STAMP, &Progress::default()).unwrap();
        assert_eq!(names(&out.join("deep/er")), ["b.pdbk"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        match form {
            Form::Tar => {
                assert_eq!(mode(&made.path), 0o600);
                assert_eq!(made.bytes, fs::metadata(&made.path).unwrap().len());
            }
            Form::Dir => {
                let inside = ["", "store", "store/CURRENT", "manifest.json", "progressdb-backup.json"];
                assert_eq!(inside.map(|name| mode(&made.path.join(name))), [0o700, 0o700, 0o600, 0o600, 0o600]);
            }
        }
        let again = create(&source, &target, &STAMP, &Progress::default()).unwrap_err();
        assert_eq!(again.exit_code(), 6, "one that came meanwhile is not replaced: {again}");
        assert_eq!(names(&out.join("deep/er")), ["b.pdbk"]);
        drop(directory);
    }
}

#[test]
fn a_failure_leaves_nothing() {
    for form in FORMS {
        let (_directory, source, out) = setup();
        let target = Target { path: out.join("deep/er/b.pdbk"), form };
        let stopped = Progress::default();
        stopped.stop();
        let error = create(&source, &target, &STAMP, &stopped).unwrap_err();
        assert_eq!((error.exit_code(), names(&out)), (130, Vec::new()), "{error}");
        fs::remove_file(source.directory.join("CURRENT")).unwrap();
        let error = create(&source, &target, &STAMP, &Progress::default()).unwrap_err();
        assert_eq!((error.exit_code(), names(&out)), (1, Vec::new()), "{error}");
        assert!(error.to_string().contains("cannot read"), "{error}");
    }
}

#[test]
fn leftovers_of_dead_processes_are_removed_and_nothing_else() {
    let (_directory, source, out) = setup();
    let leftover = |id: &str| out.join(format!("progressdb-backup-{id}.tmp"));
    fs::write(leftover(&"11".repeat(16)), "").unwrap();
    fs::create_dir(leftover(&"22".repeat(16))).unwrap();
    fs::write(leftover(&"22".repeat(16)).join("file"), "").unwrap();
    let alive = File::create(leftover(&"33".repeat(16))).unwrap();
    alive.lock().unwrap();
    fs::write(leftover("notes"), "").unwrap();
    fs::write(out.join("notes.tmp"), "").unwrap();
    symlink(&source.directory, leftover(&"44".repeat(16))).unwrap();
    let target = Target { path: out.join("b.pdbk"), form: Form::Tar };
    create(&source, &target, &STAMP, &Progress::default()).unwrap();
    let (three, four) = ("33".repeat(16), "44".repeat(16));
    let wanted = [
        "b.pdbk".to_owned(),
        format!("progressdb-backup-{three}.tmp"),
        format!("progressdb-backup-{four}.tmp"),
        "progressdb-backup-notes.tmp".to_owned(),
        "notes.tmp".to_owned(),
    ];
    assert_eq!(names(&out), {
        let mut wanted = wanted;
        wanted.sort();
        wanted
    });
    assert!(source.directory.join("CURRENT").exists());
}
