//! The end of a resource, by its policy, which may change until the end.
//!
//! `Retain` has nothing to do: Kubernetes removes what the resource owns, and claim and keys have no owner. Otherwise the
//! server stops first, then one thing goes in each reconcile. A last snapshot is proof only when it and its content name
//! each other. None can be made in a namespace that is being deleted, or of a claim that is; then the volume is kept.
//! What the API server refuses of it is told before anything else.
//!
//! The data of a fleet lies in an engine that is not the operator's: no policy touches it. Under `Delete` the generated keys
//! go, after the servers.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{Decision, SOON, Step, Write, refused, server};
use crate::{
    conditions::Finding,
    crd::{DeletionPolicy, ProgressDB},
    facts::{self, Facts, Fleet},
    kind::Kind,
    objects::{self, labels::FINALIZER, names},
    status,
};

/// Decides about a resource that is being deleted.
pub(super) fn decide(resource: &ProgressDB, facts: &Facts, now: Timestamp) -> Decision {
    if !facts.finalizers.iter().any(|name| name == FINALIZER) {
        let status = resource.status.clone().unwrap_or_default();
        return Decision { status, writes: Vec::new(), irreversible: None, gates: Vec::new(), requeue_after: SOON };
    }
    let Step { found, writes, irreversible, .. } = next(resource, facts);
    let server = server::assess(&resource.spec, facts, now);
    let found = refused(facts, "allow it, or set spec.deletionPolicy to Retain to keep the data").unwrap_or(found);
    let status = status::of_deletion(resource, found, server, now);
    Decision { status, writes, irreversible, gates: Vec::new(), requeue_after: SOON }
}

fn next(resource: &ProgressDB, facts: &Facts) -> Step<Finding> {
    let policy = &resource.spec.deletion_policy;
    if facts.fleet.is_some() && *policy != DeletionPolicy::Delete {
        let message = "the servers go, and the keyspace and the keys stay";
        return Step::found(Finding::unknown("Retained", message)).ending_with(let_go(facts));
    }
    if *policy == DeletionPolicy::Retain {
        return Step::found(Finding::unknown("Retained", "the claim and the keys stay")).ending_with(let_go(facts));
    }
    // At once: a snapshot in this namespace would go with it, also one that is ready.
    if let Some(retain) = retain_volume(facts).filter(|_| facts.deletion.namespace_ends) {
        return Step::found(volume_kept()).writing([retain]);
    }
    let stopping = Finding::unknown("Stopping", "the server stops before its data goes");
    if let Some(set) = facts.stateful_set.as_ref().filter(|set| set.runs()) {
        return Step::found(stopping).writing([Write::stop(set)]);
    }
    let fleet = facts.fleet.iter().flat_map(Fleet::deployments);
    let running: Vec<_> = fleet.filter(|one| one.replicas > 0 && !one.is_deleted).map(Write::stop_all).collect();
    if !running.is_empty() {
        return Step::found(stopping).writing(running);
    }
    // A Job that has a volume keeps it, and one that rehearses does not end.
    let mut jobs = jobs_of_upgrades(facts).peekable();
    if jobs.peek().is_some() {
        let there = jobs.filter(|(_, job)| !job.is_deleted);
        let writes: Vec<_> = there.map(|(name, job)| Write::delete(Kind::Job, name, job)).collect();
        return Step::found(Finding::unknown("Stopping", "the Jobs of an upgrade end")).writing(writes);
    }
    match policy {
        // Also one that only the StatefulSet counts: it may have another name, or be seen a moment later.
        _ if facts.pod.is_some() || facts.stateful_set.as_ref().is_some_and(|set| set.has_pods) => {
            Step::found(stopping)
        }
        _ if facts.fleet.as_ref().is_some_and(|fleet| !fleet.has_stopped()) => Step::found(stopping),
        DeletionPolicy::Snapshot => snapshot_then_destroy(resource, facts),
        _ => destroy(resource, facts, true),
    }
}

/// Jobs of upgrades, by name.
fn jobs_of_upgrades(facts: &Facts) -> impl Iterator<Item = (&str, &facts::Object)> {
    let all = facts.objects.iter().filter(|((kind, _), object)| *kind == Kind::Job && object.upgrade.is_some());
    all.map(|((_, name), object)| (&**name, object))
}

/// Releases what the operator still holds: the claim first, because nobody would be left to do it.
fn let_go(facts: &Facts) -> Option<Write> {
    Some(release_claim(facts).unwrap_or_else(|| release_resource(facts)))
}

fn release_resource(facts: &Facts) -> Write {
    Write::SetFinalizers(facts.finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect())
}

/// What releases the claim, if the operator holds it.
pub(super) fn release_claim(facts: &Facts) -> Option<Write> {
    let claim = facts.claim.as_ref().filter(|claim| claim.is_held)?;
    Some(Write::ReleaseClaim {
        name: claim.name.clone(),
        uid: claim.uid.clone(),
        version: claim.version.clone(),
        finalizers: claim.other_finalizers.clone(),
    })
}

