//! From a request to its answer, as the API server gives it.

use axum::http::{Method, Uri};
use serde_json::{Value, json};

use super::{
    fields,
    kinds::{self, Kind},
    store::{Key, Refusal, Store, metadata, not_found, refuse},
};

/// A request, parsed.
#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    pub kind: &'static Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    pub query: Vec<(String, String)>,
    pub content_type: String,
    pub metadata_only: bool,
    pub body: Value,
}

impl Call {
    /// As one line for people: `PATCH statefulsets/db`.
    pub(super) fn summary(&self) -> String {
        let name = self.name.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        let subresource = self.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        format!("{} {}{name}{subresource}", self.method, self.kind.plural)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn key(&self) -> Key {
        let name = self.name.clone().or_else(|| self.body["metadata"]["name"].as_str().map(str::to_owned));
        Key { kind: self.kind, namespace: self.namespace.clone().unwrap_or_default(), name: name.unwrap_or_default() }
    }

    fn is_status(&self) -> bool {
        self.subresource.as_deref() == Some("status")
    }
}

/// What a path names.
pub(super) struct Target {
    pub kind: &'static Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// What a path names, if the double serves that.
pub(super) fn parse_path(uri: &Uri) -> Option<Target> {
    let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).peekable();
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    parts.next()?;
    let mut rest: Vec<&str> = parts.collect();
    let mut namespace = None;
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        namespace = Some(rest[1].to_owned());
        rest.drain(..2);
    }
    let kind = kinds::by_plural(group, rest.first()?)?;
    let text = |index: usize| rest.get(index).map(|text| (*text).to_owned());
    Some(Target { kind, namespace, name: text(1), subresource: text(2) })
}

/// What discovery says of a group, if that is what a path names and the group is not built in.
pub(super) fn discovery(store: &Store, uri: &Uri) -> Option<Value> {
    let (group, version) = uri.path().strip_prefix("/apis/")?.split_once('/')?;
    let kinds = kinds::of_group(group).filter(|kind| kind.version == version && store.discovered.contains(kind.kind));
    let resources = kinds.map(|kind| {
        json!({ "name": kind.plural, "singularName": "", "kind": kind.kind, "namespaced": true, "verbs": ["list", "watch"] })
    });
    let resources: Vec<Value> = resources.collect();
    (!resources.is_empty()).then(|| {
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": resources })
    })
}

/// Answers everything but watches.
pub(super) fn answer(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    if (call.method.as_str(), &call.name) == ("GET", &None) {
        return Ok(list(store, call));
    }
    if call.parameter("dryRun") == Some("All") {
        // Judged as ever, in a world that is then forgotten.
        let mut world = store.clone();
        let object = answer_about_one(&mut world, call)?;
        return Ok(shaped(&world, call, &object));
    }
    let object = answer_about_one(store, call)?;
    Ok(shaped(store, call, &object))
}

fn answer_about_one(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    match (call.method.as_str(), &call.name) {
        ("GET", Some(_)) => {
            let key = call.key();
            store.get(&key).cloned().ok_or_else(|| not_found(&key))
        }
        ("POST", None) => create(store, call),
        ("PUT", Some(_)) => replace(store, call),
        ("PATCH", Some(_)) if call.content_type.starts_with("application/apply-patch") => apply(store, call),
        ("PATCH", Some(_)) if call.content_type.starts_with("application/merge-patch") => merge(store, call),
        ("DELETE", Some(_)) => store.delete(&call.key(), &call.body["preconditions"]),
        _ => Err(refuse(405, "MethodNotAllowed", format!("the double does not know {}", call.summary()))),
    }
}

/// An object with its managers, or only its metadata if that is what was asked for.
pub(super) fn shaped(store: &Store, call: &Call, object: &Value) -> Value {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let key = Key { kind: call.kind, namespace: text("namespace"), name: text("name") };
    let mut shaped = if call.metadata_only {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
    } else {
        object.clone()
    };
    if let Some(managers) = store.managers(&key) {
        shaped["metadata"]["managedFields"] = fields::managed_fields(managers, &call.kind.api_version());
    }
    shaped
}

