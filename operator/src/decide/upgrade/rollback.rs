//! The way back: the old image on the data as it is, if its format is still the one that the old image reads; else on what
//! the snapshot at rest holds. No client wrote anything since, so that is everything.

use jiff::SignedDuration;

use super::{
    At, Next, Turn, drain, duration,
    gates::{self, Ran},
    snapshots, swap,
};
use crate::{
    crd::{Database, Outcome, UpgradeStep, Verdict},
    decide::Write,
    desired::Server,
    kind::Kind,
    objects::{
        UpgradeJob,
        labels::{ROLE, Role, UPGRADE},
    },
};

/// How long each step of the way back may take.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn stop(at: At<'_>) -> Turn {
    match drain::stop(at) {
        Some(turn) => turn,
        None if at.is_data_in_use() && drain::is_late(at) => {
            let message = format!("the pods {} do not end and may work on the data", at.facts.busy.join(", "));
            at.turn(Next::stuck("NotStopping", message, Some("kubectl get pods -o wide".into())))
        }
        None if at.is_data_in_use() => at.stay(),
        None => at.turn(Next::To(UpgradeStep::RollbackRestore)),
    }
}

/// What the data is decides the way.
pub(super) fn restore(at: At<'_>) -> Turn {
    let late = at.elapsed() > PATIENCE;
    let Some(cut) = &at.record.database else {
        // The new server never was started.
        return at.turn(Next::To(UpgradeStep::RollbackStart));
    };
    if at.record.restored_claim.is_some() {
        return replace(at, cut);
    }
    let (found, create) = at.job(UpgradeJob::InspectBack);
    match drain::inspected(found) {
        None => {
            let next = if late { stuck(at, "the data could not be looked at in time") } else { Next::Stay };
            at.turn(next).writing(create.filter(|_| at.facts.busy.is_empty()))
        }
        Some(Ok(now)) if is_as_before(at, cut, &now) => at.turn(Next::To(UpgradeStep::RollbackStart)),
        Some(found) => {
            let lost = found.as_ref().ok().map(|now| now.sequence.saturating_sub(cut.sequence).max(0));
            let why = match found {
                Ok(now) => format!("format {} and sequence {} were found", now.format, now.sequence),
                Err(why) => why,
            };
            let wanted = snapshot(at);
            if !at.facts.snapshots.get(&wanted.name).is_some_and(|found| found.is_cut || found.is_ready) {
                let why = format!("the old server cannot open the data ({why}), and there is no snapshot of before");
                return at.turn(stuck(at, &why));
            }
            let mut record = at.record.clone();
            // Since the cut before a finalization no client has reached the server.
            if record.promoted && !record.finalizing {
                // Until the stop, clients wrote more than what was told last.
                record.loss_bound = lost.or(record.loss_bound);
                if !at.is_loss_approved() {
                    let next = loss(at, &why, lost);
                    return at.recording(record, next);
                }
            }
            record.restored_claim = Some(at.copies().restored_claim.name.clone());
            at.recording(record, Next::Stay)
        }
    }
}

/// Clients have written since the cut, and a person has to agree to lose that.
fn loss(at: At<'_>, why: &str, lost: Option<i64>) -> Next {
    let lost = lost.map_or_else(|| "nobody knows how many".to_owned(), |lost| format!("{lost} at most"));
    let job = at.planned.jobs.get(&UpgradeJob::InspectBack).map(|check| check.job.name.as_str()).unwrap_or_default();
    let message = format!(
        "the old server cannot open the data ({why}); going back restores the snapshot, and what clients wrote since is lost: \
         {lost}; to look at the data once more type: kubectl delete job {job}"
    );
    Next::stuck("RollbackRequiresApproval", message, Some(at.approve_command("/loss")))
}

/// Whether the old image can go on with the data: it is the same database in the same format, and nothing is missing.
fn is_as_before(at: At<'_>, cut: &Database, now: &Database) -> bool {
    // A migration at the start may have left rows that the old image does not know, also in the old format.
    let has_started = at.record.data_mutation_started && !at.record.finalizing && at.record.has_snapshots();
    now.id == cut.id && now.format == cut.format && now.sequence >= cut.sequence && !has_started
}

/// The snapshot that the way back leads to.
fn snapshot<'a>(at: At<'a>) -> &'a crate::desired::Object {
    if at.record.finalizing { &at.copies().finalize_snapshot } else { &at.copies().final_snapshot }
}