fn destroy(resource: &ProgressDB, facts: &Facts, with_keys: bool) -> Step<Finding> {
    let goes = |kind: Kind, name: &str, uid: &str| Write::Destroy { kind, name: name.to_owned(), uid: uid.to_owned() };
    // Only the policy Delete takes what upgrades have left as well, and the copies that outlive their snapshots.
    if let Some(release) = retained_copy(facts).filter(|_| with_keys) {
        return Step::found(Finding::unknown("Deleting", "the snapshots go")).writing([release]);
    }
    if let Some((kind, name, uid, is_deleted)) = left_by_upgrades(facts).filter(|_| with_keys) {
        let write = (!is_deleted).then(|| goes(kind, name, uid));
        return Step::found(Finding::unknown("Deleting", format!("the {} {name} goes", kind.name())))
            .ending_with(write);
    }
    if let Some(claim) = &facts.claim {
        let write = match claim.is_deleted {
            true => release_claim(facts),
            false => Some(goes(Kind::Claim, &claim.name, &claim.uid)),
        };
        return Step::found(Finding::unknown("Deleting", "the claim goes")).ending_with(write);
    }
    let name = names::api_keys(&resource.name_any());
    if let Some(keys) = facts.object(Kind::Secret, &name).filter(|_| with_keys) {
        let write = (!keys.is_deleted).then(|| goes(Kind::Secret, &name, &keys.uid));
        return Step::found(Finding::unknown("Deleting", "the keys go")).ending_with(write);
    }
    let message = match facts.fleet {
        Some(_) => "the keys are gone, and the keyspace stays: drop it with cqlsh if nobody needs it",
        None => "the data is gone",
    };
    Step::found(Finding::unknown("Deleted", message)).ending_with(let_go(facts))
}

/// What lets a copy of the data go with its snapshot, which was kept for an upgrade whoever deletes that.
fn retained_copy(facts: &Facts) -> Option<Write> {
    let mut contents = facts.upgrade.snapshots.values().filter_map(|snapshot| snapshot.content.as_ref());
    let (name, _) = contents.find(|(_, is_retained)| *is_retained)?;
    Some(Write::SetContentPolicy { name: name.clone(), retain: false })
}

/// A claim or a snapshot that an upgrade has left.
fn left_by_upgrades(facts: &Facts) -> Option<(Kind, &str, &str, bool)> {
    let claims =
        facts.upgrade.other_claims.iter().map(|(name, claim)| (Kind::Claim, &**name, &*claim.uid, claim.is_deleted));
    let snapshots = facts.upgrade.snapshots.iter();
    let snapshots = snapshots.map(|(name, found)| (Kind::VolumeSnapshot, &**name, &*found.uid, found.is_deleted));
    claims.chain(snapshots).next()
}

fn snapshot_then_destroy(resource: &ProgressDB, facts: &Facts) -> Step<Finding> {
    let Some(claim) = &facts.claim else { return destroy(resource, facts, false) };
    let name = names::final_snapshot(&resource.name_any(), resource.uid().as_deref().unwrap_or_default());
    let snapshot = facts.deletion.snapshot.as_ref();
    let is_proof = snapshot.is_some_and(|snapshot| snapshot.is_proof);
    // Too late for another snapshot, or for one that is not ready.
    if facts.deletion.namespace_ends || claim.is_deleted {
        return if is_proof { destroy(resource, facts, false) } else { keep_volume(facts) };
    }
    let Some(snapshot) = snapshot else {
        if !facts.deletion.has_snapshots {
            let message = "this cluster has no VolumeSnapshots: install the snapshot controller and its CRDs, or set \
                           spec.deletionPolicy to Retain or Delete";
            return Step::found(Finding::no("NoSnapshots", message));
        }
        let class = facts.deletion.snapshot_class.as_deref();
        let create = Write::Create(objects::final_snapshot(resource, &claim.name, class));
        let message = format!("the snapshot {name} is being made");
        return Step::found(Finding::unknown("Snapshot", message)).writing([create]);
    };
    if let Some(error) = &snapshot.error {
        let message = format!("the snapshot {name} fails; it is tried again: {error}");
        return Step::found(Finding::no("SnapshotFailed", message));
    }
    match is_proof {
        true => destroy(resource, facts, false),
        false => Step::found(Finding::unknown("Snapshot", format!("the snapshot {name} is not ready yet"))),
    }
}

/// Without a snapshot the volume itself is what stays. The claim is released only when the volume was seen to stay.
fn keep_volume(facts: &Facts) -> Step<Finding> {
    match retain_volume(facts) {
        Some(retain) => Step::found(volume_kept()).writing([retain]),
        None => Step::found(volume_kept()).ending_with(let_go(facts)),
    }
}

/// What lets the volume outlive its claim, unless it does already. Only the policy Snapshot looks at volumes.
fn retain_volume(facts: &Facts) -> Option<Write> {
    let volume = facts.deletion.volume.as_ref().filter(|volume| !volume.is_retained)?;
    Some(Write::RetainVolume { name: volume.name.clone() })
}

fn volume_kept() -> Finding {
    Finding::unknown("VolumeKept", "there is no snapshot of what is being deleted: the volume stays")
}
