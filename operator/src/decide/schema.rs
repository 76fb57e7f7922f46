//! Whether the tables of a fleet are there, in the words of the image that makes them; and, where another image is to take the
//! place of the one that runs without an upgrade, whether that one finds its tables and reads the data.
//!
//! No server makes tables, and one that does not find them as it needs them ends. So they are made before the first server
//! starts, and again, which changes nothing, whenever the cluster is reached in another way.

use jiff::SignedDuration;

use super::{
    Case, Step,
    checks::{self, Outcome, told_before},
    delay::Delay,
};
use crate::{
    conditions::{ConditionType, Finding},
    desired::{AskedImage, Check, Fleet},
    facts::{self, Job},
};

/// The cluster may come back any minute.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);
const KIND: ConditionType = ConditionType::StorageReady;
const FAILED: &str = "SchemaFailed";
const UNREADABLE: &str = "DataNotReadable";

/// Has the keyspace and the tables made.
pub(super) fn assess(case: Case<'_>, planned: &Fleet) -> Step<Finding> {
    let secrets = &case.facts.secrets;
    if let Some((reason, message)) = &secrets.store {
        return Step::found(Finding::no(reason, message.clone()));
    }
    // Its pod mounts them as well, and would wait for them.
    if secrets.api_keys.is_some() || secrets.kms.is_some() {
        return Step::found(Finding::unknown("NotChecked", "the tables are made once every Secret is there"));
    }
    let fleet = case.facts.fleet.clone().unwrap_or_default();
    match case.image_without_upgrade().filter(|_| is_accepted(case)) {
        Some(asked) => of_another_image(case, asked, &fleet),
        None => tables(case, &planned.schema, fleet.schema.as_ref(), |message| {
            format!(
                "the keyspace and its tables cannot be made, which is tried every minute; servers that run are left alone, \
                 since they could not start again: see that spec.storage.cassandra is right, that the cluster answers, and \
                 that the role of the credentials may create a keyspace and tables: {message}"
            )
        }),
    }
}

/// Whether what is asked for has passed all that needs no store.
fn is_accepted(case: Case<'_>) -> bool {
    let (configuration, keys) = case.prove().found;
    configuration.holds() && keys.as_ref().is_none_or(Finding::holds)
}

/// No server is replaced by one that would not start.
fn of_another_image(case: Case<'_>, asked: &AskedImage, fleet: &facts::Fleet) -> Step<Finding> {
    let mut step = Step::default();
    let image = case.desired.server.image();
    let found = step.take(tables(case, &asked.schema, fleet.asked_schema.as_ref(), |message| {
        format!(
            "the tables that {image} needs cannot be added, which is tried every minute; what runs goes on: see that the \
             cluster answers and that the role of the credentials may create tables, or ask for another image: {message}"
        )
    }));
    if !found.holds() || !has_data(case, fleet) {
        return step.map(|()| found);
    }
    let outcome = step.take(checks::run(case, &asked.data, fleet.asked_data.as_ref(), RETRY_AFTER));
    let unreadable = |message| {
        let what_next = "what runs goes on: ask for an image that reads the data";
        Finding::no(UNREADABLE, format!("{image} does not open the data; {what_next}: {message}"))
    };
    let found = judged(case, outcome, UNREADABLE, unreadable);
    step.map(|()| found.unwrap_or_else(|| Finding::unknown("Checking", format!("{image} looks at the data"))))
}

/// Whether there is a database that the image could fail to read. A keyspace in which no server has ever started has none; what
/// has been found once counts also while no server is ready.
fn has_data(case: Case<'_>, fleet: &facts::Fleet) -> bool {
    let is_serving = fleet.serving().next().is_some();
    is_serving || fleet.asked_data.is_some() || told_before(case.facts, KIND, UNREADABLE).is_some()
}

fn tables(case: Case<'_>, check: &Check, job: Option<&Job>, failed: impl Fn(String) -> String) -> Step<Finding> {
    checks::run(case, check, job, RETRY_AFTER).map(|outcome| {
        let found = judged(case, outcome, FAILED, |message| Finding::no(FAILED, failed(message)));
        found.unwrap_or_else(|| Finding::unknown("Creating", "the keyspace and its tables are being made"))
    })
}

/// What a check has come to; `None` as long as nothing is known. A failure is told until there is another outcome.
fn judged(
    case: Case<'_>,
    outcome: Outcome,
    reason: &'static str,
    failed: impl Fn(String) -> Finding,
) -> Option<Finding> {
    match outcome {
        Outcome::Passed { .. } => Some(Finding::yes("SchemaApplied", "the keyspace and its tables are there")),
        Outcome::Failed { message, .. } => Some(failed(message)),
        Outcome::Running(Some(delay)) => Some(Delay::finding(delay)),
        Outcome::Absent | Outcome::Running(None) | Outcome::HeldOpen(_) => told_before(case.facts, KIND, reason),
    }
}
