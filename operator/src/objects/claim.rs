//! The claim that holds the data, and the snapshot that is left of it. Nothing owns them: they go only when they are
//! deleted on purpose. Under the policy `Snapshot` a finalizer keeps the claim until its data is elsewhere, whoever
//! deletes it: also Kubernetes itself, when the namespace goes while no operator runs.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Inputs, kept, labels, names, pod};
use crate::crd::{DeletionPolicy, ProgressDB};

/// The claim, of the size that the resource asks for.
pub fn claim(inputs: &Inputs<'_>) -> Value {
    let (name, storage) = (inputs.name(), &inputs.resource.spec.storage.embedded);
    let mut spec = pod::object(json!({
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": { "requests": { "storage": storage.size } },
    }));
    pod::set(&mut spec, "storageClassName", json!(storage.storage_class_name));
    let mut metadata = kept(inputs.resource, &names::claim(&name), labels::of(&name, labels::Component::Server));
    if inputs.resource.spec.deletion_policy == DeletionPolicy::Snapshot {
        metadata["finalizers"] = json!([labels::FINALIZER]);
    }
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec })
}

/// The snapshot that is made before the claim is deleted, of the snapshot class that the driver of the volume has, or of
/// the default one.
pub fn final_snapshot(resource: &ProgressDB, class: Option<&str>) -> Value {
    let name = resource.name_any();
    let snapshot = names::final_snapshot(&name, resource.uid().as_deref().unwrap_or_default());
    let mut spec = pod::object(json!({ "source": { "persistentVolumeClaimName": names::claim(&name) } }));
    pod::set(&mut spec, "volumeSnapshotClassName", json!(class));
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": kept(resource, &snapshot, labels::of(&name, labels::Component::Server)),
        "spec": spec,
    })
}
