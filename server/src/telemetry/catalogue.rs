//! Every family of metrics: name, kind, labels and help text. `docs/metrics.md` is made from it, and a test compares it
//! with the code and with what is scraped.
//!
//! The modules that do the work count it. What is described here has its HELP from the start, and a counter whose
//! labels are known here is 0 before its first event, so that `increase()` sees that event too. A module registers the
//! labels that only it knows, such as routes or the provider of the KMS.

use metrics::{Key, Label, Level, Metadata};

/// What a family counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family of metrics.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Each label with its values, or with none if a module knows them.
    pub(super) labels: &'static [(&'static str, &'static [&'static str])],
    pub(super) help: &'static str,
}

const LISTENER: &[(&str, &[&str])] = &[("listener", &["main", "management"])];

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, labels: &[], help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels: &[], help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, labels: &[], help }
}

impl Family {
    const fn by(self, labels: &'static [(&'static str, &'static [&'static str])]) -> Self {
        Self { labels, ..self }
    }
}

/// All families, in the order in which they are documented.
pub(super) static FAMILIES: &[Family] = &[
    counter("progressdb_http_requests_total", "Requests that got a response.").by(&[
        ("route", &[]),
        ("method", &[]),
        ("status", &[]),
    ]),
    histogram("progressdb_http_request_duration_seconds", "Time to handle a request, without sending the response.")
        .by(&[("route", &[]), ("method", &[])]),
    gauge("progressdb_http_requests_in_flight", "Requests in flight."),
    counter("progressdb_http_rejections_total", "Requests refused because a limit was reached.")
        .by(&[("limit", &["rate", "body_bytes", "body_memory", "body_time", "reply_memory", "writes", "audit"])]),
    gauge(
        "progressdb_http_reply_bytes",
        "Responses that clients have not received yet: main is bounded by server.max_reply_memory.",
    )
    .by(&[("kind", &["main", "metrics"])]),
    gauge("progressdb_http_connections", "Open connections.").by(LISTENER),
    gauge(
        "progressdb_http_connections_limit",
        "Connections that are served at one time: as configured, or what the limit of open files allows.",
    )
    .by(LISTENER),
    counter("progressdb_http_connections_accepted_total", "Connections accepted.").by(LISTENER),
    counter("progressdb_http_connections_limited_total", "Times that accepting waited for server.max_connections.")
        .by(LISTENER),
    counter("progressdb_http_header_timeouts_total", "Connections closed because headers came too slowly.")
        .by(LISTENER),
    counter("progressdb_http_reply_timeouts_total", "Connections closed because a response was not received in time.")
        .by(LISTENER),
    histogram("progressdb_commit_queue_seconds", "How long the oldest commit of a group waited in the queue."),
    histogram("progressdb_commit_build_seconds", "Time to check a group of commits and build its batch."),
    histogram("progressdb_commit_sync_seconds", "Time until a group of commits was on disk."),
    histogram("progressdb_commit_group_size", "Commits that went to disk together."),
    counter("progressdb_commit_queue_full_total", "Commits refused because too many were waiting."),
    counter("progressdb_write_queue_full_total", "Writes refused because too many were waiting for one thread."),
    counter("progressdb_edit_conflicts_total", "Writes drafted again because another write came first."),
    counter("progressdb_edits_given_up_total", "Writes refused because other writes came first too often."),
    counter("progressdb_commits_refused_total", "Commits refused because of the state of the store.")
        .by(&[("reason", &["disk_full"])]),
    gauge("progressdb_cassandra_nodes", "Nodes of the shared storage engine that are known."),
    gauge("progressdb_cassandra_nodes_connected", "Those of them with which there is a connection."),
    gauge("progressdb_cassandra_slot_lost", "1 while this server has no slot, and therefore refuses writes."),
    counter(
        "progressdb_cassandra_unknown_commits_total",
        "Commits whose outcome the engine did not say, and that were asked after.",
    ),
    counter(
        "progressdb_cassandra_late_writes_failed_total",
        "Index rows or counters that could not be written after their commit; they are put right when they are read.",
    ),
    gauge("progressdb_rocksdb_memtable_bytes", "Memory that memtables take."),
    gauge("progressdb_rocksdb_sst_bytes", "Size of the store's table files."),
    gauge("progressdb_rocksdb_live_data_bytes", "Live bytes of the table files, estimated."),
    gauge("progressdb_rocksdb_table_reader_bytes", "Memory of indexes and filters outside the block cache, estimated."),
    gauge("progressdb_rocksdb_pending_compaction_bytes", "Bytes that compaction has yet to rewrite, estimated."),
    gauge("progressdb_rocksdb_rows", "Rows in the store, estimated."),
    gauge("progressdb_rocksdb_level0_files", "Table files that were flushed and not yet compacted."),
    gauge("progressdb_rocksdb_running_compactions", "Compactions under way."),
    gauge("progressdb_rocksdb_running_flushes", "Flushes under way."),
    gauge(
        "progressdb_rocksdb_delayed_write_bytes_per_second",
        "The rate that writes are slowed down to; 0 if they are not.",
    ),
    gauge("progressdb_rocksdb_writes_stopped", "1 while writes wait for compaction."),
    gauge("progressdb_rocksdb_background_errors", "Failed flushes and compactions."),
    gauge("progressdb_rocksdb_block_cache_bytes", "Memory that the block cache takes."),
    gauge("progressdb_clock_held", "1 while writes are refused because the machine's clock is too far ahead."),
    gauge("progressdb_clock_ahead_seconds", "How far the machine's clock is ahead while writes are refused for it."),
    counter("progressdb_clock_steps_total", "Steps of the machine's clock, by outcome.")
        .by(&[("outcome", &["stepped", "held", "taken", "returned", "impossible"])]),
    gauge("progressdb_kms_seconds_since_success", "Seconds since the last successful call to the KMS."),
    counter("progressdb_kms_calls_total", "Calls to the KMS, each try.").by(&[
        ("provider", &[]),
        ("operation", &[]),
        ("outcome", &[]),
    ]),
    histogram("progressdb_kms_call_seconds", "Time of a call to the KMS.").by(&[("provider", &[]), ("operation", &[])]),
    counter("progressdb_kms_throttled_total", "Calls that the KMS throttled.").by(&[("provider", &[])]),
    gauge("progressdb_kms_breaker_open", "1 while the KMS is not called because it kept failing.")
        .by(&[("provider", &[])]),
    gauge("progressdb_data_keys_cached", "Data keys in memory."),
    counter("progressdb_data_keys_fetched_total", "Data keys that had to be read and unwrapped."),
    gauge("progressdb_sealing_job_threads", "Threads that the sealing job has visited."),
    gauge("progressdb_sealing_job_users", "Users that the sealing job has visited."),
    counter(
        "progressdb_log_lines_dropped_total",
        "Log lines that were dropped because nobody read standard error fast enough.",
    )
    .by(&[("buffer", &["events", "audit"]), ("reason", &["full", "unwritable"])]),
    gauge("progressdb_log_lines_waiting", "Log lines that wait to be written to standard error.")
        .by(&[("buffer", &["events", "audit"])]),
    gauge("progressdb_api_keys", "Keys in force.").by(&[("list", &["backend", "frontend", "admin", "signing"])]),
    gauge("progressdb_key_files_refused", "Key files that cannot be used; their former keys stay in force."),
    counter("progressdb_config_reloads_total", "Reloads of the configuration by SIGHUP.")
        .by(&[("outcome", &["taken", "refused"])]),
    gauge(
        "progressdb_backup_last_success_timestamp_seconds",
        "When the newest backup in `backup.destination` was made, in Unix seconds; 0 if there is none.",
    ),
    gauge(
        "progressdb_backup_last_verified_timestamp_seconds",
        "When a backup in `backup.destination` was last read again as a whole and was right, in Unix seconds; 0 if none was.",
    ),
    gauge("progressdb_backup_interval_seconds", "Time between the next two scheduled backups."),
    gauge("progressdb_backup_duration_seconds", "Time that the last scheduled backup took, with all that follows it."),
    gauge("progressdb_backup_bytes", "Bytes that were sent or written for the last scheduled backup."),
    counter("progressdb_backup_failures_total", "Scheduled backups that failed.")
        .by(&[("reason", &["clock", "damaged", "denied", "io", "missing", "settings", "store", "unavailable"])]),
    gauge("progressdb_backup_checkpoints", "Checkpoints of the store that are held for backups."),
    gauge(
        "progressdb_backup_checkpoint_oldest_seconds",
        "How long the oldest of them has been held; 0 if there is none.",
    ),
    gauge(
        "progressdb_backup_checkpoint_pinned_bytes",
        "Disk that their files take and that the store itself does not use any more.",
    ),
    histogram("progressdb_backup_cut_seconds", "Time to cut a checkpoint."),
    counter(
        "progressdb_backup_leases_ended_total",
        "Checkpoints that were removed because their client did not renew the lease.",
    ),
    gauge("progressdb_instance_info", "1, with what identifies the database that this process serves.").by(&[
        ("database_id", &[]),
        ("incarnation", &[]),
        ("version", &[]),
    ]),
    gauge("process_resident_memory_bytes", "Memory that the process holds."),
    gauge("process_open_fds", "Open file descriptors."),
    gauge("process_start_time_seconds", "When the process started, in Unix seconds."),
];

