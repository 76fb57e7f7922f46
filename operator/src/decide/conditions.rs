//! Conditions: what is so, since when, and what to do about it.
//!
//! A condition keeps its time as long as its status is the same, so that an unchanged world writes nothing.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message that the API server takes.
const LONGEST: usize = 32_768;

/// The reason of settings that are good enough, and that the image warns of.
pub const WARNED: &str = "AcceptedWithWarnings";

/// What a condition is about; the order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The operator is at work, or waits for something that will come by itself.
    Reconciling,
    /// Nothing goes on until somebody does what the message says.
    Stalled,
    /// The server is stopped on purpose.
    Suspended,
}

impl ConditionType {
    /// As `type` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::ConfigurationValid => "ConfigurationValid",
            Self::StorageReady => "StorageReady",
            Self::KeyManagementReady => "KeyManagementReady",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Suspended => "Suspended",
        }
    }

    /// Those that are false when all is well.
    pub const ABNORMAL: [Self; 3] = [Self::Reconciling, Self::Stalled, Self::Suspended];
}

/// Whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// There is no evidence.
    Unknown,
}

impl ConditionStatus {
    /// As `status` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What is found about one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Nobody knows yet.
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

/// The conditions as they are written: sorted, with the time of the last change of each.
pub fn write(
    findings: Vec<(ConditionType, Finding)>,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut findings = findings;
    findings.sort_by_key(|(about, _)| *about);
    findings.into_iter().map(|(about, finding)| write_one(about, finding, old, generation, now)).collect()
}

fn write_one(
    about: ConditionType,
    finding: Finding,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = old.iter().find(|condition| condition.type_ == about.name());
    let unchanged = before.filter(|condition| condition.status == finding.status.name());
    Condition {
        type_: about.name().to_owned(),
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
        write(vec![(ConditionType::Ready, finding)], old, Some(1), at(now))
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
