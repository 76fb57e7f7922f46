//! What happens by itself: watching, and jobs.
//!
//! Watching publishes figures and probes the KMS, and changes no data; every server does it. A job changes data, and two
//! processes must never do it at once: each takes a [`JobOwner`], which only the process has that holds the data directory
//! to serve from. A rehearsal has none, so none of its jobs can start.

use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use tokio::task::JoinSet;

use crate::clock::Held;
use crate::config::{Config, Encryption};
use crate::data_dir::Directory;
use crate::db::{Db, Error, Purged};
use crate::store::Engine;

/// The tasks; they end when this is dropped or aborted.
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Ends all tasks. A commit that one of them waits for goes on.
    pub(super) fn abort(mut self) {
        self.0.abort_all();
    }
}

/// The right to run jobs on a database: its data directory, locked.
#[derive(Clone)]
pub(super) struct JobOwner {
    _directory: Arc<Directory>,
}

impl JobOwner {
    /// Of the process that holds this directory.
    pub(super) fn of(directory: Arc<Directory>) -> Self {
        Self { _directory: directory }
    }
}

/// Starts to watch; and the jobs, if they have an owner.
pub(super) fn start(db: &Db, engine: &Engine, config: &Config, owner: Option<JobOwner>) -> Tasks {
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_figures(engine.clone(), db.clone()));
    tasks.spawn(watch_clock(db.clone()));
    if config.encryption.enabled {
        let Encryption { probe_interval, probe_interval_failing, .. } = config.encryption;
        tasks.spawn(watch_kms(owner.clone(), db.clone(), probe_interval, probe_interval_failing));
    }
    if let Some(owner) = owner {
        start_jobs(&mut tasks, db, config, &owner);
    }
    Tasks(tasks)
}

fn start_jobs(tasks: &mut JoinSet<()>, db: &Db, config: &Config, owner: &JobOwner) {
    tasks.spawn(expire_idempotency(owner.clone(), db.clone()));
    if config.encryption.enabled {
        tasks.spawn(seal_what_is_plain(owner.clone(), db.clone()));
    }
    tasks.spawn(compact_after_erasures(owner.clone(), db.clone()));
    if config.retention.enabled {
        tasks.spawn(purge_on_schedule(owner.clone(), db.clone(), config.retention.cron.clone()));
    }
}

async fn publish_figures(engine: Engine, db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        for (name, value) in engine.figures() {
            metrics::gauge!(name).set(value as f64);
        }
        if let Some((_, kms)) = db.kms_health() {
            let age = kms.since_success.unwrap_or_default();
            metrics::gauge!("progressdb_kms_seconds_since_success").set(age.as_secs_f64());
            metrics::gauge!("progressdb_data_keys_cached").set(db.cached_keys() as f64);
        }
    }
}

/// Looks at the clock when nobody else does: a step is seen when it happens, and how long it stands is known.
async fn watch_clock(db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let clock = db.clock();
        metrics::gauge!("progressdb_clock_held").set(f64::from(u8::from(clock.held.is_some())));
        metrics::gauge!("progressdb_clock_ahead_seconds").set(clock.held.map_or(0.0, |held| held.ahead.as_secs_f64()));
    }
}

async fn expire_idempotency(_owner: JobOwner, db: Db) {
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

fn time_until_next(schedule: &croner::Cron, now: u64) -> Option<Duration> {
    let now = Timestamp::from_nanosecond(now.into()).ok()?.to_zoned(TimeZone::UTC);
    let next = schedule.find_next_occurrence(&now, false).ok()?;
    Some(now.duration_until(&next).unsigned_abs())
}

async fn purge_on_schedule(_owner: JobOwner, db: Db, schedule: croner::Cron) {
    loop {
        let Some(wait) = time_until_next(&schedule, db.clock().now) else {
            tracing::error!(event = "retention.never", "retention.cron names no time to come");
            return;
        };
        tokio::time::sleep(wait).await;
        match purge_when_certain(&db).await {
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

/// Waits for a clock that may remove.
async fn purge_when_certain(db: &Db) -> Result<Purged, Error> {
    loop {
        let wait = match db.purge(false).await {
            Err(Error::ClockHeld(Held { retry_after: wait, .. }) | Error::ClockSettling { left: wait }) => wait,
            done => return done,
        };
        tracing::warn!(
            event = "retention.waits",
            wait_s = wait.as_secs(),
            "nothing is removed while the clock is in doubt"
        );
        tokio::time::sleep(wait).await;
    }
}

/// Probes the KMS; its owner also renews what is wrapped by an old key of it or is old itself. The start was the first
/// probe.
async fn watch_kms(owner: Option<JobOwner>, db: Db, interval: Duration, interval_failing: Duration) {
    let mut is_start = true;
    loop {
        let renewed = probe(&db, owner.as_ref(), is_start).await;
        is_start = false;
        let healthy = match renewed {
            Ok(begun) => {
                if begun {
                    db.want_sealing();
                }
                true
            }
            Err(error) => {
                tracing::warn!(event = "kms.failing", %error);
                false
            }
        };
        tokio::time::sleep(if healthy { interval } else { interval_failing }).await;
    }
}

/// True if a new epoch was begun.
async fn probe(db: &Db, owner: Option<&JobOwner>, is_start: bool) -> Result<bool, Error> {
    if !is_start {
        db.probe_kms().await?;
    }
    match owner {
        Some(_) => db.renew_epochs().await,
        None => Ok(false),
    }
}

/// Runs the sealing job when there is reason to, and again after a while when it failed.
async fn seal_what_is_plain(_owner: JobOwner, db: Db) {
    for name in ["progressdb_sealing_job_threads", "progressdb_sealing_job_users"] {
        metrics::gauge!(name).increment(0.0);
    }
    loop {
        if let Err(error) = db.run_sealing_job().await {
            tracing::error!(event = "encryption.sealing_stopped", %error, "goes on in a minute");
            tokio::time::sleep(Duration::from_mins(1)).await;
            continue;
        }
        db.sealing_wanted().await;
    }
}

async fn compact_after_erasures(_owner: JobOwner, db: Db) {
    let often = (db.erasure_horizon() / 8).clamp(Duration::from_secs(1), Duration::from_hours(1));
    let mut ticks = tokio::time::interval(often);
    loop {
        ticks.tick().await;
        if let Err(error) = db.compact_if_due().await {
            tracing::error!(event = "erasure.compaction_failed", %error);
        }
    }
}
