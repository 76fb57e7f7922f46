//! `ProgressDB`, the resource that people write: its fields, their defaults and the rules the API server holds them to.
//!
//! Only what the operator acts on is here, so nothing that is written is ignored. The operator never writes `spec`.
//! Durations and quantities are text; what a rule reaches has a bound, because the API server estimates its cost.
//! `definition()` is the document in `crds/`, which a test holds.
#![allow(unreachable_pub, reason = "a derived schema repeats its struct inside a function")]

mod kms;
pub(crate) mod lenient;
mod network;
mod reading;
mod revision;
mod status;
mod storage;
mod upgrade;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use kms::{AwsCredentials, AwsKms, EmbeddedKms, HttpKms, Kms, VaultAuth, VaultKms};
pub use network::{NetworkPolicy, Service, ServiceType};
pub use reading::{Unreadable, read};
pub use revision::{SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION, too_old};
pub use status::{ApiKeysStatus, CONDITION_TYPES, KmsStatus, ProgressDBStatus};
pub use storage::{CassandraStorage, EmbeddedStorage, SecretRef, Storage};
pub use upgrade::{
    AfterPromotion, Announcement, Approval, Backing, BeforePromotion, CanaryPolicy, CanaryStatus, CanaryWindow,
    Database, GateJob, GatePolicy, GateStatus, HealthGate, HistoryEntry, Hold, Measured, MetricGate, MigrationNote,
    Need, Notify, Outcome, PodCounters, Prometheus, PrometheusQuery, REVISION as UPGRADE_REVISION, Rehearsal,
    RehearsalPolicy, ReleaseNotes, ReleaseStatus, RollbackPolicy, SmokeGate, SnapshotJob, SnapshotPolicy,
    SnapshotStatus, StepStatus, Strategy as UpgradeStrategy, Upgrade, UpgradeStatus, UpgradeStep, Verdict, Window,
};

/// How deep sections of `spec.settings` may be nested.
const SETTING_LEVELS: usize = 8;

