//! A record of the newest write-ahead log, kept outside of RocksDB, so that the next start notices when that log is gone.
//!
//! RocksDB's manifest names the logs that are complete, and RocksDB does not open without those that it still needs. The
//! newest log, which holds the latest acknowledged writes, is not in the manifest: without that file RocksDB opens and
//! reports nothing. So a file beside the store names the newest log for as long as no other file holds what is in it:
//!
//! ```text
//! <db>/wal.json   {"store":"store-1","manifest":"MANIFEST-000005","log":12,"bytes":4096}
//! ```
//!
//! It is written before the first commit in a log is acknowledged, and removed when an orderly stop has flushed
//! everything. It says something about a store only if it names that store's directory and its present manifest: a restore
//! puts another directory in its place, and each time that a store is opened, RocksDB flushes what the logs held and begins
//! another manifest. A record without a store is of an older version, which knew one store only. RocksDB gives each log a
//! higher number than the one before; so with the manifest named there is always a log of that number or above.
//!
//! Not noticed: a newest log that was cut off behind `bytes`, because a crash leaves the same, and the loss of both files.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::files;

const RECORD: &str = "wal.json";
const RECORD_TMP: &str = "wal.json.tmp";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The name of the directory that the log is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// What `CURRENT` named.
    manifest: String,
    /// The number of the newest log.
    log: u64,
    /// The length that it had reached.
    bytes: u64,
}

impl Record {
    /// It was written for the store at `store`, as it is now.
    fn is_of(&self, store: &Path) -> bool {
        let names_it = self.store.as_ref().is_none_or(|name| *name == directory_name(store));
        names_it && current_manifest(store).is_ok_and(|manifest| manifest == self.manifest)
    }
}

/// Says which log of the store at `store` is gone or cut short, if one is; touches nothing.
pub(super) fn missing(store: &Path) -> Option<String> {
    let record = read_record(store).filter(|record| record.is_of(store))?;
    let name = format!("{}/{}", directory_name(store), name_of(record.log));
    match newest_log(store).ok()? {
        Some((number, _)) if number > record.log => None,
        Some((number, bytes)) if number == record.log => (bytes < record.bytes)
            .then(|| format!("{name} has {bytes} bytes of at least {} that were written", record.bytes)),
        _ => Some(format!("{name} is missing")),
    }
}

/// The same from RocksDB's own complaint about a log that its manifest names.
pub(super) fn missing_by_manifest(store: &Path, complaint: &str) -> Option<String> {
    let directory = directory_name(store);
    let number_behind = |text: &str| {
        let rest = &complaint[complaint.find(text)? + text.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    let gone =
        number_behind("Missing WAL with log number: ").map(|log| format!("{directory}/{} is missing", name_of(log)));
    gone.or_else(|| {
        number_behind("Size mismatch: WAL (log number: ")
            .map(|log| format!("{directory}/{} is cut short", name_of(log)))
    })
}

fn name_of(log: u64) -> String {
    format!("{log:06}.log")
}

fn directory_name(store: &Path) -> String {
    store.file_name().unwrap_or_default().display().to_string()
}

fn record_path(store: &Path) -> PathBuf {
    store.with_file_name(RECORD)
}

fn read_record(store: &Path) -> Option<Record> {
    let path = record_path(store);
    match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(record)) => Some(record),
        Ok(Err(_)) => {
            tracing::warn!(event = "store.log_unknown", path = %path.display(),
                "cannot be understood: a log that is gone would not be noticed");
            None
        }
        Err(_) => None,
    }
}

fn current_manifest(store: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(store.join("CURRENT"))?.trim().to_owned())
}

/// The highest log and its length.
fn newest_log(store: &Path) -> io::Result<Option<(u64, u64)>> {
    let mut newest = None;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        if let Some(number) = number.filter(|number| newest.is_none_or(|newest| *number > newest)) {
            newest = Some(number);
        }
    }
    let Some(number) = newest else { return Ok(None) };
    Ok(Some((number, fs::metadata(store.join(name_of(number)))?.len())))
}

/// Keeps the record of an open store's newest log.
pub(super) struct Logs {
    store: PathBuf,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// The log that is being written; none before the first commit.
    file: Option<File>,
    log: u64,
    bytes: u64,
    /// The record on disk names it.
    recorded: bool,
    /// The record could not be written, and the log says so.
    failing: bool,
}

/// Whether the newest log is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It is, or it could not be told.
    Fine,
    /// It was removed from outside: what it held is in memory only.
    Removed,
}

impl Logs {
    /// Of the store at `store`, which was just opened.
    pub(super) fn new(store: &Path) -> Self {
        Self { store: store.to_owned(), newest: Mutex::default() }
    }

    /// Call it when a commit is in the log and before it is acknowledged. It costs one `fstat`; the first commit in a log
    /// waits until the record is on disk.
    pub(super) fn follow(&self) -> Followed {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = newest.file.as_ref().and_then(|file| file.metadata().ok());
        let is_there = now.as_ref().is_some_and(|now| now.nlink() > 0);
        let length = now.as_ref().map_or(0, Metadata::len);
        // Each commit makes its log longer, so if this log did not grow, there is a newer one.
        if newest.recorded && is_there && length > newest.bytes {
            newest.bytes = length;
            return Followed::Fine;
        }
        match self.find_and_record(&mut newest) {
            Ok(true) => newest.failing = false,
            Ok(false) => return Followed::Removed,
            // The record only serves to notice a loss: writes go on without it.
            Err(error) if !newest.failing => {
                newest.failing = true;
                tracing::warn!(event = "store.log_unrecorded", %error, "a log that is removed would not be noticed");
            }
            Err(_) => {}
        }
        Followed::Fine
    }

