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
//! ```
//!
//! A successor that failed is not tried again until the resource asks for another one. Only what never ran is given up: a
//! server that starts and fails may have changed its data.

use jiff::SignedDuration;

use super::{Case, Write, delay::Delay};
use crate::{
    conditions::Finding,
    desired::Desired,
    drift,
    facts::{Facts, Former},
    kind::Kind,
    objects::labels::{FAILED, TRIED, TRIED_AT},
};

/// How long a successor may take to be made and placed.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
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
    let why = former.failed.as_ref()?;
    let message = format!(
        "what was asked for could not be started within a minute, so what ran before was started again; correct the spec, \
         or, once the cause is gone, change it back and forth: {why}"
    );
    Some(Finding::no("RolledBack", message))
}

/// Keeps what ran before, as the first write of starting its successor, unless this very start has just begun or goes back
/// itself.
pub(super) fn keep(case: Case<'_>) -> Option<Write> {
    let is_under_way = |former: &Former| {
        is_tried(case, former) && former.tried_at.is_some_and(|at| case.now.duration_since(at) < PATIENCE)
    };
    if case.desired.rollback.is_some() || case.facts.former.as_ref().is_some_and(is_under_way) {
        return None;
    }
    write(case, &[(TRIED, &case.desired.server.roll), (TRIED_AT, &case.now.to_string())])
}

/// Says that the successor has failed, once it has.
pub(super) fn give_up(case: Case<'_>) -> Option<Write> {
    let former = case.facts.former.as_ref().filter(|former| !case.spec.suspend && is_tried(case, former))?;
    let tried_at = former.tried_at.filter(|at| case.now.duration_since(*at) >= PATIENCE)?;
    let why = failure(case)?;
    write(case, &[(TRIED, &case.desired.server.roll), (TRIED_AT, &tried_at.to_string()), (FAILED, &why)])
}

/// Whether what the resource asks for is the successor that is being tried.
fn is_tried(case: Case<'_>, former: &Former) -> bool {
    former.tried.as_ref() == Some(&case.desired.server.roll) && former.failed.is_none()
}

/// Why the successor does not run; `None` if it does, or if nothing is known against it.
fn failure(case: Case<'_>) -> Option<String> {
    let Case { facts, desired, now, .. } = case;
    let set = facts.stateful_set.as_ref()?;
    let roll = Some(&desired.server.roll);
    let Some(pod) = &facts.pod else {
        let is_asked_for = set.roll.as_ref() == roll;
        let warned = Delay::of("StatefulSet", &set.name, set.warning.as_ref(), now).map(|delay| delay.message);
        let refused = facts.refusal.clone().filter(|_| !is_asked_for);
        return warned.or(refused).or_else(|| is_asked_for.then(|| "no pod was made".to_owned()));
    };
    let is_new = pod.roll.as_ref() == roll && !pod.is_deleted;
    let delay = Delay::of_pod(pod, now).filter(|_| is_new && !pod.has_run())?;
    NEVER_RAN.contains(&delay.reason).then_some(delay.message)
}

/// Forgets what ran before, once what should run is ready.
pub(super) fn forget(case: Case<'_>) -> Option<Write> {
    let former = case.desired.former.as_ref().filter(|_| case.facts.former.is_some())?;
    let live = case.facts.object(Kind::ConfigMap, &former.name)?;
    let pod = case.facts.pod.as_ref().filter(|pod| pod.roll.as_ref() == Some(&case.desired.server.roll))?;
    (pod.is_ready && !pod.is_deleted).then(|| Write::delete(Kind::ConfigMap, &former.name, live))
}

/// Whether a start is under way whose outcome is not known.
pub(super) fn is_open(facts: &Facts) -> bool {
    facts.former.as_ref().is_some_and(|former| former.failed.is_none())
}

/// Creates the ConfigMap, or changes its annotations unless that would be in vain.
fn write(case: Case<'_>, annotations: &[(&str, &str)]) -> Option<Write> {
    let object = case.desired.former.as_ref()?.annotated(annotations);
    if case.facts.former.is_none() {
        return Some(Write::Create(object.body));
    }
    let live = case.facts.object(object.kind, &object.name)?;
    let applied = object.applied_to(Some(&live.uid));
    let hash = drift::applied_hash(&applied).to_owned();
    (live.in_vain.as_ref() != Some(&hash)).then_some(Write::Apply(applied))
}
