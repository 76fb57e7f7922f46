//! What an upgrade means for its resource.

use crate::{
    conditions::Finding,
    crd::{HistoryEntry, Outcome, UpgradeStatus},
};

/// What an upgrade has come to: what is told of it, and what it means for the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The upgrade that is under way, or the last one.
    pub record: Option<Box<UpgradeStatus>>,
    /// Those that have ended.
    pub history: Vec<HistoryEntry>,
    /// Whether what the resource asks for has taken the place of what ran before; `None` if there never was an upgrade.
    pub finding: Option<Finding>,
}

impl Progress {
    /// With what the record means for the resource.
    pub fn of(record: UpgradeStatus, history: Vec<HistoryEntry>) -> Self {
        let to = &record.to.image;
        let step = format!("{:?}", record.step);
        let odd = record.odd_override.as_ref().map(|odd| format!("; progressdb.io/override lets nothing pass: {odd}"));
        let odd = odd.unwrap_or_default();
        let finding = match (&record.hold, record.outcome) {
            (_, Some(Outcome::Succeeded)) => {
                let message = record.message.clone().unwrap_or_default();
                Finding::yes("Succeeded", format!("{to} runs; {message}"))
            }
            (_, Some(outcome)) => {
                let reason = if outcome == Outcome::Aborted { "Aborted" } else { "RolledBack" };
                let why = record.message.as_deref().unwrap_or_default();
                let message = format!(
                    "{to} does not run, {} does: {why}; correct the spec, or, once the cause is gone, change it back and \
                     forth to try again",
                    record.from.image
                );
                Finding::no(reason, message)
            }
            (Some(hold), None) => {
                let command = hold.next_command.as_ref().map(|command| format!("; type: {command}"));
                let message = format!(
                    "the upgrade to {to} waits in {step}: {}{}{odd}",
                    hold.message,
                    command.unwrap_or_default()
                );
                Finding::no(if hold.is_stuck { "Stuck" } else { "Held" }, message)
            }
            (None, None) => Finding::unknown("InProgress", format!("the upgrade to {to} is in {step}{odd}")),
        };
        Self { record: Some(Box::new(record)), history, finding: Some(finding) }
    }

    /// Whether an upgrade is under way.
    pub fn is_active(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.outcome.is_none())
    }
}
