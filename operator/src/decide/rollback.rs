//! The way back: when a successor cannot be started within a minute after the stop, what ran before is started again.
//!
//! What ran before is kept in the ConfigMap `NAME-former` from just before the start of its successor until a pod of that
//! is ready:
//!
//! ```text
//! data         config.yaml, template.json    its settings and its pod template
//! annotations  progressdb.io/tried           the value of the successor's annotation `roll`
//!              progressdb.io/tried-at        since when it should start
//!              progressdb.io/failed          why it could not
//!              progressdb.io/ran             a server has run since, or may have
//! ```
//!
//! A successor that failed is not tried again until the resource asks for another one. Only what never ran is given up: a
//! server that starts and fails may have changed its data, which its predecessor would misread. So it must be known that
//! none has run: from a pod that has not, and from the record of all pods before it ([`Facts::ran_since_stop`]). That one
//! has run, or that this is not known, is written down, and outlives the pod, the operator and further changes of the
//! resource. When the pod of a successor that was given up runs after all, the successor is no longer given up.

use super::{Case, Write, delay::Delay, storage};
use crate::{
    conditions::Finding,
    desired::Desired,
    drift,
    facts::{Facts, Former, PATIENCE, StatefulSet},
    kind::Kind,
    objects::labels::{FAILED, RAN, TRIED, TRIED_AT},
};

/// What keeps a container from ever having run.
const NEVER_RAN: [&str; 6] = [
    "Unschedulable",
    "ImagePullFailed",
    "PodRefused",
    "VolumeNotMounted",
    "InitContainerFails",
    "ContainerCannotStart",
];

/// Why what the resource asks for was given up, if it was.
pub(super) fn given_up(desired: &Desired, facts: &Facts) -> Option<Finding> {
    let former = facts.former.as_ref().filter(|former| former.tried.as_ref() == Some(&desired.server.roll))?;
    let why = former.failed.as_ref().filter(|_| !former.ran)?;
    let message = format!(
        "what was asked for could not be started within a minute, so what ran before was started again; correct the spec, \
         or, once the cause is gone, change it back and forth: {why}"
    );
    Some(Finding::no("RolledBack", message))
}

/// Keeps what ran before, as the first write of starting its successor, unless this very start has just begun or goes back
/// itself.
pub(super) fn keep(case: Case<'_>) -> Option<Write> {
    let is_same = |former: &Former| former.tried.as_ref() == Some(&case.desired.server.roll) && former.failed.is_none();
    let is_under_way = |former: &Former| is_same(former) && former.tried_at.is_some() && !is_overdue(case, former);
    if case.desired.rollback.is_some() || case.facts.former.as_ref().is_some_and(is_under_way) {
        return None;
    }
    // Of the successor before this one, if there was one.
    let has_run = case.facts.former.as_ref().is_some_and(|former| former.ran || may_have_run(case, former));
    write(case, (&case.desired.server.roll, &case.now.to_string()), has_run.then_some((RAN, "true")))
}

/// Says that the successor has failed, once it has, and stops it at once, before it can run after all.
pub(super) fn give_up(case: Case<'_>) -> Vec<Write> {
    let Some(why) = failure(case) else { return Vec::new() };
    let Some(failed) = rewrite(case, (FAILED, &why)) else { return Vec::new() };
    let set = case.facts.stateful_set.as_ref().filter(|set| set.runs() && storage::is_there(case.facts));
    [failed].into_iter().chain(set.map(Write::stop)).collect()
}

/// Says that the successor has run, or may have, before that can matter.
pub(super) fn note_run(case: Case<'_>) -> Option<Write> {
    let former = case.facts.former.as_ref().filter(|former| is_tried(case, former))?;
    let is_noted = ran(case, former) || (is_overdue(case, former) && may_have_run(case, former));
    is_noted.then(|| rewrite(case, (RAN, "true"))).flatten()
}

/// Takes back that the successor was given up, if it has run after all, before what ran before is started.
pub(super) fn take_back(case: Case<'_>) -> Option<Write> {
    let former = case.facts.former.as_ref().filter(|former| ran(case, former))?;
    former.failed.as_ref().and_then(|_| rewrite(case, (RAN, "true")))
}

