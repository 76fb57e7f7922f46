//! The end of a resource, by its policy, which may change until the end.
//!
//! `Retain` has nothing to do: Kubernetes removes what the resource owns, and claim and keys have no owner. Otherwise the
//! server stops first, then one thing goes in each reconcile. A last snapshot is proof only when it and its content name each
//! other. None can be made in a namespace that is being deleted, or of a claim that is; then the volume is kept.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Decision, SOON, Write,
    conditions::{self, ConditionType, Finding},
};
use crate::{
    crd::{DeletionPolicy, ProgressDBStatus},
    kind::Kind,
    objects::{self, labels::FINALIZER, names},
    observe::{Live, Observed, final_snapshot},
};

/// Decides about a resource that is being deleted.
pub(super) fn decide(seen: &Observed, now: Timestamp) -> Decision {
    if !seen.resource.finalizers().iter().any(|name| name == FINALIZER) {
        let status = seen.resource.status.clone().unwrap_or_default();
        return Decision { status, writes: Vec::new(), requeue_after: SOON };
    }
    let (write, finding) = next(seen);
    Decision { status: status(seen, finding, now), writes: write.into_iter().collect(), requeue_after: SOON }
}

fn next(seen: &Observed) -> (Option<Write>, Finding) {
    if seen.resource.spec.deletion_policy == DeletionPolicy::Retain {
        return (Some(let_go(seen)), Finding::unknown("Retained", "the claim and the keys stay"));
    }
    // At once: a snapshot in this namespace would go with it, also one that is ready.
    if let Some(write) = retain_volume(seen).filter(|_| seen.namespace_ends) {
        return (Some(write), volume_kept());
    }
    if let Some(set) = seen.stateful_set().filter(|set| set.at("/spec/replicas").as_i64() != Some(0)) {
        let stop = Write::Stop { uid: set.uid().to_owned(), version: set.version().to_owned() };
        return (Some(stop), Finding::unknown("Stopping", "the server stops before its data goes"));
    }
    if seen.pod().is_some() {
        return (None, Finding::unknown("Stopping", "the server stops before its data goes"));
    }
    match seen.resource.spec.deletion_policy {
        DeletionPolicy::Snapshot => snapshot_then_destroy(seen),
        _ => destroy(seen, true),
    }
}

/// The claim first: nobody would be left to do it.
fn let_go(seen: &Observed) -> Write {
    release_claim(seen).unwrap_or_else(|| release_resource(seen))
}

fn release_resource(seen: &Observed) -> Write {
    let others = seen.resource.finalizers().iter().filter(|name| *name != FINALIZER);
    Write::SetFinalizers(others.cloned().collect())
}

/// What lets the claim go, if the operator holds it.
pub(super) fn release_claim(seen: &Observed) -> Option<Write> {
    let claim = seen.claim()?;
    let (ours, finalizers): (Vec<_>, Vec<_>) = claim.finalizers().into_iter().partition(|name| name == FINALIZER);
    (!ours.is_empty()).then(|| Write::ReleaseClaim {
        name: claim.name().to_owned(),
        uid: claim.uid().to_owned(),
        version: claim.version().to_owned(),
        finalizers,
    })
}

fn destroy(seen: &Observed, with_keys: bool) -> (Option<Write>, Finding) {
    let goes = |kind: Kind, name: &str, uid: &str| Write::Destroy { kind, name: name.to_owned(), uid: uid.to_owned() };
    if let Some(claim) = seen.claim() {
        let write = match claim.is_deleted() {
            true => release_claim(seen),
            false => Some(goes(Kind::Claim, claim.name(), claim.uid())),
        };
        return (write, Finding::unknown("Deleting", "the claim goes"));
    }
    let keys = names::api_keys(&seen.resource.name_any());
    if let Some(keys) = seen.objects.get(&(Kind::Secret, keys)).filter(|_| with_keys) {
        let write = (!keys.is_deleted()).then(|| goes(Kind::Secret, keys.name(), keys.uid()));
        return (write, Finding::unknown("Deleting", "the keys go"));
    }
    (Some(let_go(seen)), Finding::unknown("Deleted", "the data is gone"))
}

