//! What only a fleet has of `spec.upgrade` and `status.upgrade`: a canary that takes a share of the users' requests, and a
//! snapshot that only the engine's operators can have made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pod_template;

/// How many of a fleet's servers run a new image before all of them do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryPolicy {
    /// So many servers with the new image, one step after the other: a number, or a share of replicas, rounded up. They stand beside the others, behind the same Service.
    #[schemars(schema_with = "steps")]
    pub steps: Vec<IntOrString>,
    /// How long the requests of users are watched at each step.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub step_duration: String,
}

impl Default for CanaryPolicy {
    fn default() -> Self {
        let share = |percent: &str| IntOrString::String(percent.to_owned());
        Self { steps: vec![IntOrString::Int(1), share("25%"), share("50%")], step_duration: "5m".into() }
    }
}

fn steps(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "items": {
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 128,
            "maxLength": 4,
            "pattern": r"^([1-9][0-9]?|100)%$",
        },
    })
}

/// Has the engine make a snapshot: a Job that must succeed, such as one that runs `nodetool snapshot` or Medusa.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotJob {
    /// The pod, as in the template of a Job. Its containers find the cluster in `PROGRESSDB_CASSANDRA_CONTACT_POINTS` and `PROGRESSDB_CASSANDRA_KEYSPACE`, and a name for the snapshot in `PROGRESSDB_SNAPSHOT`.
    #[schemars(schema_with = "pod_template")]
    pub template: Value,
}

/// The canary of a fleet. Its image is `to`, that of the others `from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryStatus {
    /// Which of the steps of spec.upgrade.canary it is at, from 1; 0 before the first.
    pub step: i32,
    /// When that step began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub step_started_at: Option<Timestamp>,
    /// So many servers with the new image should be: written before they are.
    pub replicas: i32,
}
