//! Checkpoints of the store of a running server, each held for one backup.
//!
//! Who asked for a checkpoint holds it by a lease, which ends by itself if it is not renewed: a client that was killed
//! pins no files for long. A checkpoint lies in `<db>/tmp/backup-<id>`, and that directory is emptied at every start. There
//! are at most [`MOST`] at one time, and one is cut after the other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use metrics::Histogram;

use super::{Description, Source};
use crate::clock::monotonic;
use crate::data_dir;
use crate::db::{Inspected, OpenError};
use crate::error_chain::with_causes;
use crate::store::{self, Engine};

/// How long a checkpoint is held unless its lease is renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// Checkpoints that are held at one time.
pub const MOST: usize = 4;

/// Describes a checkpoint by the values that [`Inspected::ROWS`] have in it. May block; called outside of a runtime's
/// workers.
pub type Describe = Box<dyn Fn(&[Option<Vec<u8>>]) -> Result<Description, OpenError> + Send + Sync>;

/// The checkpoints of one server; clones share them.
#[derive(Clone)]
pub struct Checkpoints(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// On the file system of the store.
    directory: PathBuf,
    lease: Duration,
    describe: Describe,
    cut_seconds: Histogram,
    /// Held while one is cut.
    cutting: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Checkpoints that are being cut.
    begun: usize,
    held: BTreeMap<String, Held>,
}

/// A checkpoint that somebody holds.
struct Held {
    path: PathBuf,
    since: Instant,
    /// None if it is held by this process, which cannot forget it.
    until: Option<Instant>,
}

/// A checkpoint as its holder knows it.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The directory with its files.
    pub path: PathBuf,
    /// What is said of the store in it.
    pub description: Description,
}

impl Checkpoint {
    /// What is to be backed up.
    pub fn source(&self) -> io::Result<Source> {
        Source::of_checkpoint(&self.path, self.description.clone())
    }
}

/// Where the checkpoint of a server lies that has this data directory. The id comes from the server: what is no id of one
/// leads nowhere.
pub(super) fn checkpoint_path(data_dir: &Path, id: &str) -> PathBuf {
    let id: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    data_dir::tmp_of(data_dir).join(directory_name(&id))
}

fn directory_name(id: &str) -> String {
    format!("backup-{id}")
}

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Others are held.
    #[error("{MOST} backups are being made already: wait until one of them has ended")]
    TooMany,
    /// The disk has no room for what must be flushed.
    #[error("the disk is almost full: free some space, or lower storage.reserve")]
    DiskFull,
    /// The engine has none, or failed.
    #[error("no checkpoint could be cut")]
    Engine(#[source] store::Error),
    /// The store does not say what it is.
    #[error("the store in the checkpoint could not be read")]
    Unreadable(#[source] OpenError),
}

/// What all checkpoints together are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Checkpoints that are held.
    pub held: usize,
    /// Since when the oldest one is.
    pub oldest: Duration,
    /// What the store has removed and would be free without them.
    pub pinned_bytes: u64,
}

impl Checkpoints {
    /// Of this engine, in a directory on its file system. A lease lasts as long as `lease`.
    pub fn new(engine: Engine, directory: PathBuf, lease: Duration, describe: Describe) -> Self {
        let (cutting, state) = (Mutex::default(), Mutex::default());
        let cut_seconds = metrics::histogram!("progressdb_backup_cut_seconds");
        Self(Arc::new(Inner { engine, directory, lease, describe, cut_seconds, cutting, state }))
    }

    /// How long a lease lasts.
    pub fn lease(&self) -> Duration {
        self.0.lease
    }

    /// Cuts a checkpoint. Its lease begins when this returns. Blocks.
    pub fn cut(&self) -> Result<Checkpoint, CutError> {
        self.cut_until(|now| Some(now + self.0.lease))
    }

    /// Cuts a checkpoint for a backup that this process makes; it is removed when the result is dropped. Blocks.
    pub fn hold(&self) -> Result<Hold, CutError> {
        let checkpoint = self.cut_until(|_| None)?;
        Ok(Hold { checkpoints: self.clone(), checkpoint })
    }

