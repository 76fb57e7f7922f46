//! What can be tried beside each other, each test in a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use progressdb_e2e::CLUSTER;
use serde_json::{Value, json};

mod charts;
mod deletion;
mod fleets;
mod forward;
mod hands;
mod kms;
mod lives;
mod plugin;
mod refusals;
mod rules;
mod serves;
mod successors;
mod upgrades;

/// The cluster's storage class, to be applied under another name.
fn storage_class() -> Value {
    let mut class = CLUSTER.list("StorageClass", "")[0].clone();
    class["metadata"] = json!({});
    class
}
