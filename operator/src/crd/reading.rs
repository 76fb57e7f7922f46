//! Reading a resource as the API server stores it. The definition admits only what can be read; an older or a newer
//! definition, which a cluster may have, admits more.
//!
//! A `spec` that cannot be read makes the resource [`Unreadable`]: what it asks for is not known, so nothing is done about
//! it. What cannot be read of a `status` counts as absent, and is no reason to leave a database alone; so do conditions that
//! are not the operator's. But a claim that it names in a way that cannot be read is a claim: its data must not be taken for
//! none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    ApiKeysStatus, Kms, KmsStatus, ProgressDB, ProgressDBSpec, ProgressDBStatus, UPGRADE_REVISION,
    lenient::{self, Fields},
    status::CONDITION_TYPES,
};

/// The longest path of a field that is told.
const LONGEST: usize = 120;

/// A resource that cannot be read: all that is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unreadable {
    /// Who it is.
    pub metadata: ObjectMeta,
    /// What was told of it before.
    pub status: Option<ProgressDBStatus>,
    /// Which field is to blame, and why.
    pub why: String,
}

/// Reads a resource.
pub fn read(text: &str) -> Result<ProgressDB, Box<Unreadable>> {
    let mut fields: Fields = serde_json::from_str(text).unwrap_or_default();
    let status = fields.remove("status").and_then(|status| read_status(status.get()));
    match decode(&lenient::to_text(&fields)).and_then(with_known_choices) {
        Ok(resource) => Ok(ProgressDB { status, ..resource }),
        Err(why) => {
            let metadata = fields.get("metadata").map(|metadata| lenient::decode(metadata.get()));
            Err(Box::new(Unreadable { metadata: metadata.unwrap_or_default(), status, why }))
        }
    }
}

/// What the operator wrote of a status, as far as it can be read; `None` if there is no status.
fn read_status(text: &str) -> Option<ProgressDBStatus> {
    let mut status: ProgressDBStatus = text.starts_with('{').then(|| lenient::decode(text))?;
    status.claim = status.claim.or_else(|| unreadable_claim(text));
    status.conditions.retain(|condition| CONDITION_TYPES.contains(&&*condition.type_));
    // Others may have written below a field of ours in which the operator has nothing to say.
    status.api_keys = status.api_keys.filter(|keys| *keys != ApiKeysStatus::default());
    status.kms = status.kms.filter(|kms| *kms != KmsStatus::default());
    // Half of what an upgrade has come to would lead to a wrong step.
    let written = serde_json::from_str::<Fields>(text).ok().and_then(|mut fields| fields.remove("upgrade"));
    let written = written.filter(|written| written.get() != "null");
    status.upgrade = written.as_ref().and_then(|written| serde_json::from_str(written.get()).ok());
    status.upgrade = status.upgrade.filter(|upgrade| (1..=UPGRADE_REVISION).contains(&upgrade.revision));
    status.has_unreadable_upgrade = written.is_some() && status.upgrade.is_none();
    status.history.retain(|entry| !entry.id.is_empty());
    Some(status)
}

/// What stands where the name of the claim should, if anything does.
fn unreadable_claim(status: &str) -> Option<String> {
    let Ok(fields) = serde_json::from_str::<Fields>(status) else { return Some("what cannot be read".to_owned()) };
    let text = fields.get("claim").map(|claim| claim.get()).filter(|text| *text != "null")?;
    serde_json::from_str(text).ok().or_else(|| Some(text.chars().take(LONGEST).collect()))
}

/// The error names the field first.
fn decode(text: &str) -> Result<ProgressDB, String> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
        let path: String = error.path().to_string().chars().take(LONGEST).collect();
        let message = error.into_inner().to_string();
        // Line and column are those of a text that nobody sees, and change with every write.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        match message.starts_with("recursion limit") {
            true => format!("{path}… is nested too deep"),
            false => format!("{path}: {message}"),
        }
    })
}

/// Fields that are not known are ignored, but not where one of several has to be given: the one that was meant may be one
/// that a newer operator knows, and to take it for none could start a server without its keys.
fn with_known_choices(resource: ProgressDB) -> Result<ProgressDB, String> {
    match unknown_choice(&resource.spec) {
        Some(path) => Err(format!("{path}: it names none of what this operator knows")),
        None => Ok(resource),
    }
}

