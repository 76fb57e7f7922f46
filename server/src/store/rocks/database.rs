//! The open database: reads of one row, the write, flush and compaction.
//!
//! Every call blocks for as long as the disk takes. Only the committer writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BottommostLevelCompaction, BoundColumnFamily, Cache, ColumnFamilyDescriptor, CompactOptions, DB, ErrorKind,
    FlushOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions,
};

use super::Settings;
use super::family::Family;
use super::head_cache::HeadCache;
use super::logs::{Followed, Logs};
use super::options::{database_options, family_options};
use crate::files;
use crate::keys::Key;
use crate::store::{Compaction, Error};

/// An open database, and what is kept in memory of it.
pub(super) struct Database {
    pub(super) db: DB,
    /// Reads look here first.
    pub(super) heads: HeadCache,
    logs: Logs,
    cache: Cache,
    settings: Settings,
}

/// Why a read gave nothing.
pub(super) enum ReadFailure {
    /// Only the disk has it, and memory was asked.
    NotInMemory,
    /// It failed.
    Engine(Error),
}

impl From<rocksdb::Error> for ReadFailure {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Incomplete => Self::NotInMemory,
            _ => Self::Engine(read_error(error)),
        }
    }
}

/// Of a read that was allowed to go to the disk.
impl From<ReadFailure> for Error {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Engine(error) => error,
            ReadFailure::NotInMemory => Self::Read("a read of every tier was incomplete".into()),
        }
    }
}

