//! The rehearsal: both images on a copy of the data. Each reads every row, and their digests have to be the same; each
//! serves it, and is tried as a user would.

mod copy;

use self::copy::Copy;
use super::{At, Next, Turn, duration, gates, with_gate};
use crate::{
    crd::{GateStatus, Rehearsal, UpgradeStatus, UpgradeStep, Verdict},
    decide::Write,
    facts::UpgradeJobFacts,
    gate::{Gate, GateRequest},
    kind::Kind,
    objects::{MAIN, UpgradeJob},
};

const JOBS: [UpgradeJob; 3] = [UpgradeJob::RehearseOld, UpgradeJob::RehearseNew, UpgradeJob::RehearseFinalize];

pub(super) fn rehearse(at: At<'_>) -> Turn {
    if at.policy().rehearsal.policy == crate::crd::Need::Skip {
        let mut record = at.record.clone();
        record.rehearsal =
            Some(Rehearsal { message: Some("spec.upgrade.rehearsal.policy is Skip".into()), ..Rehearsal::default() });
        return at.recording(record, Next::To(UpgradeStep::Approval));
    }
    if let Some(passed) = at.record.rehearsal.as_ref().and_then(|rehearsal| rehearsal.passed) {
        return finish(at, passed);
    }
    let mut first = prepare(at);
    first.extend(at.without_jobs(&served(at)));
    let is_late = at.elapsed() >= duration(&at.policy().rehearsal.timeout);
    if !first.is_empty() && !is_late {
        return at.stay().writing(first);
    }
    let mut record = at.record.clone();
    let outcome = match record.rehearsal.get_or_insert_default() {
        rehearsal if rehearsal.old_served.is_none() => serve(at, &mut record, UpgradeJob::RehearseOld),
        rehearsal if rehearsal.new_served.is_none() => serve(at, &mut record, UpgradeJob::RehearseNew),
        rehearsal if rehearsal.final_digest.is_none() && !at.record.finalize_migrations.is_empty() => {
            finalize(at, &mut record)
        }
        _ => Part::Passed,
    };
    let rehearsal = record.rehearsal.get_or_insert_default();
    match outcome {
        Part::Failed(why) => {
            (rehearsal.passed, rehearsal.message) = (Some(false), Some(super::short(&why)));
            at.recording(record, Next::Stay)
        }
        Part::Passed => {
            rehearsal.passed = Some(true);
            at.recording(record, Next::Stay)
        }
        Part::Waits { .. } if is_late => {
            (rehearsal.passed, rehearsal.message) = (Some(false), Some(at.refused("it did not end in time")));
            at.recording(record, Next::Stay)
        }
        Part::Waits { writes, gates } => at.recording(record, Next::Stay).writing(writes).trying(gates),
    }
}

/// What a part of the rehearsal has come to.
enum Part {
    Waits { writes: Vec<Write>, gates: Vec<GateRequest> },
    Failed(String),
    Passed,
}

impl Part {
    fn writing(write: impl IntoIterator<Item = Write>) -> Self {
        Self::Waits { writes: write.into_iter().collect(), gates: Vec::new() }
    }
}

/// The copy, and the walls around it.
fn prepare(at: At<'_>) -> Vec<Write> {
    let wanted = [&at.copies().rehearsal_policy, &at.copies().staging_claim].into_iter();
    let missing = wanted.filter(|object| at.case.facts.object(object.kind, &object.name).is_none());
    missing.map(|object| Write::Create(object.body.clone())).collect()
}

/// The Jobs that have shown what they can: with them goes what keeps the copy from the next.
fn served(at: At<'_>) -> Vec<UpgradeJob> {
    let rehearsal = at.record.rehearsal.clone().unwrap_or_default();
    let served = [(rehearsal.old_served, UpgradeJob::RehearseOld), (rehearsal.new_served, UpgradeJob::RehearseNew)];
    served.into_iter().filter_map(|(served, job)| served.map(|_| job)).collect()
}

/// One image reads all of the copy and serves it.
fn serve(at: At<'_>, record: &mut UpgradeStatus, job: UpgradeJob) -> Part {
    let (found, create) = at.job(job);
    let Some(found) = found else { return Part::writing(create.filter(|_| at.facts.busy.is_empty())) };
    let is_new = job == UpgradeJob::RehearseNew;
    let which = if is_new { "new" } else { "old" };
    for (name, ended) in &found.ended {
        if !ended.passed || name == MAIN {
            return Part::Failed(format!("the {which} image failed on the copy ({name}): {}", ended.message));
        }
    }
    if let Some(failure) = &found.job.failure {
        return Part::Failed(format!("the {which} image failed on the copy: {}", failure.message));
    }
    let rehearsal = record.rehearsal.get_or_insert_default();
    if is_new {
        rehearsal.migrate_millis =
            found.ended.get("migrate").map(|migrate| migrate.millis).or(rehearsal.migrate_millis);
    }
    if let Some(digest) = found.ended.get("digest") {
        let Some(copy) = Copy::of(digest) else {
            return Part::Failed(format!("the {which} image prints no digest: {}", digest.message));
        };
        rehearsal.messages = copy.counts.get("messages").copied();
        if is_new {
            rehearsal.new_digest = Some(copy.root.clone());
            match copy.compare_with_old(rehearsal) {
                Ok(untold) => rehearsal.message = untold,
                Err(why) => return Part::Failed(why),
            }
        } else {
            copy.keep_as_old(rehearsal);
        }
    }
    let Some((pod, address)) = found.pod.as_ref().filter(|_| found.serves_since.is_some()) else {
        return Part::writing(None);
    };
    serve_and_try(at, record, found, job, (pod, address))
}

