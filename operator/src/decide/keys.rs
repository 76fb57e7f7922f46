//! Whether the KMS wraps and unwraps for the instance's own identity, in the provider's words.

use jiff::SignedDuration;

use super::{
    Case, Step,
    checks::{self, Outcome, told_before},
    delay::Delay,
};
use crate::{
    conditions::{ConditionStatus, ConditionType, Finding},
    desired::Check,
};

/// A KMS may come back any minute.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// A server that takes requests answers at once, unless the network keeps the operator from it: then the KMS is tried
/// without the keys of the data.
const WAIT_FOR_WRAPPED_KEYS: SignedDuration = SignedDuration::from_secs(60);
const KIND: ConditionType = ConditionType::KeyManagementReady;
const FAILED: &str = "KmsFailed";

/// Has the KMS tried: on the wrapped keys of the data, if a server runs that shows them.
pub(super) fn assess(case: Case<'_>, check: &Check) -> Step<Finding> {
    let facts = case.facts;
    let checking =
        |message: &str| told_before(facts, KIND, FAILED).unwrap_or_else(|| Finding::unknown("Checking", message));
    let job = facts.kms_check.as_ref();
    if !facts.has_wrapped_keys && job.is_none() && !has_waited(case) {
        let message = "the server is asked for the wrapped keys of its data, on which the KMS is to be tried";
        return Step::found(checking(message));
    }
    checks::run(case, check, job, RETRY_AFTER).map(|outcome| match outcome {
        Outcome::Passed { .. } => Finding::yes("Answered", "the KMS wrapped and unwrapped a key"),
        Outcome::Failed { message, .. } => Finding::no(
            FAILED,
            format!(
                "what runs is left alone, since it could not start again; the KMS is tried every minute: {message}"
            ),
        ),
        Outcome::Running(Some(delay)) => Delay::finding(delay),
        Outcome::Absent | Outcome::Running(None) | Outcome::HeldOpen(_) => {
            checking("the KMS is asked to wrap and unwrap a key")
        }
    })
}

/// Whether nothing has been known of the KMS for so long that it is tried without the wrapped keys.
fn has_waited(case: Case<'_>) -> bool {
    let told = case.facts.before.conditions.get(&KIND);
    let unknown = told.filter(|told| told.status == ConditionStatus::Unknown.name());
    unknown.is_some_and(|told| case.now.duration_since(told.since) > WAIT_FOR_WRAPPED_KEYS)
}
