//! Snapshots, as the snapshot controller and the driver make them: the content first, then the cut of the volume, then, in
//! its time, a copy that can be restored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::api::{
    Key,
    object::{bytes, is_deleted},
    store::Store,
};
use super::{
    data::Data,
    key_of,
    model::{Cut, Model},
    text,
};

/// How snapshots are made, and what goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    /// Seconds from the creation of a snapshot until its volume is cut.
    pub cut_after: i64,
    /// Seconds from the cut until it is ready.
    pub ready_after: i64,
    /// They are cut and never ready.
    pub never_ready: bool,
    /// What the driver says instead of cutting; it is asked again as long as the snapshot is there.
    pub error: Option<String>,
    /// Their contents say that they belong to another snapshot.
    pub misbound: bool,
}

/// The annotation of the class that a snapshot gets which names none.
pub(super) const DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// Takes snapshots of claims that exist and are not being deleted, and deletes the contents of those that are gone.
pub(super) fn take(store: &mut Store, model: &mut Model, how: &Snapshots) {
    for snapshot in store.all("VolumeSnapshot") {
        if is_deleted(&snapshot) || snapshot["status"]["readyToUse"] == true {
            continue;
        }
        let key = key_of("VolumeSnapshot", &snapshot, &text(&snapshot, "/metadata/name"));
        let claim =
            key_of("PersistentVolumeClaim", &snapshot, &text(&snapshot, "/spec/source/persistentVolumeClaimName"));
        let Some(content) = content_of(store, &snapshot, &claim, model, how) else { continue };
        advance(store, model, how, &Taken { snapshot: key, content, claim });
    }
    clear(store, model);
}

/// A snapshot that is being taken.
struct Taken {
    snapshot: Key,
    content: Key,
    claim: Key,
}

/// The content of a snapshot; it is made if the claim is there and the class is known.
fn content_of(store: &mut Store, snapshot: &Value, claim: &Key, model: &mut Model, how: &Snapshots) -> Option<Key> {
    let bound = text(snapshot, "/status/boundVolumeSnapshotContentName");
    if !bound.is_empty() {
        return Some(Key::new("VolumeSnapshotContent", "", &bound)).filter(|content| store.get(content).is_some());
    }
    let claimed = store.get(claim).filter(|claim| !is_deleted(claim))?;
    let volume = Key::new("PersistentVolume", "", &text(claimed, "/spec/volumeName"));
    let driver = store.get(&volume).map(|volume| text(volume, "/spec/csi/driver"))?;
    let key = key_of("VolumeSnapshot", snapshot, &text(snapshot, "/metadata/name"));
    let class = match class_of(store, snapshot, &driver) {
        Ok(class) => class,
        Err(why) => {
            fail(store, &key, &why);
            return None;
        }
    };
    let uid = text(snapshot, "/metadata/uid");
    let mut content = Key::new("VolumeSnapshotContent", "", &format!("content-{}", key.name));
    if store.get(&content).is_some() {
        // That of an earlier snapshot of this name was retained.
        content.name = format!("content-{uid}");
    }
    let reference = json!({
        "apiVersion": snapshot["apiVersion"], "kind": "VolumeSnapshot", "name": key.name, "namespace": key.namespace,
        "uid": if how.misbound { "00000000-0000-4000-8000-another00000" } else { &uid },
    });
    let object = json!({ "spec": {
        "volumeSnapshotRef": reference, "deletionPolicy": class["deletionPolicy"], "driver": driver,
        "source": { "volumeHandle": volume.name }, "volumeSnapshotClassName": class["metadata"]["name"],
    } });
    store.create(&content, object, BTreeMap::new()).expect("its name is free");
    model.cuts.insert(content.name.clone(), Cut { snapshot: uid, at: None, data: None });
    store.edit(&key, |snapshot| {
        snapshot["status"] = json!({ "readyToUse": false, "boundVolumeSnapshotContentName": content.name });
    });
    Some(content)
}

/// The class that a snapshot names, or the default one of the driver.
fn class_of(store: &Store, snapshot: &Value, driver: &str) -> Result<Value, String> {
    let named = text(snapshot, "/spec/volumeSnapshotClassName");
    if !named.is_empty() {
        let class = store.get(&Key::new("VolumeSnapshotClass", "", &named)).cloned();
        return class.ok_or_else(|| format!("volumesnapshotclass.snapshot.storage.k8s.io \"{named}\" not found"));
    }
    let mut classes = store.all("VolumeSnapshotClass").into_iter();
    let found = classes.find(|class| class["driver"] == driver && class["metadata"]["annotations"][DEFAULT] == "true");
    found.map(|class| Value::clone(&class)).ok_or_else(|| "cannot find default snapshot class".into())
}

/// Says why a snapshot cannot be made, once.
fn fail(store: &mut Store, object: &Key, why: &str) {
    let now = store.now().to_string();
    store.edit(object, |object| {
        if object["status"]["error"]["message"] != why {
            object["status"]["readyToUse"] = json!(false);
            object["status"]["error"] = json!({ "message": why, "time": now });
        }
    });
}