/// Tries the image that serves.
fn serve_and_try(
    at: At<'_>,
    record: &mut UpgradeStatus,
    found: &UpgradeJobFacts,
    job: UpgradeJob,
    (pod, address): (&str, &str),
) -> Part {
    let is_new = job == UpgradeJob::RehearseNew;
    let which = if is_new { "new" } else { "old" };
    let policy = &at.policy().gates;
    let request =
        |name: String, gate: Gate| GateRequest { name, pod_uid: pod.to_owned(), address: address.to_owned(), gate };
    let version = if is_new { record.to.version.clone() } else { None };
    let health = request(format!("Rehearsal-{which}-Health"), gates::health_of(&policy.health, version, None, None));
    let smoke = Gate::smoke(policy.smoke).map(|gate| request(format!("Rehearsal-{which}-Smoke"), gate));
    for wanted in [Some(health), smoke].into_iter().flatten() {
        let outcome = at.facts.gate(&wanted.name, pod).filter(|found| found.has_ended());
        let Some(outcome) = outcome else {
            let since = found.serves_since.map(|since| at.case.now.duration_since(since));
            let is_late = since.is_some_and(|since| since > duration(&policy.health.deadline));
            if is_late && matches!(wanted.gate, Gate::Health { .. }) {
                let deadline = &policy.health.deadline;
                return Part::Failed(format!(
                    "the {which} image on the copy was not healthy and ready within {deadline}"
                ));
            }
            return Part::Waits { writes: Vec::new(), gates: vec![wanted] };
        };
        let has_passed = outcome.verdict == Verdict::Passed;
        let overridden = !has_passed && at.is_overridden(&wanted.name);
        with_gate(record, GateStatus { overridden, ..outcome.named(&wanted.name) });
        // What has no verdict here would have none when clients wait.
        if !has_passed && !overridden {
            return Part::Failed(format!("the {which} image on the copy, {}: {}", wanted.name, outcome.why));
        }
        match &wanted.gate {
            Gate::Health { .. } if is_new => {
                record.rehearsal.get_or_insert_default().start_millis = outcome.took_millis
            }
            Gate::Smoke { .. } => record.timings.smoke_millis = outcome.took_millis,
            _ => {}
        }
    }
    let rehearsal = record.rehearsal.get_or_insert_default();
    *(if is_new { &mut rehearsal.new_served } else { &mut rehearsal.old_served }) = Some(true);
    Part::writing(None)
}

/// The format of the copy is changed, and its digest by the new image has to stay the same.
fn finalize(at: At<'_>, record: &mut UpgradeStatus) -> Part {
    let (found, create) = at.job(UpgradeJob::RehearseFinalize);
    let Some(found) = found else { return Part::writing(create.filter(|_| at.facts.busy.is_empty())) };
    if let Some((name, failed)) = found.ended.iter().find(|(_, ended)| !ended.passed) {
        return Part::Failed(format!("the new image cannot finalize the copy ({name}): {}", failed.message));
    }
    let Some(digest) = found.ended.get(MAIN) else { return Part::writing(None) };
    let Some(Copy { root, .. }) = Copy::of(digest) else {
        return Part::Failed(format!("the new image prints no digest: {}", digest.message));
    };
    let rehearsal = record.rehearsal.get_or_insert_default();
    let is_same = rehearsal.new_digest.as_ref() == Some(&root);
    rehearsal.final_digest = Some(root.clone());
    match is_same {
        true => Part::writing(None),
        false => Part::Failed(format!("after the finalization the new image reads other data: digest {root}")),
    }
}

/// What was made for it goes; then it is over.
fn finish(at: At<'_>, passed: bool) -> Turn {
    let claim = at.facts.other_claims.get(&at.copies().staging_claim.name).filter(|claim| !claim.is_deleted);
    let mut gone = at.without_jobs(&JOBS);
    let delete = |kind: Kind, name: &str, uid: &str| Write::Delete { kind, name: name.to_owned(), uid: uid.to_owned() };
    gone.extend(claim.map(|claim| delete(Kind::Claim, &at.copies().staging_claim.name, &claim.uid)));
    let policy = &at.copies().rehearsal_policy;
    let wall = at.case.facts.object(policy.kind, &policy.name).filter(|wall| !wall.is_deleted);
    gone.extend(wall.map(|wall| delete(policy.kind, &policy.name, &wall.uid)));
    if !gone.is_empty() {
        return at.stay().writing(gone);
    }
    if passed || at.is_overridden("Rehearsal") {
        return at.turn(Next::To(UpgradeStep::Approval));
    }
    let message = at.record.rehearsal.as_ref().and_then(|rehearsal| rehearsal.message.clone()).unwrap_or_default();
    let message = format!("the rehearsal did not pass, and nothing that serves was touched: {message}");
    at.turn(Next::hold("RehearsalFailed", message, Some(at.abort_command())))
}
