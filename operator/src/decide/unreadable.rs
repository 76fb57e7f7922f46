//! A resource that cannot be read: that is said of it, and all that runs stays as it is.

use jiff::Timestamp;

use super::conditions::{self, ConditionType, Finding};
use crate::crd::{ProgressDBStatus, Unreadable};

/// The reason of its conditions.
pub const UNREADABLE: &str = "Unreadable";

/// The status of a resource that cannot be read.
pub fn unreadable(resource: &Unreadable, now: Timestamp) -> ProgressDBStatus {
    let old = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation;
    let message =
        format!("the operator cannot read this resource and leaves everything as it is: correct {}", resource.why);
    let no = || Finding::no(UNREADABLE, message.clone());
    let findings = vec![
        (ConditionType::Ready, no()),
        (ConditionType::ConfigurationValid, no()),
        (ConditionType::Reconciling, no()),
        (ConditionType::Stalled, Finding::yes(UNREADABLE, message.clone())),
    ];
    let mut conditions = conditions::write(findings, &old.conditions, generation, now);
    let others = old.conditions.iter().filter(|known| !conditions.iter().any(|new| new.type_ == known.type_));
    conditions.extend(others.cloned().collect::<Vec<_>>());
    ProgressDBStatus { observed_generation: generation, phase: Some("Stalled".to_owned()), conditions, ..old }
}
