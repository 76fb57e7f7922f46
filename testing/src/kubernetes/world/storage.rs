//! The storage of the cluster: binds claims, grows and reclaims volumes, attaches them to the node.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::api::{Key, kinds::named, object::bytes, store::Store};
use super::{claims_of, key_of, keyspaces, model::Model, snapshots, text, workloads::tell};

/// Binds claims that a pod uses if their class exists and what they are made from is there, and grows volumes.
pub(super) fn bind_claims(store: &mut Store, model: &mut Model, grows: bool, broken: &[String]) {
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
            match snapshots::source(store, model, &claim) {
                Ok(data) => {
                    let volume = make_volume(store, &key, &claim);
                    store.edit(&key, |claim| {
                        claim["spec"]["volumeName"] = json!(volume);
                        claim["status"] = json!({ "phase": "Bound", "capacity": { "storage": asked } });
                    });
                    data.map(|data| model.volumes.insert(volume, data));
                }
                Err(why) => {
                    let why = format!("failed to provision volume with StorageClass \"{}\": {why}", class.name);
                    tell(store, &claim, "ProvisioningFailed", &why);
                }
            }
        }
    }
}

/// Makes the volume of a claim, and says its name.
fn make_volume(store: &mut Store, key: &Key, claim: &Value) -> String {
    let uid = text(claim, "/metadata/uid");
    let mut volume = Key::new("PersistentVolume", "", &format!("pv-{}", key.name));
    if store.get(&volume).is_some() {
        // That of an earlier claim of this name was retained.
        volume.name = format!("pv-{uid}");
    }
    let object = json!({ "spec": {
        "csi": { "driver": "csi", "volumeHandle": volume.name }, "persistentVolumeReclaimPolicy": "Delete",
        "claimRef": { "name": key.name, "namespace": key.namespace, "uid": uid },
    } });
    store.create(&volume, object, BTreeMap::new()).expect("its name is free");
    volume.name
}

/// Deletes volumes whose claim is gone, or releases those that are to be kept.
pub(super) fn reclaim_volumes(store: &mut Store, model: &mut Model) {
    let claims: BTreeSet<String> =
        store.all("PersistentVolumeClaim").iter().map(|claim| text(claim, "/metadata/uid")).collect();
    for volume in store.all("PersistentVolume") {
        if claims.contains(&text(&volume, "/spec/claimRef/uid")) {
            continue;
        }
        let key = Key::new("PersistentVolume", "", &text(&volume, "/metadata/name"));
        match volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain" {
            true => store.edit(&key, |volume| volume["status"] = json!({ "phase": "Released" })),
            false => drop(store.delete(&key, &Value::Null).expect("it is there")),
        }
    }
    model.volumes.retain(|name, _| {
        name.starts_with(keyspaces::PREFIX) || store.get(&Key::new("PersistentVolume", "", name)).is_some()
    });
}

/// Attaches the volumes that pods use at this moment, and detaches those that none has used for so many seconds.
pub(super) fn attach_volumes(store: &mut Store, model: &mut Model, detach_after: i64) {
    let now = store.now();
    let name = |volume: &str| Key::new("VolumeAttachment", "", &format!("csi-{volume}"));
    for volume in model.used.keys().filter(|volume| store.get(&name(volume)).is_none()).cloned().collect::<Vec<_>>() {
        let source = json!({ "persistentVolumeName": volume });
        let object = json!({
            "spec": { "attacher": "csi", "nodeName": "node", "source": source }, "status": { "attached": true },
        });
        store.create(&name(&volume), object, BTreeMap::new()).expect("there was none");
    }
    model.used.retain(|volume, used| {
        let is_used = now.duration_since(*used).as_secs() < detach_after.max(1);
        if !is_used {
            store.end(&name(volume));
        }
        is_used
    });
}
