//! The conditions in a resource's status: the types that the operator writes, and what it found about each.
//!
//! A condition keeps the time of its last transition as long as its status is the same, so an unchanged cluster leads to
//! no write.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message that the API server takes.
const LONGEST: usize = 32_768;

/// The reason for settings that the image accepts and warns of.
pub const WARNED: &str = "AcceptedWithWarnings";

/// Reasons of a server that does not serve yet and will by itself.
pub const PASSING: [&str; 5] = ["Stopped", "Starting", "NotReady", "Stopping", "Suspended"];

/// The reason of a volume that waits for a restart, about which only its owner decides: the operator has nothing to do.
pub const RESTART_TO_GROW: &str = "RestartToGrow";

/// Whether this is the reason of something that does not last: no need to warn.
pub fn is_ordinary(reason: &str) -> bool {
    PASSING.contains(&reason) || ["Updating", "Deleting"].contains(&reason)
}

/// The types of conditions, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The server takes requests as it was last asked to be.
    Ready,
    /// The server takes requests.
    Available,
    /// The settings and what they name are good.
    ConfigurationValid,
    /// The volume is there, and as large as it should be.
    StorageReady,
    /// The KMS wraps and unwraps.
    KeyManagementReady,
    /// What the resource asks for has taken the place of what ran before.
    Upgraded,
    /// The operator is at work, or waits for something that will come by itself.
    Reconciling,
    /// Nothing goes on until somebody does what the message of the condition says.
    Stalled,
    /// The server is stopped on purpose.
    Suspended,
}

impl ConditionType {
    /// As the field `type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::ConfigurationValid => "ConfigurationValid",
            Self::StorageReady => "StorageReady",
            Self::KeyManagementReady => "KeyManagementReady",
            Self::Upgraded => "Upgraded",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Suspended => "Suspended",
        }
    }

    /// Those that are false when all is well.
    pub const ABNORMAL: [Self; 3] = [Self::Reconciling, Self::Stalled, Self::Suspended];

    /// All that this operator writes. Conditions of other types are somebody else's, and are not even read.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::Available,
        Self::ConfigurationValid,
        Self::StorageReady,
        Self::KeyManagementReady,
        Self::Upgraded,
        Self::Reconciling,
        Self::Stalled,
        Self::Suspended,
    ];

    /// The type of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// There is no evidence for either.
    Unknown,
}

impl ConditionStatus {
    /// As the field `status` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What is found about one condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Whether it is so.
    pub status: ConditionStatus,
    /// One word in CamelCase, for programs.
    pub reason: &'static str,
    /// For people: what is the matter, and what to do.
    pub message: String,
}

impl Finding {
    /// It is so.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason, message: message.into() }
    }

    /// It is not known yet.
    pub fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::Unknown, reason, message: message.into() }
    }

    /// Whether it is so.
    pub fn holds(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Whether it is not so.
    pub fn fails(&self) -> bool {
        self.status == ConditionStatus::False
    }
}

/// The conditions for the status: sorted by type, each with the time of its last transition, given the `old` ones.
pub fn from_findings(
    mut findings: Vec<(ConditionType, Finding)>,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings.sort_by_key(|(kind, _)| *kind);
    findings.into_iter().map(|(kind, finding)| from_finding(kind, finding, old, generation, now)).collect()
}

fn from_finding(
    kind: ConditionType,
    finding: Finding,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = old.iter().find(|condition| condition.type_ == kind.name());
    let unchanged = before.filter(|condition| condition.status == finding.status.name());
    Condition {
        type_: kind.name().to_owned(),
        status: finding.status.name().to_owned(),
        reason: finding.reason.to_owned(),
        message: shortened(finding.message),
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(
            || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            |condition| condition.last_transition_time.clone(),
        ),
    }
}

fn shortened(message: String) -> String {
    if message.len() <= LONGEST {
        return message;
    }
    let end = (0..=LONGEST).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(finding: Finding, old: &[Condition], now: i64) -> Vec<Condition> {
        from_findings(vec![(ConditionType::Ready, finding)], old, Some(1), at(now))
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = ready(Finding::no("Starting", "a"), &[], 10);
        let same = ready(Finding::no("PullFailed", "b"), &first, 20);
        let other = ready(Finding::yes("Serving", "c"), &same, 30);
        let times = [&first, &same, &other].map(|conditions| conditions[0].last_transition_time.0);
        assert_eq!(times, [at(10), at(10), at(30)]);
    }

    #[test]
    fn the_same_finding_writes_the_same_condition() {
        let first = ready(Finding::no("Starting", "a"), &[], 10);
        assert_eq!(ready(Finding::no("Starting", "a"), &first, 20), first);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let message = shortened("é".repeat(LONGEST));
        assert_eq!(message.len(), LONGEST);
    }
}
