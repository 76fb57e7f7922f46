//! An object as the API server sent it, of which nothing but the metadata is decoded: one that does not decode then hides
//! no other in a list and ends no watch, and can still be written to.
//!
//! `managedFields` are dropped: they repeat the whole object, and whoever wants them asks for the object itself.

use std::{borrow::Cow, fmt};

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _};
use serde_json::{Value, json, value::RawValue};

use crate::crd::lenient::{self, Fields, to_text};

/// An object that was not decoded.
#[derive(Clone)]
pub struct Raw {
    /// Who it is, as far as that can be decoded.
    pub metadata: ObjectMeta,
    text: Box<RawValue>,
}

impl Raw {
    /// The object as JSON, without `managedFields`.
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// The whole object; of one that is nested too deep to be decoded only its metadata.
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
        let metadata = object.get("metadata").map(|metadata| metadata.get());
        let mut fields: Fields = metadata.and_then(|metadata| serde_json::from_str(metadata).ok()).unwrap_or_default();
        fields.remove("managedFields");
        let metadata = RawValue::from_string(to_text(&fields)).map_err(D::Error::custom)?;
        let decoded = lenient::decode(metadata.get());
        object.insert("metadata".to_owned(), metadata);
        Ok(Self { metadata: decoded, text: RawValue::from_string(to_text(&object)).map_err(D::Error::custom)? })
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

/// Shows the metadata only: the rest may be long or secret.
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

    #[test]
    fn one_whose_metadata_cannot_be_decoded_hides_no_other_in_a_list() {
        let list = r#"{"kind":"List","apiVersion":"v1","metadata":{},"items":[
            {"metadata":{"name":"bad","generation":"new","annotations":{"a":"\ud800"}},"spec":{}},
            {"metadata":null},{"metadata":{"name":"good"}}]}"#;
        let list: ObjectList<Raw> = serde_json::from_str(list).unwrap();
        let names: Vec<Option<&str>> = list.items.iter().map(|item| item.metadata.name.as_deref()).collect();
        assert_eq!(names, [Some("bad"), None, Some("good")]);
        // It is decoded as it is, and not as far as that can be done.
        assert!(list.items[0].decode::<Value>().is_err());
    }
}
