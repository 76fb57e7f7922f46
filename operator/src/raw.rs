//! An object as the API server sent it, of which nothing but the metadata is decoded: one that does not decode then hides
//! no other in a list and ends no watch, and can still be written to.
//!
//! `managedFields` are dropped: they repeat the whole object, and whoever wants them asks for the object itself.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _};
use serde_json::{Value, json, value::RawValue};

/// An object that was not decoded.
#[derive(Clone)]
pub struct Raw {
    /// Who it is.
    pub metadata: ObjectMeta,
    text: Box<RawValue>,
}

/// The fields of an object, not decoded.
type Fields = BTreeMap<String, Box<RawValue>>;

impl Raw {
    /// The object as JSON, without `managedFields`.
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// The whole object; of one that is nested too deep to be decoded only who it is.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|_| json!({ "metadata": self.metadata }))
    }

    /// The object as its type has it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl From<&Value> for Raw {
    fn from(object: &Value) -> Self {
        serde_json::from_str(&object.to_string()).expect("an object has fields")
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Fields::deserialize(deserializer)?;
        let parts = object.get("metadata").map_or(Ok(Fields::new()), |metadata| serde_json::from_str(metadata.get()));
        let mut parts = parts.map_err(D::Error::custom)?;
        parts.remove("managedFields");
        let metadata = RawValue::from_string(write(&parts)).map_err(D::Error::custom)?;
        let decoded = serde_json::from_str(metadata.get()).map_err(D::Error::custom)?;
        object.insert("metadata".to_owned(), metadata);
        Ok(Self { metadata: decoded, text: RawValue::from_string(write(&object)).map_err(D::Error::custom)? })
    }
}

fn write(fields: &Fields) -> String {
    serde_json::to_string(fields).expect("what was JSON is JSON")
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

/// Who it is, and not what it holds.
impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Raw").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        (&kind.kind).into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        (&kind.group).into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        (&kind.version).into()
    }

    fn api_version(kind: &ApiResource) -> Cow<'_, str> {
        (&kind.api_version).into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        (&kind.plural).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::{api::WatchEvent, core::ObjectList};

    use super::*;

    fn deep(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn one_that_is_nested_too_deep_hides_no_other_in_a_list() {
        let object = |name: &str, levels| {
            let spec = deep(levels);
            format!(r#"{{"metadata":{{"name":"{name}","managedFields":[{spec}]}},"spec":{spec}}}"#)
        };
        let list = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{},{}]}}"#,
            object("bad", 5_000),
            object("good", 1)
        );
        let list: ObjectList<Raw> = serde_json::from_str(&list).unwrap();
        let seen: Vec<Value> = list.items.iter().map(Raw::to_value).collect();
        let good = json!({ "metadata": { "name": "good" }, "spec": { "a": 1 } });
        assert_eq!(seen, [json!({ "metadata": { "name": "bad" } }), good]);
    }

    #[test]
    fn one_that_is_nested_too_deep_ends_no_watch() {
        let line = format!(r#"{{"type":"ADDED","object":{{"metadata":{{"name":"bad"}},"spec":{}}}}}"#, deep(5_000));
        let event: WatchEvent<Raw> = serde_json::from_str(&line).unwrap();
        let WatchEvent::Added(object) = event else { panic!("another event") };
        assert_eq!(object.metadata.name.as_deref(), Some("bad"));
        assert!(object.decode::<Value>().is_err());
    }
}
