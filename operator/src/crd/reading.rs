//! Reading a resource as the API server stores it. The definition admits only what can be read; an older definition, which
//! a cluster may still have, admitted more.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{ProgressDB, ProgressDBStatus};

/// The longest path of a field that is told.
const LONGEST: usize = 120;

/// A resource that cannot be read: all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Unreadable {
    /// Who it is.
    pub metadata: ObjectMeta,
    /// What was told of it before.
    #[serde(default)]
    pub status: Option<ProgressDBStatus>,
    /// Which field is to blame, and why.
    #[serde(skip)]
    pub why: String,
}

/// Reads a resource. A status that cannot be read counts as none: the operator writes it anew.
pub fn read(text: &str) -> Result<ProgressDB, Box<Unreadable>> {
    let error = match decode(text) {
        Ok(resource) => return Ok(resource),
        Err(error) => error,
    };
    if error.starts_with("status") {
        return decode(&without_status(text)).map_err(|why| Box::new(unreadable(text, why)));
    }
    Err(Box::new(unreadable(text, error)))
}

fn unreadable(text: &str, why: String) -> Unreadable {
    let known = serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_status(text)));
    Unreadable { why, ..known.unwrap_or_default() }
}

fn without_status(text: &str) -> String {
    let mut fields: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(text).unwrap_or_default();
    fields.remove("status");
    serde_json::to_string(&fields).expect("what was JSON is JSON")
}

/// The error names the field first.
fn decode(text: &str) -> Result<ProgressDB, String> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
        let path: String = error.path().to_string().chars().take(LONGEST).collect();
        let words = error.into_inner().to_string();
        // Where it stands in a text that nobody sees, and that changes with every write.
        let words = words.rsplit_once(" at line ").map_or(&*words, |(words, _)| words);
        match words.starts_with("recursion limit") {
            true => format!("{path}… is nested too deep"),
            false => format!("{path}: {words}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(spec: Value, status: Value) -> String {
        let mut spec_with = json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } });
        spec_with.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({ "metadata": { "name": "db", "uid": "1" }, "spec": spec_with, "status": status }).to_string()
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let port = json!({ "networkPolicy": { "egress": [{ "ports": [{ "port": 3_000_000_000_u32 }] }] } });
        let unreadable = read(&text(port, json!({ "image": "a:1" }))).unwrap_err();
        assert_eq!(
            unreadable.why,
            "spec.networkPolicy.egress[0].ports[0].port: invalid value: integer `3000000000`, expected a 32-bit integer"
        );
        assert_eq!(unreadable.metadata.name.as_deref(), Some("db"));
        assert_eq!(unreadable.status.unwrap().image.as_deref(), Some("a:1"));
    }

    #[test]
    fn settings_that_are_nested_too_deep_are_named() {
        let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let text = text(json!({ "settings": { "b": "DEEP" } }), json!({})).replace("\"DEEP\"", &deep(140));
        let unreadable = read(&text).unwrap_err();
        assert!(unreadable.why.starts_with("spec.settings.b.a.a.a"), "{}", unreadable.why);
        assert!(unreadable.why.ends_with("… is nested too deep"), "{}", unreadable.why);
        assert_eq!(unreadable.metadata.name.as_deref(), Some("db"));
    }

    #[test]
    fn a_status_that_cannot_be_read_counts_as_none() {
        let resource = read(&text(json!({}), json!({ "conditions": 5 }))).unwrap();
        assert_eq!(resource.status, None);
    }
}
