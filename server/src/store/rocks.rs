//! The RocksDB engine.
//!
//! Rows lie in column families by lifetime, not by partition: small hot rows apart from messages, so that a flush of
//! one does not rewrite the other; one write batch spans them all through the shared WAL. Reads that the block cache
//! can answer run inline, anything that may touch the disk goes to the blocking pool; no iterator outlives a call.
//! All writing is the committer's. What RocksDB is told and why is in `docs/storage.md`.

use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::{
    BottommostLevelCompaction, BoundColumnFamily, Cache, ColumnFamilyDescriptor, CompactOptions, DB, DBRawIterator,
    ErrorKind, FlushOptions, Options, ReadOptions, ReadTier,
};
use tokio::sync::{Semaphore, watch};

use super::committer::{Committer, HeadCache};
use super::family::Family;
use super::logs::{self, Followed, Logs};
use super::options::{database_options, family_options};
use super::{Commit, Compaction, Direction, Error, Outcome, Room, Row, SCAN_BYTES, Scan};
use crate::keys::{Key, KeyRange, Partition, PartitionKind};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory; made if absent.
    pub path: PathBuf,
    /// What block cache and memtables may use together.
    pub memory_bytes: u64,
    /// Commits are refused while less than this is free on the disk.
    pub reserve_bytes: u64,
    /// Tables that may be open at one time.
    pub max_tables: u64,
    /// Change nothing on disk; commits are refused.
    pub read_only: bool,
}

/// A handle on an open store; clones share it.
#[derive(Clone)]
pub struct Rocks {
    inner: Arc<Inner>,
    /// Turns of reads of many rows at the disk. What they found waits in memory for its request to go on, so without
    /// turns as much would wait there as there are requests.
    turns: Arc<Semaphore>,
    committer: Option<Arc<Committer>>,
}

pub(super) struct Inner {
    pub(super) db: DB,
    pub(super) heads: HeadCache,
    logs: Logs,
    cache: Cache,
    settings: Settings,
}