    fn cut_until(&self, until: impl FnOnce(Instant) -> Option<Instant>) -> Result<Checkpoint, CutError> {
        let _begun = Begun::new(self)?;
        let _turn = self.0.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        let id = random_id();
        let path = self.0.directory.join(directory_name(&id));
        let started = monotonic();
        let values = self.0.engine.checkpoint(&path, &Inspected::ROWS).map_err(|error| match error {
            store::Error::DiskFull => CutError::DiskFull,
            other => CutError::Engine(other),
        });
        let took = monotonic() - started;
        let described = values.and_then(|values| (self.0.describe)(&values).map_err(CutError::Unreadable));
        let description = described.inspect_err(|error| {
            // There is one if only its description failed; the next start tries again.
            let _ = remove_directory(&path);
            tracing::warn!(event = "backup.cut_failed", error = with_causes(error));
        })?;
        self.0.cut_seconds.record(took);
        tracing::info!(event = "backup.checkpoint_cut", id, ms = took.as_millis() as u64);
        let now = monotonic();
        let held = Held { path: path.clone(), since: now, until: until(now) };
        self.state().held.insert(id.clone(), held);
        Ok(Checkpoint { id, path, description })
    }

    /// Begins the lease anew. False if it has ended.
    pub fn renew(&self, id: &str) -> bool {
        let now = monotonic();
        let mut state = self.state();
        let held = state.held.get_mut(id).and_then(|held| held.until.as_mut());
        let Some(until) = held.filter(|until| **until > now) else { return false };
        *until = now + self.0.lease;
        true
    }

    /// Ends the lease and removes the checkpoint. False if there is none. Blocks.
    pub fn remove(&self, id: &str) -> bool {
        let Some(held) = self.state().held.remove(id) else { return false };
        match remove_directory(&held.path) {
            Ok(()) => tracing::info!(event = "backup.checkpoint_removed", id),
            Err(error) => {
                tracing::warn!(event = "backup.checkpoint_left", id, %error, "the space that it takes comes back with the next start");
            }
        }
        true
    }

    /// Removes the checkpoints whose leases have ended. Blocks.
    pub fn remove_expired(&self) {
        let now = monotonic();
        let is_over = |held: &Held| held.until.is_some_and(|until| until <= now);
        let over: Vec<_> =
            self.state().held.iter().filter(|(_, held)| is_over(held)).map(|(id, _)| id.clone()).collect();
        for id in over {
            tracing::warn!(
                event = "backup.lease_ended",
                id,
                "its client did not renew it: killed, or stopped for long"
            );
            metrics::counter!("progressdb_backup_leases_ended_total").increment(1);
            self.remove(&id);
        }
    }

    /// Removes all checkpoints, because the server stops. Blocks.
    pub fn remove_all(&self) {
        let all: Vec<_> = self.state().held.keys().cloned().collect();
        for id in &all {
            self.remove(id);
        }
    }

