//! Whether there is something to upgrade, and the way it takes.

use jiff::SignedDuration;

use super::fleet;
use crate::{
    conditions::Finding,
    crd::{
        CanaryStatus, Outcome, ProgressDBSpec, ReleaseStatus, UPGRADE_REVISION, UpgradeStatus, UpgradeStep,
        UpgradeStrategy,
    },
    decide::{Case, Write, delay::Delay, pods, restart},
    desired::{self, Desired, Server},
    facts::Facts,
    status::Progress,
};

/// Why an upgrade was given up that is begun again once the server runs.
pub(super) const SUSPENDED: &str = "the resource is suspended";

/// How long a server that was ready may not be, before it is taken to be one that does not serve.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

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
    let told = kept(case.facts);
    if facts.is_unreadable {
        let message = "a newer operator began an upgrade that this one cannot read, and everything is left as it is: install \
                       that version of the operator again";
        let finding = Some(Finding::no("UpgradeUnreadable", message));
        return Plan::Stays(Progress { finding, record: None, ..told });
    }
    let Some(record) = &facts.record else {
        return begin_or_wait(case, told);
    };
    if record.outcome.is_none() {
        let kept = case.desired.upgrade.as_ref().filter(|planned| planned.id == record.id);
        return Plan::Guarded(record.clone(), kept.map(|planned| keep(case, planned)).unwrap_or_default());
    }
    let asked = &case.desired.server.roll;
    if record.outcome == Some(Outcome::Succeeded) || *asked != record.to.roll {
        // If the resource asks for what runs, what was tried and did not pass may be tried again.
        let is_forgotten = record.outcome != Some(Outcome::Succeeded) && *asked == facts.running.roll;
        let without = || Progress { history: facts.history.clone(), ..Progress::default() };
        return begin_or_wait(case, if is_forgotten { without() } else { told });
    }
    let strategy = case.spec.upgrade.strategy;
    let was_suspended = record.message.as_deref() == Some(SUSPENDED);
    if let Some(begun) = begin(case).filter(|_| was_suspended) {
        return begun;
    }
    let stays = strategy == UpgradeStrategy::Guarded && !case.spec.suspend && facts.running.roll != *asked;
    if stays { Plan::Stays(told) } else { Plan::Direct(told) }
}

/// What was told, where nothing can be decided.
pub(crate) fn kept(facts: &Facts) -> Progress {
    let history = facts.upgrade.history.clone();
    match &facts.upgrade.record {
        Some(record) => Progress::of((**record).clone(), history),
        None => Progress { history, ..Progress::default() },
    }
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

/// An upgrade, or what is to be done if there is none to begin. A server that is not ready for a moment is waited for: else
/// its successor would take its place untried.
fn begin_or_wait(case: Case<'_>, told: Progress) -> Plan {
    if let Some(begun) = begin(case) {
        return begun;
    }
    if !is_about_to_serve(case) {
        return Plan::Direct(told);
    }
    let message =
        "the upgrade begins once the server that runs is ready; one that does not get ready is replaced as it is";
    Plan::Stays(Progress { finding: Some(Finding::unknown("WaitsForServer", message)), ..told })
}

/// Whether what runs has a successor and, though it is not ready, may be so any moment.
fn is_about_to_serve(case: Case<'_>) -> bool {
    let Case { facts, now, .. } = case;
    if let Some(fleet) = &facts.fleet {
        return releases(case).is_some() && fleet::is_about_to_serve(fleet, now);
    }
    let Some(set) = facts.stateful_set.as_ref().filter(|_| releases(case).is_some()) else { return false };
    let Some(pod) = &facts.pod else {
        let delay = Delay::of("StatefulSet", &set.name, set.warning.as_ref(), now);
        return !delay.is_some_and(|delay| delay.lasts);
    };
    let is_hopeless = pods::is_crash_looping(pod, now) || Delay::of_pod(pod, now).is_some_and(|delay| delay.lasts);
    let has_lasted = pod.ready_since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
    !is_hopeless && (pod.is_deleted || !pod.is_ready && !has_lasted)
}

/// What is planned, the release that is asked to run, and another one that is to take its place by an upgrade.
fn releases(case: Case<'_>) -> Option<(&desired::Upgrade, &Server, &Server)> {
    let Case { spec, desired, facts, .. } = case;
    let is_guarded = spec.upgrade.strategy == UpgradeStrategy::Guarded && !spec.suspend && facts.former.is_none();
    let planned = desired.upgrade.as_ref().filter(|_| is_guarded)?;
    match &facts.fleet {
        None => drop(facts.stateful_set.as_ref().filter(|set| set.runs() && !set.is_deleted)?),
        // Servers that find or open their data in different ways must not write side by side, so they have no canaries.
        Some(_) if desired.fleet.as_ref().is_some_and(|fleet| fleet.stops_first) => return None,
        Some(fleet) => drop(fleet.stable.as_ref().filter(|stable| stable.replicas > 0 && !stable.is_deleted)?),
    }
    let (from, to) = planned.from.as_ref().zip(planned.to.as_ref())?;
    differs(from, to).then_some((planned, from, to))
}

/// An upgrade, if what runs serves and is to be replaced by another release.
fn begin(case: Case<'_>) -> Option<Plan> {
    let Case { facts, now, .. } = case;
    let (planned, from, to) = releases(case)?;
    let running = &facts.upgrade.running.roll;
    let runs_what_is_asked = match &facts.fleet {
        None => facts.pod.as_ref().filter(|pod| pod.serves())?.roll.as_ref() == Some(running),
        Some(fleet) => fleet::serves(fleet, running),
    };
    if !runs_what_is_asked || restart::is_due(facts) {
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
        canary: facts.fleet.as_ref().map(|_| CanaryStatus::default()),
        ..UpgradeStatus::default()
    };
    Some(Plan::Guarded(Box::new(record), keep(case, planned)))
}

/// Keeps what both releases are made of, so that neither depends on what becomes of the resource; what somebody deleted is made
/// again as long as it is known.
fn keep(case: Case<'_>, planned: &desired::Upgrade) -> Vec<Write> {
    let maps = [&planned.from, &planned.to].into_iter().flatten().map(|server| &server.config_map);
    let missing = maps.filter(|map| case.facts.object(map.kind, &map.name).is_none());
    missing.map(|map| Write::Apply(map.applied_to(None))).collect()
}

/// Whether a release is another one in more than the Secrets that it reads: those of before cannot be brought back.
fn differs(from: &Server, to: &Server) -> bool {
    let of = |server: &Server| {
        let mut template = server.workload.body["spec"]["template"].clone();
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
