//! The Secrets that a resource names: which entries it needs, and which of them are there. Of the values only hashes leave
//! this module.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use crate::{
    crd::{CassandraStorage, Kms, ProgressDBSpec, SecretRef},
    objects::hash,
};

/// A Secret that the resource names, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The Secret.
    pub secret: String,
    /// The field that names it.
    pub field: &'static str,
    /// Entries that it must have.
    pub entries: &'static [&'static str],
    /// One of them is enough.
    pub any: bool,
    /// Entries that the server reads only when it starts.
    pub read_at_start: &'static [&'static str],
    /// Who needs it.
    pub purpose: Purpose,
}

/// What a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It has the keys that clients present.
    ApiKeys,
    /// The KMS.
    Kms,
    /// The store of a fleet.
    Store,
}

/// What was found of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSeen {
    /// There is none of this name.
    Missing,
    /// It is there.
    Found {
        /// The hash of each entry that is not empty.
        hashes: BTreeMap<String, String>,
        /// Its resource version.
        version: String,
        /// The entry `role-id`, which is no secret and stands in the settings.
        role_id: Option<String>,
    },
}

impl SecretSeen {
    /// Keeps hashes of the values.
    pub fn of(secret: Option<&Secret>) -> Self {
        let Some(secret) = secret else { return Self::Missing };
        let entries = secret.data.iter().flatten().filter(|(_, value)| !value.0.trim_ascii().is_empty());
        let role_id = secret.data.as_ref().and_then(|data| std::str::from_utf8(&data.get("role-id")?.0).ok());
        Self::Found {
            hashes: entries.map(|(name, value)| (name.clone(), hash(&value.0))).collect(),
            version: secret.metadata.resource_version.clone().unwrap_or_default(),
            role_id: role_id.map(|text| text.trim().to_owned()),
        }
    }

    /// Whether this entry is there and not empty.
    pub fn has(&self, entry: &str) -> bool {
        matches!(self, Self::Found { hashes, .. } if hashes.contains_key(entry))
    }

    /// Its resource version; `None` if it does not exist.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Found { version, .. } => Some(version),
            Self::Missing => None,
        }
    }

    /// The role id of Vault's AppRole, if this Secret has one.
    pub fn role_id(&self) -> Option<&str> {
        match self {
            Self::Found { role_id, .. } => role_id.as_deref(),
            Self::Missing => None,
        }
    }
}

/// The entries of a certificate and its key, which a store may ask its clients for.
pub const CERTIFICATE: [&str; 2] = ["tls.crt", "tls.key"];

const KEYS: [&str; 4] = ["backend", "frontend", "signing", "admin"];

/// Every Secret that the resource names.
pub fn needs(spec: &ProgressDBSpec) -> Vec<Need> {
    let keys = spec.api_keys.iter().map(|keys| Need {
        secret: keys.secret_name.clone(),
        field: "spec.apiKeys.secretName",
        entries: &KEYS,
        any: true,
        read_at_start: &KEYS,
        purpose: Purpose::ApiKeys,
    });
    let store = spec.storage.cassandra().into_iter().flat_map(store_needs);
    keys.chain(spec.kms.iter().flat_map(kms_needs)).chain(store).collect()
}

fn store_needs(cassandra: &CassandraStorage) -> impl Iterator<Item = Need> {
    let need = |secret: &Option<SecretRef>, field, entries, read_at_start| {
        secret.as_ref().map(|secret| Need {
            secret: secret.name.clone(),
            field,
            entries,
            any: false,
            read_at_start,
            purpose: Purpose::Store,
        })
    };
    let credentials = "spec.storage.cassandra.credentialsSecretRef";
    let tls = "spec.storage.cassandra.tlsSecretRef";
    let needs = [
        need(&cassandra.credentials_secret_ref, credentials, &["username", "password"], &[]),
        need(&cassandra.tls_secret_ref, tls, &["ca.crt"], &["ca.crt", CERTIFICATE[0], CERTIFICATE[1]]),
    ];
    needs.into_iter().flatten()
}

