//! Before anything else is made: what every upgrade asks of a new image, that its tables are in the keyspace, and whether there
//! will be a backup of the engine. Tables are only ever added, so the old image goes on beside them.

use super::super::{At, Next, Turn, gates, preflight, with_gate};
use crate::{
    crd::{Backing, GateStatus, Need, UpgradeStatus, UpgradeStep, Verdict},
    facts::EndedContainer,
    gate::GateResult,
    objects::{MAIN, UpgradeJob},
};

/// The gate, as it is told.
const SCHEMA: &str = "Schema";
/// So `schema check` ends if tables are missing.
const MISSING: i64 = 78;

pub(super) fn check(at: At<'_>) -> Turn {
    if let Some(turn) = preflight::obstacle(at) {
        return turn;
    }
    if !at.record.changes_image {
        let record = UpgradeStatus { backing: Some(Backing::NotApplicable), ..at.record.clone() };
        return at.recording(record, Next::To(UpgradeStep::Approval));
    }
    let record = match preflight::version(at) {
        Ok(record) => record,
        Err(turn) => return *turn,
    };
    if let Some(next) = preflight::unfit(at, &record) {
        return at.recording(record, next);
    }
    if !gates::has_passed(at, SCHEMA) {
        return schema(at, record);
    }
    let policy = &at.policy().snapshot;
    let lacking = match (&policy.job, policy.policy) {
        (_, Need::Skip) => "spec.upgrade.snapshot.policy is Skip",
        (Some(_), _) => return at.recording(record, Next::To(UpgradeStep::SnapshotOnline)),
        (None, Need::BestEffort) => "spec.upgrade.snapshot.job names no Job that backs up the engine",
        (None, Need::Required) => {
            let message =
                "a backup of the engine is required, and spec.upgrade.snapshot.job names no Job that makes one";
            return at.recording(record, Next::hold("SnapshotsUnavailable", message, Some(at.abort_command())));
        }
    };
    let next = preflight::unprotected(at, &record, lacking).unwrap_or(Next::To(UpgradeStep::Approval));
    at.recording(UpgradeStatus { backing: Some(Backing::NotApplicable), ..record }, next)
}

/// The new image looks for its tables, and adds those that are missing.
fn schema(at: At<'_>, record: UpgradeStatus) -> Turn {
    match ended(at, UpgradeJob::Schema) {
        Ok(found) if found.passed => passed(at, record, "nothing was missing"),
        Ok(found) if found.exit_code == Some(MISSING) => match ended(at, UpgradeJob::SchemaApply) {
            Ok(found) if found.passed => passed(at, record, "what was missing was added"),
            Ok(found) => at.recording(record, refused(at, UpgradeJob::SchemaApply, &found.message)),
            Err(turn) => turn.map(|(_, next)| (record, next)),
        },
        Ok(found) => at.recording(record, refused(at, UpgradeJob::Schema, &found.message)),
        Err(turn) => turn.map(|(_, next)| (record, next)),
    }
}

/// How a Job has ended; until it has, what is waited for. One that says nothing for long has somebody told.
fn ended(at: At<'_>, job: UpgradeJob) -> Result<&EndedContainer, Box<Turn>> {
    let (found, create) = at.job(job);
    if let Some(ended) = found.and_then(|found| found.ended.get(MAIN)) {
        return Ok(ended);
    }
    let failure = found.and_then(|found| found.job.failure.as_ref());
    let late = (at.elapsed() > preflight::PATIENCE).then_some("it has not ended in time");
    let why = failure.map(|failure| failure.message.as_str()).or(late);
    Err(Box::new(at.turn(why.map_or(Next::Stay, |why| refused(at, job, why))).writing(create)))
}

fn passed(at: At<'_>, mut record: UpgradeStatus, value: &str) -> Turn {
    let found = GateResult::new(Verdict::Passed, value, "the tables that the new image needs", 1, "");
    with_gate(&mut record, GateStatus { ..found.named(SCHEMA) });
    at.recording(record, Next::Stay)
}

fn refused(at: At<'_>, job: UpgradeJob, why: &str) -> Next {
    let name = at.planned.jobs.get(&job).map(|check| check.job.name.as_str()).unwrap_or_default();
    let message = format!(
        "it is not known that the tables which the new image needs are there: {why}; mend it, and have it tried again, or \
         give the upgrade up"
    );
    Next::hold("SchemaFailed", message, Some(format!("kubectl delete job {name}")))
}
