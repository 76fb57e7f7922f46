//! Backups that the server makes by itself: at the times of `backup.schedule`, one at a time.
//!
//! A run cuts the store, writes the backup, reads it again, and removes what is not to be kept. A run that fails is not
//! repeated before the next time; one that would begin while another backup is made, or the one before is under way, is
//! skipped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::tasks::{JobOwner, time_until_next};
use crate::backup::remote::Error;
use crate::backup::{Backups, Destination, Listed, Made, MakeError, Place, Progress, Refused};
use crate::clock::{Clock, monotonic};
use crate::config::{Backup, Config};
use crate::db::Db;
use crate::error_chain::with_causes;

/// How long objects stay that no backup names: an upload that was interrupted goes on with them.
const GRACE: Duration = Duration::from_hours(24);

/// What the backups of a server need.
pub(super) struct Scheduled {
    settings: Backup,
    data_dir: PathBuf,
    database_id: [u8; 16],
    backups: Backups,
    /// Told which backup is the oldest, for receipts of erasures.
    db: Db,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Place(#[from] Error),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Make(MakeError::Failed(error)) | Self::Place(error) => error.reason(),
            Self::Make(_) => "store",
        }
    }
}

/// Makes backups until this is dropped.
pub(super) async fn run(_owner: JobOwner, scheduled: Scheduled) {
    let Some(schedule) = scheduled.settings.schedule.clone() else { return };
    let scheduled = Arc::new(scheduled);
    scheduled.apart(Scheduled::look).await;
    loop {
        let now = scheduled.db.clock().now;
        let Some(wait) = time_until_next(&schedule, now) else {
            tracing::error!(event = "backup.never", "backup.schedule names no time to come");
            return;
        };
        let due = now.saturating_add(nanos(wait));
        if let Some(interval) = time_until_next(&schedule, due) {
            metrics::gauge!("progressdb_backup_interval_seconds").set(interval.as_secs_f64());
        }
        tokio::time::sleep(wait).await;
        let started = monotonic();
        tracing::info!(event = "backup.scheduled", destination = scheduled.settings.destination);
        scheduled.apart(Scheduled::make_or_tell).await;
        let took = started.elapsed();
        metrics::gauge!("progressdb_backup_duration_seconds").set(took.as_secs_f64());
        if time_until_next(&schedule, due).is_some_and(|next| next < took) {
            tracing::warn!(event = "backup.skipped", took_s = took.as_secs(), "the one before was still under way");
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes what runs apart end soon after nobody waits for it any more.
struct StopWhenDropped(Arc<Progress>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Scheduled {
    pub(super) fn new(config: &Config, database_id: [u8; 16], backups: Backups, db: Db) -> Self {
        let (settings, data_dir) = (config.backup.clone(), config.db_path.clone());
        Self { settings, data_dir, database_id, backups, db }
    }

    /// Runs `work` on a thread where it may block, and stops it when this is dropped.
    async fn apart(self: &Arc<Self>, work: fn(&Self, &Arc<Progress>)) {
        let (this, progress) = (Arc::clone(self), Arc::new(Progress::new(self.settings.rate_limit)));
        let _stop = StopWhenDropped(Arc::clone(&progress));
        if let Err(error) = spawn_blocking(move || work(&this, &progress)).await {
            tracing::error!(event = "backup.failed", reason = "io", %error);
        }
    }

    fn destination(&self) -> &str {
        self.settings.destination.as_deref().unwrap_or_default()
    }

    /// Learns from the destination which backups there are.
    fn look(&self, progress: &Arc<Progress>) {
        let listed = self.list(progress).unwrap_or_default();
        let id = hex::encode(self.database_id);
        let ours = || listed.iter().filter(|backup| backup.database_id.as_ref() == Some(&id));
        let newest =
            |time: fn(&Listed) -> Option<&String>| ours().filter_map(time).filter_map(|time| seconds(time)).max();
        show("progressdb_backup_last_success_timestamp_seconds", newest(|backup| backup.created.as_ref()));
        show("progressdb_backup_last_verified_timestamp_seconds", newest(|backup| backup.verified.as_ref()));
        metrics::gauge!("progressdb_backup_duration_seconds").set(0.0);
        metrics::gauge!("progressdb_backup_bytes").set(0.0);
    }

    /// The backups that are there, if that can be known, and which of them is the oldest.
    fn list(&self, progress: &Progress) -> Option<Vec<Listed>> {
        let place = Place::open(self.destination(), &self.settings.access);
        let listed = match place.and_then(|place| place.list(progress)) {
            Ok(listed) => listed,
            // It is made by the first backup.
            Err(Error::Missing { .. } | Error::Refused(Refused::Missing { .. })) => Vec::new(),
            Err(error) => {
                tracing::warn!(event = "backup.unknown", reason = error.reason(), error = with_causes(&error));
                return None;
            }
        };
        self.db.know_oldest_backup(oldest(&listed, &hex::encode(self.database_id)));
        Some(listed)
    }

    fn make_or_tell(&self, progress: &Arc<Progress>) {
        let failure = match self.make(progress) {
            Ok(()) | Err(Failure::Make(MakeError::Stopped)) => return,
            Err(Failure::Make(MakeError::Running)) => {
                tracing::warn!(event = "backup.skipped", "another backup is being made");
                return;
            }
            Err(failure) => failure,
        };
        let reason = failure.reason();
        metrics::counter!("progressdb_backup_failures_total", "reason" => reason).increment(1);
        tracing::error!(event = "backup.failed", reason, error = with_causes(&failure));
    }

    fn make(&self, progress: &Arc<Progress>) -> Result<(), Failure> {
        let destination = Destination::open_directory(self.destination(), &self.data_dir, &self.settings.access)?;
        let (made, _) = self.backups.make(&destination, self.settings.rate_limit)?;
        let Made { at, bytes, manifest, .. } = &made;
        if self.db.oldest_backup().is_none() {
            self.db.know_oldest_backup(Some(at.clone()));
        }
        metrics::gauge!("progressdb_backup_bytes").set(*bytes as f64);
        show("progressdb_backup_last_success_timestamp_seconds", seconds(&manifest.header.created));
        tracing::info!(event = "backup.complete", at, bytes, sequence = manifest.sequence);
        if self.settings.verify {
            destination.read_again(&made, progress)?;
            show("progressdb_backup_last_verified_timestamp_seconds", Some(Clock::wall() / 1_000_000_000));
            tracing::info!(event = "backup.verified", at);
        }
        let place = Place::open(self.destination(), &self.settings.access)?;
        let pruned = place.prune(self.settings.keep, GRACE, Some(at), false, progress)?;
        if pruned.removed() > 0 || pruned.objects > 0 {
            tracing::info!(
                event = "backup.pruned",
                backups = pruned.removed(),
                objects = pruned.objects,
                bytes = pruned.bytes
            );
        }
        // Somebody else may have added or removed some, too.
        self.list(progress);
        Ok(())
    }
}

/// Where the oldest backup is that is of this database, or may be of it because it cannot be read.
fn oldest(listed: &[Listed], database_id: &str) -> Option<String> {
    let may_be = |backup: &&Listed| backup.database_id.as_ref().is_none_or(|id| id == database_id);
    listed.iter().find(may_be).map(|backup| backup.at.clone())
}

/// Unix seconds of a time as lists show it.
fn seconds(time: &str) -> Option<u64> {
    time.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok())
}

fn show(name: &'static str, seconds: Option<u64>) {
    metrics::gauge!(name).set(seconds.unwrap_or_default() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup of a database, or one that cannot be read.
    fn listed(at: &str, database_id: Option<&str>) -> Listed {
        let (none, database_id) = (None, database_id.map(str::to_owned));
        let (name, at, created, version, problem) = (at.to_owned(), at.to_owned(), None, None, None);
        let (store_format, sequence, verified) = (None, None, None);
        Listed {
            name,
            at,
            problem,
            id: none,
            database_id,
            created,
            version,
            store_format,
            sequence,
            bytes: 0,
            verified,
        }
    }

    #[test]
    fn the_oldest_backup_that_may_be_of_the_database_is_known() {
        let all = [listed("a", Some("02")), listed("b", Some("01")), listed("c", Some("01"))];
        assert_eq!(oldest(&all, "01").as_deref(), Some("b"));
        assert_eq!(oldest(&all, "03"), None);
        let all = [listed("a", Some("02")), listed("b", None), listed("c", Some("01"))];
        assert_eq!(oldest(&all, "01").as_deref(), Some("b"), "it may be of any");
    }
}
