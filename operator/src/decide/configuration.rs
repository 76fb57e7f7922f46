//! Whether the image accepts the settings, in its own words.

use jiff::SignedDuration;

use super::{
    Case, Step,
    checks::{self, Outcome, told_before},
    delay::Delay,
};
use crate::{
    conditions::{ConditionType, Finding, WARNED},
    facts::Facts,
};

/// A check of the same settings has the same outcome, unless the cluster was at fault.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(300);
const REFUSED: &str = "SettingsRefused";

/// Has the image check the settings.
pub(super) fn assess(case: Case<'_>) -> Step<Finding> {
    let job = case.facts.config_check.as_ref();
    let outcome = checks::run(case, &case.desired.config_check, job, RETRY_AFTER);
    outcome.map(|outcome| match outcome {
        Outcome::Passed { warnings } => accepted(case.facts, warnings),
        Outcome::Failed { message, .. } => {
            Finding::no(REFUSED, format!("the image refuses the settings: correct spec.settings: {message}"))
        }
        Outcome::Running(Some(delay)) => Delay::finding(delay),
        Outcome::Absent | Outcome::Running(None) | Outcome::HeldOpen(_) => {
            told_before(case.facts, ConditionType::ConfigurationValid, REFUSED)
                .unwrap_or_else(|| Finding::unknown("Checking", "the image checks the settings"))
        }
    })
}

/// With what the image warns of. What it said is kept when the pod of the check is gone.
fn accepted(facts: &Facts, warnings: Option<Vec<String>>) -> Finding {
    match warnings {
        Some(warnings) if !warnings.is_empty() => {
            Finding::yes(WARNED, format!("the image accepts the settings and warns: {}", warnings.join("; ")))
        }
        None => told_before(facts, ConditionType::ConfigurationValid, WARNED).map_or_else(
            || Finding::yes("Accepted", "the image accepts the settings"),
            |told| Finding::yes(WARNED, told.message),
        ),
        Some(_) => Finding::yes("Accepted", "the image accepts the settings"),
    }
}
