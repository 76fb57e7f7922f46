//! The canaries of a step are made. They take their share of the requests as soon as they are ready, as any pod behind the
//! Service does.

use super::{
    super::{At, Next, Turn, jobs},
    PATIENCE, tracks,
};
use crate::crd::{CanaryStatus, UpgradeStatus, UpgradeStep};

/// Gates that each step passes anew.
const OF_A_STEP: [&str; 7] = ["Health", "Smoke", "Logs", "Metrics", "Probes", "Prometheus", "Job"];

/// The next step from this one on that has more canaries than there are; then, or where settings alone change, which need no
/// more, all pods are replaced.
pub(super) fn begin(at: At<'_>, from: i32) -> Turn {
    let policy = &at.policy().canary;
    let known = at.record.canary.clone().unwrap_or_default();
    let steps = if at.record.changes_image { i32::MAX } else { 1 };
    let mut next = (from..=steps).map_while(|step| Some((step, policy.replicas(step, tracks::wanted(at))?)));
    match next.find(|(step, replicas)| *step == 1 || *replicas > known.replicas) {
        Some((step, replicas)) => {
            let mut record = UpgradeStatus {
                canary: Some(CanaryStatus { step, replicas, ..CanaryStatus::default() }),
                ..at.record.clone()
            };
            record.gates.retain(|gate| !OF_A_STEP.contains(&&*gate.name));
            at.recording(record, Next::To(UpgradeStep::Canary))
        }
        None => at.turn(Next::To(UpgradeStep::Promote)),
    }
}

/// Until they are there. Whether they are any good the gates say.
pub(super) fn make(at: At<'_>) -> Turn {
    if at.planned.to.is_none() {
        return at.turn(Next::GoBack(format!("the ConfigMap {} of the new release is gone", at.record.to.config)));
    }
    let pods = tracks::canary_pods(at);
    if let Some(why) = tracks::trouble(at, &pods) {
        return at.turn(Next::GoBack(why));
    }
    let wanted = at.record.canary.as_ref().map_or(0, |canary| canary.replicas);
    let is_there = i32::try_from(pods.iter().filter(|pod| pod.address.is_some()).count()) == Ok(wanted);
    match () {
        // What a Job of the step before has found is of other pods.
        () if is_there && jobs::former(at).is_empty() => at.turn(Next::To(UpgradeStep::HealthGate)),
        () if !is_there && at.elapsed() > PATIENCE => at.turn(Next::GoBack(at.refused("the canaries have no pods"))),
        () => at.stay(),
    }
}

/// A share of fewer pods is fewer canaries. Of more it is more at the next step only: each new one begins the comparison anew, so
/// that with an autoscaler that goes up and down it would never end.
pub(super) fn with_scale(at: At<'_>) -> UpgradeStatus {
    let mut record = at.record.clone();
    if let Some(canary) = record.canary.as_mut().filter(|_| at.record.has_canaries()) {
        let share = at.policy().canary.replicas(canary.step, tracks::wanted(at)).unwrap_or(canary.replicas);
        canary.replicas = share.min(canary.replicas).max(1);
    }
    record
}
