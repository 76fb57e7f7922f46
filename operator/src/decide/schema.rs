//! Whether the tables of a fleet are there, in the words of the image that makes them.
//!
//! No server makes them, and one that does not find them as it needs them ends. So they are made before the first server
//! starts, and again, which changes nothing, whenever the cluster is reached in another way.

use jiff::SignedDuration;

use super::{
    Case, Step,
    checks::{self, Outcome, told_before},
    delay::Delay,
};
use crate::{
    conditions::{ConditionType, Finding},
    desired::Check,
};

/// The cluster may come back any minute.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);
const KIND: ConditionType = ConditionType::StorageReady;
const FAILED: &str = "SchemaFailed";

/// Has the keyspace and the tables made.
pub(super) fn assess(case: Case<'_>, check: &Check) -> Step<Finding> {
    let secrets = &case.facts.secrets;
    if let Some((reason, message)) = &secrets.store {
        return Step::found(Finding::no(reason, message.clone()));
    }
    // Its pod mounts them as well, and would wait for them.
    if secrets.api_keys.is_some() || secrets.kms.is_some() {
        return Step::found(Finding::unknown("NotChecked", "the tables are made once every Secret is there"));
    }
    let job = case.facts.fleet.as_ref().and_then(|fleet| fleet.schema.as_ref());
    checks::run(case, check, job, RETRY_AFTER).map(|outcome| match outcome {
        Outcome::Passed { .. } => Finding::yes("SchemaApplied", "the keyspace and its tables are there"),
        Outcome::Failed { message, .. } => Finding::no(
            FAILED,
            format!(
                "the keyspace and its tables cannot be made, which is tried every minute; servers that run are left alone, \
                 since they could not start again: see that spec.storage.cassandra is right, that the cluster answers, and \
                 that the role of the credentials may create a keyspace and tables: {message}"
            ),
        ),
        Outcome::Running(Some(delay)) => Delay::finding(delay),
        Outcome::Absent | Outcome::Running(None) | Outcome::HeldOpen(_) => told_before(case.facts, KIND, FAILED)
            .unwrap_or_else(|| Finding::unknown("Creating", "the keyspace and its tables are being made")),
    })
}
