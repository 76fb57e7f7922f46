//! What only a fleet has of `spec.upgrade` and `status.upgrade`: a canary that takes a share of the users' requests, and a
//! snapshot that only the engine's operators can have made.

use std::collections::BTreeMap;

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

impl CanaryPolicy {
    /// How many canaries a step has, counted from 1, beside so many stable servers; `None` if there is no such step. None has fewer
    /// than one before it.
    pub fn replicas(&self, step: i32, stable: i32) -> Option<i32> {
        let of = |wanted: &IntOrString| match wanted {
            IntOrString::Int(servers) => i64::from(*servers),
            IntOrString::String(share) => {
                let percent = share.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok()).unwrap_or(0);
                (i64::from(stable) * percent + 99) / 100
            }
        };
        let most = self.steps.get(..usize::try_from(step).ok()?)?.iter().map(of).max()?;
        i32::try_from(most.clamp(1, i64::from(stable.max(1)))).ok()
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
    /// So many servers with the new image should be: written before they are.
    pub replicas: i32,
    /// That the operator made requests of its own at this step, because clients made too few.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub probed: bool,
    /// How often the comparison of this step began anew, because a canary was replaced.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: i32,
    /// Since when they have compared badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub failing_since: Option<Timestamp>,
    /// What they and the other pods had counted when the comparison began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<CanaryWindow>,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}

/// The beginning of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryWindow {
    /// When it began.
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// The pods, and what each had counted.
    #[schemars(length(max = 64))]
    pub pods: Vec<PodCounters>,
}

/// What a pod has counted since it started, of the requests that users make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounters {
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is a canary.
    pub canary: bool,
    /// When its process started, in Unix seconds.
    pub started_at: i64,
    /// Requests.
    pub requests: i64,
    /// Those that were answered with 500 and above.
    pub errors: i64,
    /// How many took no longer than so many seconds.
    #[schemars(schema_with = "buckets")]
    pub buckets: BTreeMap<String, i64>,
}

fn buckets(_: &mut SchemaGenerator) -> Schema {
    let count = json_schema!({ "type": "integer", "format": "int64" });
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_pods_or_shares_of_the_stable_ones_and_never_fall() {
        let policy = |steps: serde_json::Value| -> CanaryPolicy {
            serde_json::from_value(serde_json::json!({ "steps": steps })).unwrap()
        };
        let all = |policy: &CanaryPolicy, stable: i32| -> Vec<i32> {
            (1..).map_while(|step| policy.replicas(step, stable)).collect()
        };
        let default = CanaryPolicy::default();
        assert_eq!(all(&default, 3), [1, 1, 2]);
        assert_eq!(all(&default, 12), [1, 3, 6]);
        assert_eq!(all(&default, 1), [1, 1, 1]);
        // While it is stopped, there is still one to be tried.
        assert_eq!(all(&default, 0), [1, 1, 1]);
        assert_eq!(all(&policy(serde_json::json!(["50%", 1, "100%"])), 10), [5, 5, 10]);
        assert_eq!(all(&policy(serde_json::json!([7])), 3), [3]);
    }
}
