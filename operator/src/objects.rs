//! What should be in the cluster for one resource: pure functions from the resource, and what was seen of its Secrets, to
//! objects as they are applied. They read no cluster and no clock; files under `tests/golden/` hold what they make.
//!
//! ```text
//! Service NAME ──────────► pod of StatefulSet NAME ──► claim NAME-data-N        /data
//! Service NAME-headless ─►   runs as ServiceAccount NAME or one that was named
//!                            ├─ ConfigMap NAME-config-…, of its release         /etc/progressdb
//!                            └─ Secrets: NAME-api-keys, those of the KMS        /run/secrets/progressdb
//! Jobs NAME-config-check-…, NAME-kms-check-…: the same without the claim, before anything depends on the outcome, with
//!   the settings that they judge in a ConfigMap NAME-check-…
//! ```
//!
//! A fleet has no StatefulSet and no claim, but a Deployment NAME, while a new image is tried a Deployment NAME-canary, a
//! PodDisruptionBudget NAME, and a Job NAME-schema-… that makes its tables before any server starts.
//!
//! Everything has the labels of its instance. Everything but the claim, the key Secret and snapshots is owned by the
//! resource, and goes with it.

mod access;
mod claim;
pub mod config;
mod fleet;
mod job;
pub mod labels;
mod monitoring;
pub mod names;
mod network;
pub mod overrides;
mod placement;
mod pod;
mod report;
mod server;
mod service;
mod statefulset;
mod upgrade;

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

pub use access::{api_keys, service_account};
pub use claim::{
    Copied, claim, differences, final_snapshot, like_claim, over_claim, restored_claim, staging_claim, upgrade_snapshot,
};
pub use config::{config_map, config_text, release_map};
pub use fleet::{deployment, disruption_budget, on_track};
pub use job::{check_settings, config_check, data_check, kms_check, schema_apply};
pub use monitoring::{prometheus_rule, service_monitor};
pub use network::network_policy;
pub use pod::{api_key_secret, release_volume, roll};
pub use report::{LOG_FILE, REPORT_FILE, for_people, report_text, upgrade_report};
pub use service::{client_service, headless_service};
pub use statefulset::stateful_set;
pub use upgrade::{MAIN, UpgradeJob, backup_job, gate_job, rehearsal_policy, upgrade_job};

use crate::crd::{ProgressDB, ProgressDBSpec};
pub use crate::hash::hash;

/// The container of the server in its pod.
pub const SERVER: &str = "server";
/// The port of the API.
pub const API_PORT: u16 = 8080;
/// The port of health and metrics.
pub const MANAGEMENT_PORT: u16 = 9090;

/// How many servers a fleet has, if the resource does not say.
const FLEET: i32 = 3;

/// How many servers a fleet has while it is not stopped.
pub fn servers(spec: &ProgressDBSpec) -> i32 {
    spec.replicas.unwrap_or(FLEET)
}

/// What differs between two versions of one database: which program runs, with which settings, on which data. Two of them
/// can be built for one resource, such as the one that runs and the one that is to replace it.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The image of the server.
    pub image: String,
    /// The server's settings, without those that the operator sets.
    pub settings: Map<String, Value>,
    /// The name of the claim with the data; a fleet has none of this name.
    pub claim: String,
    /// How many pods run: 1 on a volume, or 0 while it is stopped; in a fleet so many as are asked for.
    pub replicas: i32,
}

impl Release {
    /// The release that the resource asks for.
    pub fn of(resource: &ProgressDB) -> Self {
        Self {
            image: resource.spec.image.clone(),
            settings: resource.spec.settings.clone(),
            claim: names::claim(&resource.name_any(), 0),
            replicas: match resource.spec.storage.cassandra() {
                None => 1,
                Some(_) if resource.spec.suspend => 0,
                Some(_) => servers(&resource.spec),
            },
        }
    }
}

/// What objects are built from: a release, whose it is, and what surrounds it.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// What runs; image, settings, claim and number of pods come from nowhere else.
    pub release: Release,
    /// The resource, as the API server stored it: identity, and what all its releases share.
    pub resource: &'a ProgressDB,
    /// Entries of the Secret with the API keys that hold something, of [`config::KEY_ENTRIES`].
    pub key_entries: &'a [&'a str],
    /// The entry `role-id` of the Secret for Vault's AppRole, if the resource names one.
    pub role_id: Option<&'a str>,
    /// A fingerprint of those entries of all Secrets that the server reads only when it starts.
    pub read_at_start: &'a str,
    /// A fingerprint of all entries of the KMS' Secrets.
    pub kms_secrets: &'a str,
    /// A fingerprint of all entries of the Secrets of a fleet's store.
    pub store_secrets: &'a str,
    /// Whether the Secret with the certificates of a fleet's store has one for clients.
    pub has_client_certificate: bool,
    /// The state of the Secret with generated keys, if it is another one than that which the server accepted.
    pub changed_keys: Option<&'a str>,
    /// The wrapped keys of the store that runs, on which its KMS is to be tried.
    pub wrapped_keys: Option<&'a str>,
    /// The namespace of the operator.
    pub operator_namespace: Option<&'a str>,
}

impl Inputs<'_> {
    fn name(&self) -> String {
        self.resource.name_any()
    }

    /// A pod template with the restart that somebody asks for.
    fn restarted(&self, mut template: Value) -> Value {
        if let Some(asked) = self.resource.annotations().get(labels::RESTARTED_AT) {
            template["metadata"]["annotations"][labels::RESTART] = json!(asked);
        }
        template
    }
}

/// The keys of an entry, as the server reads them: one a line, without comments.
pub fn keys_of(entry: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(entry);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Metadata of an object that goes with the resource.
fn owned(resource: &ProgressDB, name: &str, labels: BTreeMap<String, String>) -> Value {
    let mut metadata = metadata(resource, name, labels);
    metadata["ownerReferences"] = json!([resource.controller_owner_ref(&())]);
    metadata
}

/// Metadata of an object that outlives the resource. Without an owner, tools that remove what no manifest names would
/// take it for a left-over of the application whose name the instance label bears: annotations tell them to keep it.
fn kept(resource: &ProgressDB, name: &str, labels: BTreeMap<String, String>) -> Value {
    let mut metadata = metadata(resource, name, labels);
    metadata["annotations"] = labels::KEEP.into_iter().collect();
    metadata
}

fn metadata(resource: &ProgressDB, name: &str, labels: BTreeMap<String, String>) -> Value {
    json!({ "name": name, "namespace": resource.namespace(), "labels": labels })
}

#[cfg(test)]
mod tests;
