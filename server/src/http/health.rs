//! Liveness, readiness and metrics. None of them touches the disk.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::error::{Error, ErrorBody};
use super::output;
use crate::telemetry;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Alive.
#[derive(Serialize, ToSchema)]
pub(super) struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Ready, and what for.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    #[schema(example = "ok")]
    status: &'static str,
    /// Of the server.
    #[schema(example = "0.3.0")]
    version: &'static str,
    format: Format,
    /// Random; another one after each restore.
    #[schema(example = "5e2c1a40b7d9f386")]
    incarnation: String,
    /// Client commits ever made.
    sequence: u64,
    /// The storage engine: `rocksdb` or `cassandra`.
    engine: &'static str,
    /// The number of this server among those that share its store.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slot: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kms: Option<KmsHealth>,
    /// `refused` while only reads are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    writes: Option<&'static str>,
    /// The server tries a version on a copy: nothing runs by itself. Absent elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(nullable = false, required = false)]
    rehearsal: bool,
    /// Why writes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// The key management service, if the store is encrypted.
#[derive(Serialize, ToSchema)]
pub(super) struct KmsHealth {
    #[schema(example = "vault")]
    provider: &'static str,
    /// `failing` while it does not answer; keys in memory are good for a while.
    #[schema(example = "ok")]
    status: &'static str,
    /// Seconds since it last did what it was asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    seconds_since_success: Option<u64>,
}

/// Store formats.
#[derive(Serialize, ToSchema)]
pub(super) struct Format {
    /// What the store has.
    data: u32,
    /// The oldest and the newest that this server reads.
    reads: [u32; 2],
    /// The newest that this server writes; a store of an older one is raised to it by `progressdb migrate --finalize`.
    writes: u32,
    /// The migrations that this takes, by name.
    pending: Vec<&'static str>,
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "Alive", body = Alive)))]
pub(super) async fn get_healthz() -> Response {
    output::json(StatusCode::OK, &Alive { status: "ok" })
}

/// Says whether the server takes requests, and which formats it knows.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "Ready, at least for reads", body = Ready),
        (status = 503, description = "Opening, migrating, draining or stopped: see `reason`", body = ErrorBody),
    ),
)]
pub(super) async fn get_readyz(State(app): State<App>) -> Response {
    match readiness(&app) {
        Ok(ready) => output::json(StatusCode::OK, &ready),
        Err(reason) => Error::NotReady { reason }.into_response(),
    }
}

fn readiness(app: &App) -> Result<Ready, &'static str> {
    if app.is_draining() {
        return Err("draining");
    }
    let (Some(db), Some(engine)) = (app.db(), app.engine()) else { return Err(app.opening()) };
    let health = db.health();
    if health.stopped {
        return Err("stopped");
    }
    if health.unreachable {
        return Err("the storage engine does not answer");
    }
    let kms = db.kms_health();
    if kms.as_ref().is_some_and(|(_, kms)| !kms.may_open) {
        return Err("the KMS has been gone for too long");
    }
    let sealing_refused = kms.as_ref().is_some_and(|(_, kms)| !kms.may_seal).then_some("the KMS is gone");
    let refused = health.refused.or(sealing_refused);
    Ok(Ready {
        kms: kms.map(|(provider, kms)| KmsHealth {
            provider: provider.as_str(),
            status: if kms.failure.is_some() { "failing" } else { "ok" },
            seconds_since_success: kms.since_success.map(|since| since.as_secs()),
        }),
        status: "ok",
        version: health.version,
        format: Format { data: health.format, reads: health.reads, writes: health.writes, pending: health.pending },
        incarnation: health.incarnation.to_string(),
        sequence: health.sequence,
        engine,
        slot: health.slot,
        rehearsal: app.is_rehearsal(),
        writes: refused.map(|_| "refused"),
        reason: refused,
    })
}

/// All metrics as Prometheus text.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain")),
)]
pub(super) async fn get_metrics() -> Response {
    metrics_text()
}

pub(super) fn metrics_text() -> Response {
    output::text(StatusCode::OK, PROMETHEUS, telemetry::render_metrics())
}
