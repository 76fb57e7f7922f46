//! The claim that holds the data, and the snapshot that is left of it. Nothing owns them: they go only when they are
//! deleted on purpose. Under the policy `Snapshot` a finalizer keeps the claim until its data is elsewhere, whoever
//! deletes it: also Kubernetes itself, when the namespace goes while no operator runs.

use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::{
    Inputs, kept,
    labels::{self, Role},
    names, pod,
};
use crate::{
    crd::{DeletionPolicy, EmbeddedStorage, ProgressDB},
    drift::quantity,
};

/// What a claim is restored from.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The snapshot.
    pub snapshot: &'a str,
    /// The id of the upgrade that it is for.
    pub upgrade: &'a str,
    /// The size that the snapshot needs at least.
    pub least: Option<&'a str>,
}

/// Fields of a claim that cannot be changed.
const KEPT: [&str; 3] = ["accessModes", "storageClassName", "volumeMode"];

/// The claim with the data, of the size that the resource asks for.
pub fn claim(inputs: &Inputs<'_>, storage: &EmbeddedStorage) -> Value {
    claim_of(inputs, storage, &inputs.release.claim, Role::Current)
}

/// A copy of the data that an upgrade is rehearsed on. It is nobody's data, so it goes with the resource.
pub fn staging_claim(inputs: &Inputs<'_>, storage: &EmbeddedStorage, name: &str, copied: Copied<'_>) -> Value {
    let mut claim = restored_claim(inputs, storage, name, copied);
    claim["metadata"]["ownerReferences"] = json!([inputs.resource.controller_owner_ref(&())]);
    if let Some(metadata) = claim["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    claim
}

/// A claim that is restored from a snapshot, for the upgrade of this id. It is made once: the data source of a claim never
/// changes. A volume cannot be smaller than its snapshot.
pub fn restored_claim(inputs: &Inputs<'_>, storage: &EmbeddedStorage, name: &str, copied: Copied<'_>) -> Value {
    let Copied { snapshot, upgrade, least } = copied;
    let mut claim = claim_of(inputs, storage, name, Role::Staging);
    claim["metadata"]["labels"][labels::UPGRADE] = json!(upgrade);
    if let Some(metadata) = claim["metadata"].as_object_mut() {
        metadata.remove("finalizers");
    }
    claim["spec"]["dataSource"] =
        json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot });
    let size = &mut claim["spec"]["resources"]["requests"]["storage"];
    let is_larger =
        |least: &&str| quantity(&json!(least)).zip(quantity(size)).is_some_and(|(least, size)| least > size);
    if let Some(least) = least.filter(is_larger) {
        *size = json!(least);
    }
    claim
}

fn claim_of(inputs: &Inputs<'_>, storage: &EmbeddedStorage, claim: &str, role: Role) -> Value {
    let name = inputs.name();
    let mut spec = pod::object(json!({
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": { "requests": { "storage": storage.size } },
    }));
    pod::set(&mut spec, "storageClassName", json!(storage.storage_class_name));
    let mut labels = labels::of(&name, labels::Component::Server);
    labels.insert(labels::ROLE.into(), role.as_str().into());
    let mut metadata = kept(inputs.resource, claim, labels);
    if inputs.resource.spec.deletion_policy == DeletionPolicy::Snapshot {
        metadata["finalizers"] = json!([labels::FINALIZER]);
    }
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec })
}

/// What can be applied to a claim that exists: what cannot be changed is left as it is, and it is never asked to shrink.
pub fn over_claim(wanted: Value, live: &Value) -> Value {
    let mut wanted = keeping(wanted, live, |asked| !asked.is_null());
    let asked = &live["spec"]["resources"]["requests"]["storage"];
    let size = &mut wanted["spec"]["resources"]["requests"]["storage"];
    if quantity(asked).zip(quantity(size)).is_some_and(|(asked, size)| asked > size) {
        *size = asked.clone();
    }
    wanted
}

/// A copy of a claim is of its kind, whatever the resource asks for by now: another driver cannot read its snapshots.
pub fn like_claim(wanted: Value, live: &Value) -> Value {
    keeping(wanted, live, |_| true)
}

