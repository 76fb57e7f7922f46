//! `status.upgrade` and `status.history`: what an upgrade has come to, and the evidence for it. Only transitions are kept, no
//! clocks and no counters.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{fleet::CanaryStatus, notes::ReleaseNotes, rehearsal::Rehearsal};

/// The revision of the steps. It is raised when an older operator could not go on from what is written.
pub const REVISION: i32 = 1;

/// An upgrade that is under way, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradeStatus {
    /// Of which revision of the steps this speaks. An operator leaves alone what a newer one began.
    pub revision: i32,
    /// Its id, which is in the names of all that is made for it.
    pub id: String,
    /// What ran before.
    pub from: ReleaseStatus,
    /// What is to run.
    pub to: ReleaseStatus,
    /// Whether the image is another one. If it is the same, nothing is rehearsed and no snapshot is made.
    pub changes_image: bool,
    /// The step that it is at, or was at when it ended.
    pub step: UpgradeStep,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When that step began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub step_started_at: Option<Timestamp>,
    /// The steps that it went through, and when each began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub steps: Vec<StepStatus>,
    /// How it ended; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it ended so, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What it waits for that does not come by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What the way back rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<Backing>,
    /// What the release of the new image says of itself; absent if that says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<ReleaseNotes>,
    /// The migrations of the release: made when it starts, and made when it is finalized.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub start_migrations: Vec<String>,
    /// The migrations that only the finalization makes, after which older versions refuse the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub finalize_migrations: Vec<String>,
    /// The snapshots that were made for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub snapshots: Vec<SnapshotStatus>,
    /// What the rehearsal showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// The gates, with what they rest on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub gates: Vec<GateStatus>,
    /// The canary, of a fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// The synthetic load on the old server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Measured>,
    /// How long the parts took of which a stop and a start are made, as they were measured before.
    pub timings: Timings,
    /// How long clients are expected to be without a server, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast_downtime_millis: Option<i64>,
    /// How long they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_millis: Option<i64>,
    /// When the stop of the old server was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub drained_at: Option<Timestamp>,
    /// The pod that was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained_pod: Option<String>,
    /// What the stopped store said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The claim with the data when the upgrade began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The claim that was restored from the last snapshot, to go back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_claim: Option<String>,
    /// That the format of the data is being changed, or was: then the way back leads to the new release on the old format.
    pub finalizing: bool,
    /// That the new image may have changed the data: written before it is started.
    pub data_mutation_started: bool,
    /// That clients may have reached the new server: written before its Service is opened.
    pub promoted: bool,
    /// How many writes of clients would be lost by going back now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_bound: Option<i64>,
    /// What of the annotation progressdb.io/override cannot be understood, and so lets nothing pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub odd_override: Option<String>,
    /// What spec.upgrade.notify was told of: each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub announced: Vec<Announcement>,
}

impl UpgradeStatus {
    /// Whether the way back is a snapshot of the volume.
    pub fn has_snapshots(&self) -> bool {
        self.backing == Some(Backing::Snapshots)
    }

    /// Whether it is of a fleet, whose pods are replaced one after the other.
    pub fn is_of_fleet(&self) -> bool {
        self.canary.is_some()
    }

    /// Whether canaries of a fleet serve some of its users, and all others are served by what ran before.
    pub fn has_canaries(&self) -> bool {
        use UpgradeStep::*;
        self.is_of_fleet() && matches!(self.step, Canary | HealthGate | SmokeGate | MetricGate)
    }

    /// The steps that it went through, and how long each took; the last one until `end`.
    pub fn durations(&self, end: Option<Timestamp>) -> impl Iterator<Item = (&StepStatus, Option<SignedDuration>)> {
        let ends = self.steps.iter().skip(1).map(|step| step.at).chain([end]);
        self.steps.iter().zip(ends).map(|(step, end)| (step, end.zip(step.at).map(|(end, at)| end.duration_since(at))))
    }
}

/// A step, and when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StepStatus {
    /// The step.
    pub step: UpgradeStep,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
}

/// What others are told of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Announcement {
    /// It waits for somebody, and the server serves.
    Held,
    /// It waits for somebody, and no server serves, or one that did not prove itself.
    Stuck,
    /// The old release runs again.
    RolledBack,
    /// The new release runs.
    Succeeded,
}

