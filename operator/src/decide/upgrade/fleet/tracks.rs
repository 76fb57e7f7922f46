//! The two tracks of a fleet: what has to be written so that they are as a step wants them, and whether they are.

use super::{super::At, PATIENCE};
use crate::{
    decide::{Write, delay::Delay, fleet as servers, pods},
    desired::{Object, Server},
    facts::{Deployment, Fleet, FleetPod, Pod},
    kind::Kind,
    objects::{self, labels::Track},
};

/// The fleet as it was seen; nothing of one that was not.
pub(super) fn fleet(at: At<'_>) -> Fleet {
    at.case.facts.fleet.clone().unwrap_or_default()
}

/// How many pods the stable track has: an upgrade ends before a fleet stops for `spec.suspend`.
pub(super) fn wanted(at: At<'_>) -> i32 {
    objects::servers(at.case.spec)
}

/// Has all pods of the stable track be of this release.
pub(super) fn stable(at: At<'_>, server: &Server) -> Vec<Write> {
    let running = at.case.desired.fleet.as_ref().and_then(|fleet| fleet.running.as_ref());
    match running.filter(|running| running.roll == server.roll && !at.case.spec.suspend) {
        // Set right in whatever somebody changed of it.
        Some(running) => servers::keep(at.case, running),
        None => applied(at, server, &server.workload, fleet(at).stable.as_ref(), wanted(at)),
    }
}

/// Whether the stable Deployment asks for this release.
pub(super) fn runs(at: At<'_>, server: &Server) -> bool {
    fleet(at).stable.is_some_and(|stable| stable.roll.as_ref() == Some(&server.roll))
}

/// Has so many pods of this release beside them as the step asks for.
pub(super) fn canaries(at: At<'_>, server: &Server) -> Vec<Write> {
    let replicas = at.record.canary.as_ref().map_or(0, |canary| canary.replicas);
    let object = server.canary.as_ref();
    object.map(|object| applied(at, server, object, fleet(at).canary.as_ref(), replicas)).unwrap_or_default()
}

/// Takes the canaries away.
pub(super) fn without_canaries(at: At<'_>) -> Option<Write> {
    let canary = fleet(at).canary.filter(|canary| !canary.is_deleted)?;
    Some(Write::Delete { kind: Kind::Deployment, name: canary.name, uid: canary.uid })
}

/// Whether nothing is left of the canaries.
pub(super) fn are_canaries_gone(at: At<'_>) -> bool {
    let fleet = fleet(at);
    fleet.canary.is_none() && !fleet.pods.iter().any(|pod| pod.track == Track::Canary)
}

/// The first canary that is still there though its time to end is over, such as one on a node that is lost.
pub(super) fn lost_canary(at: At<'_>) -> Option<String> {
    let is_overdue = |pod: &Pod| pod.deleted_at.is_some_and(|end| at.case.now.duration_since(end) > PATIENCE);
    let mut names: Vec<String> = fleet(at)
        .pods
        .into_iter()
        .filter(|server| server.track == Track::Canary && is_overdue(&server.pod))
        .map(|server| server.pod.name)
        .collect();
    names.sort();
    names.into_iter().next()
}

/// How a person takes a canary away that does not go. Each write of a server is conditional, so one that cannot be seen does no
/// harm.
pub(super) fn remove_command(at: At<'_>, lost: Option<String>) -> String {
    match lost {
        Some(pod) => format!("kubectl delete pod {pod} --force"),
        None => format!("kubectl describe deployment {}", objects::names::deployment(at.case.name, Track::Canary)),
    }
}

/// What keeps a fleet from being all of this release and taking requests.
pub(super) fn behind(at: At<'_>, server: &Server) -> String {
    let fleet = fleet(at);
    let is_behind = |pod: &&FleetPod| {
        let is_new = pod.pod.roll.as_ref() == Some(&server.roll);
        pod.track == Track::Stable && !(is_new && (pod.pod.is_deleted || pod.pod.serves()))
    };
    let mut names: Vec<&str> = fleet.pods.iter().filter(is_behind).map(|pod| pod.pod.name.as_str()).collect();
    names.sort_unstable();
    match names.is_empty() {
        true => {
            let there = fleet.stable.as_ref().map_or(0, |stable| stable.ready);
            format!("{there} of {}", wanted(at))
        }
        false => format!("not {}", names.join(", ")),
    }
}

fn applied(at: At<'_>, server: &Server, object: &Object, live: Option<&Deployment>, replicas: i32) -> Vec<Write> {
    let is_there = |live: &Deployment| live.roll.as_ref() == Some(&server.roll) && live.replicas == replicas;
    // One that somebody deleted goes first, with its pods.
    if live.is_some_and(|live| live.is_deleted || is_there(live)) {
        return Vec::new();
    }
    let map = &server.config_map;
    let map = at.case.facts.object(map.kind, &map.name).is_none().then(|| Write::Apply(map.applied_to(None)));
    let object = object.scaled(replicas).applied_to(live.map(|live| &*live.uid));
    map.into_iter().chain([Write::Apply(object)]).collect()
}

/// Whether every pod of a track is of this release and serves, as many as it is to have, and no other is left.
pub(super) fn is_rolled_out(at: At<'_>, server: &Server) -> bool {
    let fleet = fleet(at);
    let is_applied = fleet.stable.as_ref().is_some_and(|stable| {
        stable.roll.as_ref() == Some(&server.roll) && stable.replicas == wanted(at) && stable.is_settled()
    });
    let mut pods = fleet.pods.iter().filter(|pod| pod.track == Track::Stable && !pod.pod.is_deleted);
    is_applied && pods.all(|pod| pod.pod.roll.as_ref() == Some(&server.roll) && pod.pod.serves())
}

/// Whether no pod of another release is left, not even one that does not end.
pub(super) fn is_alone(at: At<'_>, server: &Server) -> bool {
    fleet(at).pods.iter().all(|pod| pod.pod.roll.as_ref() == Some(&server.roll))
}

/// The pods of a track that are of this release and stay, by name.
pub(super) fn pods(at: At<'_>, track: Track, roll: &str) -> Vec<FleetPod> {
    let is_of = |pod: &FleetPod| pod.track == track && !pod.pod.is_deleted && pod.pod.roll.as_deref() == Some(roll);
    let mut pods: Vec<FleetPod> = fleet(at).pods.into_iter().filter(is_of).collect();
    pods.sort_by(|a, b| a.pod.name.cmp(&b.pod.name));
    pods
}

/// The canaries.
pub(super) fn canary_pods(at: At<'_>) -> Vec<FleetPod> {
    pods(at, Track::Canary, &at.record.to.roll)
}

/// Why one of these pods will not serve by waiting, or proves the release bad. A canary is new: one restart is enough.
pub(super) fn trouble(at: At<'_>, pods: &[FleetPod]) -> Option<String> {
    pods.iter().find_map(|FleetPod { pod, .. }| {
        if pods::is_crash_looping(pod, at.case.now) {
            return Some(format!("the pod {}: {}", pod.name, pods::assess(pod, at.case.now).message));
        }
        if pod.container.restarts > 0 {
            let said = pod.container.last_end().and_then(|ended| ended.last_line.clone());
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            return Some(format!("the pod {} was restarted{said}", pod.name));
        }
        let delay = Delay::of_pod(pod, at.case.now)?;
        (delay.lasts && at.elapsed() > PATIENCE / 2).then_some(delay.message)
    })
}
