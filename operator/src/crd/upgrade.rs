//! `spec.upgrade`: how a change of what runs is made, and what it has to prove before clients meet it.

mod fleet;
mod notes;
mod rehearsal;
mod status;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use fleet::{CanaryPolicy, CanaryStatus, CanaryWindow, PodCounters, SnapshotJob};
pub use notes::{MigrationNote, ReleaseNotes};
pub use rehearsal::Rehearsal;
pub use status::{
    Announcement, Backing, Database, GateStatus, HistoryEntry, Hold, Measured, Outcome, REVISION, ReleaseStatus,
    SnapshotStatus, StepStatus, UpgradeStatus, UpgradeStep, Verdict,
};

/// How a change of what runs is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// Guarded proves a new image on a copy of the data and keeps the way back open; Direct stops the server and starts the new one.
    pub strategy: Strategy,
    /// Manual waits, after the rehearsal, for the annotation progressdb.io/approve with the id of the upgrade.
    pub approval: Approval,
    /// When clients may notice an upgrade. Unset: at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The longest that the server may be away: an upgrade whose forecast is longer is held before anything is stopped.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub max_downtime: String,
    /// Copies of the volume.
    pub snapshot: SnapshotPolicy,
    /// The trial of the new image on a copy of the data.
    pub rehearsal: RehearsalPolicy,
    /// How many servers of a fleet run the new image first. It says nothing of a single server.
    pub canary: CanaryPolicy,
    /// How long the new server is watched before the upgrade is over, and snapshots are no longer kept for it.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub soak: String,
    /// What the new server has to show before clients reach it.
    pub gates: GatePolicy,
    /// What happens to an upgrade that fails.
    pub rollback: RollbackPolicy,
    /// Who is told when an upgrade is held, stuck, rolled back or has succeeded. Unset: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            approval: Approval::default(),
            window: None,
            max_downtime: "5m".into(),
            snapshot: SnapshotPolicy::default(),
            rehearsal: RehearsalPolicy::default(),
            canary: CanaryPolicy::default(),
            soak: "10m".into(),
            gates: GatePolicy::default(),
            rollback: RollbackPolicy::default(),
            notify: None,
        }
    }
}

/// Who is told of an upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The URL to which the operator posts a JSON object: resource, namespace, id, from, to, event (Held, Stuck, RolledBack or Succeeded), message and at.
    #[schemars(length(min = 8, max = 2048), pattern(r"^https?://\S+$"))]
    pub url: String,
    /// Secret whose entry token is sent as Authorization: Bearer, and whose entry ca.crt, if there is one, has the certificates to trust instead of the well-known ones. Unset: neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::object_name")]
    pub token_secret_name: Option<String>,
}

/// How a change of what runs is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// In steps that each leave evidence, with a way back.
    #[default]
    Guarded,
    /// Stop, and start the new one.
    Direct,
}

/// Who lets an upgrade pass from its rehearsal to the stop of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// The evidence alone.
    #[default]
    Automatic,
    /// A person as well.
    Manual,
}

/// When clients may notice an upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it opens: minute, hour, day of the month, month and day of the week, as cron has them.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// How long it is open.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub duration: String,
    /// The time zone of the schedule, as in Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".into()
}

/// Copies of the volume, before and after the server stops; of a fleet, a backup of its engine by your own Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotPolicy {
    /// Required holds an upgrade that cannot have them; BestEffort goes on without, and then no release may change the data when it starts; Skip makes none.
    pub policy: Need,
    /// Class of the snapshots. Unset: the only one, or the default one, of the volume's driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::object_name")]
    pub class_name: Option<String>,
    /// Has the engine of a fleet make one, which the operator cannot. Without it nothing is made, and status.upgrade says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<SnapshotJob>,
    /// How long one may take to be ready.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub deadline: String,
    /// How long snapshots and the volume of before are kept after the upgrade.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub retain_for: String,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { policy: Need::default(), class_name: None, job: None, deadline: "30m".into(), retain_for: "72h".into() }
    }
}

/// Whether an upgrade needs something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Need {
    /// Without it the upgrade is held.
    Required,
    /// Without it the upgrade goes on and says so.
    #[default]
    BestEffort,
    /// It is not made.
    Skip,
}

/// The trial of the new image on a copy of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RehearsalPolicy {
    /// Required holds an upgrade without one; BestEffort makes one if there is a snapshot to restore; Skip makes none.
    pub policy: Need,
    /// How long it may take.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub timeout: String,
}

