//! What happens by itself: retention, and the engine's figures.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::store::Rocks;

/// The tasks; they end when this is dropped or aborted.
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Ends all tasks. A commit that one of them waits for goes on.
    pub(super) fn abort(mut self) {
        self.0.abort_all();
    }
}

pub(super) fn start(db: &Db, rocks: &Rocks, config: &Config) -> Tasks {
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_figures(rocks.clone()));
    tasks.spawn(expire_idempotency(db.clone()));
    if config.retention.enabled {
        tasks.spawn(purge_on_schedule(db.clone(), config.retention.cron.clone()));
    }
    Tasks(tasks)
}

async fn publish_figures(rocks: Rocks) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        for (name, value) in rocks.figures() {
            metrics::gauge!(name).set(value as f64);
        }
    }
}

async fn expire_idempotency(db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_hours(1));
    let mut look_back = true;
    loop {
        ticks.tick().await;
        let expired = db.expire_idempotency(look_back).await;
        look_back = expired.is_err();
        match expired {
            Ok(purged) => tracing::debug!(event = "retention.idempotency", removed = purged.idempotency_records),
            Err(error) => tracing::error!(event = "retention.failed", %error),
        }
    }
}

fn time_until_next(schedule: &croner::Cron) -> Option<Duration> {
    let now = Timestamp::from_nanosecond(Clock::wall().into()).ok()?.to_zoned(TimeZone::UTC);
    let next = schedule.find_next_occurrence(&now, false).ok()?;
    Some(now.duration_until(&next).unsigned_abs())
}

async fn purge_on_schedule(db: Db, schedule: croner::Cron) {
    loop {
        let Some(wait) = time_until_next(&schedule) else {
            tracing::error!(event = "retention.never", "retention.cron names no time to come");
            return;
        };
        tokio::time::sleep(wait).await;
        match db.purge(false).await {
            Ok(purged) => tracing::info!(
                event = "retention.purged",
                threads = purged.threads,
                messages = purged.messages,
                idempotency_records = purged.idempotency_records,
            ),
            Err(error) => tracing::error!(event = "retention.failed", %error),
        }
    }
}
