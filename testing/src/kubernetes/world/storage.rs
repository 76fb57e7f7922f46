//! The storage of the cluster: binds claims, grows and reclaims volumes, takes snapshots.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::api::{
    Key,
    kinds::named,
    object::{bytes, is_deleted},
    store::Store,
};
use super::{claims_of, key_of, text};

/// Binds claims that a pod uses if their class exists, and grows volumes.
pub(super) fn bind_claims(store: &mut Store, grows: bool, broken: &[String]) {
    let pods = store.list(named("Pod"), None);
    let used: BTreeSet<(String, String)> = pods
        .into_iter()
        .flat_map(|pod| claims_of(pod).into_iter().map(|claim| (text(pod, "/metadata/namespace"), claim)))
        .collect();
    for claim in store.all("PersistentVolumeClaim") {
        let name = text(&claim, "/metadata/name");
        let key = key_of("PersistentVolumeClaim", &claim, &name);
        let class = Key::new("StorageClass", "", &text(&claim, "/spec/storageClassName"));
        let asked = claim["spec"]["resources"]["requests"]["storage"].clone();
        let is_used = used.contains(&(key.namespace.clone(), name.clone()));
        if claim["status"]["phase"] == "Bound" {
            if grows && bytes(&asked) > bytes(&claim["status"]["capacity"]["storage"]) {
                store.edit(&key, |claim| claim["status"]["capacity"] = json!({ "storage": asked }));
            }
        } else if is_used && store.get(&class).is_some() && !broken.contains(&class.name) {
            let volume = json!({ "spec": {
                "csi": { "driver": "csi" }, "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": { "name": name, "uid": claim["metadata"]["uid"] },
            } });
            store
                .create(&Key::new("PersistentVolume", "", &format!("pv-{name}")), volume, BTreeMap::new())
                .expect("a new volume");
            store.edit(&key, |claim| {
                claim["spec"]["volumeName"] = json!(format!("pv-{name}"));
                claim["status"] = json!({ "phase": "Bound", "capacity": { "storage": asked } });
            });
        }
    }
}

/// Deletes volumes whose claim is gone, or releases those that are to be kept.
pub(super) fn reclaim_volumes(store: &mut Store) {
    let claims = store.all("PersistentVolumeClaim");
    for volume in store.all("PersistentVolume") {
        let uid = &volume["spec"]["claimRef"]["uid"];
        if claims.iter().any(|claim| claim["metadata"]["uid"] == *uid) {
            continue;
        }
        let key = Key::new("PersistentVolume", "", &text(&volume, "/metadata/name"));
        match volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain" {
            true => store.edit(&key, |volume| volume["status"] = json!({ "phase": "Released" })),
            false => drop(store.delete(&key, &Value::Null).expect("it is there")),
        }
    }
}

/// Takes snapshots of claims that exist and are not being deleted; they are ready at once.
pub(super) fn snapshot_volumes(store: &mut Store) {
    for snapshot in store.all("VolumeSnapshot") {
        let claim =
            key_of("PersistentVolumeClaim", &snapshot, &text(&snapshot, "/spec/source/persistentVolumeClaimName"));
        if !snapshot["status"].is_null() || store.get(&claim).is_none_or(is_deleted) {
            continue;
        }
        let name = text(&snapshot, "/metadata/name");
        let reference = json!({ "name": name, "namespace": claim.namespace, "uid": snapshot["metadata"]["uid"] });
        let content = json!({
            "spec": { "volumeSnapshotRef": reference, "deletionPolicy": "Delete", "driver": "csi" },
            "status": { "readyToUse": true, "snapshotHandle": name },
        });
        let content_name = format!("content-{name}");
        let content_key = Key::new("VolumeSnapshotContent", "", &content_name);
        store.create(&content_key, content, BTreeMap::new()).expect("one content for each snapshot");
        store.edit(&key_of("VolumeSnapshot", &snapshot, &name), |snapshot| {
            snapshot["status"] = json!({ "readyToUse": true, "boundVolumeSnapshotContentName": content_name });
        });
    }
}
