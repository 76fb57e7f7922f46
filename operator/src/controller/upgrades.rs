//! Whom a transition of an upgrade concerns beside the resource: metrics, and whoever is to be notified. It is told after
//! the status was written, so at most once.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    crd::{Outcome, ProgressDB, ProgressDBStatus, UpgradeStatus},
    notify::Notifier,
    status::News,
    telemetry::{self, UpgradeState, UpgradesUnderWay},
};

/// The upgrades of this process.
pub(super) struct Upgrades {
    under_way: UpgradesUnderWay,
    notifier: Notifier,
}

impl Upgrades {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self { under_way: UpgradesUnderWay::default(), notifier }
    }

    /// The status of a resource was written, or is as it was.
    pub(super) fn heard(&self, resource: &ProgressDB, status: &ProgressDBStatus, now: Timestamp) {
        let old = resource.status.as_ref().and_then(|status| status.upgrade.as_deref());
        let new = status.upgrade.as_deref();
        self.under_way.note(&resource.uid().unwrap_or_default(), new.and_then(state));
        let Some(news) = News::between(old, new) else { return };
        if let Some(outcome) = news.outcome {
            let millis = news.record.downtime_millis.and_then(|millis| u64::try_from(millis).ok());
            telemetry::record_upgrade(name(outcome), millis.map(Duration::from_millis));
        }
        for announcement in news.announced {
            self.notifier.tell(resource, news.record, *announcement, now);
        }
    }

    /// A resource is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.under_way.note(uid, None);
    }
}

fn state(record: &UpgradeStatus) -> Option<UpgradeState> {
    match (record.outcome, &record.hold) {
        (Some(_), _) => None,
        (None, None) => Some(UpgradeState::Working),
        (None, Some(hold)) if hold.is_stuck => Some(UpgradeState::Stuck),
        (None, Some(_)) => Some(UpgradeState::Held),
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "Succeeded",
        Outcome::RolledBack => "RolledBack",
        Outcome::Aborted => "Aborted",
    }
}
