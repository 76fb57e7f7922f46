//! What RocksDB is told, for the database and for each column family. The reasons are in `docs/storage.md`.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, InfoLogger, LogLevel, Options,
    SliceTransform, WriteBufferManager,
};

use super::Settings;
use super::family::Family;

const MIB: usize = 1 << 20;

/// The options of the database, which may use `memory` bytes for blocks and memtables.
pub(super) fn database_options(settings: &Settings, memory: usize, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.create_if_missing(settings.create);
    options.create_missing_column_families(true);
    // The default mode ends the replay at the first damage and drops the acknowledged writes behind it; this one fails
    // unless the damage is at the very end, where a crash leaves it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    // RocksDB takes ten of these files for other uses than tables.
    options.set_max_open_files(i32::try_from(settings.max_tables.saturating_add(10)).unwrap_or(i32::MAX));
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
    // One thread writes, with hints where a row goes.
    options.set_allow_concurrent_memtable_write(false);
    options.set_keep_log_file_num(10);
    options.set_max_log_file_size(10 * MIB);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(event = "rocksdb.error", "{}", text.trim_end()),
        LogLevel::Warn => tracing::warn!(event = "rocksdb.warning", "{}", text.trim_end()),
        // Headers are passed on at any level: a thousand lines of options at every start.
        _ => {}
    }));
    options
}

/// The options of one family.
pub(super) fn family_options(family: Family, memory: usize, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_index_type(BlockBasedIndexType::BinarySearch);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_format_version(6);
    blocks.set_block_size(if family == Family::Message { 8 << 10 } else { 4 << 10 });
    // A filter over whole keys serves reads of single rows; messages are read in ranges of a thread.
    blocks.set_whole_key_filtering(family != Family::Message);

    let mut options = match family.prefix() {
        Some(length) => hinted(length),
        None => Options::default(),
    };
    let (write_buffer, buffers) = match family {
        Family::Message => ((memory / 8).min(32 * MIB), 3),
        // Each move of a thread in its users' activity order leaves a tombstone: in a small memtable there are few of them.
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

/// Options with which a memtable remembers where the last row of each partition went: the next one mostly follows it. Of
/// use with one writer only. The wrapper has no other way to it, and this one makes new options, so it comes first.
fn hinted(length: usize) -> Options {
    let hint = format!("memtable_insert_with_hint_prefix_extractor=fixed:{length}");
    Options::default().get_options_from_string(hint).expect("this RocksDB has the option")
}