impl Rocks {
    /// Opens or creates the store and starts its committer.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let failed = |error: rocksdb::Error| Error::Read(error.into_string());
        let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
        let cache = Cache::new_lru_cache(memory);
        let options = database_options(memory, settings.max_tables, &cache);
        let families = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, memory, &cache)));
        let db = if settings.read_only {
            DB::open_cf_descriptors_read_only(&options, &settings.path, families, false)
        } else {
            DB::open_cf_descriptors(&options, &settings.path, families)
        }
        .map_err(failed)?;
        let heads = HeadCache::new(settings.memory_bytes / 8);
        let read_only = settings.read_only;
        let logs = Logs::new(&settings.path);
        let inner = Arc::new(Inner { db, heads, logs, cache, settings });
        let committer = (!read_only).then(|| Arc::new(Committer::start(inner.clone())));
        let turns = Arc::new(Semaphore::new(turns()));
        Ok(Self { inner, turns, committer })
    }

    /// The names of families in the store at `path` that this version does not know: a newer one made them.
    pub fn unknown_families(path: &std::path::Path) -> Vec<String> {
        let names = DB::list_cf(&Options::default(), path).unwrap_or_default();
        names.into_iter().filter(|name| Family::ALL.iter().all(|family| family.name() != name)).collect()
    }

    /// Which file of the write-ahead log is gone from the store at `path`, and with it commits. Ask before opening it.
    pub fn missing_log(path: &std::path::Path) -> Option<String> {
        logs::missing(path)
    }

    /// The same from the failure of a [`Rocks::open`] of the store at `path`.
    pub fn missing_log_of(path: &std::path::Path, error: &Error) -> Option<String> {
        match error {
            Error::Read(complaint) => logs::missing_by_manifest(path, complaint),
            _ => None,
        }
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        if let Some(head) = self.inner.heads.get(key) {
            return Ok(Some(head));
        }
        let key = key.encode();
        self.read(move |inner, tier| inner.get(&key, tier)).await
    }

    pub(super) async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.read_many(move |inner, tier| keys.iter().map(|key| inner.get_cached(key, tier)).collect()).await
    }

    pub(super) async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Scan, Error> {
        self.read_many(move |inner, tier| inner.scan(&range, direction, limit, tier)).await
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        match &self.committer {
            Some(committer) => committer.commit(commit).await,
            None => Err(Error::Stopped("opened read-only".into())),
        }
    }

    pub(super) async fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        self.read(move |inner, tier| inner.partitions(kind, from, direction, limit, tier)).await
    }

    pub(super) fn refused(&self) -> Option<Error> {
        let committer = self.committer.as_ref()?;
        committer.stopped().map(Error::Stopped).or_else(|| self.inner.disk_full().then_some(Error::DiskFull))
    }

    /// Resolves when the store stops taking commits; holds why.
    pub fn stopped(&self) -> Option<watch::Receiver<Option<String>>> {
        self.committer.as_ref().map(|committer| committer.subscribe())
    }

    /// Commits what is queued, refuses the rest, and flushes, so that the next start replays nothing.
    pub fn close(&self) -> Result<(), Error> {
        let Some(committer) = &self.committer else { return Ok(()) };
        committer.close();
        if committer.failed() {
            return Ok(());
        }
        self.inner.flush().map_err(|error| Error::Stopped(error.into_string()))?;
        self.inner.logs.forget().map_err(|error| Error::Stopped(error.to_string()))
    }

    /// Rewrites files until nothing that was removed is left in them.
    pub(super) async fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || inner.compact(compaction)).await;
        done.map_err(|error| Error::Read(error.to_string()))?
    }

    /// The copies of the store beside it.
    pub(super) fn checkpoints(&self) -> Vec<String> {
        let entries = self.inner.checkpoint_directory().and_then(|path| std::fs::read_dir(path).ok());
        let names = entries.into_iter().flatten().filter_map(Result::ok);
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// About how many rows there are.
    pub(super) fn estimated_rows(&self) -> u64 {
        self.inner.sum_of("rocksdb.estimate-num-keys")
    }

    /// Figures of the engine, by name of the metric.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        self.inner.figures()
    }

    /// Reads from memory at once, or from the disk in the blocking pool.
    async fn read<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Inner, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        match self.read_memory(&read)? {
            Some(found) => Ok(found),
            None => self.read_disk(read).await,
        }
    }

    /// The same for what may be large: what the disk is asked for waits for its turn, and keeps it until the caller goes
    /// on with what was found.
    async fn read_many<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Inner, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        if let Some(found) = self.read_memory(&read)? {
            return Ok(found);
        }
        let _turn = self.turns.acquire().await.map_err(|_| Error::Read("the store is closed".into()))?;
        self.read_disk(read).await
    }

    /// None if the disk would have to be asked.
    fn read_memory<T>(&self, read: impl Fn(&Inner, ReadTier) -> Result<T, ReadFailure>) -> Result<Option<T>, Error> {
        match read(&self.inner, ReadTier::BlockCache) {
            Ok(found) => Ok(Some(found)),
            Err(ReadFailure::NotInMemory) => Ok(None),
            Err(ReadFailure::Engine(error)) => Err(error),
        }
    }

    async fn read_disk<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Inner, ReadTier) -> Result<T, ReadFailure> + Send + 'static,
    {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || read(&inner, ReadTier::All)).await;
        match done {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(ReadFailure::Engine(error))) => Err(error),
            Ok(Err(ReadFailure::NotInMemory)) => Err(Error::Read("a read of every tier was incomplete".into())),
            Err(_) => Err(Error::Read("the read was cancelled".into())),
        }
    }
}

/// Enough to keep a disk busy, few enough for their pages to fit into memory.
fn turns() -> usize {
    std::thread::available_parallelism().map_or(8, |processors| (2 * processors.get()).max(8))
}

