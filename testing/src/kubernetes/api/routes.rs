//! From a request to its answer, as the API server gives it.

mod scale;
mod write;

use axum::http::{Method, Uri};
use serde_json::{Value, json};

use super::{
    fields,
    kinds::{self, Kind},
    object::{Key, Refusal, not_found, refuse},
    store::Store,
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

    pub(super) fn key(&self) -> Key {
        let name = self.name.clone().or_else(|| self.body["metadata"]["name"].as_str().map(str::to_owned));
        Key { kind: self.kind, namespace: self.namespace.clone().unwrap_or_default(), name: name.unwrap_or_default() }
    }

    fn is_status(&self) -> bool {
        self.subresource.as_deref() == Some("status")
    }
}

/// What the path of a request addresses.
pub(super) struct Target {
    pub kind: &'static Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// What a path addresses, if the double serves that.
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
    if call.subresource.as_deref() == Some("log") {
        return log(store, call);
    }
    if call.subresource.as_deref() == Some("scale") {
        return scale::answer(store, call);
    }
    if call.parameter("dryRun") == Some("All") {
        // Done to a copy of everything, which is then dropped.
        let mut copy = store.clone();
        let object = answer_about_one(&mut copy, call)?;
        return Ok(shaped(&copy, call, &object));
    }
    let object = answer_about_one(store, call)?;
    Ok(shaped(store, call, &object))
}

/// What a pod has logged, as text.
fn log(store: &Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    let pod = store.get(&key).ok_or_else(|| not_found(&key))?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    Ok(json!(store.logs.get(uid).cloned().unwrap_or_default()))
}

fn answer_about_one(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    match (call.method.as_str(), &call.name) {
        ("GET", Some(_)) => {
            let key = call.key();
            store.get(&key).cloned().ok_or_else(|| not_found(&key))
        }
        ("POST", None) => write::create(store, call),
        ("PUT", Some(_)) => write::replace(store, call),
        ("PATCH", Some(_)) if call.content_type.starts_with("application/apply-patch") => write::apply(store, call),
        ("PATCH", Some(_)) if call.content_type.starts_with("application/merge-patch") => write::merge(store, call),
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

/// A list, or a page of it. Every page has the resource version of the first one, so that a watch from there repeats
/// what changed in between.
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
        // As from the API server, items of built-in kinds have no `apiVersion` and no `kind`.
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