/// Cuts the volume, and makes the copy ready, when it is time.
fn advance(store: &mut Store, model: &mut Model, how: &Snapshots, taken: &Taken) {
    let (now, snapshot) = (store.now(), store.get(&taken.snapshot).expect("it was just seen"));
    let age = now.duration_since(created(snapshot)).as_secs();
    let Some(cut) = model.cuts.get_mut(&taken.content.name) else { return };
    let mut cut_at = cut.at;
    if cut_at.is_none() {
        if let Some(why) = &how.error {
            [&taken.snapshot, &taken.content].into_iter().for_each(|object| fail(store, object, why));
            return;
        }
        let Some(claim) = store.get(&taken.claim).filter(|_| age >= how.cut_after) else { return };
        let size = claim["status"]["capacity"]["storage"].clone();
        cut.data = model.volumes.get(&text(claim, "/spec/volumeName")).cloned();
        (cut.at, cut_at) = (Some(now), Some(now));
        tell_cut(store, taken, &size);
    }
    let is_ready = cut_at.is_some_and(|at| now.duration_since(at).as_secs() >= how.ready_after) && !how.never_ready;
    if is_ready {
        for object in [&taken.content, &taken.snapshot] {
            store.edit(object, |object| object["status"]["readyToUse"] = json!(true));
        }
    }
}

fn tell_cut(store: &mut Store, taken: &Taken, size: &Value) {
    let now = store.now();
    let nanoseconds = i64::try_from(now.as_nanosecond()).expect("the clock of the double is not that late");
    store.edit(&taken.content, |content| {
        content["status"] = json!({
            "readyToUse": false, "creationTime": nanoseconds, "snapshotHandle": format!("snap-{}", taken.content.name),
            "restoreSize": bytes(size),
        });
    });
    store.edit(&taken.snapshot, |snapshot| {
        let status = &mut snapshot["status"];
        status["creationTime"] = json!(now.to_string());
        status["restoreSize"] = size.clone();
        status["readyToUse"] = json!(false);
        status.as_object_mut().map(|status| status.remove("error"));
    });
}

fn created(object: &Value) -> jiff::Timestamp {
    text(object, "/metadata/creationTimestamp").parse().expect("the API server sets it")
}

/// Deletes contents with their snapshots, unless they are to be retained, and copies with their contents.
fn clear(store: &mut Store, model: &mut Model) {
    let snapshots = store.all("VolumeSnapshot");
    for content in store.all("VolumeSnapshotContent") {
        let name = text(&content, "/metadata/name");
        let Some(cut) = model.cuts.get(&name) else { continue };
        let is_there = snapshots.iter().any(|snapshot| snapshot["metadata"]["uid"] == cut.snapshot);
        if !is_there && content["spec"]["deletionPolicy"] == "Delete" && !is_deleted(&content) {
            store.delete(&Key::new("VolumeSnapshotContent", "", &name), &Value::Null).expect("it is there");
        }
    }
    model.cuts.retain(|name, _| store.get(&Key::new("VolumeSnapshotContent", "", name)).is_some());
}

/// What a claim is made from, if that can be restored; else why not.
pub(super) fn source(store: &Store, model: &Model, claim: &Value) -> Result<Option<Data>, String> {
    let source = &claim["spec"]["dataSource"];
    if source["kind"] != "VolumeSnapshot" {
        return Ok(None);
    }
    let name = text(source, "/name");
    let cannot = |why: String| format!("error getting handle for DataSource Type VolumeSnapshot by Name {name}: {why}");
    let Some(snapshot) = store.get(&key_of("VolumeSnapshot", claim, &name)) else {
        return Err(cannot(format!("volumesnapshots.snapshot.storage.k8s.io \"{name}\" not found")));
    };
    let content = text(snapshot, "/status/boundVolumeSnapshotContentName");
    let Some(bound) = store.get(&Key::new("VolumeSnapshotContent", "", &content)) else {
        return Err(cannot(format!("volumesnapshotcontents.snapshot.storage.k8s.io \"{content}\" not found")));
    };
    if bound["spec"]["volumeSnapshotRef"]["uid"] != snapshot["metadata"]["uid"] {
        return Err(cannot(format!("snapshot {name} is not bound to content {content}")));
    }
    if snapshot["status"]["readyToUse"] != true {
        return Err(cannot(format!("snapshot {name} is not Ready")));
    }
    let (asked, least) = (&claim["spec"]["resources"]["requests"]["storage"], &snapshot["status"]["restoreSize"]);
    if bytes(asked) < bytes(least) {
        return Err(cannot(format!(
            "requested volume size {asked} is less than the size {least} for the source snapshot"
        )));
    }
    Ok(model.cuts.get(&content).and_then(|cut| cut.data.clone()))
}