/// Describes all families, and sets the counters to 0 whose labels are known.
pub(super) fn register() {
    for family in FAMILIES {
        let (name, help) = (family.name, family.help);
        match family.kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
        if family.kind == Kind::Counter {
            for labels in combinations(family.labels) {
                let metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
                let key = Key::from_parts(name, labels);
                metrics::with_recorder(|recorder| recorder.register_counter(&key, &metadata).increment(0));
            }
        }
    }
}

/// Every combination of values; none if a label's values are not known.
fn combinations(labels: &'static [(&'static str, &'static [&'static str])]) -> Vec<Vec<Label>> {
    let mut combined = vec![Vec::new()];
    for &(name, values) in labels {
        let with = |labels: &Vec<Label>, value: &'static str| {
            labels.iter().cloned().chain([Label::from_static_parts(name, value)]).collect()
        };
        combined = combined.iter().flat_map(|labels| values.iter().map(move |value| with(labels, value))).collect();
    }
    combined
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::config::Environment;
    use crate::telemetry::SECONDS;

    const HEAD: &str = "# Metrics

<!-- Generated from server/src/telemetry/catalogue.rs: UPDATE=1 cargo test --release -p progressdb-server catalogue -->

What `/metrics` shows: on `server.management_address` without a key, on the main port with an admin key. Which of them to
watch, and when to be alarmed, is in [operations.md](operations.md#what-to-watch). Labels are routes, methods, statuses,
limits, and providers and operations of the KMS, never ids of users, threads or messages. Counters stand at 0 before their
first event. What speaks of keys and the KMS is there with encryption on only, and what speaks of backups with
`backup.schedule` only, but for their failures. Histograms of seconds count up to {edges} s.

| Metric | Kind | Labels | |
|---|---|---|---|
";

    fn page() -> String {
        let edges: Vec<_> = SECONDS.iter().map(f64::to_string).collect();
        let mut page = HEAD.replace("{edges}", &edges.join(", "));
        for Family { name, kind, labels, help } in FAMILIES {
            let label = |(name, values): &(&str, &[&str])| match values {
                [] => format!("`{name}`"),
                values => format!("`{name}`: {}", values.join(", ")),
            };
            let labels = labels.iter().map(label).collect::<Vec<_>>().join("; ");
            let kind = format!("{kind:?}").to_lowercase();
            let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
        }
        page
    }

    /// `UPDATE=1` rewrites the page.
    #[test]
    fn the_committed_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if Environment::of_process().get("UPDATE").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == page(), "docs/metrics.md is stale: run the tests once with UPDATE=1");
    }

    #[test]
    fn labels_combine_and_unknown_values_make_none() {
        assert_eq!(combinations(&[]), [[]; 1]);
        assert_eq!(combinations(&[("a", &["1", "2"]), ("b", &["x"])]).len(), 2);
        assert_eq!(combinations(&[("a", &["1", "2"]), ("b", &[])]), [[]; 0]);
    }

    #[test]
    fn no_name_stands_twice() {
        let names: std::collections::BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
