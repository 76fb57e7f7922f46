//! Logs, traces and metrics: what is installed once for the process, and how metrics become text.
//!
//! Logs go to stderr, one line an event, as text or JSON, those of a server through the buffers of `lines`. Traces go
//! to a collector, if there is one. Metrics are kept in memory and rendered on request. The modules that do the work
//! measure it; `catalogue` lists all metrics.

mod catalogue;
mod filter;
mod lines;
mod process;
pub mod traces;

use std::{backtrace::Backtrace, panic, sync::OnceLock};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub use self::traces::Collector;
pub use self::{
    filter::set_level,
    lines::{FlushAtEnd, audit_is_written, flush, say},
};
use self::{lines::Destination, traces::Traces};

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// Directives of `RUST_LOG`, which override the level.
    pub directives: Option<String>,
    /// Text for people, JSON for machines; one line an event in both.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// From 50 µs, about one fdatasync, to 10 s, beyond every timeout. The rollout of a fleet does not tell latencies apart that lie
/// between the same two edges.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_7, 0.001, 0.002, 0.004, 0.007, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    5.0, 10.0,
];

/// Up to the most commits that one group takes.
const GROUP_SIZES: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Starts logging straight to standard error, and logs panics: for commands. The first call of the process counts,
/// later ones do nothing.
pub fn install_logs(log: &Log) {
    install(log, Destination::Direct, None);
}

/// The same through a buffer, for a server; what it returns sends traces to `collector` until it is dropped.
pub fn install_logs_and_traces(log: &Log, collector: Option<&Collector>, version: &'static str) -> Option<Traces> {
    let traces = collector.map(|collector| Traces::start(collector, version)).transpose();
    install(log, Destination::buffered(), traces.as_ref().ok().and_then(Option::as_ref));
    traces.unwrap_or_else(|error| {
        tracing::error!(event = "traces.off", %error, "no traces are sent: correct the OTEL_* variables");
        None
    })
}

fn install(log: &Log, destination: Destination, traces: Option<&Traces>) {
    let (filter, refused) = filter::new(log);
    let lines = tracing_subscriber::fmt::layer().with_writer(destination);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // One list of layers that all have filters: then what no layer wants costs nothing.
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![lines.with_filter(filter).boxed()];
    layers.extend(traces.map(Traces::layer));
    if tracing_subscriber::registry().with(layers).try_init().is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    for directive in refused {
        tracing::warn!(event = "config.warning", key = "RUST_LOG", "{directive:?} is not a directive and is ignored");
    }
}

/// A panic is one line like every event: texts are escaped, also the backtrace, which is there if `RUST_BACKTRACE` is
/// set.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let reason = info.payload_as_str().unwrap_or("unknown");
    let backtrace = Backtrace::capture().to_string();
    tracing::error!(event = "panic", place, reason, backtrace, "a bug: please report this line");
}

/// Starts collecting metrics. The first call of the process counts, later ones do nothing.
pub fn install_metrics() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_group_size".to_owned()), &GROUP_SIZES))
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Only a test installs another recorder before; then this one stays empty.
        let _ = metrics::set_global_recorder(recorder);
        catalogue::register();
        handle
    });
}

/// All metrics in Prometheus' text format; empty before [`install_metrics`].
pub fn render_metrics() -> String {
    METRICS.get().map_or_else(String::new, |metrics| {
        process::measure();
        lines::measure();
        metrics.render()
    })
}

/// Folds the samples of histograms into their buckets, which bounds their memory when nothing scrapes. Call it every
/// few seconds.
pub fn upkeep_metrics() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Canaries that are 250 ms slower are told from stable servers, wherever the latency of these lies.
    #[test]
    fn a_slowdown_of_a_quarter_of_a_second_crosses_an_edge() {
        let edge_of = |latency: f64| SECONDS.iter().position(|edge| latency <= *edge);
        for ms in 0..250 {
            let latency = f64::from(ms) / 1_000.0;
            assert_ne!(edge_of(latency), edge_of(latency + 0.251), "{ms} ms");
        }
    }

    #[test]
    fn metrics_render_with_their_buckets_and_the_process() {
        install_metrics();
        metrics::histogram!("progressdb_test_seconds").record(0.003);
        metrics::histogram!("progressdb_test_group_size").record(3.0);
        upkeep_metrics();
        let text = render_metrics();
        for line in [
            "progressdb_test_seconds_bucket{le=\"0.00005\"} 0",
            "progressdb_test_seconds_bucket{le=\"0.004\"} 1",
            "progressdb_test_seconds_bucket{le=\"10\"} 1",
            "progressdb_test_group_size_bucket{le=\"2\"} 0",
            "progressdb_test_group_size_bucket{le=\"4\"} 1",
            "# TYPE process_resident_memory_bytes gauge",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e5);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_start_time_seconds ") > 1.6e9);
    }
}
