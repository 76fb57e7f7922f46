//! The RocksDB engine.
//!
//! Rows lie in column families by lifetime, not by partition: small hot rows apart from messages, so that a flush of
//! one does not rewrite the other; one write batch spans them all through the shared WAL. Reads that the block cache
//! can answer run inline, anything that may touch the disk goes to the blocking pool; no iterator outlives a call.
//! All writing is the committer's. What RocksDB is told and why is in `docs/storage.md`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, DBRecoveryMode, ErrorKind, FlushOptions, InfoLogger, LogLevel, Options, ReadOptions, ReadTier,
    SliceTransform, WriteBufferManager,
};
use tokio::sync::watch;

use super::committer::{Committer, HeadCache};
use super::{Commit, Direction, Error, Outcome, Row};
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
    /// Change nothing on disk; commits are refused.
    pub read_only: bool,
}

/// A handle on an open store; clones share it.
#[derive(Clone)]
pub struct Rocks {
    inner: Arc<Inner>,
    committer: Option<Arc<Committer>>,
}

pub(super) struct Inner {
    pub(super) db: DB,
    pub(super) heads: HeadCache,
    cache: Cache,
    settings: Settings,
}

/// The column families. Adding one later makes older binaries refuse the store, so two stand empty from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Rows of the store itself, and what expires.
    Store,
    /// Heads, participants, idempotency records, thread objects: small and hot.
    Head,
    /// Wrapped data keys.
    Key,
    /// Live messages.
    Message,
    /// Versions, reactions, deleted messages: written once, rarely read.
    Version,
    /// The lists of users.
    Index,
    /// The change feed.
    Log,
}

impl Family {
    pub(super) const ALL: [Self; 7] =
        [Self::Store, Self::Head, Self::Key, Self::Message, Self::Version, Self::Index, Self::Log];
    /// The families of a thread's rows, each with the kind bytes that it holds; in key order.
    const OF_THREAD: [(Self, Range<u8>); 5] = [
        (Self::Head, 0x00..0x05),
        (Self::Key, 0x05..0x10),
        (Self::Message, 0x10..0x11),
        (Self::Version, 0x11..0x20),
        (Self::Log, 0x20..0xff),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            // RocksDB demands a family of this name.
            Self::Store => "default",
            Self::Head => "head",
            Self::Key => "key",
            Self::Message => "message",
            Self::Version => "version",
            Self::Index => "index",
            Self::Log => "log",
        }
    }

    pub(super) fn of(key: &[u8]) -> Self {
        match (key.first(), key.get(PREFIX_OF_THREAD)) {
            (Some(b'T'), kind) => {
                let kind = kind.copied().unwrap_or(0);
                let found = Self::OF_THREAD.into_iter().find(|(_, kinds)| kinds.contains(&kind));
                found.map_or(Self::Log, |(family, _)| family)
            }
            (Some(b'U'), _) => Self::Index,
            _ => Self::Store,
        }
    }

    /// The families that rows of `range` lie in, each with its part, in key order.
    pub(super) fn split(range: &KeyRange) -> Vec<(Self, KeyRange)> {
        if range.start.first() != Some(&b'T') {
            return vec![(Self::of(&range.start), range.clone())];
        }
        let bound = |kind: u8| [&range.start[..PREFIX_OF_THREAD], &[kind]].concat();
        let part = |kinds: Range<u8>| KeyRange {
            start: bound(kinds.start).max(range.start.clone()),
            end: bound(kinds.end).min(range.end.clone()),
        };
        let parts = Self::OF_THREAD.into_iter().map(|(family, kinds)| (family, part(kinds)));
        parts.filter(|(_, part)| !part.is_empty()).collect()
    }

    /// The length of the partition that its keys begin with; none where keys of different shapes mix.
    fn prefix(self) -> Option<usize> {
        match self {
            Self::Store => None,
            Self::Index => Some(PREFIX_OF_USER),
            _ => Some(PREFIX_OF_THREAD),
        }
    }
}

const PREFIX_OF_THREAD: usize = 9;
const PREFIX_OF_USER: usize = 17;
const MIB: usize = 1 << 20;

