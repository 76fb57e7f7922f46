//! A namespace of a test's own, in which only restricted pods may run.

use serde_json::{Value, json};

use crate::{Database, api, kubectl, kubectl_with, try_kubectl, wait_for};

/// A namespace; deleted when dropped, and described when the test failed.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// A new namespace whose name contains `stem`.
    pub fn new(stem: &str) -> Self {
        let mut bytes = [0; 4];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        let name = format!("e2e-{stem}-{}", hex::encode(bytes));
        kubectl(&["create", "namespace", &name]);
        kubectl(&["label", "namespace", &name, "pod-security.kubernetes.io/enforce=restricted"]);
        Self { name }
    }

    /// `kubectl -n NAMESPACE`, and what it said when it failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        try_kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// `kubectl -n NAMESPACE`, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// An object, or nothing.
    #[track_caller]
    pub fn find(&self, kind: &str, name: &str) -> Option<Value> {
        api::find(&format!("{}/{name}", api::path(&self.name, kind)))
    }

    /// An object that is there.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// The names of all objects of a kind that carry a label of ProgressDB.
    #[track_caller]
    pub fn names(&self, kind: &str) -> Vec<String> {
        let path = format!("{}?labelSelector=app.kubernetes.io%2Fname%3Dprogressdb", api::path(&self.name, kind));
        let list = wait_for("the API server answers", || api::get(&path).ok().flatten());
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Applies an object.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.try_apply(object, &[]).unwrap_or_else(|said| panic!("{said}: {object}"));
    }

    /// Applies an object, with options; what the API server said.
    pub fn try_apply(&self, object: &Value, options: &[&str]) -> Result<String, String> {
        kubectl_with(&[&["-n", &self.name, "apply", "-f", "-"], options].concat(), &object.to_string())
    }

    /// A Secret with these entries, or new entries for one that is there.
    #[track_caller]
    pub fn secret(&self, name: &str, entries: Value) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": entries,
        }));
    }

    /// A database with the least there can be, and `more` over it.
    #[track_caller]
    pub fn database(&self, name: &str, more: Value) -> Database<'_> {
        let database = Database::new(self, name);
        self.apply(&database.resource(more));
        database
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        let _ = try_kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

impl Namespace {
    /// What one looks at when something went wrong.
    fn story(&self) -> String {
        let parts: [&[&str]; 5] = [
            &["get", "progressdb,statefulsets,pods,jobs,persistentvolumeclaims,services,volumesnapshots"],
            &["get", "progressdb", "-o", "jsonpath={range .items[*]}{.status}{'\\n'}{end}"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["describe", "pods"],
            &["logs", "-l", "app.kubernetes.io/name=progressdb", "--tail=30", "--prefix"],
        ];
        parts.map(|part| self.try_kubectl(part).unwrap_or_else(|said| said)).join("\n")
    }
}
