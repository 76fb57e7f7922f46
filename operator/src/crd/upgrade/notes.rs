//! What the release of a new image says of itself, for whoever decides about an upgrade to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the release of the new image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseNotes {
    /// The oldest version from which one can upgrade to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrades_from: Option<String>,
    /// What of before does not work any more, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub breaking: Vec<String>,
    /// The oldest format of the data that it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_from: Option<i32>,
    /// The newest format that it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_to: Option<i32>,
    /// The format of data that it makes anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<i32>,
    /// Its migrations, whether the data has them before it or behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub migrations: Vec<MigrationNote>,
}

/// What a migration costs, and how it is undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationNote {
    /// Its name.
    pub name: String,
    /// The format before it.
    pub from: i32,
    /// The format after it.
    pub to: i32,
    /// When it is made: start or finalize.
    pub at: String,
    /// What it costs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cost: String,
    /// How it is undone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub undo: String,
}