impl Rocks {
    /// Opens or creates the store and starts its committer.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let failed = |error: rocksdb::Error| Error::Read(error.into_string());
        let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
        let cache = Cache::new_lru_cache(memory);
        let options = database_options(memory, &cache);
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
        let inner = Arc::new(Inner { db, heads, cache, settings });
        let committer = (!read_only).then(|| Arc::new(Committer::start(inner.clone())));
        Ok(Self { inner, committer })
    }

    /// The names of families in the store at `path` that this version does not know: a newer one made them.
    pub fn unknown_families(path: &std::path::Path) -> Vec<String> {
        let names = DB::list_cf(&Options::default(), path).unwrap_or_default();
        names.into_iter().filter(|name| Family::ALL.iter().all(|family| family.name() != name)).collect()
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        if let Some(head) = self.inner.heads.get(key) {
            return Ok(Some(head));
        }
        let key = key.encode();
        self.read(move |inner, tier| inner.get(&key, tier)).await
    }

    pub(super) async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.read(move |inner, tier| keys.iter().map(|key| inner.get_cached(key, tier)).collect()).await
    }

    pub(super) async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Vec<Row>, Error> {
        self.read(move |inner, tier| inner.scan(&range, direction, limit, tier)).await
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
        let families = Family::ALL.map(|family| self.inner.family(family));
        let families: Vec<&Arc<BoundColumnFamily<'_>>> = families.iter().collect();
        let flushed = self.inner.db.flush_cfs_opt(&families, &FlushOptions::default());
        flushed.map_err(|error| Error::Stopped(error.into_string()))
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
        match read(&self.inner, ReadTier::BlockCache) {
            Ok(found) => return Ok(found),
            Err(ReadFailure::NotInMemory) => {}
            Err(ReadFailure::Engine(error)) => return Err(error),
        }
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

    fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        tier: ReadTier,
    ) -> Result<Vec<Row>, ReadFailure> {
        let mut parts = Family::split(range);
        if direction == Direction::Descending {
            parts.reverse();
        }
        let mut rows = Vec::with_capacity(limit.min(64));
        for (family, part) in parts {
            self.scan_family(family, part, direction, limit, tier, &mut rows)?;
        }
        Ok(rows)
    }

    fn scan_family(
        &self,
        family: Family,
        range: KeyRange,
        direction: Direction,
        limit: usize,
        tier: ReadTier,
        rows: &mut Vec<Row>,
    ) -> Result<(), ReadFailure> {
        if range.is_empty() || rows.len() >= limit {
            return Ok(());
        }
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
            rows.push(Row { key: key.to_vec(), value: value.to_vec() });
            if rows.len() >= limit {
                break;
            }
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
            PartitionKind::Expiry | PartitionKind::Store => Family::Store,
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
            ("rocksdb_memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
            ("rocksdb_sst_bytes", "rocksdb.total-sst-files-size"),
            ("rocksdb_live_data_bytes", "rocksdb.estimate-live-data-size"),
            ("rocksdb_table_reader_bytes", "rocksdb.estimate-table-readers-mem"),
            ("rocksdb_pending_compaction_bytes", "rocksdb.estimate-pending-compaction-bytes"),
            ("rocksdb_rows", "rocksdb.estimate-num-keys"),
            ("rocksdb_level0_files", "rocksdb.num-files-at-level0"),
        ];
        const WHOLE: [(&str, &str); 5] = [
            ("rocksdb_running_compactions", "rocksdb.num-running-compactions"),
            ("rocksdb_running_flushes", "rocksdb.num-running-flushes"),
            ("rocksdb_delayed_write_bytes_per_second", "rocksdb.actual-delayed-write-rate"),
            ("rocksdb_writes_stopped", "rocksdb.is-write-stopped"),
            ("rocksdb_background_errors", "rocksdb.background-errors"),
        ];
        let sums = SUMS.map(|(metric, name)| (metric, self.sum_of(name)));
        let whole = WHOLE.map(|(metric, name)| (metric, self.property(Family::Store, name)));
        let usage = u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX);
        sums.into_iter().chain(whole).chain([("rocksdb_block_cache_bytes", usage)]).collect()
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

fn database_options(memory: usize, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default mode stops replay at the first damage and drops acknowledged writes behind it; this one refuses.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(64 * MIB as u64);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        memory / 2,
        false,
        cache.clone(),
    ));
    let cores = std::thread::available_parallelism().map_or(2, |n| i32::try_from(n.get()).unwrap_or(i32::MAX));
    options.set_max_background_jobs(cores.max(2));
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_skip_stats_update_on_db_open(true);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_keep_log_file_num(10);
    options.set_max_log_file_size(10 * MIB);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(event = "rocksdb.error", "{}", text.trim_end()),
        // A thousand lines of options at every start.
        LogLevel::Header => {}
        _ => tracing::warn!(event = "rocksdb.warning", "{}", text.trim_end()),
    }));
    options
}

fn family_options(family: Family, memory: usize, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_index_type(BlockBasedIndexType::BinarySearch);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_format_version(6);
    blocks.set_block_size(if family == Family::Message { 8 << 10 } else { 4 << 10 });
    // Pages of messages seek by thread; only rows that are read one by one gain from a filter over whole keys.
    blocks.set_whole_key_filtering(family != Family::Message);

    let mut options = Options::default();
    let (write_buffer, buffers) = match family {
        Family::Message => ((memory / 8).min(32 * MIB), 3),
        // Moves of a thread in its users' activity order leave tombstones: a small memtable keeps few of them.
        Family::Index => ((memory / 32).min(8 * MIB), 2),
        _ => ((memory / 16).min(16 * MIB), 2),
    };
    options.set_write_buffer_size(write_buffer.max(MIB));
    options.set_max_write_buffer_number(buffers);
    options.set_block_based_table_factory(&blocks);
    if let Some(length) = family.prefix() {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(length));
        options.set_memtable_prefix_bloom_ratio(0.05);
    }
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_level_zero_file_num_compaction_trigger(4);
    options.add_compact_on_deletion_collector_factory(1_000, 100, 0.5);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{ThreadRow, UserRow};
    use crate::model::{MessageId, ThreadId};

    #[test]
    fn a_thread_s_rows_are_split_by_family_without_gap_or_overlap() {
        let thread = ThreadId(7);
        let parts = Family::split(&KeyRange::all(Partition::Thread(thread)));
        assert_eq!(parts.iter().map(|(family, _)| *family).collect::<Vec<_>>(), Family::OF_THREAD.map(|(f, _)| f));
        assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start));
        for row in [ThreadRow::Head, ThreadRow::Message(MessageId { ts: 1, seq: 2 }), ThreadRow::Object] {
            let key = Key::Thread(thread, row).encode();
            let holder = parts.iter().find(|(_, part)| part.contains(&key)).map(|(family, _)| *family);
            assert_eq!(holder, Some(Family::of(&key)));
        }
    }

    #[test]
    fn a_range_of_one_kind_lies_in_one_family() {
        let hash = crate::keys::Hash16([1; 16]);
        assert_eq!(Family::split(&KeyRange::messages(ThreadId(1))).len(), 1);
        assert_eq!(Family::split(&KeyRange::created_threads(hash))[0].0, Family::Index);
        assert_eq!(Family::of(&Key::User(hash, UserRow::Profile).encode()), Family::Index);
    }
}
