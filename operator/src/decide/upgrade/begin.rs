//! Whether there is something to upgrade, and the way it takes.

use super::cleanup;
use crate::conditions::Finding;
use crate::{
    crd::{Outcome, ProgressDBSpec, ReleaseStatus, UPGRADE_REVISION, UpgradeStatus, UpgradeStep, UpgradeStrategy},
    decide::{Case, Step, Write, restart},
    desired::{Desired, Server},
    facts::Facts,
    status::Progress,
};

/// How what should run comes to run.
pub(crate) enum Plan {
    /// By a guarded upgrade, of which this is on record.
    Guarded(Box<UpgradeStatus>, Vec<Write>),
    /// What runs stays as it is, because what the resource asks for was tried and did not pass.
    Stays(Progress),
    /// Directly; this is told of former upgrades.
    Direct(Progress),
}

/// Says how what the resource asks for comes to run.
pub(crate) fn plan(case: Case<'_>) -> Plan {
    let facts = &case.facts.upgrade;
    let history = facts.history.clone();
    if facts.is_unreadable {
        let message = "a newer operator began an upgrade that this one cannot read, and everything is left as it is: install \
                       that version of the operator again";
        let finding = Some(Finding::no("UpgradeUnreadable", message));
        return Plan::Stays(Progress { history, finding, record: None });
    }
    let Some(record) = &facts.record else {
        return begin(case).unwrap_or(Plan::Direct(Progress { history, ..Progress::default() }));
    };
    if record.outcome.is_none() {
        return Plan::Guarded(record.clone(), release_again(case, record).into_iter().collect());
    }
    let asked = &case.desired.server.roll;
    if record.outcome == Some(Outcome::Succeeded) || *asked != record.to.roll {
        let told = match (record.outcome, *asked == facts.running.roll) {
            // The resource asks for what runs: what was tried may be tried again.
            (Some(Outcome::RolledBack | Outcome::Aborted), true) => Progress { history, ..Progress::default() },
            _ => Progress::of((**record).clone(), history),
        };
        return begin(case).unwrap_or(Plan::Direct(told));
    }
    let strategy = case.spec.upgrade.strategy;
    let stays = strategy == UpgradeStrategy::Guarded && !case.spec.suspend && facts.running.roll != *asked;
    let told = Progress::of((**record).clone(), history);
    if stays { Plan::Stays(told) } else { Plan::Direct(told) }
}

/// Why an upgrade is held if its successor cannot be. Nothing tells when that passes, so it is tried again and again.
const OF_TRIAL: [&str; 2] = ["PodRefused", "Unschedulable"];

/// Whether the successor of what runs need not be tried now: the upgrade to it has ended badly, has gone so far that nothing
/// depends on it, or waits for something else. One that no longer waits looks again before it stops anything.
pub(crate) fn is_decided(spec: &ProgressDBSpec, desired: &Desired, facts: &Facts) -> bool {
    let Some(record) = &facts.upgrade.record else { return facts.upgrade.is_unreadable };
    let was_tried = spec.upgrade.strategy == UpgradeStrategy::Guarded && desired.server.roll == record.to.roll;
    match record.outcome {
        None => {
            let waits = record.hold.as_ref().is_some_and(|hold| !OF_TRIAL.contains(&&*hold.reason));
            record.step >= UpgradeStep::Drain || waits
        }
        Some(Outcome::Succeeded) => false,
        Some(Outcome::RolledBack | Outcome::Aborted) => was_tried,
    }
}

/// An upgrade, if what runs serves and is to be replaced by another release.
fn begin(case: Case<'_>) -> Option<Plan> {
    let Case { spec, desired, facts, now, .. } = case;
    let planned =
        desired.upgrade.as_ref().filter(|_| spec.upgrade.strategy == UpgradeStrategy::Guarded && !spec.suspend)?;
    facts.stateful_set.as_ref().filter(|set| set.runs() && !set.is_deleted)?;
    let pod = facts.pod.as_ref().filter(|pod| pod.is_ready && !pod.is_deleted)?;
    let runs_what_is_asked = pod.roll.as_ref() == Some(&facts.upgrade.running.roll);
    let (from, to) = (planned.from.as_ref()?, planned.to.as_ref()?);
    if !runs_what_is_asked || restart::is_due(facts) || !differs(from, to) || facts.former.is_some() {
        return None;
    }
    let release = |server: &Server| ReleaseStatus {
        config: server.config_map.name.clone(),
        roll: server.roll.clone(),
        image: server.image().to_owned(),
        ..ReleaseStatus::default()
    };
    let from_status = ReleaseStatus {
        image_id: facts.upgrade.running.image_id.clone(),
        version: facts.upgrade.running.version.clone(),
        ..release(from)
    };
    let record = UpgradeStatus {
        revision: UPGRADE_REVISION,
        id: planned.id.clone(),
        changes_image: from.image() != to.image(),
        from: from_status,
        to: release(to),
        step: UpgradeStep::Preflight,
        started_at: Some(now),
        step_started_at: Some(now),
        claim: facts.claim.as_ref().map(|claim| claim.name.clone()),
        ..UpgradeStatus::default()
    };
    // What both releases are made of, so that neither depends on what becomes of the resource.
    let kept = [&from.config_map, &to.config_map].into_iter().filter(|map| facts.object(map.kind, &map.name).is_none());
    Some(Plan::Guarded(Box::new(record), kept.map(|map| Write::Apply(map.applied_to(None))).collect()))
}

/// Makes what a release is made of again if somebody deleted it, as long as the resource asks for that release.
fn release_again(case: Case<'_>, record: &UpgradeStatus) -> Option<Write> {
    let map = &case.desired.server.config_map;
    let is_needed = [&record.from.config, &record.to.config].contains(&&map.name);
    (is_needed && case.facts.object(map.kind, &map.name).is_none()).then(|| Write::Apply(map.applied_to(None)))
}

/// Whether a release is another one in more than the Secrets that it reads: those of before cannot be brought back.
fn differs(from: &Server, to: &Server) -> bool {
    let of = |server: &Server| {
        let mut template = server.stateful_set.body["spec"]["template"].clone();
        if let Some(metadata) =
            template.get_mut("metadata").and_then(|metadata| metadata["annotations"].as_object_mut())
        {
            metadata.retain(|name, _| !name.starts_with("progressdb.io/"));
        }
        for volume in
            template.pointer_mut("/spec/volumes").and_then(|volumes| volumes.as_array_mut()).into_iter().flatten()
        {
            if volume["name"] == "config" {
                volume["configMap"].take();
            }
        }
        (template, server.config_map.body["data"][crate::objects::config::SETTINGS_FILE].clone())
    };
    of(from) != of(to)
}

/// What former upgrades left that nobody needs any more.
pub(crate) fn tidy(case: Case<'_>) -> Step<()> {
    cleanup::tidy(case)
}
