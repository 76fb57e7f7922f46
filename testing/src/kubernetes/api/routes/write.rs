//! Requests that write: what the API server makes of a POST, a PUT and the two kinds of PATCH.

use serde_json::{Value, json};

use super::super::{
    fields,
    object::{Key, Refusal, metadata, not_found, refuse},
    store::Store,
};
use super::Call;

fn manager(call: &Call, operation: &str) -> String {
    let suffix = if call.is_status() { "/status" } else { "" };
    format!("{}/{operation}{suffix}", call.parameter("fieldManager").unwrap_or("unknown"))
}

pub(super) fn create(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let mut object = call.body.clone();
    if call.kind.status {
        object.as_object_mut().map(|object| object.remove("status"));
    }
    let mut managers = fields::Managers::new();
    fields::record_update(&mut managers, &manager(call, "Update"), &json!({}), &owned_part(call, &object));
    let object = store.admit(&call.key(), object)?;
    store.create(&call.key(), object, managers)
}

fn check_version(key: &Key, live: &Value, wanted: &Value) -> Result<(), Refusal> {
    if wanted.is_null() || *wanted == live["metadata"]["resourceVersion"] {
        return Ok(());
    }
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the \
         latest version and try again",
        key.kind.plural, key.name
    );
    Err(refuse(409, "Conflict", message))
}

/// A PUT with the uid of another object is refused as a failed precondition.
fn check_uid(key: &Key, live: &Value, wanted: &Value) -> Result<(), Refusal> {
    if wanted.is_null() || *wanted == live["metadata"]["uid"] {
        return Ok(());
    }
    let found = &live["metadata"]["uid"];
    let message =
        format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found} ({})", key.name);
    Err(refuse(409, "Conflict", message))
}

/// A PATCH with the uid of another object is applied first, and its result refused as invalid.
fn check_patched_uid(key: &Key, live: &Value, wanted: &Value) -> Result<(), Refusal> {
    check_uid(key, live, wanted).map_err(|_| {
        let message = format!("{} is invalid: metadata.uid: Invalid value: {wanted}: field is immutable", key.name);
        Refusal { field: Some("metadata.uid"), ..refuse(422, "Invalid", message) }
    })
}

/// Takes from `new` what this endpoint may write, and the rest from `live`.
fn through_endpoint(call: &Call, live: &Value, new: Value) -> Value {
    if !call.kind.status {
        return new;
    }
    let (mut result, status) = if call.is_status() { (live.clone(), &new) } else { (new.clone(), live) };
    let status = status["status"].clone();
    let object = result.as_object_mut().expect("objects are maps");
    if status.is_null() {
        object.remove("status")
    } else {
        object.insert("status".into(), status)
    };
    result
}

pub(super) fn replace(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let live = store.get(&key).cloned().ok_or_else(|| not_found(&key))?;
    check_uid(&key, &live, &call.body["metadata"]["uid"])?;
    check_version(&key, &live, &call.body["metadata"]["resourceVersion"])?;
    write_update(store, call, &key, &live, call.body.clone())
}

pub(super) fn merge(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let live = store.get(&key).cloned().ok_or_else(|| not_found(&key))?;
    check_patched_uid(&key, &live, &call.body["metadata"]["uid"])?;
    check_version(&key, &live, &call.body["metadata"]["resourceVersion"])?;
    let mut new = live.clone();
    json_patch::merge(&mut new, &call.body);
    write_update(store, call, &key, &live, new)
}

fn write_update(store: &mut Store, call: &Call, key: &Key, live: &Value, new: Value) -> Result<Value, Refusal> {
    let mut new = through_endpoint(call, live, new);
    metadata(&mut new).remove("managedFields");
    let mut managers = store.managers(key).cloned().unwrap_or_default();
    fields::record_update(&mut managers, &manager(call, "Update"), &owned_part(call, live), &owned_part(call, &new));
    let new = store.admit(key, new)?;
    store.update(key, new, managers)
}

/// The fields that can be owned through this endpoint: none that identify the object or that the server sets.
fn owned_part(call: &Call, object: &Value) -> Value {
    let mut object = object.clone();
    let map = object.as_object_mut().expect("objects are maps");
    map.remove("apiVersion");
    map.remove("kind");
    if call.is_status() {
        map.retain(|name, _| name == "status");
        return object;
    }
    if call.kind.status {
        map.remove("status");
    }
    let metadata = metadata(&mut object);
    metadata.retain(|name, _| ["labels", "annotations", "finalizers", "ownerReferences"].contains(&name.as_str()));
    if metadata.is_empty() {
        object.as_object_mut().expect("objects are maps").remove("metadata");
    }
    object
}

pub(super) fn apply(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let wanted = &call.body["metadata"];
    if call.parameter("fieldManager").is_none() {
        return Err(refuse(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io is invalid: fieldManager: is required for apply patch",
        ));
    }
    if !wanted["managedFields"].is_null() {
        return Err(refuse(400, "BadRequest", "metadata.managedFields must be nil"));
    }
    let applied = owned_part(call, &call.body);
    let Some(live) = store.get(&key).cloned() else {
        if call.is_status() {
            return Err(not_found(&key));
        }
        if !wanted["uid"].is_null() {
            let message = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                wanted["uid"]
            );
            return Err(refuse(409, "Conflict", message));
        }
        let managers = [(manager(call, "Apply"), fields::leaves(&applied))].into();
        let admitted = store.admit(&key, applied)?;
        return store.create(&key, admitted, managers);
    };
    check_patched_uid(&key, &live, &wanted["uid"])?;
    check_version(&key, &live, &wanted["resourceVersion"])?;
    let managers = store.managers(&key).cloned().unwrap_or_default();
    let force = call.parameter("force") == Some("true");
    let (new, managers) =
        fields::apply(&live, &applied, &managers, &manager(call, "Apply"), force).map_err(|conflicts| {
            refuse(409, "Conflict", format!("Apply failed with {} conflicts: {conflicts:?}", conflicts.len()))
        })?;
    let new = store.admit(&key, through_endpoint(call, &live, new))?;
    store.update(&key, new, managers)
}