fn unknown_choice(spec: &ProgressDBSpec) -> Option<&'static str> {
    let Kms { aws, vault, http, embedded } = spec.kms.as_ref()?;
    let aws_credentials = aws.as_ref().and_then(|aws| aws.credentials.as_ref());
    let vault_auth = vault.as_ref().map(|vault| &vault.auth);
    if aws.is_none() && vault.is_none() && http.is_none() && embedded.is_none() {
        return Some("spec.kms");
    }
    if aws_credentials.is_some_and(|by| by.service_account_name.is_none() && by.secret_name.is_none()) {
        return Some("spec.kms.aws.credentials");
    }
    let names_none = |auth: &super::VaultAuth| {
        auth.kubernetes_role.is_none() && auth.token_secret_name.is_none() && auth.app_role_secret_name.is_none()
    };
    vault_auth.is_some_and(names_none).then_some("spec.kms.vault.auth")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(spec: Value, status: Value) -> String {
        let mut whole = json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({ "metadata": { "name": "db", "uid": "1" }, "spec": whole, "status": status }).to_string()
    }

    /// Values of `spec` that an older or a newer definition may admit, and what is said of each.
    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let egress = |port: Value| json!({ "networkPolicy": { "egress": [{ "ports": [{ "port": port }] }] } });
        let vault = |auth: Value| json!({ "kms": { "vault": { "address": "https://v", "key": "k", "auth": auth } } });
        let cases = [
            // Choices that a newer operator knows.
            (json!({ "deletionPolicy": "Archive" }), "spec.deletionPolicy: unknown variant `Archive`"),
            (json!({ "imagePullPolicy": "Sometimes" }), "spec.imagePullPolicy: unknown variant `Sometimes`"),
            (json!({ "service": { "type": "ExternalName" } }), "spec.service.type: unknown variant `ExternalName`"),
            (json!({ "storage": { "postgres": { "host": "a" } } }), "spec.storage: it names none of what this"),
            (
                json!({ "storage": { "cassandra": { "datacenter": "dc1" } } }),
                "spec.storage.cassandra: missing field `contactPoints`",
            ),
            (
                json!({ "storage": {
                    "embedded": { "size": "1Gi" }, "cassandra": { "contactPoints": ["a"], "datacenter": "b" },
                } }),
                "spec.storage: it names two storages",
            ),
            (json!({ "kms": { "gcp": { "key": "k" } } }), "spec.kms: it names none of what this operator knows"),
            (
                json!({ "kms": { "aws": { "keyId": "k", "credentials": { "role": "r" } } } }),
                "spec.kms.aws.credentials: ",
            ),
            (vault(json!({ "certificate": "c" })), "spec.kms.vault.auth: it names none"),
            // Nothing, or another kind of thing, where an object, a list or a word is expected.
            (json!({ "storage": null }), "spec.storage: invalid type: null"),
            (json!({ "storage": { "embedded": null } }), "spec.storage: it names none of what this operator knows"),
            (json!({ "service": null }), "spec.service: invalid type: null"),
            (json!({ "drain": "10s" }), "spec.drain: invalid type: string"),
            (json!({ "settings": ["a"] }), "spec.settings: invalid type: sequence"),
            (json!({ "podLabels": { "a": null } }), "spec.podLabels.a: invalid type: null"),
            (json!({ "tolerations": {} }), "spec.tolerations: invalid type: map"),
            (json!({ "image": 1 }), "spec.image: invalid type: integer `1`"),
            (json!({ "suspend": "true" }), "spec.suspend: invalid type: string"),
            // Numbers as words, too large, and not whole.
            (
                json!({ "securityContext": { "runAsUser": "1000" } }),
                "spec.securityContext.runAsUser: invalid type: string",
            ),
            (
                json!({ "securityContext": { "runAsUser": 1e30 } }),
                "spec.securityContext.runAsUser: invalid type: floating",
            ),
            (
                json!({ "securityContext": { "fsGroup": u64::MAX } }),
                "spec.securityContext.fsGroup: invalid value: integer",
            ),
            (
                egress(json!(3_000_000_000_u32)),
                "spec.networkPolicy.egress[0].ports[0].port: invalid value: integer `3000000000`, expected a 32-bit integer",
            ),
        ];
        for (spec, why) in cases {
            let unreadable = read(&text(spec.clone(), json!({ "image": "a:1", "dataFormat": "new" }))).unwrap_err();
            assert!(unreadable.why.starts_with(why), "{spec}: {}", unreadable.why);
            assert_eq!(unreadable.metadata.name.as_deref(), Some("db"), "{spec}");
            // What can be read of its status is not forgotten.
            assert_eq!(unreadable.status.unwrap().image.as_deref(), Some("a:1"), "{spec}");
        }
    }

    #[test]
    fn a_resource_that_is_no_resource_is_one_that_cannot_be_read() {
        let metadata = json!({ "name": "db", "uid": "1", "annotations": { "a": "REPLACED", "b": "c" } });
        for (spec, why) in [(json!(null), "spec: "), (json!([]), "spec: "), (json!({}), "spec: missing field")] {
            let unreadable = read(&json!({ "metadata": metadata, "spec": spec }).to_string()).unwrap_err();
            assert!(unreadable.why.starts_with(why), "{}", unreadable.why);
            assert_eq!(unreadable.metadata.uid.as_deref(), Some("1"));
        }
        // Half of a pair of characters, which is in no text.
        let broken = json!({ "metadata": metadata, "spec": {} }).to_string().replace("REPLACED", "\\ud800");
        let unreadable = read(&broken).unwrap_err();
        assert!(unreadable.why.starts_with("metadata"), "{}", unreadable.why);
        let annotations = unreadable.metadata.annotations.unwrap();
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("b".to_owned(), "c".to_owned())]);
        for text in ["", "null", "[]", "5"] {
            assert_eq!(read(text).unwrap_err().metadata, ObjectMeta::default());
        }
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
    fn an_upgrade_that_a_newer_operator_began_is_seen_and_not_read() {
        let read =
            |upgrade: serde_json::Value| read(&text(json!({}), json!({ "upgrade": upgrade }))).unwrap().status.unwrap();
        let known = read(json!({ "revision": 1, "id": "0123abcd", "step": "Drain" }));
        assert!(known.upgrade.is_some_and(|upgrade| upgrade.id == "0123abcd") && !known.has_unreadable_upgrade);
        for newer in [
            json!({ "revision": 2, "id": "0123abcd", "step": "Drain" }),
            json!({ "revision": 1, "id": "0123abcd", "step": "Fly" }),
            json!({ "id": "0123abcd" }),
            json!("Drain"),
        ] {
            let status = read(newer.clone());
            assert!(status.upgrade.is_none() && status.has_unreadable_upgrade, "{newer}");
        }
        assert!(!read(json!(null)).has_unreadable_upgrade);
    }

    /// A newer operator, or somebody else, may have written anything into the status.
    #[test]
    fn nothing_in_a_status_makes_a_resource_unreadable() {
        let condition = |kind: &str, time: Value| json!({ "type": kind, "status": "Maybe", "reason": "New", "message": "", "lastTransitionTime": time });
        let (good, time) = (json!({ "claim": "db-data-0", "readyReplicas": 1 }), json!("2030-01-01T00:00:00Z"));
        let nested = (0..140).fold(json!(1), |inner, _| json!({ "a": inner }));
        let values = [
            json!({ "phase": ["Running"] }),
            json!({ "phase": null, "conditions": null, "kms": null }),
            json!({ "observedGeneration": 1e21, "replicas": u64::MAX }),
            json!({ "dataFormat": "2", "replicas": "1" }),
            json!({ "dataFormat": { "reads": [1, 2], "writes": 2 } }),
            json!({ "conditions": { "Ready": "True" } }),
            json!({ "conditions": [condition("Ready", json!(5)), condition("Stalled", json!("yesterday")), null, 7] }),
            json!({ "kms": { "provider": { "name": "gcp" }, "ok": "yes" }, "apiKeys": 5 }),
            json!({ "kms": { "rotation": { "due": "tomorrow" } }, "apiKeys": { "rotatedBy": "ann" } }),
            json!({ "upgrade": { "id": "1", "step": "NotInvented", "gates": [null] }, "history": [5] }),
            json!({ "service": nested, "later": nested }),
        ];
        for value in values {
            let mut status = value.clone();
            status.as_object_mut().unwrap().extend(good.as_object().unwrap().clone());
            let read =
                read(&text(json!({}), status)).unwrap_or_else(|unreadable| panic!("{value}: {}", unreadable.why));
            let status = json!(read.status.unwrap());
            // Nothing that cannot be read is left, and nothing that can is lost.
            assert_eq!(status, good, "{value}");
        }
        for status in [json!(null), json!(5), json!("Running"), json!([])] {
            assert_eq!(read(&text(json!({}), status)).unwrap().status, None);
        }
        // Whatever stands there in its place, there is a claim.
        for (claim, said) in [(json!({ "name": "a" }), "{\"name\":\"a\"}"), (json!(["a"]), "[\"a\"]"), (json!(7), "7")]
        {
            let read = read(&text(json!({}), json!({ "claim": claim, "phase": "Running" }))).unwrap();
            assert_eq!(read.status.unwrap().claim.as_deref(), Some(said));
        }
        let conditions = [condition("Ready", json!(5)), condition("Stalled", time.clone()), condition("Other", time)];
        let read = read(&text(json!({}), json!({ "conditions": conditions }))).unwrap();
        let types: Vec<String> = read.status.unwrap().conditions.into_iter().map(|condition| condition.type_).collect();
        assert_eq!(types, ["Stalled"], "those that can be read and are ours");
    }
}
