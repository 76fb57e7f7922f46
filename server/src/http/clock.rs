//! For operators: the state of the clock, and a way to accept what it shows.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::audited::written;
use super::error::Error;
use super::output;
use super::request::Request;
use crate::clock::State;

/// The state of the clock.
#[derive(Serialize, ToSchema)]
pub(super) struct ClockStatus {
    /// `followed`; `settling` while removals wait for a step to last a minute; `held` while writes are refused because
    /// the machine is too far ahead; `impossible` while the machine shows a time before the server was built, and time
    /// goes on without it.
    #[schema(example = "followed")]
    state: &'static str,
    /// Unix nanoseconds that are written into new rows.
    now_ts: u64,
    /// Unix nanoseconds by which things expire and are removed.
    removals_ts: u64,
    /// Unix nanoseconds that the machine shows.
    machine_ts: u64,
    /// How far the machine is ahead of the trusted time, while that is too far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ahead_seconds: Option<u64>,
    /// systemd-timesyncd says that the machine's clock is right; `false` where the server cannot see it.
    synchronised: bool,
}

impl From<State> for ClockStatus {
    fn from(clock: State) -> Self {
        let state = match clock {
            State { held: Some(_), .. } => "held",
            State { impossible: true, .. } => "impossible",
            State { settling: Some(_), .. } => "settling",
            _ => "followed",
        };
        Self {
            state,
            now_ts: clock.now,
            removals_ts: clock.removals,
            machine_ts: clock.machine,
            ahead_seconds: clock.held.map(|held| held.ahead.as_secs()),
            synchronised: clock.synchronised,
        }
    }
}

/// Reports the state of the clock.
#[utoipa::path(
    get,
    path = "/admin/clock",
    tag = "admin",
    responses((status = 200, description = "State", body = ClockStatus)),
)]
pub(super) async fn get_clock(request: Request) -> Result<Response, Error> {
    Ok(output::json(StatusCode::OK, &ClockStatus::from(request.db()?.clock())))
}

/// Accepts what the machine's clock shows, however far ahead that is: writes are taken and dated by it from then on, and
/// what is older than its time by it is removed. Rows that are dated ahead of the true time stay so: look at `machine_ts`
/// first.
#[utoipa::path(
    post,
    path = "/admin/clock",
    tag = "admin",
    responses((status = 200, description = "Followed", body = ClockStatus)),
)]
pub(super) async fn accept_clock(request: Request) -> Result<Response, Error> {
    let db = request.db()?;
    written().await?;
    let before = db.clock();
    if !db.accept_clock() {
        return Err(Error::ClockImpossible);
    }
    let (from, to) = (before.now, before.machine);
    tracing::warn!(target: "audit", event = "clock.accepted", by = "admin", from, to, "the machine's clock was accepted");
    Ok(output::json(StatusCode::OK, &ClockStatus::from(db.clock())))
}
