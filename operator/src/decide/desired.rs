//! What should be there, of one resource and what was seen of its Secrets.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::Value;

use super::conditions::Finding;
use crate::{
    crd::ProgressDB,
    objects::{self, Inputs, Release, config},
    observe::{Observed, SecretSeen, Wrapped, fingerprint, needs},
};

/// Every object that a resource asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desired {
    /// What restarts nothing and may change at any time.
    pub(super) always: Vec<Value>,
    /// The Secret with empty keys, if they are to be generated.
    pub(super) api_keys: Option<Value>,
    /// The volume.
    pub(super) claim: Value,
    /// In what the claim that is there will always be another than the resource asks for.
    pub(super) claim_differs: Vec<String>,
    /// The settings that a server reads when it starts.
    pub(super) config_map: Value,
    /// The instance with one replica.
    pub(super) stateful_set: Value,
    /// The settings that checks judge.
    pub(super) check_settings: Value,
    /// The Job that asks the image about the settings.
    pub(super) config_check: Value,
    /// The Job that asks the KMS.
    pub(super) kms_check: Option<Value>,
    /// What a pod must have to be the one that should run.
    pub(super) roll: String,
}

impl Desired {
    /// Builds everything, or says which settings are not the resource's to make.
    pub(super) fn build(seen: &Observed) -> Result<Self, Finding> {
        let resource = &*seen.resource;
        let refused = config::refused(&resource.spec);
        if !refused.is_empty() {
            return Err(Finding::no("SettingOwnedByOperator", refused.join("; ")));
        }
        let all = needs(&resource.spec);
        let read_at_start = fingerprint(all.iter(), &seen.secrets, false);
        let kms_secrets = fingerprint(all.iter().filter(|need| need.is_for_kms), &seen.secrets, true);
        let inputs = Inputs {
            release: Release::of(resource),
            resource,
            key_entries: &key_entries(resource, &seen.secrets),
            role_id: seen.secrets.values().find_map(SecretSeen::role_id),
            read_at_start: &read_at_start,
            kms_secrets: &kms_secrets,
            changed_keys: changed_keys(seen),
            wrapped_keys: match &seen.wrapped_keys {
                Some(Wrapped::Shown(keys)) => Some(keys),
                _ => None,
            },
            operator_namespace: seen.installation.as_ref().map(|installation| installation.namespace.as_str()),
        };
        let length = config::render(&inputs).len();
        if length > config::LONGEST {
            let message = format!(
                "spec.settings are {length} bytes as YAML, and at most {} are taken: shorten their lists",
                config::LONGEST
            );
            return Err(Finding::no("SettingsTooLarge", message));
        }
        let mut always = vec![objects::headless_service(&inputs), objects::client_service(&inputs)];
        always.extend(objects::service_account(&inputs));
        always.extend(objects::network_policy(&inputs));
        always.extend(objects::service_monitor(&inputs).filter(|_| seen.has_service_monitors));
        always.extend(objects::prometheus_rule(&inputs).filter(|_| seen.has_prometheus_rules));
        let claim = objects::claim(&inputs);
        let live = seen.claim().map(|live| &live.0);
        Ok(Self {
            always,
            api_keys: objects::api_keys(&inputs),
            claim_differs: live.map(|live| objects::differences(&claim, live)).unwrap_or_default(),
            claim: live.map(|live| objects::over_claim(claim.clone(), live)).unwrap_or(claim),
            config_map: objects::config_map(&inputs),
            stateful_set: objects::stateful_set(&inputs),
            check_settings: objects::check_settings(&inputs),
            config_check: objects::config_check(&inputs),
            kms_check: objects::kms_check(&inputs),
            roll: objects::roll(&inputs),
        })
    }
}

/// The entries with keys: of the Secret that is named, or all of one that is generated.
fn key_entries(resource: &ProgressDB, secrets: &BTreeMap<String, SecretSeen>) -> Vec<&'static str> {
    let Some(named) = &resource.spec.api_keys else { return config::KEY_ENTRIES.to_vec() };
    let seen = secrets.get(&named.secret_name);
    config::KEY_ENTRIES.into_iter().filter(|entry| seen.is_some_and(|seen| seen.has(entry))).collect()
}

/// The state of the Secret with generated keys, when somebody changed it and the server has not accepted it yet.
fn changed_keys(seen: &Observed) -> Option<&str> {
    let is_generated = seen.resource.spec.api_keys.is_none();
    let accepted = seen.accepted_keys().filter(|_| is_generated)?;
    seen.key_secret_version().filter(|version| *version != accepted)
}

/// Where clients in the cluster reach the server.
pub(super) fn service_address(resource: &ProgressDB) -> String {
    format!("{}.{}.svc:{}", resource.name_any(), resource.namespace().unwrap_or_default(), objects::API_PORT)
}

/// The KMS as the server names it.
pub(super) fn provider(resource: &ProgressDB) -> Option<String> {
    let kms = resource.spec.kms.as_ref()?;
    let name = match (&kms.aws, &kms.vault, &kms.http) {
        (Some(_), ..) => "aws",
        (_, Some(_), _) => "vault",
        (_, _, Some(_)) => "http",
        _ => "local",
    };
    Some(name.to_owned())
}