/// What a ProgressDB should be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "progressdb.io",
    version = "v1alpha1",
    kind = "ProgressDB",
    plural = "progressdbs",
    shortname = "prdb",
    category = "all",
    namespaced,
    status = "ProgressDBStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    derive = "PartialEq",
    doc = "A database for chat threads.",
    annotation("progressdb.io/schema-revision", "5"),
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Serving", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Upgrade", type_ = "string", json_path = ".status.upgrade.step", priority = 1),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.storage.embedded.size"),
    printcolumn(name = "Service", type_ = "string", json_path = ".status.service", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name becomes that of Services and Jobs: at most 40 of a-z, 0-9 and -, beginning with a letter and not ending with -"),
    validation = Rule::new(
        "!has(self.spec.storage.embedded) || !has(oldSelf.spec.storage.embedded) \
         || !isQuantity(self.spec.storage.embedded.size) || !isQuantity(oldSelf.spec.storage.embedded.size) \
         || quantity(self.spec.storage.embedded.size).compareTo(quantity(oldSelf.spec.storage.embedded.size)) >= 0 \
         || (has(self.status) && has(self.status.size) && isQuantity(self.status.size) \
         && quantity(self.spec.storage.embedded.size).compareTo(quantity(self.status.size)) >= 0)"
    ).message("a volume can grow and never shrinks: give no less than status.size, or make another ProgressDB and move the data")
)]
#[x_kube(
    validation = Rule::new(
        "self.suspend || !has(oldSelf.kms) || (has(self.kms) \
         && has(self.kms.aws) == has(oldSelf.kms.aws) && has(self.kms.vault) == has(oldSelf.kms.vault) \
         && has(self.kms.http) == has(oldSelf.kms.http) && has(self.kms.embedded) == has(oldSelf.kms.embedded))"
    ).message("the keys of the data lie with this KMS provider: set suspend: true, move them with `progressdb kms migrate` or remove them with `progressdb decrypt`, and only then change kms"),
    validation = Rule::new("!has(self.storage.embedded) || !has(self.replicas) || self.replicas == 1")
        .message("a volume has one server: leave replicas at 1, or keep the data in storage.cassandra"),
    validation = Rule::new(
        "self.suspend || !has(self.storage.cassandra) || !has(oldSelf.storage.cassandra) \
         || self.storage.cassandra.datacenter == oldSelf.storage.cassandra.datacenter"
    ).message("servers that write in two data centres at once lose writes: set suspend: true, and only then change datacenter"),
    validation = Rule::new("!has(self.storage.cassandra) || self.deletionPolicy != 'Snapshot'")
        .message("a fleet has no volume to make a snapshot of: its data stays in the keyspace under deletionPolicy Retain and Delete"),
    validation = Rule::new("!has(self.storage.cassandra) || !has(self.upgrade.snapshot.className)")
        .message("a fleet has no volume to make a snapshot of: name the Job that has the engine make one in upgrade.snapshot.job"),
    validation = Rule::new("!has(self.storage.cassandra) || self.upgrade.rehearsal.policy != 'Required'")
        .message("a fleet has no volume to rehearse on a copy of: its canary is tried instead, so rehearsal.policy is BestEffort or Skip"),
    validation = Rule::new(
        "!has(self.storage.cassandra) || self.upgrade.snapshot.policy != 'Required' || has(self.upgrade.snapshot.job)"
    ).message("only you can have the engine make a snapshot: snapshot.policy Required needs snapshot.job in a fleet"),
    validation = Rule::new("has(self.storage.cassandra) || !has(self.upgrade.snapshot.job)")
        .message("the operator makes the snapshots of a volume itself: upgrade.snapshot.job is for a fleet")
)]
#[serde(rename_all = "camelCase")]
pub struct ProgressDBSpec {
    /// Image of the server with a tag or a digest. A change is an upgrade, which spec.upgrade describes.
    #[schemars(length(min = 1, max = 512), pattern(r"^\S+$"))]
    #[x_kube(
        validation = Rule::new("self.matches(':[A-Za-z0-9_][A-Za-z0-9_.-]*$') || self.matches('@sha256:[0-9a-f]{64}$')")
            .message("an image needs a tag or a digest, as in registry/progressdb:0.3.0, so that it is known what runs"),
        validation = Rule::new("self.contains('@') || !self.endsWith(':latest')")
            .message("latest is another image tomorrow: name a version or a digest")
    )]
    pub image: String,
    /// When the node pulls the image. Unset: if it has none of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with the registry's credentials, in the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Where the data lies.
    pub storage: Storage,
    /// How many servers. Unset: 1 with a volume, which has no more, and 3 in a fleet. Of the 256 that can share a store some places are for the canary of an upgrade. An autoscaler needs this field to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub replicas: Option<i32>,
    /// Settings of the server, as in its YAML file: see docs/configuration.md. Those that the operator sets itself (addresses, data directory, keys, drain, KMS) are refused; the others are judged by the image itself before anything changes. At most 262144 bytes as YAML.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "settings")]
    pub settings: Map<String, Value>,
    /// Keys that clients present. Unset: the operator makes them once and keeps them in the Secret NAME-api-keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeys>,
    /// Who wraps the keys that seal what users write. Unset: data is stored plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<Kms>,
    /// The Service that clients use, on port 8080.
    #[serde(default)]
    pub service: Service,
    /// The ids that the pods run under. Unset: those of the image, 1000 each. An empty object leaves them to the cluster, as OpenShift wants it. A change restarts the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// CPU and memory of the server. Set storage.memory in settings to about half of the memory limit.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Where the pod may run, relative to nodes and other pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints of nodes that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// How the pod spreads over the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub priority_class_name: Option<String>,
    /// More annotations of the pod. A change restarts it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('progressdb.io/'))")
            .message("annotations under progressdb.io/ belong to the operator")
    )]
    pub pod_annotations: BTreeMap<String, String>,
    /// More labels of the pod. A change restarts it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('progressdb.io/') && !key.startsWith('app.kubernetes.io/'))")
            .message("labels under progressdb.io/ and app.kubernetes.io/ belong to the operator: Services find the pod by them")
    )]
    pub pod_labels: BTreeMap<String, String>,
    /// How the server goes down. The pod's grace period is the sum of both and 15 seconds.
    #[serde(default)]
    pub drain: Drain,
    /// What Prometheus learns of, where its operator is installed.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may reach the pod, and what the pod may reach.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// How a change of what runs is made, and what it has to prove.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self.rehearsal.policy != 'Required' || self.snapshot.policy == 'Required'")
            .message("a rehearsal works on a copy that is restored from a snapshot: rehearsal.policy Required needs snapshot.policy Required")
    )]
    pub upgrade: Upgrade,
    /// Stop the server and keep everything else.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of the data when this resource is deleted; may be changed even then.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// When the node pulls the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Each time a pod starts.
    Always,
    /// If the node has none of this name.
    IfNotPresent,
    /// The image must be there.
    Never,
}

/// Keys that clients present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// Secret with any of the entries backend, frontend, signing and admin; each has one key a line. A change restarts the pod.
    #[schemars(schema_with = "object_name")]
    pub secret_name: String,
}

/// CPU and memory, as requests and limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the node sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the pod gets at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