/// Whether a list or a watch asks for this object.
pub(super) fn is_selected(call: &Call, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let by_label =
        call.parameter("labelSelector").unwrap_or_default().split(',').filter(|term| !term.is_empty()).all(|term| {
            match term.split_once("!=").or_else(|| term.split_once('=')) {
                Some((name, value)) if term.contains("!=") => labels[name] != json!(value),
                Some((name, value)) => labels[name.trim_end_matches('=')] == json!(value.trim_start_matches('=')),
                None => !labels[term].is_null(),
            }
        });
    let by_field =
        call.parameter("fieldSelector").unwrap_or_default().split(',').filter(|term| !term.is_empty()).all(|term| {
            term.split_once('=').is_some_and(|(path, value)| {
                object.pointer(&format!("/{}", path.replace('.', "/"))) == Some(&json!(value.trim_start_matches('=')))
            })
        });
    let in_namespace =
        call.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == json!(namespace));
    by_label && by_field && in_namespace
}

/// A list, or as much of it as is asked for at a time. Its version is that of the first part, so that a watch from there
/// tells again what has changed since.
fn list(store: &Store, call: &Call) -> Value {
    let continued = call.parameter("continue").and_then(|token| token.split_once('/'));
    let of = |object: &Value| format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
    let mut objects = store.list(call.kind, call.namespace.as_deref());
    objects.retain(|object| is_selected(call, object) && continued.is_none_or(|(_, last)| *of(object) > *last));
    let limit = call.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let version = continued.map_or_else(|| store.version().to_string(), |(version, _)| version.to_owned());
    let mut list_metadata = json!({ "resourceVersion": version });
    if objects.len() > limit {
        objects.truncate(limit);
        list_metadata["continue"] =
            json!(format!("{version}/{}", objects.last().map(|last| of(last)).unwrap_or_default()));
    }
    let items = objects.into_iter().map(|object| {
        let mut item = shaped(store, call, object);
        // Items of kinds that are built in do not say what they are.
        if call.kind.is_built_in() && !call.metadata_only {
            item.as_object_mut().expect("objects are maps").retain(|name, _| name != "apiVersion" && name != "kind");
        }
        item
    });
    let items: Vec<Value> = items.collect();
    let (api_version, kind) = if call.metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (call.kind.api_version(), format!("{}List", call.kind.kind))
    };
    json!({
        "apiVersion": api_version, "kind": kind, "items": items, "metadata": list_metadata,
    })
}

fn manager(call: &Call, operation: &str) -> String {
    let suffix = if call.is_status() { "/status" } else { "" };
    format!("{}/{operation}{suffix}", call.parameter("fieldManager").unwrap_or("unknown"))
}

fn create(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
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

/// An update is refused by its precondition.
fn check_uid(key: &Key, live: &Value, wanted: &Value) -> Result<(), Refusal> {
    if wanted.is_null() || *wanted == live["metadata"]["uid"] {
        return Ok(());
    }
    let found = &live["metadata"]["uid"];
    let message =
        format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found} ({})", key.name);
    Err(refuse(409, "Conflict", message))
}

/// A patch is applied first, and what comes out is found invalid.
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

fn replace(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let live = store.get(&key).cloned().ok_or_else(|| not_found(&key))?;
    check_uid(&key, &live, &call.body["metadata"]["uid"])?;
    check_version(&key, &live, &call.body["metadata"]["resourceVersion"])?;
    write_update(store, call, &key, &live, call.body.clone())
}

fn merge(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let live = store.get(&key).cloned().ok_or_else(|| not_found(&key))?;
    check_patched_uid(&key, &live, &call.body["metadata"]["uid"])?;
    check_version(&key, &live, &call.body["metadata"]["resourceVersion"])?;
    let mut new = live.clone();
    merge_into(&mut new, &call.body);
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

fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        let map = target.as_object_mut().expect("it was just made");
        if value.is_null() {
            map.remove(name);
        } else {
            merge_into(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What can be owned through this endpoint: nothing that identifies the object, nothing that the server sets.
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

fn apply(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
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
