//! The new server starts.

use jiff::SignedDuration;

use super::{At, Next, Turn};
use crate::{
    crd::UpgradeStep,
    decide::{Write, delay::Delay, pods},
    desired::Server,
    facts::Pod,
};

/// How long a pod may be kept from starting by something that does not pass.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn start(at: At<'_>) -> Turn {
    let Some(to) = &at.planned.to else {
        return at.turn(Next::GoBack(format!("the ConfigMap {} of the new release is gone", at.record.to.config)));
    };
    until_it_runs(at, to, "the new server", PATIENCE, UpgradeStep::HealthGate, Next::GoBack)
}

/// Starts a server; `then` comes once its pod is there, and what it `fails` with if that takes too long.
pub(super) fn until_it_runs(
    at: At<'_>,
    server: &Server,
    name: &str,
    patience: SignedDuration,
    then: UpgradeStep,
    fails: impl FnOnce(String) -> Next,
) -> Turn {
    let is_late = at.elapsed() > patience;
    match runs(at, server) {
        Ok(true) => at.turn(Next::To(then)),
        Ok(false) if is_late => at.turn(fails(format!("{name} has no pod"))),
        Ok(false) => at.stay(),
        Err(writes) if is_late => {
            let next = fails(at.refused(&format!("{name} cannot be started")));
            // What is gone back from is not started any more.
            let is_tried_on = !matches!(next, Next::GoBack(_));
            at.turn(next).writing(writes.into_iter().filter(|_| is_tried_on))
        }
        Err(writes) => at.stay().writing(writes),
    }
}

/// Whether a pod of this release is there; else what has to be written for it.
pub(super) fn runs(at: At<'_>, server: &Server) -> Result<bool, Vec<Write>> {
    let objects = [&server.config_map, &server.workload].into_iter();
    let live = |object: &&crate::desired::Object| at.case.facts.object(object.kind, &object.name);
    // What was applied to the StatefulSet before is not compared here: the facts compare it with what runs.
    let set = at.case.facts.stateful_set.as_ref();
    let is_applied =
        set.is_some_and(|set| set.runs() && set.roll.as_ref() == Some(&server.roll) && on_same_claim(at, server));
    if !is_applied && at.is_data_in_use() {
        return Ok(false);
    }
    if !is_applied {
        let writes = objects.filter(|object| live(object).is_none() || object.kind == crate::kind::Kind::StatefulSet);
        return Err(writes
            .map(|object| Write::Apply(object.applied_to(live(&object).map(|live| &*live.uid))))
            .collect());
    }
    Ok(at.case.facts.pod.as_ref().is_some_and(|pod| is_of(pod, server)))
}

/// Starts the new server again if somebody stopped it or deleted its StatefulSet.
pub(super) fn start_again(at: At<'_>) -> Option<Turn> {
    let writes = runs(at, at.planned.to.as_ref()?).err()?;
    Some(at.stay().writing(writes))
}

fn on_same_claim(at: At<'_>, server: &Server) -> bool {
    at.facts.running_claim.as_deref() == server.claim()
}

pub(super) fn is_of(pod: &Pod, server: &Server) -> bool {
    !pod.is_deleted && pod.roll.as_ref() == Some(&server.roll)
}

/// Why the server that was started will not get healthy by waiting, if that is known.
pub(super) fn hopeless(at: At<'_>) -> Option<String> {
    let pod = at.case.facts.pod.as_ref()?;
    if pods::is_crash_looping(pod, at.case.now) {
        return Some(pods::assess(pod, at.case.now).message);
    }
    let delay = Delay::of_pod(pod, at.case.now)?;
    (delay.lasts && at.elapsed() > PATIENCE).then_some(delay.message)
}