fn snapshot_then_destroy(seen: &Observed) -> (Option<Write>, Finding) {
    let Some(claim) = seen.claim() else { return destroy(seen, false) };
    let name = final_snapshot(&seen.resource);
    let snapshot = seen.objects.get(&(Kind::VolumeSnapshot, name.clone()));
    let is_proof = snapshot.is_some_and(|snapshot| is_ready_and_bound(snapshot, seen.snapshot_content.as_ref()));
    // Too late for another snapshot, or for one that is not ready.
    if seen.namespace_ends || claim.is_deleted() {
        return if is_proof { destroy(seen, false) } else { keep_volume(seen) };
    }
    let Some(snapshot) = snapshot else {
        if !seen.has_snapshots {
            let message = "this cluster has no VolumeSnapshots: install the snapshot controller and its CRDs, or set \
                           spec.deletionPolicy to Retain or Delete";
            return (None, Finding::no("NoSnapshots", message));
        }
        let create =
            Write::Create(objects::final_snapshot(&seen.resource, claim.name(), seen.snapshot_class.as_deref()));
        return (Some(create), Finding::unknown("Snapshot", format!("the snapshot {name} is being made")));
    };
    if let Some(error) = snapshot.at("/status/error/message").as_str() {
        let message = format!("the snapshot {name} fails; it is tried again: {error}");
        return (None, Finding::no("SnapshotFailed", message));
    }
    if !is_proof {
        return (None, Finding::unknown("Snapshot", format!("the snapshot {name} is not ready yet")));
    }
    destroy(seen, false)
}

/// Whether a snapshot can be restored: its content is there, and is its own.
fn is_ready_and_bound(snapshot: &Live, content: Option<&Live>) -> bool {
    let is_bound = content.is_some_and(|content| content.at("/spec/volumeSnapshotRef/uid") == snapshot.uid());
    is_bound && snapshot.at("/status/readyToUse").as_bool() == Some(true)
}

/// Without a snapshot the volume itself is what stays. It is let go only when it was seen to stay.
fn keep_volume(seen: &Observed) -> (Option<Write>, Finding) {
    (Some(retain_volume(seen).unwrap_or_else(|| let_go(seen))), volume_kept())
}

/// What has the volume outlive its claim, unless it does already; only the policy Snapshot looks at volumes.
fn retain_volume(seen: &Observed) -> Option<Write> {
    let volume = seen.volume.as_ref()?;
    let outlives = volume.at("/spec/persistentVolumeReclaimPolicy") == "Retain";
    (!outlives).then(|| Write::RetainVolume { name: volume.name().to_owned() })
}

fn volume_kept() -> Finding {
    Finding::unknown("VolumeKept", "there is no snapshot of what is being deleted: the volume stays")
}

fn status(seen: &Observed, finding: Finding, now: Timestamp) -> ProgressDBStatus {
    let old = seen.resource.status.clone().unwrap_or_default();
    let generation = seen.resource.metadata.generation;
    let message = finding.message.clone();
    let stalled = finding.fails();
    let findings = vec![
        (ConditionType::Ready, Finding::no("Deleting", message.clone())),
        (ConditionType::Available, super::assess::server(seen, now)),
        (
            ConditionType::Reconciling,
            match stalled {
                true => Finding::no("Stalled", message.clone()),
                false => Finding::yes(finding.reason, message.clone()),
            },
        ),
        (
            ConditionType::Stalled,
            match stalled {
                true => Finding::yes(finding.reason, message),
                false => Finding::no("NothingInTheWay", "nothing needs a hand"),
            },
        ),
    ];
    let mut conditions = conditions::write(findings, &old.conditions, generation, now);
    let others = old.conditions.iter().filter(|known| !conditions.iter().any(|new| new.type_ == known.type_));
    conditions.extend(others.cloned().collect::<Vec<_>>());
    ProgressDBStatus { observed_generation: generation, phase: Some("Deleting".to_owned()), conditions, ..old }
}
