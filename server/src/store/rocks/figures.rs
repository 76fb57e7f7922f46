//! What RocksDB says of itself, by the name of the metric.

use super::database::Database;
use super::family::Family;

/// Summed over the families.
const SUMS: [(&str, &str); 7] = [
    ("progressdb_rocksdb_memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
    ("progressdb_rocksdb_sst_bytes", "rocksdb.total-sst-files-size"),
    ("progressdb_rocksdb_live_data_bytes", "rocksdb.estimate-live-data-size"),
    ("progressdb_rocksdb_table_reader_bytes", "rocksdb.estimate-table-readers-mem"),
    ("progressdb_rocksdb_pending_compaction_bytes", "rocksdb.estimate-pending-compaction-bytes"),
    ("progressdb_rocksdb_rows", "rocksdb.estimate-num-keys"),
    ("progressdb_rocksdb_level0_files", "rocksdb.num-files-at-level0"),
];

/// Said of the whole database whichever family is asked.
const WHOLE: [(&str, &str); 5] = [
    ("progressdb_rocksdb_running_compactions", "rocksdb.num-running-compactions"),
    ("progressdb_rocksdb_running_flushes", "rocksdb.num-running-flushes"),
    ("progressdb_rocksdb_delayed_write_bytes_per_second", "rocksdb.actual-delayed-write-rate"),
    ("progressdb_rocksdb_writes_stopped", "rocksdb.is-write-stopped"),
    ("progressdb_rocksdb_background_errors", "rocksdb.background-errors"),
];

/// The figures of an open database.
pub(super) fn of(database: &Database) -> Vec<(&'static str, u64)> {
    let sums = SUMS.map(|(metric, name)| (metric, database.sum_of(name)));
    let whole = WHOLE.map(|(metric, name)| (metric, database.property(Family::Store, name)));
    let cache = ("progressdb_rocksdb_block_cache_bytes", database.block_cache_bytes());
    sums.into_iter().chain(whole).chain([cache]).collect()
}