/// The data as it was at rest takes the place of what the new image made of it, which is kept.
fn replace(at: At<'_>, cut: &Database) -> Turn {
    let wanted = &at.copies().restored_claim;
    let current = at.case.facts.claim.as_ref();
    if current.is_some_and(|claim| claim.name == wanted.name) {
        return at.turn(Next::To(UpgradeStep::RollbackStart));
    }
    let late = at.elapsed() > PATIENCE;
    let Some(restored) = at.facts.other_claims.get(&wanted.name) else {
        let next = if late { stuck(at, &at.refused("no claim can be made for the snapshot")) } else { Next::Stay };
        return at.turn(next).writing([Write::Create(wanted.body.clone())]);
    };
    let (found, create) = at.job(UpgradeJob::Identity);
    match drain::inspected(found) {
        None => {
            let next = if late { stuck(at, "the snapshot could not be restored in time") } else { Next::Stay };
            at.turn(next).writing(create)
        }
        Some(Err(why)) => at.turn(stuck(at, &format!("the restored data cannot be looked at: {why}"))),
        Some(Ok(now)) if now.id != cut.id || now.sequence != cut.sequence || now.format != cut.format => {
            let message = format!(
                "the restored data is not what was stopped: sequence {} and format {}, and it was {} and {}",
                now.sequence, now.format, cut.sequence, cut.format
            );
            at.turn(stuck(at, &message))
        }
        Some(Ok(_)) => {
            // First the one, then the other: at no time are there two.
            let label = |name: &str, uid: &str, role: Role| Write::Label {
                kind: Kind::Claim,
                name: name.to_owned(),
                uid: uid.to_owned(),
                labels: vec![(ROLE.to_owned(), role.as_str().to_owned()), (UPGRADE.to_owned(), at.record.id.clone())],
            };
            let failed = current.map(|claim| label(&claim.name, &claim.uid, Role::Failed));
            let then = failed.is_none().then(|| label(&wanted.name, &restored.uid, Role::Current));
            at.stay().writing(failed).writing(then)
        }
    }
}

pub(super) fn start(at: At<'_>) -> Turn {
    let Some(server) = leads_to(at) else {
        return at.turn(stuck(at, &format!("the ConfigMap {} of the old release is gone", at.record.from.config)));
    };
    let fails = |why: String| stuck(at, &why);
    swap::until_it_runs(at, &server, "the old server", PATIENCE, UpgradeStep::RollbackGate, fails)
}

/// The release that the way back leads to, on the data that is current now.
fn leads_to(at: At<'_>) -> Option<Server> {
    let server = if at.record.finalizing { &at.planned.to } else { &at.planned.from };
    let claim = at.case.facts.claim.as_ref()?;
    let server = server.as_ref()?.on_claim(&claim.name);
    // The node has the image that ran: no registry is needed to run it again.
    Some(server.pinned(if at.record.finalizing { None } else { at.record.from.image_id.as_deref() }))
}

pub(super) fn gate(at: At<'_>) -> Turn {
    let health = gates::health_of(&at.policy().gates.health, None, None, None);
    let late = at.elapsed() > duration(&at.policy().gates.health.deadline).max(PATIENCE);
    let passed = match gates::run(at, "Health", health) {
        Ran::Ended(found) => found.verdict == Verdict::Passed,
        waits => {
            let request = if let Ran::Waits(request) = waits { Some(request) } else { None };
            let next = if late { stuck(at, "the old server does not get healthy and ready") } else { Next::Stay };
            return at.turn(next).trying(request);
        }
    };
    if !passed {
        return at.turn(stuck(at, "the old server is not healthy"));
    }
    let released = snapshots::release(at);
    if !released.is_empty() {
        return at.stay().writing(released);
    }
    let mut record = at.record.clone();
    record.downtime_millis = at.downtime();
    let why = record.message.clone().unwrap_or_default();
    match record.finalizing {
        true => {
            let message = format!("the format of the data is still the old one: its change was undone: {why}");
            at.recording(record, Next::End(Outcome::Succeeded, message))
        }
        false => at.recording(record, Next::End(Outcome::RolledBack, why)),
    }
}

/// Nothing is deleted and nothing is started: a person decides.
fn stuck(at: At<'_>, message: &str) -> Next {
    let command = format!("kubectl progressdb report {} --upgrade", at.case.name);
    Next::stuck("RollbackStuck", message, Some(command))
}
