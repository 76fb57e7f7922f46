//! The snapshots of an upgrade. A driver's error is no verdict, because it tries again for ever; only time decides.

use super::{At, Next, Turn, duration};
use crate::{
    crd::{Backing, Need, SnapshotStatus, UpgradeStatus, UpgradeStep},
    decide::Write,
    desired::Object,
    facts::UpgradeSnapshot,
    kind::Kind,
};

/// How far a snapshot is.
pub(super) enum Progress {
    /// It is being made.
    Waits(Option<Write>),
    /// The state of the volume is fixed.
    Cut,
    /// It can be restored.
    Ready,
    /// It took too long, for this reason.
    Failed(String),
}

/// While the old server runs: what is rehearsed on.
pub(super) fn online(at: At<'_>) -> Turn {
    let wanted = &at.copies().online_snapshot;
    let mut record = noted(at, wanted);
    if at.facts.snapshots.get(&wanted.name).is_some_and(|found| found.is_cut || found.is_ready) {
        record.timings.cut_millis.get_or_insert(i64::try_from(at.elapsed().as_millis()).unwrap_or_default());
    }
    match make(at, wanted) {
        Progress::Waits(write) => at.recording(record, Next::Stay).writing(write),
        Progress::Cut => at.recording(record, Next::Stay),
        Progress::Ready => {
            let record = UpgradeStatus { backing: Some(Backing::Snapshots), ..record };
            at.recording(record, Next::To(UpgradeStep::Rehearse))
        }
        Progress::Failed(why) => {
            let policy = at.policy();
            let is_required = policy.snapshot.policy == Need::Required || policy.rehearsal.policy == Need::Required;
            if is_required || !record.start_migrations.is_empty() {
                let next = Next::hold("SnapshotFailed", why, Some(at.abort_command()));
                return at.recording(record, next);
            }
            let record = UpgradeStatus { backing: Some(Backing::Checkpoint), ..record };
            at.recording(record, Next::To(UpgradeStep::Approval))
        }
    }
}

/// While no server runs: what going back restores, if the data was changed meanwhile.
pub(super) fn at_rest(at: At<'_>) -> Turn {
    let wanted = &at.copies().final_snapshot;
    let record = noted(at, wanted);
    // A copy that is cut becomes ready by itself. What changes the data at its start has to wait for it.
    let has_to_be_ready = !record.start_migrations.is_empty();
    match make(at, wanted) {
        Progress::Waits(write) => at.recording(record, Next::Stay).writing(write),
        Progress::Cut if has_to_be_ready => at.recording(record, Next::Stay),
        Progress::Cut | Progress::Ready => {
            let record = UpgradeStatus { data_mutation_started: has_to_be_ready, ..record };
            at.recording(record, Next::To(UpgradeStep::Swap))
        }
        Progress::Failed(why) => at.recording(record, Next::GoBack(why)),
    }
}

/// Whether what a step leads to depends on the copies behind the snapshots, which no watch shows.
pub(super) fn are_looked_at(at: At<'_>) -> bool {
    use UpgradeStep::*;
    match at.record.step {
        _ if at.is_of_fleet() => false,
        // Its watch tells when a snapshot that took too long is ready after all.
        SnapshotOnline if at.record.hold.is_some() => {
            at.facts.snapshots.get(&at.copies().online_snapshot.name).is_some_and(|found| found.says_ready)
        }
        SnapshotOnline | SnapshotFinal | FinalizeSnapshot | FinalizeGate | RollbackRestore | RollbackGate => true,
        _ => false,
    }
}

/// Makes a snapshot and says how far it is: no further than that it is being made, until its copy is retained.
pub(super) fn make(at: At<'_>, wanted: &Object) -> Progress {
    let late = at.elapsed() >= duration(&at.policy().snapshot.deadline);
    let Some(found) = at.facts.snapshots.get(&wanted.name).filter(|found| !found.is_deleted) else {
        return match late {
            true => Progress::Failed(format!("the snapshot {} was not made in time", wanted.name)),
            false => Progress::Waits(
                (!at.facts.snapshots.contains_key(&wanted.name)).then(|| Write::Create(wanted.body.clone())),
            ),
        };
    };
    let retain = retain(at, wanted);
    match found {
        UpgradeSnapshot { is_cut, is_ready, .. } if (*is_cut || *is_ready) && retain.is_some() => {
            Progress::Waits(retain)
        }
        UpgradeSnapshot { is_ready: true, .. } => Progress::Ready,
        _ if late => {
            let error = found.error.as_deref().unwrap_or("the driver says nothing");
            Progress::Failed(format!("the snapshot {} is not ready in time: {error}", wanted.name))
        }
        UpgradeSnapshot { is_cut: true, .. } => Progress::Cut,
        _ => Progress::Waits(None),
    }
}

/// Lets the copy outlive its VolumeSnapshot, whoever deletes that, until the upgrade is over.
fn retain(at: At<'_>, wanted: &Object) -> Option<Write> {
    let (content, is_retained) = at.facts.snapshots.get(&wanted.name)?.content.clone()?;
    (!is_retained).then_some(Write::SetContentPolicy { name: content, retain: true })
}

/// Lets the copies of this upgrade go with their VolumeSnapshots again.
pub(super) fn release(at: At<'_>) -> Vec<Write> {
    let ours = at.facts.snapshots.values().filter(|snapshot| snapshot.upgrade == at.record.id);
    let kept = ours.filter_map(|snapshot| snapshot.content.clone()).filter(|(_, is_retained)| *is_retained);
    kept.map(|(name, _)| Write::SetContentPolicy { name, retain: false }).collect()
}

/// The record with how far the snapshot is.
pub(super) fn noted(at: At<'_>, wanted: &Object) -> UpgradeStatus {
    let mut record = at.record.clone();
    if let Some(found) = at.facts.snapshots.get(&wanted.name) {
        let known = record.snapshots.iter().find(|other| other.name == wanted.name);
        let known = known.and_then(|known| known.content.clone());
        let content = found.content.as_ref().map(|(name, _)| name.clone()).or(known);
        let status = SnapshotStatus { name: wanted.name.clone(), content, ready: found.is_ready };
        record.snapshots.retain(|other| other.name != status.name);
        record.snapshots.push(status);
    }
    debug_assert_eq!(wanted.kind, Kind::VolumeSnapshot);
    record
}
