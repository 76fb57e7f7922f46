//! What a server does without being asked: it watches, and runs jobs.
//!
//! Watching publishes figures and probes the KMS. It changes no data, and every server does it. A job changes data, and no
//! two processes should run it on one database: starting a job takes a [`JobOwner`], which a rehearsal does not have.

use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use tokio::task::JoinSet;

use super::home::Home;
use super::scheduled_backups::{self, Scheduled};
use crate::backup::{Checkpoints, Figures};
use crate::clock::Held;
use crate::config::{Config, Encryption};
use crate::data_dir::Directory;
use crate::db::{Db, Error, Purged};
use crate::store::{Engine, Store};

/// The running tasks; they end when this is dropped or aborted.
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Ends all tasks. A commit that one of them waits for is still made.
    pub(super) fn abort(mut self) {
        self.0.abort_all();
    }
}

/// The right to run jobs on a database: of the process that holds the lock of its directory or, of those that share a
/// store, of the one whose turn it is.
#[derive(Clone)]
pub(super) enum JobOwner {
    /// As long as one exists, the data directory stays locked.
    Directory { _directory: Arc<Directory> },
    /// The turn may come and go.
    Shared(Store),
}

impl JobOwner {
    /// The right that comes with having opened the store there.
    pub(super) fn of(home: &Home, engine: &Engine) -> Self {
        match home {
            Home::Own(directory) => Self::Directory { _directory: directory.clone() },
            Home::Shared { .. } => Self::Shared(engine.store()),
        }
    }

    fn has_turn(&self) -> bool {
        match self {
            Self::Directory { .. } => true,
            Self::Shared(store) => store.has_turn(),
        }
    }

    /// Waits until jobs run here. What a job does is safe also if the turn passes on meanwhile: each change expects what it
    /// replaces.
    async fn turn(&self) {
        while !self.has_turn() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Starts watching, and the jobs if this process owns them.
pub(super) fn start(
    db: &Db,
    engine: &Engine,
    checkpoints: Option<&Checkpoints>,
    config: &Config,
    owner: Option<JobOwner>,
    scheduled: Option<Scheduled>,
) -> Tasks {
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_figures(engine.clone(), db.clone()));
    if let Some(checkpoints) = checkpoints {
        tasks.spawn(watch_checkpoints(checkpoints.clone()));
    }
    if engine.store().is_shared() {
        tasks.spawn(follow_others(db.clone()));
    }
    tasks.spawn(watch_clock(db.clone()));
    if config.encryption.enabled {
        let Encryption { probe_interval, probe_interval_failing, .. } = config.encryption;
        tasks.spawn(watch_kms(owner.clone(), db.clone(), probe_interval, probe_interval_failing));
    }
    if let Some(owner) = owner {
        start_jobs(&mut tasks, db, config, &owner, scheduled);
    }
    Tasks(tasks)
}

fn start_jobs(tasks: &mut JoinSet<()>, db: &Db, config: &Config, owner: &JobOwner, scheduled: Option<Scheduled>) {
    tasks.spawn(expire_idempotency(owner.clone(), db.clone()));
    if config.encryption.enabled {
        tasks.spawn(seal_what_is_plain(owner.clone(), db.clone()));
    }
    tasks.spawn(compact_after_erasures(owner.clone(), db.clone()));
    if matches!(owner, JobOwner::Shared(_)) {
        tasks.spawn(recount(owner.clone(), db.clone()));
    }
    if config.retention.enabled {
        tasks.spawn(purge_on_schedule(owner.clone(), db.clone(), config.retention.cron.clone()));
    }
    if let Some(scheduled) = scheduled.filter(|_| config.backup.schedule.is_some()) {
        tasks.spawn(scheduled_backups::run(owner.clone(), scheduled));
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

/// Removes checkpoints whose leases have ended, and publishes what the others take.
async fn watch_checkpoints(checkpoints: Checkpoints) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let checkpoints = checkpoints.clone();
        // Files are looked at and removed.
        let looked = tokio::task::spawn_blocking(move || {
            checkpoints.remove_expired();
            checkpoints.figures()
        });
        let Ok(Figures { held, oldest, pinned_bytes }) = looked.await else { continue };
        metrics::gauge!("progressdb_backup_checkpoints").set(held as f64);
        metrics::gauge!("progressdb_backup_checkpoint_oldest_seconds").set(oldest.as_secs_f64());
        metrics::gauge!("progressdb_backup_checkpoint_pinned_bytes").set(pinned_bytes as f64);
    }
}

/// Reads the clock also when no request does, so that a step is noticed when it happens, and it is known how long it has
/// lasted.
async fn watch_clock(db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let clock = db.clock();
        metrics::gauge!("progressdb_clock_held").set(f64::from(u8::from(clock.held.is_some())));
        metrics::gauge!("progressdb_clock_ahead_seconds").set(clock.held.map_or(0.0, |held| held.ahead.as_secs_f64()));
    }
}