impl Database {
    pub(super) fn open(settings: Settings) -> Result<Self, rocksdb::Error> {
        let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
        let cache = Cache::new_lru_cache(memory);
        let options = database_options(&settings, memory, &cache);
        let families = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, memory, &cache)));
        let db = if settings.read_only {
            DB::open_cf_descriptors_read_only(&options, &settings.path, families, false)
        } else {
            DB::open_cf_descriptors(&options, &settings.path, families)
        }?;
        let heads = HeadCache::new(settings.memory_bytes / 8);
        let logs = Logs::new(&settings.path);
        Ok(Self { db, heads, logs, cache, settings })
    }

    pub(super) fn get(&self, key: &Key, tier: ReadTier) -> Result<Option<Vec<u8>>, ReadFailure> {
        if let Some(head) = self.heads.get(key) {
            return Ok(Some(head));
        }
        let key = key.encode();
        Ok(self.db.get_cf_opt(&self.family(Family::of(&key)), key, &read_options(tier))?)
    }

    /// Writes the batch and syncs the log. An error is fatal: what is on disk then is unknown.
    pub(super) fn write_and_sync(&self, batch: WriteBatch) -> Result<(), rocksdb::Error> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options)?;
        self.follow_log()
    }

    /// Keeps the record of the newest log; what a log held that somebody removed goes to files of its own. Comes between a
    /// write and its acknowledgement.
    fn follow_log(&self) -> Result<(), rocksdb::Error> {
        if self.logs.follow() == Followed::Fine {
            return Ok(());
        }
        tracing::error!(event = "store.log_removed", path = %self.settings.path.display(),
            "somebody removed the write-ahead log of the running server; what only it held is flushed now");
        self.flush()?;
        self.logs.follow();
        Ok(())
    }

    /// Writes every memtable to a file, after which the log holds nothing.
    fn flush(&self) -> Result<(), rocksdb::Error> {
        let families = Family::ALL.map(|family| self.family(family));
        let families: Vec<&Arc<BoundColumnFamily<'_>>> = families.iter().collect();
        self.db.flush_cfs_opt(&families, &FlushOptions::default())
    }

    /// The same when nothing is written any more: no log is needed by the next start.
    pub(super) fn flush_for_good(&self) -> Result<(), Error> {
        self.flush().map_err(|error| Error::Stopped(error.into_string()))?;
        self.logs.forget().map_err(|error| Error::Stopped(error.to_string()))
    }

    /// Rewrites files until nothing that was removed is left in them; an error if one is left.
    pub(super) fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        self.flush().map_err(compaction_error)?;
        let families: Vec<_> =
            Family::ALL.into_iter().filter(|f| compaction != Compaction::Keys || f.holds_keys()).collect();
        let before = self.tables(&families)?;
        let mut options = CompactOptions::default();
        // A file that is at the bottom already would be left as it is.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for family in &families {
            self.db.compact_range_cf_opt(&self.family(*family), None::<&[u8]>, None::<&[u8]>, &options);
        }
        // The call above does not say whether it worked. Where it did, every table is a new one.
        if let Some(left) = self.tables(&families)?.intersection(&before).next() {
            return Err(Error::Compaction(format!("{left} was not rewritten; the log of the engine says why")));
        }
        match self.checkpoint_directory().filter(|path| compaction == Compaction::Everything && path.exists()) {
            Some(path) => fs::remove_dir_all(path).map_err(|error| Error::Read(error.to_string())),
            None => Ok(()),
        }
    }

    /// The directory of the store.
    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// The names of the tables of these families.
    fn tables(&self, families: &[Family]) -> Result<BTreeSet<String>, Error> {
        let files = self.db.live_files().map_err(compaction_error)?.into_iter();
        let wanted = files.filter(|file| families.iter().any(|family| family.name() == file.column_family_name));
        Ok(wanted.map(|file| file.name).collect())
    }

    /// The names of the copies of the store.
    pub(super) fn checkpoints(&self) -> Vec<String> {
        let entries = self.checkpoint_directory().and_then(|path| fs::read_dir(path).ok());
        let names = entries.into_iter().flatten().filter_map(Result::ok);
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The same, and the names of other stores beside this one: what a restore or a rollback kept, or left, and what is held
    /// for backups.
    pub(super) fn copies(&self) -> Vec<String> {
        let Some(parent) = self.settings.path.parent() else { return Vec::new() };
        let own = self.settings.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let stores = directories(parent, "store").filter(|name| Some(name) != own.as_ref());
        let for_backups = directories(&parent.join("tmp"), "backup-").map(|name| format!("tmp/{name}"));
        let mut copies: Vec<_> = self.checkpoints().into_iter().chain(stores).chain(for_backups).collect();
        copies.sort();
        copies
    }

    /// Where copies of the store lie, beside it.
    fn checkpoint_directory(&self) -> Option<PathBuf> {
        self.settings.path.parent().map(|parent| parent.join("checkpoints"))
    }

    /// Less than the reserve is free.
    pub(super) fn disk_full(&self) -> bool {
        self.lacks(0)
    }

    /// Less than `bytes` are free beside the reserve.
    pub(super) fn lacks(&self, bytes: u64) -> bool {
        let needed = self.settings.reserve_bytes.saturating_add(bytes);
        // Where the file system does not say what is free, the write itself will.
        files::free_bytes(&self.settings.path).is_ok_and(|free| free < needed)
    }

    pub(super) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }

    pub(super) fn property(&self, family: Family, name: &str) -> u64 {
        self.db.property_int_value_cf(&self.family(family), name).ok().flatten().unwrap_or(0)
    }

    /// A property summed over the families.
    pub(super) fn sum_of(&self, name: &str) -> u64 {
        Family::ALL.map(|family| self.property(family, name)).iter().sum()
    }

    pub(super) fn block_cache_bytes(&self) -> u64 {
        u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX)
    }
}

fn read_error(error: rocksdb::Error) -> Error {
    Error::Read(error.into_string())
}

/// The names of the directories in `path` that begin like this.
fn directories(path: &Path, prefix: &'static str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let begins = move |name: &String| name.starts_with(prefix);
    names.map(|name| name.to_string_lossy().into_owned()).filter(begins)
}

fn compaction_error(error: rocksdb::Error) -> Error {
    Error::Compaction(error.into_string())
}

pub(super) fn read_options(tier: ReadTier) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_read_tier(tier);
    options
}
