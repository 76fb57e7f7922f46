//! Before anything else is made: the new image accepts the settings, the KMS opens what the data needs, the image says what
//! it is, and it can read the data.

use jiff::SignedDuration;
use serde_json::Value;

use super::{At, Next, Turn, notes, with_gate};
use crate::{
    conditions::Finding,
    crd::{Backing, GateStatus, Need, UpgradeStatus, UpgradeStep, Verdict},
    facts::SnapshotClass,
    gate::GateResult,
    objects::UpgradeJob,
};

/// How long the new image may take to be pulled and to say what it is, before somebody is told.
pub(super) const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn check(at: At<'_>) -> Turn {
    if let Some(turn) = obstacle(at) {
        return turn;
    }
    if !at.record.changes_image {
        return at.turn(Next::To(UpgradeStep::Approval));
    }
    let mut record = match version(at) {
        Ok(record) => record,
        Err(turn) => return *turn,
    };
    if let Some(is_there) = at.facts.has_image {
        with_gate(&mut record, old_image(at, is_there));
    }
    let next = judge(at, &record);
    let record = match next {
        Next::To(UpgradeStep::Approval) => UpgradeStatus { backing: Some(Backing::Checkpoint), ..record },
        _ => record,
    };
    at.recording(record, next)
}

/// With what the new image says of itself; until it does, what is waited for.
pub(super) fn version(at: At<'_>) -> Result<UpgradeStatus, Box<Turn>> {
    let (found, create) = at.job(UpgradeJob::Version);
    let unknown = |why: &str| {
        let message = format!("the new image does not say its version: {why}");
        Next::hold("VersionUnknown", message, Some(at.abort_command()))
    };
    let Some(version) = found.and_then(|found| found.ended.get(crate::objects::MAIN)) else {
        let failure = found.and_then(|found| found.job.failure.as_ref());
        let late = (at.elapsed() > PATIENCE).then_some("its Job has not ended in time");
        let why = failure.map(|failure| failure.message.as_str()).or(late);
        return Err(Box::new(at.turn(why.map_or(Next::Stay, unknown)).writing(create)));
    };
    if !version.passed {
        return Err(Box::new(at.turn(unknown(&version.message))));
    }
    let mut record = with_version(at.record.clone(), &version.report());
    record.timings.job_millis = found.and_then(|found| found.took);
    Ok(record)
}

/// What the upgrade waits for with this release: the settings and the KMS are asked for as long as nothing was stopped, and
/// what changes meanwhile is asked again.
pub(super) fn obstacle(at: At<'_>) -> Option<Turn> {
    let step = at.case.prove();
    let (configuration, keys) = &step.found;
    let failed = keys.as_ref().filter(|keys| keys.fails()).or(Some(configuration).filter(|settings| settings.fails()));
    if failed.is_none() && configuration.holds() && keys.as_ref().is_none_or(Finding::holds) {
        return None;
    }
    let next = failed.map_or(Next::Stay, |failed| Next::hold(failed.reason, failed.message.clone(), None));
    Some(step.map(|_| (at.record.clone(), next)))
}

/// With what the new image says of itself.
fn with_version(mut record: UpgradeStatus, report: &Value) -> UpgradeStatus {
    let format = |pointer: &str| report.pointer(pointer).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    record.to.version = report["version"].as_str().map(str::to_owned);
    record.to.oldest_format = format("/formats/reads/0");
    record.to.newest_format = format("/formats/reads/1");
    let migrations = |time: &str| {
        let all = report["migrations"].as_array().into_iter().flatten();
        let fitting = all.filter(|migration| migration["at"] == time);
        fitting.filter_map(|migration| migration["name"].as_str().map(str::to_owned)).take(64).collect()
    };
    record.notes = notes::of(report);
    record.start_migrations = migrations("start");
    record.finalize_migrations = migrations("finalize");
    record
}

/// Whether going back needs a registry. It is told, and holds nothing: a node does not list all that it has.
fn old_image(at: At<'_>, is_there: bool) -> GateStatus {
    let image = at.record.from.image_id.clone().unwrap_or_else(|| at.record.from.image.clone());
    let (verdict, why) = match is_there {
        true => (Verdict::Passed, ""),
        false => (Verdict::Inconclusive, "the node does not list it: going back may have to pull it"),
    };
    GateResult::new(verdict, &image, "it is on the node", 0, why).named("OldImage")
}

/// Holds what does not follow on the version that runs, or cannot read the data as it is.
pub(super) fn unfit(at: At<'_>, record: &UpgradeStatus) -> Option<Next> {
    if let Some(next) = notes::too_old(at, record) {
        return Some(next);
    }
    let (Some(oldest), Some(newest)) = (record.to.oldest_format, record.to.newest_format) else {
        let message = "the new image does not say which formats of the data it reads";
        return Some(Next::hold("VersionUnknown", message, Some(at.abort_command())));
    };
    let format = at.case.facts.before.data_format.filter(|format| !(oldest..=newest).contains(format))?;
    let message = format!("the data has format {format}, and the new image reads {oldest} to {newest}");
    Some(Next::hold("FormatNotReadable", message, Some(at.abort_command())))
}

/// Holds what changes the data when it starts, where nothing leads back.
pub(super) fn unprotected(at: At<'_>, record: &UpgradeStatus, lacking: &str) -> Option<Next> {
    let migrations = record.start_migrations.join(", ");
    let message = format!(
        "the new image changes the data when it starts ({migrations}), and without a snapshot there is no way back: {lacking}"
    );
    (!record.start_migrations.is_empty()).then(|| Next::hold("Unprotected", message, Some(at.abort_command())))
}

fn judge(at: At<'_>, record: &UpgradeStatus) -> Next {
    if let Some(next) = unfit(at, record) {
        return next;
    }
    let policy = at.policy().snapshot.policy;
    let lacking = match &at.facts.class {
        _ if policy == Need::Skip => "spec.upgrade.snapshot.policy is Skip".to_owned(),
        Some(SnapshotClass::Found(_)) => return Next::To(UpgradeStep::SnapshotOnline),
        Some(SnapshotClass::Several(classes)) => {
            let message = format!(
                "the driver of the volume has several snapshot classes and no default: name one of {} in \
                 spec.upgrade.snapshot.className",
                classes.join(", ")
            );
            return Next::hold("SnapshotClassUnclear", message, None);
        }
        Some(SnapshotClass::None(why)) => why.clone(),
        None => return Next::Stay,
    };
    if policy == Need::Required || at.policy().rehearsal.policy == Need::Required {
        let message = format!("snapshots are required and cannot be made: {lacking}");
        return Next::hold("SnapshotsUnavailable", message, Some(at.abort_command()));
    }
    unprotected(at, record, &lacking).unwrap_or(Next::To(UpgradeStep::Approval))
}
