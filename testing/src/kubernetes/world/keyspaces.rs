//! Stores that are none of the cluster's: a keyspace that the servers of a fleet share, which they and the Jobs of its upgrades
//! find by their settings.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::store::Store;
use super::{World, commands::Outcome, data::Data, has_ended, key_of, text, volumes};

/// What the names of keyspaces begin with, where those of volumes stand otherwise.
pub(super) const PREFIX: &str = "keyspace/";

/// The keyspace that the settings of a pod name, as data is found by, if it has such settings.
pub(super) fn of_pod(store: &Store, pod: &Value) -> Option<String> {
    let settings = settings(store, pod)?;
    let line = settings.lines().find_map(|line| line.trim().strip_prefix("keyspace:"))?;
    Some(named(&text(pod, "/metadata/namespace"), line.trim().trim_matches('"')))
}

/// The settings of the server that a pod mounts.
pub(super) fn settings(store: &Store, pod: &Value) -> Option<String> {
    volumes(pod).into_iter().find_map(|volume| {
        let name = text(&volume, "/configMap/name");
        Some(text(store.get(&key_of("ConfigMap", pod, &name))?, "/data/config.yaml"))
    })
}

fn named(namespace: &str, keyspace: &str) -> String {
    format!("{PREFIX}{namespace}/{keyspace}")
}

/// Runs `schema check` and `schema apply`: tables are only ever added.
pub(super) fn run_schema(command: &str, tables: &mut u32, needed: u32) -> Outcome {
    let is_check = command == "schema check";
    if is_check && *tables < needed {
        let printed = "error: tables are missing: run `progressdb schema apply`\n".to_owned();
        return Outcome { code: 78, printed, message: None };
    }
    *tables = (*tables).max(needed);
    let printed = format!("{}\n", json!({ "ok": true, "tables": *tables }));
    Outcome { code: 0, message: Some(printed.clone()), printed }
}

/// Why the format of a keyspace is not raised: servers that run on it write the format that it had when they started.
pub(super) fn in_use(store: &Store, keyspace: &str) -> Option<Outcome> {
    let runs = |pod: &&Arc<Value>| {
        !has_ended(pod)
            && text(pod, "/status/phase") == "Running"
            && text(pod, "/metadata/ownerReferences/0/kind") != "Job"
            && of_pod(store, pod).as_deref() == Some(keyspace)
    };
    let servers = store.all("Pod").iter().filter(runs).count();
    let printed = format!("error: {servers} servers run on this store: stop them first\n");
    (servers > 0).then_some(Outcome { code: 75, printed, message: None })
}

impl World {
    /// What is in a keyspace; `None` if no server has used it.
    pub fn keyspace(&self, namespace: &str, keyspace: &str) -> Option<Data> {
        self.servers.lock().volumes.get(&named(namespace, keyspace)).cloned()
    }

    /// The numbers of the writes that were acknowledged and that this keyspace does not hold.
    ///
    /// # Panics
    /// If no server has used it.
    pub fn lost_in_keyspace(&self, namespace: &str, keyspace: &str) -> Vec<u64> {
        self.servers.lock().lost(&named(namespace, keyspace)).expect("a server has used it")
    }
}
