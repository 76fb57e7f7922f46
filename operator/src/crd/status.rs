//! `status`: what was seen and done, as transitions, without clocks or counters.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HistoryEntry, UpgradeStatus};

/// The types of the conditions that the operator writes. Conditions of others, and of newer operators, it leaves alone.
pub const CONDITION_TYPES: [&str; 9] = [
    "Ready",
    "Available",
    "ConfigurationValid",
    "StorageReady",
    "KeyManagementReady",
    "Upgraded",
    "Reconciling",
    "Stalled",
    "Suspended",
];

/// What the operator saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressDBStatus {
    /// The generation of the resource that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people; programs read conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Ready, Available, ConfigurationValid, StorageReady, KeyManagementReady, Upgraded, and, true when something is the matter, Reconciling, Stalled, Suspended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// The image of the pod template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the node reports to run, with its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Version of the server that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Format of the stored data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_format: Option<i32>,
    /// Pods that should be: of a volume 1, or 0 while stopped; of a fleet those that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that take requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The labels of the pods of a fleet, as an autoscaler selects them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Where clients reach the database, inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The claim that holds the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The operator that looks after this: namespace and name of its Lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Size of the volume, as the claim asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
    /// The keys that clients present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeysStatus>,
    /// The KMS, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms: Option<KmsStatus>,
    /// The upgrade that is under way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Box<UpgradeStatus>>,
    /// Whether an upgrade is written that this operator cannot read: a newer one began it.
    #[serde(skip)]
    pub has_unreadable_upgrade: bool,
    /// The last ten upgrades that ended, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
}

/// The keys that clients present, as the server knows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKeysStatus {
    /// The metadata.resourceVersion of the Secret when the server accepted every key in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_version: Option<String>,
}

/// The KMS as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KmsStatus {
    /// aws, vault, http or local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The key, with its version where the KMS has versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Whether it did what it was last asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}