/// The steps, in their order; the last four lead back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStep {
    /// The image is pulled and says what it is, the settings and the KMS are tried.
    #[default]
    Preflight,
    /// A snapshot of the volume while the old server runs; of a fleet, the backup of its engine.
    SnapshotOnline,
    /// Old and new image on a copy of the data.
    Rehearse,
    /// A person, or the window.
    Approval,
    /// The old server is measured, closed to clients and stopped.
    Drain,
    /// A snapshot of the volume at rest.
    SnapshotFinal,
    /// The new server is started.
    Swap,
    /// Some pods of a fleet run the new image beside the others, and take a share of what clients ask.
    Canary,
    /// It is healthy and ready.
    HealthGate,
    /// A user can work with it.
    SmokeGate,
    /// It is as fast and as right as the old one.
    MetricGate,
    /// Clients reach it; all pods of a fleet take the new image.
    Promote,
    /// It is watched.
    Soak,
    /// The server is stopped to change the format of the data.
    FinalizeDrain,
    /// A snapshot before that.
    FinalizeSnapshot,
    /// The format is changed.
    FinalizeMigrate,
    /// The server is started on it.
    FinalizeStart,
    /// It is healthy and a user can work with it.
    FinalizeGate,
    /// Going back: the new server is stopped.
    RollbackStop,
    /// The data is what the old image can open, or is restored from the last snapshot.
    RollbackRestore,
    /// The old server is started.
    RollbackStart,
    /// It is healthy, and clients reach it.
    RollbackGate,
}

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The new release runs.
    Succeeded,
    /// The old release runs again, with everything that clients wrote.
    RolledBack,
    /// It was given up before anything was stopped.
    Aborted,
}

/// What the way back rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Backing {
    /// Snapshots of the volume.
    Snapshots,
    /// Nothing but the format, which a start does not change, and the checkpoint that the server makes before a finalization: a volume that is lost or damaged is not covered.
    Checkpoint,
    /// Of a fleet: the backup of its engine that the resource's own Job made.
    EngineBackup,
    /// Of a fleet: nothing but the format. No backup of the engine was made for the upgrade.
    NotApplicable,
}

/// What an upgrade waits for that does not come by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Hold {
    /// One word, for programs.
    pub reason: String,
    /// What is the matter.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub next_command: Option<String>,
    /// Whether the server is down meanwhile.
    pub is_stuck: bool,
}

/// A release: what runs, and with which settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// The ConfigMap with its settings and its pod template.
    pub config: String,
    /// The annotation progressdb.io/roll of its pods.
    pub roll: String,
    /// Its image.
    pub image: String,
    /// The image as a node reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The oldest format that it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_format: Option<i32>,
    /// The newest format that it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_format: Option<i32>,
}

/// A snapshot that was made for an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotStatus {
    /// The VolumeSnapshot.
    pub name: String,
    /// Its VolumeSnapshotContent, which is kept until the upgrade is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Whether it can be restored.
    pub ready: bool,
}

/// What a stopped store says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Database {
    /// The id of the database.
    pub id: String,
    /// How many commits it has seen.
    pub sequence: i64,
    /// The format of its data.
    pub format: i32,
}

/// How long parts took, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// A Job, from its making to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_millis: Option<i64>,
    /// A snapshot, from its making until it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_millis: Option<i64>,
    /// The smoke test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoke_millis: Option<i64>,
    /// The load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_millis: Option<i64>,
}

/// A gate, and what its verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GateStatus {
    /// Baseline, Health, Smoke, Logs, Metrics, Prometheus or Job; with Rehearsal or Finalize in front of it where it stood there.
    pub name: String,
    /// What it found.
    pub verdict: Verdict,
    /// What was measured.
    pub value: String,
    /// What it was measured by.
    pub threshold: String,
    /// How many looks, steps, requests, lines or values it rests on.
    pub samples: i64,
    /// Why it did not pass, or what the verdict leaves open.
    #[schemars(length(max = 1024))]
    pub why: String,
    /// That it did not pass, and that a person let it pass.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overridden: bool,
}

/// What a gate found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The server is good.
    Passed,
    /// It is not.
    Failed,
    /// There is too little to tell: never counted as passed.
    #[default]
    Inconclusive,
}

/// A synthetic load, as it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Measured {
    /// Requests.
    pub requests: i64,
    /// Requests that failed.
    pub errors: i64,
    /// Half of them took less, in microseconds.
    pub p50_micros: i64,
    /// All but one in a hundred took less, in microseconds.
    pub p99_micros: i64,
}

/// An upgrade that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryEntry {
    /// Its id.
    pub id: String,
    /// The image before.
    pub from: String,
    /// The image after.
    pub to: String,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// How long clients were without a server, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_millis: Option<i64>,
}
