//! One object of the double: how it is named, what a change of it is, why a request for it is refused.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::kinds::{self, Kind};

/// Identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: &'static Kind,
    /// Empty for kinds without namespaces.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The object of this name; the kind as `kind` names it.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kinds::named(kind), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One change of an object, as the history keeps it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource version that the change made.
    pub version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub what: &'static str,
    /// The object's key.
    pub key: Key,
    /// The object after the change, or as it was deleted.
    pub object: Arc<Value>,
    /// The object before the change, if there was one.
    pub before: Option<Arc<Value>>,
}

impl Change {
    /// The event of a watch with a selector: an object that begins to match was added; one that no longer matches was
    /// deleted, and is shown as it was when it matched.
    pub fn event(&self, is_selected: impl Fn(&Value) -> bool) -> Option<(&'static str, Value)> {
        let version = self.object["metadata"]["resourceVersion"].clone();
        let before = self.before.as_ref().filter(|before| is_selected(before));
        match (before, is_selected(&self.object), self.what) {
            (_, true, "DELETED") => Some(("DELETED", Value::clone(&self.object))),
            (None, true, _) => Some(("ADDED", Value::clone(&self.object))),
            (Some(_), true, _) => Some(("MODIFIED", Value::clone(&self.object))),
            (Some(before), false, _) => {
                let mut last = Value::clone(before);
                last["metadata"]["resourceVersion"] = version;
                Some(("DELETED", last))
            }
            (None, false, _) => None,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason, a word of the Kubernetes API.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The field that the cause names.
    pub field: Option<&'static str>,
}

/// A refusal that names no field.
pub fn refuse(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { code, reason, message: message.into(), field: None }
}

/// The refusal of a request for an object that is not there.
pub fn not_found(key: &Key) -> Refusal {
    refuse(404, "NotFound", format!("{} \"{}\" not found", key.kind.plural, key.name))
}

/// The metadata of an object, made if it has none.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("it was just made")
}

/// Whether its deletion was asked for.
pub fn is_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn finalizers(object: &Value) -> Vec<Value> {
    object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default()
}

/// A quantity of storage in bytes; good for whole numbers of binary units.
pub fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or("0");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match &text[digits.len()..] {
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1u64 << 40,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or(0) * unit
}
