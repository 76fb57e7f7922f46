//! Liveness, readiness and metrics. None of them touches the disk.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::error::{Error, ErrorBody};
use super::respond;
use crate::telemetry;

const VERSION: &str = env!("CARGO_PKG_VERSION");
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
    /// Client commits ever made.
    sequence: u64,
    #[schema(example = "rocksdb")]
    engine: &'static str,
    /// `refused` while only reads are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    writes: Option<&'static str>,
    /// Why writes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// Store formats.
#[derive(Serialize, ToSchema)]
pub(super) struct Format {
    /// What the store has.
    data: u32,
    /// The oldest and the newest that this server reads.
    reads: [u32; 2],
    /// What this server writes.
    writes: u32,
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "Alive", body = Alive)))]
pub(super) async fn get_healthz() -> Response {
    respond::json(StatusCode::OK, &Alive { status: "ok" })
}

/// Says whether the server takes requests, and which formats it knows.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "Ready, at least for reads", body = Ready),
        (status = 503, description = "Opening, draining or stopped: see `reason`", body = ErrorBody),
    ),
)]
pub(super) async fn get_readyz(State(app): State<App>) -> Response {
    match readiness(&app) {
        Ok(ready) => respond::json(StatusCode::OK, &ready),
        Err(reason) => Error::NotReady { reason }.into_response(),
    }
}

fn readiness(app: &App) -> Result<Ready, &'static str> {
    if app.is_draining() {
        return Err("draining");
    }
    let health = app.db().ok_or("opening")?.health();
    if health.stopped {
        return Err("stopped");
    }
    Ok(Ready {
        status: "ok",
        version: VERSION,
        format: Format { data: health.format, reads: health.reads, writes: health.writes },
        sequence: health.sequence,
        engine: "rocksdb",
        writes: health.refused.map(|_| "refused"),
        reason: health.refused,
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
    respond::text(StatusCode::OK, PROMETHEUS, telemetry::render_metrics())
}