    /// What all checkpoints together are. Looks at each of their files.
    pub fn figures(&self) -> Figures {
        let held: Vec<_> = self.state().held.values().map(|held| (held.path.clone(), held.since)).collect();
        let oldest = held.iter().map(|(_, since)| *since).min();
        Figures {
            held: held.len(),
            oldest: oldest.map_or(Duration::ZERO, |oldest| monotonic() - oldest),
            pinned_bytes: held.iter().map(|(path, _)| pinned_bytes(path)).sum(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is consistent between any two statements.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checkpoint that this process holds; removed when this is dropped.
pub struct Hold {
    checkpoints: Checkpoints,
    checkpoint: Checkpoint,
}

impl Hold {
    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.checkpoints.remove(&self.checkpoint.id);
    }
}

/// Counts among the checkpoints while it is cut.
struct Begun<'a>(&'a Checkpoints);

impl<'a> Begun<'a> {
    fn new(checkpoints: &'a Checkpoints) -> Result<Self, CutError> {
        let mut state = checkpoints.state();
        if state.begun + state.held.len() >= MOST {
            return Err(CutError::TooMany);
        }
        state.begun += 1;
        Ok(Self(checkpoints))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.state().begun -= 1;
    }
}

fn random_id() -> String {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    hex::encode(bytes)
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The bytes on disk of files that have no other name: the store has removed them, or they were copied.
fn pinned_bytes(path: &Path) -> u64 {
    let files = fs::read_dir(path).into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
    files.filter(|file| file.nlink() == 1).map(|file| file.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Counts;
    use crate::store::memory::Memory;
    use crate::store::{Settings, Store};

    fn describe(values: &[Option<Vec<u8>>]) -> Result<Description, OpenError> {
        assert_eq!(values, vec![None; Inspected::ROWS.len()]);
        Ok(Description {
            database_id: [1; 16],
            incarnation: "00000000000000ab".to_owned(),
            version: "0.3.0".to_owned(),
            store_format: 1,
            engine: "rocksdb".to_owned(),
            sequence: 0,
            counts: Counts::default(),
            kms: None,
            settings: serde_json::Value::Null,
        })
    }

    struct Subject {
        checkpoints: Checkpoints,
        directory: tempfile::TempDir,
    }

    impl Subject {
        fn new(lease: Duration) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store-1");
            let settings = Settings {
                path,
                create: true,
                memory_bytes: 16 << 20,
                reserve_bytes: 0,
                max_tables: 64,
                read_only: false,
            };
            let tmp = directory.path().join("tmp");
            fs::create_dir(&tmp).unwrap();
            let engine = Engine::open(settings).unwrap();
            Self { checkpoints: Checkpoints::new(engine, tmp, lease, Box::new(describe)), directory }
        }

        fn left(&self) -> usize {
            fs::read_dir(self.directory.path().join("tmp")).unwrap().count()
        }
    }

    #[test]
    fn a_checkpoint_is_held_until_it_is_removed() {
        let subject = Subject::new(LEASE);
        let checkpoint = subject.checkpoints.cut().unwrap();
        assert!(checkpoint.path.join("CURRENT").exists());
        subject.checkpoints.remove_expired();
        assert!(subject.checkpoints.renew(&checkpoint.id));
        let figures = subject.checkpoints.figures();
        assert_eq!(figures.held, 1);
        assert!(figures.pinned_bytes > 0, "its manifest is its own");
        assert!(subject.checkpoints.remove(&checkpoint.id));
        assert!(!subject.checkpoints.remove(&checkpoint.id) && !subject.checkpoints.renew(&checkpoint.id));
        assert_eq!((subject.left(), subject.checkpoints.figures()), (0, Figures::default()));
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends() {
        let subject = Subject::new(Duration::ZERO);
        let checkpoint = subject.checkpoints.cut().unwrap();
        assert!(!subject.checkpoints.renew(&checkpoint.id), "it is over, though nobody has removed it yet");
        let hold = subject.checkpoints.hold().unwrap();
        assert_eq!(subject.left(), 2);
        subject.checkpoints.remove_expired();
        assert!(hold.checkpoint().path.exists() && !checkpoint.path.exists());
        drop(hold);
        assert_eq!(subject.left(), 0);
    }

    #[test]
    fn at_most_a_few_are_held_at_one_time() {
        let subject = Subject::new(LEASE);
        let held: Vec<_> = (0..MOST).map(|_| subject.checkpoints.cut().unwrap()).collect();
        assert!(matches!(subject.checkpoints.cut(), Err(CutError::TooMany)));
        subject.checkpoints.remove(&held[0].id);
        subject.checkpoints.cut().unwrap();
        subject.checkpoints.remove_all();
        assert_eq!((subject.left(), subject.checkpoints.figures().held), (0, 0));
    }

    #[test]
    fn a_cut_that_fails_leaves_nothing() {
        let subject = Subject::new(LEASE);
        fs::remove_dir(subject.directory.path().join("tmp")).unwrap();
        for _ in 0..=MOST {
            assert!(matches!(subject.checkpoints.cut(), Err(CutError::Engine(store::Error::Checkpoint(_)))));
        }
        assert_eq!(subject.checkpoints.figures(), Figures::default());
        let memory = Engine::of(Store::Memory(Memory::default()));
        let memory = Checkpoints::new(memory, "nowhere".into(), LEASE, Box::new(describe));
        assert!(matches!(memory.cut(), Err(CutError::Engine(store::Error::Unsupported))));
    }

    #[test]
    fn a_checkpoint_that_cannot_be_described_is_not_kept() {
        let Subject { checkpoints, directory } = Subject::new(LEASE);
        let Inner { engine, directory: tmp, .. } = &*checkpoints.0;
        let refuse: Describe = Box::new(|_| Err(OpenError::Foreign));
        let refusing = Checkpoints::new(engine.clone(), tmp.clone(), LEASE, refuse);
        assert!(matches!(refusing.cut(), Err(CutError::Unreadable(OpenError::Foreign))));
        assert_eq!((fs::read_dir(tmp).unwrap().count(), refusing.figures()), (0, Figures::default()));
        drop(directory);
    }
}
