//! A namespace of a test's own, in which only restricted pods may run.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CLUSTER, Database, Scope};

/// A namespace; deleted when dropped, and described when the test failed.
pub struct Namespace(Scope);

impl Namespace {
    /// A new namespace whose name contains `stem`.
    pub fn new(stem: &str) -> Self {
        let mut bytes = [0; 4];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        Self::named(format!("e2e-{stem}-{}", hex::encode(bytes)))
    }

    /// A new namespace of this name.
    pub fn named(name: String) -> Self {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        CLUSTER.apply("Namespace", &name, json!({ "metadata": { "labels": labels } }));
        Self(Scope { name: name.into() })
    }
}

impl Deref for Namespace {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.description());
        }
        CLUSTER.give_up("Namespace", &self.name);
    }
}

impl Scope {
    /// A Secret with exactly these entries.
    #[track_caller]
    pub fn secret(&self, name: &str, entries: Value) {
        let entries = entries.as_object().unwrap().iter();
        let data = entries.map(|(entry, text)| (entry.clone(), json!(STANDARD.encode(text.as_str().unwrap()))));
        self.apply("Secret", name, json!({ "data": data.collect::<serde_json::Map<_, _>>() }));
    }

    /// A database with the least that there can be, and `more` over it.
    #[track_caller]
    pub fn database(&self, name: &str, more: Value) -> Database<'_> {
        let database = Database::new(self, name);
        self.apply("ProgressDB", name, database.resource(more));
        database
    }

    /// The same, but what is changed of it is changed by guarded upgrades that take little time. Where many tests run at
    /// once latency says little, so that a release may be ten times as slow, unless `more` says otherwise.
    #[track_caller]
    pub fn guarded(&self, name: &str, more: Value) -> Database<'_> {
        let health = json!({ "successes": 3, "period": "200ms", "deadline": "3m" });
        let metrics = json!({ "maxLatencyP99Increase": "1000%", "minimumSamples": 300 });
        let gates = json!({ "health": health, "metrics": metrics });
        let mut spec = json!({ "upgrade": { "strategy": "Guarded", "soak": "0s", "gates": gates } });
        json_patch::merge(&mut spec, &more);
        self.database(name, spec)
    }

    /// What one looks at when something went wrong.
    fn description(&self) -> String {
        let parts: [&[&str]; 5] = [
            &[
                "get",
                "progressdb,statefulsets,deployments,replicasets,pods,jobs,persistentvolumeclaims,services,volumesnapshots",
            ],
            &["get", "progressdb", "-o", "jsonpath={range .items[*]}{.status}{'\\n'}{end}"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["describe", "pods"],
            &["logs", "-l", "app.kubernetes.io/name=progressdb", "--tail=30", "--prefix"],
        ];
        parts.map(|part| self.try_kubectl(part, "").unwrap_or_else(|said| said)).join("\n")
    }
}
