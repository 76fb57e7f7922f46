//! What upgrades leave: Jobs go when an upgrade has ended, copies of data when their time is over.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::duration;
use crate::{
    decide::{Case, Step, Write},
    facts::{Deployment, Mounted, Object},
    kind::Kind,
    objects::labels::Role,
};

/// Deletes what nobody needs any more of upgrades that have ended, and ConfigMaps of releases that neither run nor may run
/// again.
pub(crate) fn tidy(case: Case<'_>) -> Step<()> {
    let facts = &case.facts.upgrade;
    if facts.is_unreadable {
        // Whose what is there is cannot be said.
        return Step::default();
    }
    let under_way = facts.record.as_ref().filter(|record| record.outcome.is_none());
    let is_under_way = |id: &str| under_way.is_some_and(|record| record.id == id);
    let policy = &case.spec.upgrade;
    let mut writes = Vec::new();
    for (kind, name, object) in of_upgrades(case) {
        let id = object.upgrade.as_deref().unwrap_or_default();
        let goes = !is_under_way(id) && matches!(kind, Kind::Job | Kind::NetworkPolicy);
        if goes && !object.is_deleted {
            writes.push(Write::delete(kind, name, object));
        }
    }
    let has_passed = |id: &str, keep: SignedDuration, made_at: Option<Timestamp>| {
        let ended = facts.history.iter().find(|entry| entry.id == id).and_then(|entry| entry.ended_at);
        // What is not told any more has its time from when it was made.
        ended.or(made_at).is_some_and(|since| case.now.duration_since(since) >= keep)
    };
    for (name, snapshot) in facts.snapshots.iter().filter(|(_, snapshot)| !snapshot.is_deleted) {
        if !is_under_way(&snapshot.upgrade)
            && has_passed(&snapshot.upgrade, duration(&policy.snapshot.retain_for), snapshot.made_at)
        {
            let (kind, uid) = (Kind::VolumeSnapshot, snapshot.uid.clone());
            writes.push(Write::Delete { kind, name: name.clone(), uid });
        }
    }
    for (name, claim) in facts.other_claims.iter().filter(|(_, claim)| !claim.is_deleted) {
        let Some(id) = claim.upgrade.as_deref().filter(|id| !is_under_way(id)) else { continue };
        let keep = match claim.role {
            Some(Role::Staging) => SignedDuration::ZERO,
            Some(Role::Failed) => duration(&policy.rollback.keep_failed_volume_for),
            Some(Role::Previous) => duration(&policy.snapshot.retain_for),
            Some(Role::Current) | None => continue,
        };
        if has_passed(id, keep, claim.made_at) {
            writes.push(Write::Delete { kind: Kind::Claim, name: name.clone(), uid: claim.uid.clone() });
        }
    }
    Step::default().writing(writes).writing(releases(case))
}

fn of_upgrades<'a>(case: Case<'a>) -> impl Iterator<Item = (Kind, &'a str, &'a Object)> {
    let all = case.facts.objects.iter().filter(|(_, object)| object.upgrade.is_some());
    all.map(|((kind, name), object)| (*kind, name.as_str(), object))
}

/// Releases that are not needed: by the pod, the StatefulSet, what should run, or an upgrade.
fn releases(case: Case<'_>) -> Vec<Write> {
    let facts = &case.facts.upgrade;
    let record = facts.record.as_ref().filter(|record| record.outcome.is_none());
    let of_record = record.into_iter().flat_map(|record| [&record.from.config, &record.to.config]);
    let mut needed: BTreeSet<&str> = of_record.map(String::as_str).collect();
    needed.extend([&*facts.running.config, &*case.desired.running().config_map.name]);
    match &facts.mounted {
        // Everything may be read.
        Mounted::Unsaid => return Vec::new(),
        Mounted::Release(config) => needed.extend([config.as_str()]),
        Mounted::None => {}
    }
    if case.facts.former.is_some() {
        return Vec::new();
    }
    if let Some(fleet) = &case.facts.fleet {
        // A pod that is made again reads what the one before it did.
        if fleet.deployments().any(Deployment::is_replacing) {
            return Vec::new();
        }
        let read: Option<Vec<&str>> = fleet.pods.iter().map(|server| server.release.as_deref()).collect();
        let Some(read) = read else { return Vec::new() };
        needed.extend(read);
    }
    let unneeded = facts.releases.iter().filter(|name| !needed.contains(name.as_str()));
    let live = unneeded.filter_map(|name| Some((name, case.facts.object(Kind::ConfigMap, name)?)));
    live.filter(|(_, object)| !object.is_deleted)
        .map(|(name, object)| Write::delete(Kind::ConfigMap, name, object))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::test_scene::Scene, *};
    use crate::crd::UpgradeStep;

    #[test]
    fn a_release_goes_that_no_pod_reads_and_none_while_a_pod_does_not_say_which() {
        let gone = |mounted: Mounted| {
            let mut scene = Scene::new(UpgradeStep::Soak, json!({}));
            for name in ["db-config-1", "db-config-2"] {
                scene.facts.upgrade.releases.push(name.to_owned());
                scene.facts.objects.insert((Kind::ConfigMap, name.to_owned()), Object::default());
            }
            scene.facts.upgrade.mounted = mounted;
            let name = |write: Write| match write {
                Write::Delete { name, .. } => name,
                other => panic!("{other:?}"),
            };
            releases(scene.at().case).into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(gone(Mounted::None), ["db-config-1", "db-config-2"]);
        assert_eq!(gone(Mounted::Release("db-config-2".into())), ["db-config-1"]);
        assert_eq!(gone(Mounted::Unsaid), Vec::<String>::new());
    }
}
