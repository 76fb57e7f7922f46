//! Logs, metrics and the operator's own health, on one port.
//!
//! `/healthz` says that the process answers, `/readyz` that it has seen the cluster and may work when it leads, and
//! `/metrics` is Prometheus' text format. None of them needs a key and none shows a name of a database.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::watch};
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// From a pass that had nothing to do to one that waited for a slow API server.
const SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Why the operator is not ready; `None` when it is.
pub type Readiness = watch::Receiver<Option<String>>;

/// Starts logging to standard error. The first call of the process counts, later ones do nothing.
pub fn install_logs(level: &str, format: LogFormat) {
    let filter = EnvFilter::builder().parse_lossy(level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Another subscriber is there only if a test brought one.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
    };
}

/// Starts collecting metrics. The first call of the process counts, later ones do nothing.
pub fn install_metrics() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        let _ = metrics::set_global_recorder(recorder);
        describe_counter!("progressdb_operator_reconciles_total", "Passes over a resource, by outcome");
        describe_histogram!("progressdb_operator_reconcile_duration_seconds", Unit::Seconds, "Time of one pass");
        describe_counter!("progressdb_operator_writes_total", "Writes to the API server, by what they do");
        handle
    });
}

/// Counts a pass.
pub fn record_pass(outcome: &'static str, took: Duration) {
    counter!("progressdb_operator_reconciles_total", "outcome" => outcome).increment(1);
    histogram!("progressdb_operator_reconcile_duration_seconds").record(took.as_secs_f64());
}

/// Counts a write.
pub fn record_write(what: &'static str) {
    counter!("progressdb_operator_writes_total", "what" => what).increment(1);
}

/// Serves health and metrics until the process ends.
pub async fn serve(address: SocketAddr, readiness: Readiness) -> std::io::Result<()> {
    let listener = match TcpListener::bind(address).await {
        // A kernel without IPv6 has every interface of IPv4 alone.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?
        }
        bound => bound?,
    };
    axum::serve(listener, router(readiness)).await
}

fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { METRICS.get().map_or_else(String::new, PrometheusHandle::render) }))
        .with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.borrow().as_ref() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_nothing_is_in_the_way_and_says_what_is() {
        let (sender, readiness) = watch::channel(Some("waiting for the watches".to_owned()));
        let before = ready(State(readiness.clone())).await;
        sender.send_replace(None);
        let after = ready(State(readiness)).await;
        assert_eq!(before, (StatusCode::SERVICE_UNAVAILABLE, "waiting for the watches\n".to_owned()));
        assert_eq!(after, (StatusCode::OK, "ok\n".to_owned()));
    }
}
