//! Logs, metrics and the operator's own health, on one port.
//!
//! `/healthz` says that the process responds, `/readyz` that it can read the cluster and may work when it leads, and
//! `/metrics` is Prometheus' text format. None of them needs a key and none shows a name of a database.

mod catalogue;
mod upgrades;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics::{counter, histogram};
use rustix::io::Errno;
use tokio::{net::TcpListener, sync::watch};
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub use self::{
    catalogue::{CATALOGUE, Kind},
    upgrades::{UpgradeState, UpgradesUnderWay},
};
use crate::{args::LogFormat, metrics::Metrics};

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Why the operator is not ready; `None` when it is.
pub type Readiness = watch::Receiver<Option<String>>;

/// Starts logging to standard error. The first call of the process counts, later ones do nothing.
pub fn install_logs(level: &str, format: LogFormat) {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(targets(level));
    // It fails only where a test has installed another subscriber.
    let _ = match format {
        LogFormat::Text => subscriber.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
    };
}

/// The directives that can be read. The others are named on standard error and left out.
fn targets(directives: &str) -> Targets {
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        directives.split(',').partition(|directive| directive.parse::<Targets>().is_ok());
    for directive in unknown {
        eprintln!("ignoring the log directive {directive}");
    }
    known.join(",").parse().unwrap_or_default()
}

/// Starts collecting metrics. The first call of the process counts, later ones do nothing.
pub fn install_metrics() {
    METRICS.get_or_init(|| {
        let metrics = Metrics::default();
        let _ = metrics::set_global_recorder(metrics.clone());
        catalogue::describe();
        metrics
    });
}

/// Counts a reconcile.
pub fn record_pass(outcome: &'static str, took: Duration) {
    counter!(catalogue::RECONCILES, "outcome" => outcome).increment(1);
    histogram!(catalogue::RECONCILE_SECONDS).record(took.as_secs_f64());
}

/// Counts a write.
pub fn record_write(what: &'static str) {
    counter!(catalogue::WRITES, "what" => what).increment(1);
}

/// Counts an upgrade that ended, with how long clients were without a server, if they were.
pub fn record_upgrade(outcome: &'static str, downtime: Option<Duration>) {
    counter!(catalogue::UPGRADES, "outcome" => outcome).increment(1);
    if let Some(downtime) = downtime {
        histogram!(catalogue::DOWNTIME).record(downtime.as_secs_f64());
    }
}

/// Counts news of an upgrade that were posted, or that nobody took.
pub fn record_notification(was_heard: bool) {
    let outcome = if was_heard { "sent" } else { "failed" };
    counter!(catalogue::NOTIFICATIONS, "outcome" => outcome).increment(1);
}

/// Serves health and metrics until the process ends.
pub async fn serve(address: SocketAddr, readiness: Readiness) -> std::io::Result<()> {
    axum::serve(bind(address).await?, router(readiness)).await
}

/// Listens on `address`. All interfaces of IPv6 are those of IPv4 too, and on a kernel without IPv6 those of IPv4 alone.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_without_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { METRICS.get().map_or_else(String::new, Metrics::render) }))
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
    use tracing::Level;

    use super::*;

    #[test]
    fn a_level_and_directives_say_what_is_logged() {
        let logs = |directives: &str, target: &str, level: Level| targets(directives).would_enable(target, &level);
        assert!(logs("warn", "kube", Level::WARN) && !logs("warn", "kube", Level::INFO));
        assert!(logs("info,kube=debug", "kube::client", Level::DEBUG));
        assert!(logs("info,kube=debug", "hyper", Level::INFO) && !logs("info,kube=debug", "hyper", Level::DEBUG));
        assert!(logs("info,hyper=loud", "hyper", Level::INFO));
        assert!(!logs("off", "hyper", Level::ERROR));
    }

    #[test]
    fn only_a_kernel_without_ipv6_makes_it_fall_back_to_ipv4() {
        let falls_back = |error: Errno| is_without_ipv6(&error.into());
        assert!(falls_back(Errno::AFNOSUPPORT) && falls_back(Errno::ADDRNOTAVAIL));
        assert!(!falls_back(Errno::ADDRINUSE) && !falls_back(Errno::ACCESS) && !falls_back(Errno::MFILE));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_on_ipv6_is_an_error() {
        let taken = match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            Ok(taken) => taken,
            Err(error) => return assert!(is_without_ipv6(&error), "{error}"),
        };
        let port = taken.local_addr().unwrap().port();
        let error = bind((Ipv6Addr::UNSPECIFIED, port).into()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }

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