/// With what a claim has that never changes, in the place of what `replaces` says.
fn keeping(mut wanted: Value, live: &Value, replaces: impl Fn(&Value) -> bool) -> Value {
    for field in KEPT {
        let kept = &live["spec"][field];
        if !kept.is_null() && replaces(&wanted["spec"][field]) {
            wanted["spec"][field] = kept.clone();
        }
    }
    wanted
}

/// How a claim that exists differs from what the resource asks for, in ways that cannot be changed.
pub fn differences(wanted: &Value, live: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let over = over_claim(wanted.clone(), live);
    let mut found = Vec::new();
    let size = "/spec/resources/requests/storage";
    if let Some((asked, has)) = wanted.pointer(size).zip(over.pointer(size)).filter(|(asked, has)| asked != has) {
        let (asked, has) = (text(asked), text(has));
        found
            .push(format!("it has {has}, more than the {asked} of spec.storage.embedded.size: a volume never shrinks"));
    }
    for field in KEPT {
        let (asked, has) = (&wanted["spec"][field], &over["spec"][field]);
        if asked != has {
            found.push(format!("its {field} is {} and not {}: a claim keeps that", text(has), text(asked)));
        }
    }
    found
}

/// The snapshot that is made of the claim of this name before that is deleted, with the snapshot class of the volume's
/// driver, or the default one.
pub fn final_snapshot(resource: &ProgressDB, claim: &str, class: Option<&str>) -> Value {
    let snapshot = names::final_snapshot(&resource.name_any(), resource.uid().as_deref().unwrap_or_default());
    snapshot_of(resource, &snapshot, claim, class)
}

/// A snapshot that is made of the claim of this name for the upgrade of this id.
pub fn upgrade_snapshot(
    resource: &ProgressDB,
    snapshot: &str,
    claim: &str,
    class: Option<&str>,
    upgrade: &str,
) -> Value {
    let mut object = snapshot_of(resource, snapshot, claim, class);
    object["metadata"]["labels"][labels::UPGRADE] = json!(upgrade);
    object
}

fn snapshot_of(resource: &ProgressDB, snapshot: &str, claim: &str, class: Option<&str>) -> Value {
    let name = resource.name_any();
    let mut spec = pod::object(json!({ "source": { "persistentVolumeClaimName": claim } }));
    pod::set(&mut spec, "volumeSnapshotClassName", json!(class));
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": kept(resource, snapshot, labels::of(&name, labels::Component::Server)),
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_of(size: &str, class: &str, modes: Value) -> Value {
        json!({ "spec": {
            "accessModes": modes, "storageClassName": class, "resources": { "requests": { "storage": size } },
        } })
    }

    #[test]
    fn a_claim_is_left_as_it_is_where_it_cannot_change_and_never_asked_to_shrink() {
        let wanted = claim_of("10Gi", "fast", json!(["ReadWriteOnce"]));
        let live = claim_of("20Gi", "slow", json!(["ReadWriteOncePod"]));
        assert_eq!(over_claim(wanted.clone(), &live), live);
        assert_eq!(
            differences(&wanted, &live),
            [
                "it has 20Gi, more than the 10Gi of spec.storage.embedded.size: a volume never shrinks",
                "its accessModes is [\"ReadWriteOncePod\"] and not [\"ReadWriteOnce\"]: a claim keeps that",
                "its storageClassName is slow and not fast: a claim keeps that",
            ]
        );
    }

    #[test]
    fn a_claim_that_is_smaller_is_asked_to_grow() {
        let wanted = claim_of("10Gi", "fast", json!(["ReadWriteOnce"]));
        let live = claim_of("9Gi", "fast", json!(["ReadWriteOnce"]));
        assert_eq!(over_claim(wanted.clone(), &live), wanted);
        assert_eq!(differences(&wanted, &live), [""; 0]);
    }

    #[test]
    fn the_same_size_in_other_words_is_no_difference() {
        let modes = json!(["ReadWriteOnce"]);
        assert_eq!(differences(&claim_of("1Gi", "a", modes.clone()), &claim_of("1024Mi", "a", modes)), [""; 0]);
    }
}
