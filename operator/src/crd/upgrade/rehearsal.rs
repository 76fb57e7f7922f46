//! What the rehearsal of an upgrade showed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a rehearsal showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rehearsal {
    /// Whether it passed; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// Why there was none, why it did not pass, or what of it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// That the old image served the copy and was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_served: Option<bool>,
    /// That the new image did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_served: Option<bool>,
    /// The digest of all rows, by the old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_digest: Option<String>,
    /// How the old image computes digests: those of another version do not compare with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_digest_version: Option<i64>,
    /// What the old image counted in the copy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub old_counts: BTreeMap<String, i64>,
    /// The digest of all rows by the new image, after the migrations of its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_digest: Option<String>,
    /// The same after the finalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_digest: Option<String>,
    /// How many messages were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<i64>,
    /// How long the migrations of the start took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrate_millis: Option<i64>,
    /// How long the new server took from its start until it was ready, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_millis: Option<i64>,
}