    /// False if the log that was written last is not there any more.
    fn find_and_record(&self, newest: &mut Newest) -> io::Result<bool> {
        newest.recorded = false;
        let (log, bytes) = match newest_log(&self.store)? {
            Some(found) if found.0 >= newest.log => found,
            _ => return Ok(false),
        };
        newest.file = Some(File::open(self.store.join(name_of(log)))?);
        (newest.log, newest.bytes) = (log, bytes);
        let (store, manifest) = (Some(directory_name(&self.store)), current_manifest(&self.store)?);
        let record = Record { store, manifest, log, bytes };
        let path = record_path(&self.store);
        files::replace(&path, &path.with_file_name(RECORD_TMP), serde_json::to_string(&record)?.as_bytes())?;
        newest.recorded = true;
        Ok(true)
    }

    /// Everything is flushed and nothing more is written: no log is needed any more.
    pub(super) fn forget(&self) -> io::Result<()> {
        files::remove(&record_path(&self.store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store directory of these files, beside a record.
    fn store(manifest: &str, logs: &[(u64, usize)], record: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        fs::create_dir(&store).unwrap();
        fs::write(store.join("CURRENT"), format!("{manifest}\n")).unwrap();
        for (log, bytes) in logs {
            fs::write(store.join(name_of(*log)), vec![1; *bytes]).unwrap();
        }
        fs::write(record_path(&store), record).unwrap();
        directory
    }

    #[track_caller]
    fn check(manifest: &str, logs: &[(u64, usize)], said: Option<&str>) {
        let directory = store(manifest, logs, r#"{"manifest":"MANIFEST-000005","log":12,"bytes":100}"#);
        assert_eq!(missing(&directory.path().join("store")).as_deref(), said);
    }

    #[test]
    fn only_a_log_that_was_needed_is_missed() {
        let same = "MANIFEST-000005";
        check(same, &[(12, 100)], None);
        check(same, &[(12, 5_000)], None);
        check(same, &[(12, 99)], Some("store/000012.log has 99 bytes of at least 100 that were written"));
        check(same, &[], Some("store/000012.log is missing"));
        check(same, &[(11, 900)], Some("store/000012.log is missing"));
        // It was flushed: its successor is there.
        check(same, &[(14, 0)], None);
        // The store was opened since, and all its logs were flushed.
        check("MANIFEST-000015", &[], None);
    }

    #[test]
    fn a_record_says_nothing_about_another_store() {
        let named = |store: &str| format!(r#"{{{store}"manifest":"MANIFEST-000005","log":12,"bytes":100}}"#);
        let missing = |record: &str| missing(&store("MANIFEST-000005", &[], record).path().join("store"));
        let gone = Some("store/000012.log is missing".to_owned());
        assert_eq!(missing(&named(r#""store":"store","#)), gone);
        assert_eq!(missing(&named(r#""store":"store-2","#)), None);
        assert_eq!(missing(&named("")), gone, "an older version wrote it");
    }

    #[test]
    fn the_complaints_of_rocksdb_are_understood() {
        let gone = missing_by_manifest(Path::new("db/store-3"), "Corruption: Missing WAL with log number: 8.");
        assert_eq!(gone.as_deref(), Some("store-3/000008.log is missing"));
        let short = "Corruption: Size mismatch: WAL (log number: 31) in MANIFEST is 9 bytes , but actually is 1 bytes";
        assert_eq!(missing_by_manifest(Path::new("db/store"), short).as_deref(), Some("store/000031.log is cut short"));
        assert_eq!(missing_by_manifest(Path::new("db/store"), "Corruption: block checksum mismatch"), None);
    }

    #[test]
    fn a_record_follows_the_newest_log_and_ends_with_a_stop() {
        let directory = store("MANIFEST-000005", &[(4, 10)], "nonsense");
        let path = directory.path().join("store");
        let logs = Logs::new(&path);
        let record = || {
            let record = read_record(&path)?;
            assert_eq!(record.store.as_deref(), Some("store"));
            Some((record.log, record.bytes))
        };
        let append = |log: u64, bytes: usize| {
            let name = path.join(name_of(log));
            let before = fs::read(&name).unwrap_or_default();
            // In place: a new file of that name would count as the removal of the old one.
            let mut file = fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
            io::Write::write_all(&mut file, &vec![1; bytes]).unwrap();
            before.len() + bytes
        };
        assert_eq!(logs.follow(), Followed::Fine);
        assert_eq!(record(), Some((4, 10)));
        append(4, 10);
        assert_eq!((logs.follow(), record()), (Followed::Fine, Some((4, 10))), "written once a log");
        append(7, 30);
        assert_eq!((logs.follow(), record()), (Followed::Fine, Some((7, 30))));
        fs::remove_file(path.join(name_of(7))).unwrap();
        assert_eq!((logs.follow(), record()), (Followed::Removed, Some((7, 30))), "still missed by the next start");
        append(9, 5);
        assert_eq!((logs.follow(), record()), (Followed::Fine, Some((9, 5))));
        logs.forget().unwrap();
        assert_eq!(record(), None);
        logs.forget().unwrap();
    }
}