/// Why a read gave nothing.
pub(super) enum ReadFailure {
    NotInMemory,
    Engine(Error),
}

impl From<rocksdb::Error> for ReadFailure {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Incomplete => Self::NotInMemory,
            _ => Self::Engine(Error::Read(error.into_string())),
        }
    }
}

impl Inner {
    /// Writes every memtable to a file, after which the log holds nothing.
    fn flush(&self) -> Result<(), rocksdb::Error> {
        let families = Family::ALL.map(|family| self.family(family));
        let families: Vec<&Arc<BoundColumnFamily<'_>>> = families.iter().collect();
        self.db.flush_cfs_opt(&families, &FlushOptions::default())
    }

    /// Keeps the record of the newest log; what a log held that somebody removed goes to files of its own. Call it
    /// between a write and its acknowledgement.
    pub(super) fn follow_log(&self) -> Result<(), rocksdb::Error> {
        if self.logs.follow() == Followed::Fine {
            return Ok(());
        }
        tracing::error!(event = "store.log_removed", path = %self.settings.path.display(),
            "somebody removed the write-ahead log of the running server; what only it held is flushed now");
        self.flush()?;
        self.logs.follow();
        Ok(())
    }

    fn compact(&self, compaction: Compaction) -> Result<(), Error> {
        self.flush().map_err(|error| Error::Read(error.into_string()))?;
        let mut options = CompactOptions::default();
        // A file that is at the bottom already would be left as it is.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for family in Family::ALL.into_iter().filter(|family| compaction != Compaction::Keys || family.holds_keys()) {
            self.db.compact_range_cf_opt(&self.family(family), None::<&[u8]>, None::<&[u8]>, &options);
        }
        match self.checkpoint_directory().filter(|path| compaction == Compaction::Everything && path.exists()) {
            Some(path) => std::fs::remove_dir_all(path).map_err(|error| Error::Read(error.to_string())),
            None => Ok(()),
        }
    }

    /// Where copies of the store lie, beside it.
    fn checkpoint_directory(&self) -> Option<PathBuf> {
        self.settings.path.parent().map(|parent| parent.join("checkpoints"))
    }

    pub(super) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }

    pub(super) fn get(&self, key: &[u8], tier: ReadTier) -> Result<Option<Vec<u8>>, ReadFailure> {
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        Ok(self.db.get_cf_opt(&self.family(Family::of(key)), key, &options)?)
    }

    fn get_cached(&self, key: &Key, tier: ReadTier) -> Result<Option<Vec<u8>>, ReadFailure> {
        match self.heads.get(key) {
            Some(head) => Ok(Some(head)),
            None => self.get(&key.encode(), tier),
        }
    }

    fn scan(&self, range: &KeyRange, direction: Direction, limit: usize, tier: ReadTier) -> Result<Scan, ReadFailure> {
        let mut parts = Family::split(range);
        if direction == Direction::Descending {
            parts.reverse();
        }
        let mut scan = Scan::default();
        let mut room = Room { rows: limit, bytes: SCAN_BYTES };
        for (family, part) in parts {
            if !part.is_empty() && !scan.more {
                self.scan_family(family, part, direction, tier, &mut room, &mut scan)?;
            }
        }
        Ok(scan)
    }

    fn scan_family(
        &self,
        family: Family,
        range: KeyRange,
        direction: Direction,
        tier: ReadTier,
        room: &mut Room,
        scan: &mut Scan,
    ) -> Result<(), ReadFailure> {
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        options.set_prefix_same_as_start(family.prefix().is_some());
        options.set_iterate_lower_bound(range.start.clone());
        options.set_iterate_upper_bound(range.end.clone());
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family(family), options);
        match direction {
            Direction::Ascending => iterator.seek(&range.start),
            Direction::Descending => iterator.seek_for_prev(&range.end),
        }
        while let Some((key, value)) = iterator.item() {
            if room.is_used_up() {
                scan.more = true;
                break;
            }
            room.take(value.len());
            scan.rows.push(Row { key: key.to_vec(), value: value.to_vec() });
            match direction {
                Direction::Ascending => iterator.next(),
                Direction::Descending => iterator.prev(),
            }
        }
        Ok(iterator.status()?)
    }

    fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
        tier: ReadTier,
    ) -> Result<Vec<Partition>, ReadFailure> {
        let family = match kind {
            PartitionKind::Thread => Family::Head,
            PartitionKind::User => Family::Index,
            PartitionKind::Expiry | PartitionKind::Epoch | PartitionKind::Store => Family::Store,
        };
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(vec![kind.byte()]);
        options.set_iterate_upper_bound(vec![kind.byte() + 1]);
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family(family), options);
        match (direction, from) {
            (Direction::Ascending, None) => iterator.seek_to_first(),
            (Direction::Descending, None) => iterator.seek_to_last(),
            (_, Some(from)) => seek_beyond(&mut iterator, from, direction),
        }
        let mut partitions = Vec::new();
        while partitions.len() < limit
            && let Some(partition) = iterator.key().and_then(Partition::decode)
        {
            partitions.push(partition);
            seek_beyond(&mut iterator, partition, direction);
        }
        iterator.status()?;
        Ok(partitions)
    }

    pub(super) fn disk_full(&self) -> bool {
        let stat = rustix::fs::statvfs(&self.settings.path);
        // Where the file system does not say what is free, the write itself will.
        stat.is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < self.settings.reserve_bytes)
    }

    fn property(&self, family: Family, name: &str) -> u64 {
        self.db.property_int_value_cf(&self.family(family), name).ok().flatten().unwrap_or(0)
    }

    fn sum_of(&self, name: &str) -> u64 {
        Family::ALL.map(|family| self.property(family, name)).iter().sum()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        const SUMS: [(&str, &str); 7] = [
            ("progressdb_rocksdb_memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
            ("progressdb_rocksdb_sst_bytes", "rocksdb.total-sst-files-size"),
            ("progressdb_rocksdb_live_data_bytes", "rocksdb.estimate-live-data-size"),
            ("progressdb_rocksdb_table_reader_bytes", "rocksdb.estimate-table-readers-mem"),
            ("progressdb_rocksdb_pending_compaction_bytes", "rocksdb.estimate-pending-compaction-bytes"),
            ("progressdb_rocksdb_rows", "rocksdb.estimate-num-keys"),
            ("progressdb_rocksdb_level0_files", "rocksdb.num-files-at-level0"),
        ];
        const WHOLE: [(&str, &str); 5] = [
            ("progressdb_rocksdb_running_compactions", "rocksdb.num-running-compactions"),
            ("progressdb_rocksdb_running_flushes", "rocksdb.num-running-flushes"),
            ("progressdb_rocksdb_delayed_write_bytes_per_second", "rocksdb.actual-delayed-write-rate"),
            ("progressdb_rocksdb_writes_stopped", "rocksdb.is-write-stopped"),
            ("progressdb_rocksdb_background_errors", "rocksdb.background-errors"),
        ];
        let sums = SUMS.map(|(metric, name)| (metric, self.sum_of(name)));
        let whole = WHOLE.map(|(metric, name)| (metric, self.property(Family::Store, name)));
        let usage = u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX);
        sums.into_iter().chain(whole).chain([("progressdb_rocksdb_block_cache_bytes", usage)]).collect()
    }
}

/// To the first row behind the partition, or to the last one in front of it.
fn seek_beyond(iterator: &mut DBRawIterator<'_>, partition: Partition, direction: Direction) {
    let range = KeyRange::all(partition);
    match direction {
        Direction::Ascending => iterator.seek(range.end),
        // No key equals a bare partition, so the last key at or below it lies in front of it.
        Direction::Descending => iterator.seek_for_prev(range.start),
    }
}