/// Whether what the resource asks for is the successor that is being tried, and may still be given up.
fn is_tried(case: Case<'_>, former: &Former) -> bool {
    former.tried.as_ref() == Some(&case.desired.server.roll) && former.failed.is_none() && !former.ran
}

/// Whether it should have started by now.
fn is_overdue(case: Case<'_>, former: &Former) -> bool {
    former.tried_at.is_some_and(|at| case.now.duration_since(at) >= PATIENCE)
}

/// Whether the StatefulSet asks for the successor.
fn is_applied(former: &Former, set: Option<&StatefulSet>) -> bool {
    set.is_some_and(|set| former.tried.is_some() && set.roll == former.tried)
}

/// Whether a server of the successor has run.
fn ran(case: Case<'_>, former: &Former) -> bool {
    let Facts { pod, stateful_set, ran_since_stop, .. } = case.facts;
    let has_run = pod.as_ref().is_some_and(|pod| pod.has_run && pod.roll == former.tried);
    is_applied(former, stateful_set.as_ref()) && (has_run || *ran_since_stop == Some(true))
}

/// Whether a server of the successor has run, as far as is known.
fn may_have_run(case: Case<'_>, former: &Former) -> bool {
    let is_applied = is_applied(former, case.facts.stateful_set.as_ref());
    is_applied && (ran(case, former) || case.facts.ran_since_stop.is_none())
}

/// Why the successor does not run, if that has lasted; `None` if nothing is known against it, or if it may have run.
fn failure(case: Case<'_>) -> Option<String> {
    let Case { facts, desired, now, .. } = case;
    let former = facts.former.as_ref().filter(|former| !case.spec.suspend && is_tried(case, former))?;
    let set = facts.stateful_set.as_ref().filter(|_| is_overdue(case, former) && !may_have_run(case, former))?;
    let Some(pod) = &facts.pod else {
        let is_asked_for = is_applied(former, Some(set));
        let warned = Delay::of("StatefulSet", &set.name, set.warning.as_ref(), now).map(|delay| delay.message);
        let refused = facts.refusal.clone().filter(|_| !is_asked_for);
        return warned.or(refused).or_else(|| is_asked_for.then(|| "no pod was made".to_owned()));
    };
    let is_new = pod.roll.as_ref() == Some(&desired.server.roll) && !pod.is_deleted;
    let delay = Delay::of_pod(pod, now).filter(|_| is_new)?;
    NEVER_RAN.contains(&delay.reason).then_some(delay.message)
}

/// Forgets what ran before, once what should run is ready.
pub(super) fn forget(case: Case<'_>) -> Option<Write> {
    let former = case.desired.former.as_ref().filter(|_| case.facts.former.is_some())?;
    let live = case.facts.object(Kind::ConfigMap, &former.name)?;
    let pod = case.facts.pod.as_ref().filter(|pod| pod.roll.as_ref() == Some(&case.desired.server.roll))?;
    pod.serves().then(|| Write::delete(Kind::ConfigMap, &former.name, live))
}

/// Whether a start is under way whose outcome is not known.
pub(super) fn is_open(facts: &Facts) -> bool {
    facts.former.as_ref().is_some_and(|former| former.failed.is_none() && !former.ran)
}

/// Writes something more about the same try.
fn rewrite(case: Case<'_>, annotation: (&str, &str)) -> Option<Write> {
    let former = case.facts.former.as_ref()?;
    let tried_at = former.tried_at.unwrap_or(case.now).to_string();
    write(case, (former.tried.as_ref()?, &tried_at), Some(annotation))
}

/// Creates the ConfigMap, or changes its annotations unless that would be in vain.
fn write(case: Case<'_>, (roll, at): (&str, &str), more: Option<(&str, &str)>) -> Option<Write> {
    let annotations: Vec<_> = [(TRIED, roll), (TRIED_AT, at)].into_iter().chain(more).collect();
    let object = case.desired.former.as_ref()?.annotated(&annotations);
    if case.facts.former.is_none() {
        return Some(Write::Create(object.body));
    }
    let live = case.facts.object(object.kind, &object.name)?;
    let applied = object.applied_to(Some(&live.uid));
    let hash = drift::applied_hash(&applied).to_owned();
    (live.in_vain.as_ref() != Some(&hash)).then_some(Write::Apply(applied))
}