fn kms_needs(kms: &Kms) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut need = |secret: Option<&String>, field, entries, read_at_start| {
        needs.extend(secret.cloned().map(|secret| Need {
            secret,
            field,
            entries,
            any: false,
            read_at_start,
            purpose: Purpose::Kms,
        }));
    };
    if let Some(aws) = &kms.aws {
        let secret = aws.credentials.as_ref().and_then(|credentials| credentials.secret_name.as_ref());
        need(secret, "spec.kms.aws.credentials.secretName", &["credentials"], &[]);
    }
    if let Some(vault) = &kms.vault {
        need(vault.ca_secret_name.as_ref(), "spec.kms.vault.caSecretName", &["ca.crt"], &["ca.crt"]);
        need(vault.auth.token_secret_name.as_ref(), "spec.kms.vault.auth.tokenSecretName", &["token"], &[]);
        let role = vault.auth.app_role_secret_name.as_ref();
        need(role, "spec.kms.vault.auth.appRoleSecretName", &["role-id", "secret-id"], &["role-id"]);
    }
    if let Some(http) = &kms.http {
        need(http.ca_secret_name.as_ref(), "spec.kms.http.caSecretName", &["ca.crt"], &["ca.crt"]);
        need(http.token_secret_name.as_ref(), "spec.kms.http.tokenSecretName", &["token"], &[]);
    }
    if let Some(embedded) = &kms.embedded {
        need(Some(&embedded.secret_name), "spec.kms.embedded.secretName", &["master.key"], &[]);
    }
    needs
}

/// What is wrong with a Secret, and what to do; `None` if nothing is.
pub fn complaint(need: &Need, seen: &SecretSeen) -> Option<(&'static str, String)> {
    let Need { secret, field, .. } = need;
    let SecretSeen::Found { hashes: entries, .. } = seen else {
        return Some(("SecretMissing", format!("{field} names the Secret {secret}, which does not exist: create it")));
    };
    let half = CERTIFICATE.iter().filter(|entry| need.read_at_start.contains(*entry) && entries.contains_key(**entry));
    let missing: Vec<&str> = need.entries.iter().copied().filter(|entry| !entries.contains_key(*entry)).collect();
    let names = missing.join(", ");
    match missing.len() {
        0 if half.count() == 1 => Some((
            "SecretIncomplete",
            format!(
                "the Secret {secret} of {field} has one of {} and not the other: add it",
                CERTIFICATE.join(" and ")
            ),
        )),
        0 => None,
        count if need.any && count < need.entries.len() => None,
        _ if need.any => Some((
            "SecretEmpty",
            format!("the Secret {secret} of {field} has none of the entries {names}: add one that is not empty"),
        )),
        _ => Some(("SecretEmpty", format!("the Secret {secret} of {field} lacks {names}, or it is empty: add it"))),
    }
}

/// One hash over all entries, or over those whose change needs a restart of the server.
pub fn fingerprint<'a>(
    needs: impl Iterator<Item = &'a Need>,
    seen: &BTreeMap<String, SecretSeen>,
    all: bool,
) -> String {
    let mut text = String::new();
    for need in needs {
        let Some(SecretSeen::Found { hashes: entries, .. }) = seen.get(&need.secret) else { continue };
        let optional = need.read_at_start.iter().filter(|entry| !need.entries.contains(entry));
        let wanted: Vec<&str> = match all {
            true => need.entries.iter().chain(optional).copied().collect(),
            false => need.read_at_start.to_vec(),
        };
        for entry in wanted {
            let value = entries.get(entry).map(String::as_str).unwrap_or_default();
            text.push_str(&format!("{}/{entry}={value}\n", need.field));
        }
    }
    if text.is_empty() { text } else { hash(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn spec(extra: serde_json::Value) -> ProgressDBSpec {
        let mut spec = json!({ "image": "a:1", "storage": { "embedded": { "size": "1Gi" } } });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn secret(entries: &[(&str, &str)]) -> SecretSeen {
        let data =
            entries.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        SecretSeen::of(Some(&Secret { data: Some(data), ..Secret::default() }))
    }

    #[test]
    fn a_missing_and_an_empty_secret_are_told_apart() {
        let need = &needs(&spec(json!({ "apiKeys": { "secretName": "keys" } })))[0];
        let reason = |seen: SecretSeen| complaint(need, &seen).map(|(reason, _)| reason);
        assert_eq!(reason(SecretSeen::Missing), Some("SecretMissing"));
        assert_eq!(reason(secret(&[("backend", " \n")])), Some("SecretEmpty"));
        assert_eq!(reason(secret(&[("backend", "key")])), None);
    }

    #[test]
    fn only_what_is_read_at_the_start_changes_the_fingerprint_that_restarts() {
        let vault =
            json!({ "kms": { "vault": { "address": "https://vault", "auth": { "appRoleSecretName": "role" } } } });
        let needs = needs(&spec(vault));
        let print = |role: &str, secret_id: &str, all: bool| {
            let seen = [("role".to_owned(), secret(&[("role-id", role), ("secret-id", secret_id)]))].into();
            fingerprint(needs.iter(), &seen, all)
        };
        assert_eq!(print("a", "b", false), print("a", "c", false));
        assert_ne!(print("a", "b", false), print("x", "b", false));
        assert_ne!(print("a", "b", true), print("a", "c", true));
    }
}