/// Learns what other servers of the store have changed: epochs, whether all is sealed, how far the sequence is.
pub(super) async fn follow_others(db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = db.follow_others().await {
            tracing::warn!(event = "storage.not_followed", %error);
        }
    }
}

async fn expire_idempotency(owner: JobOwner, db: Db) {
    let mut ticks = tokio::time::interval(Duration::from_hours(1));
    let mut look_back = true;
    loop {
        ticks.tick().await;
        owner.turn().await;
        let expired = db.expire_idempotency(look_back).await;
        look_back = expired.is_err();
        match expired {
            Ok(purged) => tracing::debug!(event = "retention.idempotency", removed = purged.idempotency_records),
            Err(error) => tracing::error!(event = "retention.failed", %error),
        }
    }
}

/// How long until the schedule names a time again, from `now` on: Unix nanoseconds.
pub(super) fn time_until_next(schedule: &croner::Cron, now: u64) -> Option<Duration> {
    let now = Timestamp::from_nanosecond(now.into()).ok()?.to_zoned(TimeZone::UTC);
    let next = schedule.find_next_occurrence(&now, false).ok()?;
    Some(now.duration_until(&next).unsigned_abs())
}

async fn purge_on_schedule(owner: JobOwner, db: Db, schedule: croner::Cron) {
    loop {
        let Some(wait) = time_until_next(&schedule, db.clock().now) else {
            tracing::error!(event = "retention.never", "retention.cron names no time to come");
            return;
        };
        tokio::time::sleep(wait).await;
        if !owner.has_turn() {
            continue;
        }
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

/// Purges; while the clock is in doubt, which forbids removing anything, waits and tries again.
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

/// Probes the KMS. The owner of jobs also renews epoch keys that are old, or are wrapped by an old key of the KMS. Opening
/// the database was the first probe.
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
        Some(owner) if owner.has_turn() => db.renew_epochs().await,
        _ => Ok(false),
    }
}

/// Runs the sealing job whenever something asks for it, and again a minute after a failure.
async fn seal_what_is_plain(owner: JobOwner, db: Db) {
    for name in ["progressdb_sealing_job_threads", "progressdb_sealing_job_users"] {
        metrics::gauge!(name).increment(0.0);
    }
    loop {
        owner.turn().await;
        if let Err(error) = db.run_sealing_job().await {
            if matches!(error, Error::Busy) {
                // Another server writes the same rows, or has not said with which epoch it seals.
                tokio::time::sleep(Duration::from_secs(2)).await;
                continue;
            }
            tracing::error!(event = "encryption.sealing_stopped", %error, "goes on in a minute");
            tokio::time::sleep(Duration::from_mins(1)).await;
            continue;
        }
        db.sealing_wanted().await;
    }
}

/// Counts again when the turn comes here, which is when another server may have died, and every hour.
async fn recount(owner: JobOwner, db: Db) {
    const SOON: Duration = Duration::from_secs(5);
    const EVERY: Duration = Duration::from_hours(1);
    loop {
        owner.turn().await;
        match db.recount_store().await {
            Ok(wrong) => tracing::info!(event = "storage.recounted", wrong),
            Err(error) => tracing::warn!(event = "storage.recount_failed", %error),
        }
        let mut left = EVERY;
        while owner.has_turn() && !left.is_zero() {
            tokio::time::sleep(SOON).await;
            left = left.saturating_sub(SOON);
        }
    }
}

async fn compact_after_erasures(owner: JobOwner, db: Db) {
    let often = (db.erasure_horizon() / 8).clamp(Duration::from_secs(1), Duration::from_hours(1));
    let mut ticks = tokio::time::interval(often);
    loop {
        ticks.tick().await;
        owner.turn().await;
        if let Err(error) = db.compact_if_due().await {
            tracing::error!(event = "erasure.compaction_failed", %error);
        }
    }
}
