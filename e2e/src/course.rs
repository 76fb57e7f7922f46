//! The course of guarded upgrades: every state that `status.upgrade` goes through, seen by a watch, which misses none.
//!
//! A test asks for one state after the other: each question is about what came after the answer to the one before.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use serde_json::{Value, json};
use testing::waiting::poll_every;
use tokio::task::JoinHandle;

use crate::cluster::RUNTIME;
use crate::{Database, PATIENCE};

/// The steps of an upgrade to an image that needs no finalization.
pub const STEPS: [&str; 12] = [
    "Preflight",
    "SnapshotOnline",
    "Rehearse",
    "Approval",
    "Drain",
    "SnapshotFinal",
    "Swap",
    "HealthGate",
    "SmokeGate",
    "MetricGate",
    "Promote",
    "Soak",
];
/// The steps of an upgrade of a fleet without a backup of its engine, where `canary.steps` has one step.
pub const STEPS_OF_FLEET: [&str; 8] =
    ["Preflight", "Approval", "Canary", "HealthGate", "SmokeGate", "MetricGate", "Promote", "Soak"];
/// What follows if the release changes the format of the data for good.
pub const FINALIZATION: [&str; 5] =
    ["FinalizeDrain", "FinalizeSnapshot", "FinalizeMigrate", "FinalizeStart", "FinalizeGate"];
/// The way back.
pub const WAY_BACK: [&str; 4] = ["RollbackStop", "RollbackRestore", "RollbackStart", "RollbackGate"];

/// Between two looks at what the watch has told.
const PAUSE: Duration = Duration::from_millis(20);

/// A database that is watched until this is dropped.
pub struct Course {
    name: String,
    seen: Arc<Mutex<Vec<Moment>>>,
    /// How many of them were answers, or came before one.
    asked: Cell<usize>,
    watching: JoinHandle<()>,
}

/// A state that `status.upgrade` was in.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When the watch told of it.
    pub at: Instant,
    /// `status.upgrade`, or null.
    pub record: Value,
}

impl Course {
    /// Watches a database from now on.
    #[track_caller]
    pub fn of(database: &Database<'_>) -> Self {
        let resource = database.get();
        let seen = Arc::new(Mutex::new(vec![moment(&resource)]));
        let version = resource["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let api = database.namespace.api("ProgressDB");
        let watching = RUNTIME.spawn(watch(api, database.name.clone(), version, Arc::clone(&seen)));
        Self { name: database.name.clone(), seen, asked: Cell::new(1), watching }
    }

    /// Waits for a state that was not there before the last answer, and returns what is on record then. What ends meanwhile
    /// in another way fails the test.
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Moment {
        loop {
            let next = self.asked.get();
            let more = poll_every(PAUSE, PATIENCE, || self.seen.lock().unwrap().get(next).cloned());
            let Some(moment) = more else { panic!("{what}: nothing moves: {}", self.description()) };
            self.asked.set(next + 1);
            if holds(&moment.record) {
                return moment;
            }
            assert!(moment.record["outcome"].is_null(), "{what}: it has ended: {}", self.description());
        }
    }

    /// Waits until the upgrade is at this step.
    #[track_caller]
    pub fn at(&self, step: &str) -> Moment {
        self.wait_until(&format!("it is at {step}"), |record| record["step"] == step && record["outcome"].is_null())
    }

    /// Waits until the upgrade waits for this reason.
    #[track_caller]
    pub fn held(&self, reason: &str) -> Value {
        self.wait_until(&format!("it waits: {reason}"), |record| record["hold"]["reason"] == reason).record
    }

    /// Waits until the upgrade has ended so.
    #[track_caller]
    pub fn ended(&self, outcome: &str) -> Value {
        let moment = self.wait_until(&format!("it has {outcome}"), |record| record["outcome"] == outcome);
        println!("{}: {}", self.name, self.description());
        moment.record
    }

    /// The steps that an upgrade went through.
    pub fn steps(&self, record: &Value) -> Vec<String> {
        self.entries(record).into_iter().map(|(step, _)| step).collect()
    }

    /// How long an upgrade was at a step, or on its way back.
    #[track_caller]
    pub fn time_from(&self, record: &Value, step: &str) -> Duration {
        let entries = self.entries(record);
        let began = entries.iter().find(|(entered, _)| entered == step).unwrap_or_else(|| panic!("no {step}")).1;
        let seen = self.seen.lock().unwrap();
        let is_end = |moment: &&Moment| moment.record["id"] == record["id"] && !moment.record["outcome"].is_null();
        seen.iter().find(is_end).expect("it has ended").at - began
    }

    /// The steps of an upgrade, and when each was entered.
    pub fn entries(&self, record: &Value) -> Vec<(String, Instant)> {
        let seen = self.seen.lock().unwrap();
        let mut entries: Vec<(String, Instant)> = Vec::new();
        for moment in seen.iter().filter(|moment| moment.record["id"] == record["id"]) {
            let step = moment.record["step"].as_str().unwrap();
            if entries.last().is_none_or(|(last, _)| last != step) {
                entries.push((step.to_owned(), moment.at));
            }
        }
        entries
    }

    /// What a gate of an upgrade found.
    #[track_caller]
    pub fn gate<'a>(record: &'a Value, name: &str) -> &'a Value {
        let gates = record["gates"].as_array().map(Vec::as_slice).unwrap_or_default();
        gates.iter().find(|gate| gate["name"] == name).unwrap_or_else(|| panic!("no gate {name}: {record}"))
    }

    /// Each state that differs from the one before in more than its evidence, and what is on record last.
    fn description(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let (mut lines, mut before) = (Vec::new(), Value::Null);
        let began = seen[0].at;
        for Moment { at, record } in &*seen {
            let state = json!([record["id"], record["step"], record["outcome"], record["hold"]["reason"]]);
            if state != before {
                lines.push(format!("{:.1} s {state}", (*at - began).as_secs_f64()));
            }
            before = state;
        }
        format!("{}\n{}", lines.join("\n"), seen.last().unwrap().record)
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Follows a resource until it has gone. A watch that ends is taken up where it ended.
async fn watch(api: Api<DynamicObject>, name: String, mut version: String, seen: Arc<Mutex<Vec<Moment>>>) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(200);
    loop {
        if let Ok(events) = api.watch(&params, &version).await {
            let mut events = std::pin::pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.metadata.resource_version.clone().unwrap_or_default();
                        note(&seen, &json!(object));
                    }
                    WatchEvent::Error(status) => panic!("the watch of {name} misses something: {status:?}"),
                    WatchEvent::Deleted(_) => return,
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn moment(resource: &Value) -> Moment {
    Moment { at: Instant::now(), record: resource["status"]["upgrade"].clone() }
}

fn note(seen: &Mutex<Vec<Moment>>, resource: &Value) {
    let (now, mut seen) = (moment(resource), seen.lock().unwrap());
    if seen.last().is_none_or(|last| last.record != now.record) {
        seen.push(now);
    }
}
