//! What was found about the parts of a resource, and what that means for the whole.

use super::Progress;
use crate::conditions::{ConditionType, Finding, PASSING, RESTART_TO_GROW};

/// What was found about each part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Findings {
    /// The settings and what they name.
    pub configuration: Finding,
    /// The volume.
    pub storage: Finding,
    /// The KMS; `None` without one.
    pub keys: Option<Finding>,
    /// The server.
    pub server: Finding,
    /// Whether all servers of a fleet take requests that should; `None` of a single one.
    pub servers: Option<Finding>,
    /// That the server does not accept the keys of clients, and whether somebody must do something about it.
    pub api_keys: Option<(Finding, bool)>,
    /// Whether the server that should run is another one than the one that does.
    pub is_behind: bool,
    /// What is in the way of everything.
    pub blocked: Option<Finding>,
    /// What the API server refuses.
    pub refused: Option<Finding>,
    /// Who insists on another value of a field than the operator.
    pub contested: Option<Finding>,
    /// What an upgrade has come to.
    pub upgrade: Progress,
}

impl Findings {
    /// With what an upgrade has come to.
    pub fn with_upgrade(self, upgrade: Progress) -> Self {
        Self { upgrade, ..self }
    }

    /// Whether something is awaited.
    pub fn waits(&self) -> bool {
        let rests = |finding: &Finding| finding.holds() || finding.reason == RESTART_TO_GROW;
        !self.parts().all(rests) || self.blocked.is_some() || self.refused.is_some()
    }

    /// Whether something should go on any moment that no watch may tell of.
    pub fn starts(&self) -> bool {
        let awaited = ["Checking", "Creating", "Starting", "Stopped", "Binding"];
        self.parts().any(|finding| awaited.contains(&finding.reason))
    }

    /// The conditions that follow; `is_working` says whether there is anything to do or to wait for.
    pub(super) fn conditions(&self, is_suspended: bool, is_working: bool) -> Vec<(ConditionType, Finding)> {
        let ready = self.ready(is_suspended);
        let stalled = self.stalled();
        let reconciling = match is_working && stalled.is_none() {
            true => Finding::yes("Working", ready.message.clone()),
            false => Finding::no("Settled", "there is nothing to do"),
        };
        let stalled = match stalled {
            Some(finding) => Finding::yes(finding.reason, finding.message.clone()),
            None => nothing_in_the_way(),
        };
        let mut conditions = vec![
            (ConditionType::Ready, ready),
            (ConditionType::Available, self.server.clone()),
            (ConditionType::ConfigurationValid, self.configuration.clone()),
            (ConditionType::StorageReady, self.storage.clone()),
            (ConditionType::Reconciling, reconciling),
            (ConditionType::Stalled, stalled),
            (ConditionType::Suspended, suspended(is_suspended)),
        ];
        conditions.extend(self.upgrade.finding.clone().map(|finding| (ConditionType::Upgraded, finding)));
        conditions.extend(self.keys.clone().map(|finding| (ConditionType::KeyManagementReady, finding)));
        conditions
    }

    /// One word for people.
    pub(super) fn phase(&self, is_suspended: bool) -> &'static str {
        match (self.stalled().is_some(), is_suspended, self.is_behind, self.server.holds()) {
            (true, ..) => "Stalled",
            (_, true, ..) => "Suspended",
            _ if self.upgrade.is_active() => "Upgrading",
            (_, _, true, true) => "Updating",
            (_, _, false, true) => "Running",
            _ => "Starting",
        }
    }

    fn parts(&self) -> impl Iterator<Item = &Finding> {
        let known = [Some(&self.configuration), Some(&self.storage), self.keys.as_ref(), Some(&self.server)];
        known.into_iter().chain([self.servers.as_ref()]).flatten()
    }

    /// The first thing that somebody must mend.
    fn stalled(&self) -> Option<&Finding> {
        let overdue_keys = self.api_keys.as_ref().filter(|(_, is_overdue)| *is_overdue).map(|(finding, _)| finding);
        self.blocked
            .as_ref()
            .or(self.refused.as_ref())
            .or_else(|| self.upgrade.finding.as_ref().filter(|finding| finding.fails()))
            .or_else(|| self.parts().find(needs_hands))
            .or(overdue_keys)
            .or(self.contested.as_ref())
    }

    fn ready(&self, is_suspended: bool) -> Finding {
        if let Some(blocked) = self.blocked.as_ref().or(self.refused.as_ref()) {
            return Finding::no(blocked.reason, blocked.message.clone());
        }
        if is_suspended {
            return Finding::no("Suspended", "the server is stopped because spec.suspend is true");
        }
        let parts = [Some(&self.configuration), self.keys.as_ref(), Some(&self.storage)];
        if let Some(finding) = parts.into_iter().flatten().find(|finding| finding.fails()) {
            return finding.clone();
        }
        if let Some(failed) = self.upgrade.finding.as_ref().filter(|finding| finding.fails()) {
            return failed.clone();
        }
        if let Some(broken) = self.servers.as_ref().filter(needs_hands) {
            return broken.clone();
        }
        if self.is_behind && self.upgrade.is_active() {
            let reason = if self.server.holds() { "Updating" } else { "Starting" };
            return Finding::no(reason, self.upgrade.finding.as_ref().map_or("", |finding| &*finding.message));
        }
        if self.is_behind {
            let parts = [Some(&self.configuration), self.keys.as_ref()];
            let awaited = parts.into_iter().flatten().find(|finding| !finding.holds());
            let awaited = awaited.or(self.servers.as_ref());
            let message = awaited.map_or("the server is stopped and started anew", |finding| &finding.message);
            return Finding::no(if self.server.holds() { "Updating" } else { "Starting" }, message);
        }
        let server = self.servers.as_ref().unwrap_or(&self.server);
        let refused = self.api_keys.as_ref().filter(|_| server.holds());
        refused.map_or_else(|| server.clone(), |(finding, _)| finding.clone())
    }
}

/// Whether it will not pass by itself.
fn needs_hands(finding: &&Finding) -> bool {
    finding.fails() && !PASSING.contains(&finding.reason)
}

/// That nobody has to do anything.
pub(super) fn nothing_in_the_way() -> Finding {
    Finding::no("NothingInTheWay", "nothing needs a hand")
}

fn suspended(is_suspended: bool) -> Finding {
    match is_suspended {
        true => Finding::yes("Requested", "spec.suspend is true: set it to false to start the server"),
        false => Finding::no("NotRequested", "spec.suspend is false"),
    }
}