impl Resources {
    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

/// The ids that pods run under; what is unset is left to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user; never root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_294_i64))]
    pub run_as_user: Option<i64>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_294_i64))]
    pub run_as_group: Option<i64>,
    /// The group that the volume belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_294_i64))]
    pub fs_group: Option<i64>,
}

impl SecurityContext {
    /// What the image is made for.
    pub const OF_IMAGE: Self = Self { run_as_user: Some(1000), run_as_group: Some(1000), fs_group: Some(1000) };
}

/// How the server goes down.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long it serves on, as not ready, before it takes no more connections: for load balancers outside the cluster. A single instance has nowhere to send its clients, so this is downtime. A fleet, which has, holds for 10s if this is less.
    #[serde(default = "no_hold")]
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("at most 1h, as in 10s"))]
    pub hold: String,
    /// How long requests under way then have to finish.
    #[serde(default = "drain_timeout")]
    #[schemars(length(min = 1, max = 32), pattern(r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("at most 1h, as in 45s"))]
    pub timeout: String,
}

impl Default for Drain {
    fn default() -> Self {
        Self { hold: no_hold(), timeout: drain_timeout() }
    }
}

fn no_hold() -> String {
    "0s".into()
}

fn drain_timeout() -> String {
    "45s".into()
}

/// What Prometheus learns of.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Make a ServiceMonitor where that kind exists.
    #[serde(default = "yes")]
    pub service_monitor: bool,
    /// Make a PrometheusRule with alarms where that kind exists.
    #[serde(default = "yes")]
    pub prometheus_rule: bool,
    /// Labels of both, by which a Prometheus selects them: kube-prometheus-stack asks for release and the name of its release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('progressdb.io/') && !key.startsWith('app.kubernetes.io/'))")
            .message("labels of monitors under progressdb.io/ and app.kubernetes.io/ belong to the operator")
    )]
    pub labels: BTreeMap<String, String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { service_monitor: true, prometheus_rule: true, labels: BTreeMap::new() }
    }
}

fn yes() -> bool {
    true
}

/// What becomes of the data when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The claim and the key Secret stay; of a fleet the keyspace and the key Secret.
    #[default]
    Retain,
    /// A VolumeSnapshot is made first, then the claim goes; the key Secret stays.
    Snapshot,
    /// The claim and the generated key Secret go; of a fleet the key Secret, while its keyspace stays.
    Delete,
}

/// The document that is installed into a cluster.
pub fn definition() -> CustomResourceDefinition {
    let mut crd = ProgressDB::crd();
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        *schema = serde_json::to_value(&*schema)
            .map(without_nullable)
            .map(|mut schema| {
                bound_numbers("", &mut schema);
                schema
            })
            .and_then(serde_json::from_value)
            .expect("a schema without `nullable` is a schema");
    }
    crd
}

/// A field that is null then counts as not written, and `has()` in a rule means what it says.
fn without_nullable(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "nullable" || !value.is_boolean());
            fields.values_mut().for_each(|value| *value = without_nullable(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nullable(item.take())),
        _ => {}
    }
    schema
}

/// Says of numbers what the operator can hold, which `format` does not: the API server takes any integer.
fn bound_numbers(name: &str, schema: &mut Value) {
    let is_port = ["port", "endPort"].contains(&name);
    let is_number = schema["format"] == "int32" || schema["x-kubernetes-int-or-string"] == true;
    if is_number && schema.get("minimum").is_none() {
        schema["minimum"] = json!(if is_port { 1 } else { i32::MIN });
        schema["maximum"] = json!(if is_port { 65_535 } else { i32::MAX });
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(part).filter(|inner| inner.is_object()) {
            bound_numbers(name, inner);
        }
    }
    for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        bound_numbers(name, field);
    }
}

fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    })
}

/// The server's settings have three levels below the top. A schema cannot name itself, so the levels are written out.
fn settings(_: &mut SchemaGenerator) -> Schema {
    // An object or a list that has to be empty, or a value. How long all of it is no schema can say: the operator refuses
    // what is longer than the server's ConfigMap may be.
    let anything = |rest: Value| {
        let mut schema = json!({ "x-kubernetes-preserve-unknown-fields": true });
        schema.as_object_mut().expect("it is one").extend(rest.as_object().expect("it is one").clone());
        schema
    };
    let value = anything(json!({ "maxProperties": 0, "maxItems": 0 }));
    let item = anything(json!({ "additionalProperties": value, "maxItems": 0 }));
    let mut level = value;
    for _ in 1..SETTING_LEVELS {
        level = anything(json!({ "additionalProperties": level, "items": item }));
    }
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": level })
}

/// What a label may be is said here and not in a rule: the API server counts what a rule may cost at the longest values.
fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "x-kubernetes-int-or-string": true, "minimum": 0 },
    })
}

#[cfg(test)]
mod tests;