impl Default for RehearsalPolicy {
    fn default() -> Self {
        Self { policy: Need::default(), timeout: "30m".into() }
    }
}

/// What the new server has to show before clients reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatePolicy {
    /// `/healthz` and `/readyz`, with the expected version, format and sequence.
    pub health: HealthGate,
    /// What a user does: sign, create a thread, post, list, read, edit, delete.
    pub smoke: SmokeGate,
    /// Errors and latency of a synthetic load, against the same load on the old server.
    pub metrics: MetricGate,
    /// A test of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<GateJob>,
}

/// A test of your own: a Job whose exit code is the verdict. Its containers find the new server in `PROGRESSDB_URL` and
/// `PROGRESSDB_MANAGEMENT_URL`; clients do not reach it yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateJob {
    /// The pod, as in the template of a Job.
    #[schemars(schema_with = "pod_template")]
    pub template: Value,
    /// How long it may take.
    #[serde(default = "ten_minutes")]
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub deadline: String,
}

fn ten_minutes() -> String {
    "10m".into()
}

/// Whatever the API server takes; what it refuses is told when the Job is made.
fn pod_template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// `/healthz` and `/readyz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthGate {
    /// So often in a row.
    #[schemars(range(min = 1, max = 1000))]
    pub successes: i32,
    /// Between two of them.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub period: String,
    /// How long the server may take from its start until then.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub deadline: String,
}

impl Default for HealthGate {
    fn default() -> Self {
        Self { successes: 5, period: "500ms".into(), deadline: "5m".into() }
    }
}

/// What a user does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmokeGate {
    /// All of it, as a probe user whose thread is removed again.
    #[default]
    Full,
    /// Nothing is written.
    ReadOnly,
    /// It is left out.
    Off,
}

/// Errors and latency of a synthetic load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricGate {
    /// The share of requests that may fail.
    #[schemars(length(min = 2, max = 8), pattern(r"^[0-9]+(\.[0-9]+)?%$"))]
    pub max_error_rate: String,
    /// How much more the 99th percentile may be than that of the old server.
    #[schemars(length(min = 2, max = 8), pattern(r"^[0-9]+(\.[0-9]+)?%$"))]
    pub max_latency_p99_increase: String,
    /// With fewer requests there is no verdict, and the upgrade is held. 0 leaves this gate out.
    #[schemars(range(min = 0, max = 100_000))]
    pub minimum_samples: i32,
    /// A load that fails is repeated until it has failed so often.
    #[schemars(range(min = 1, max = 10))]
    pub failure_limit: i32,
    /// What a Prometheus says, once the load has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
}

/// A Prometheus, and what it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Its URL, which the operator reaches, as in `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 512), pattern(r"^http://\S+$"))]
    pub address: String,
    /// Each has one value, within its limits; what has none is no evidence.
    #[schemars(length(min = 1, max = 16))]
    pub queries: Vec<PrometheusQuery>,
}

/// A query and the limits of its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusQuery {
    /// For people.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// In PromQL: a scalar, or a vector of one element.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// The value may be this, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), pattern(r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub max: Option<String>,
    /// The value may be this, and no less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), pattern(r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub min: Option<String>,
}

impl Default for MetricGate {
    fn default() -> Self {
        Self {
            max_error_rate: "1%".into(),
            max_latency_p99_increase: "50%".into(),
            minimum_samples: 1000,
            failure_limit: 3,
            prometheus: None,
        }
    }
}

/// What happens to an upgrade that fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RollbackPolicy {
    /// From the stop of the old server until clients reach the new one.
    pub before_promotion: BeforePromotion,
    /// Once clients reach the new one.
    pub after_promotion: AfterPromotion,
    /// How long the volume of a failed upgrade is kept.
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    pub keep_failed_volume_for: String,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self {
            before_promotion: BeforePromotion::default(),
            after_promotion: AfterPromotion::default(),
            keep_failed_volume_for: "168h".into(),
        }
    }
}

/// Who goes back before clients have reached the new server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BeforePromotion {
    /// The operator, at once.
    #[default]
    Automatic,
    /// A person, with the annotation progressdb.io/abort.
    Manual,
}

/// Who goes back once clients have reached the new server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AfterPromotion {
    /// Nobody.
    Never,
    /// The operator, if the format of the data is still the old one.
    #[default]
    ImageOnly,
    /// A person, who is told what would be lost: the annotation progressdb.io/approve with ID/rollback.
    Approve,
}
