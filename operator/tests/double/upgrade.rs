//! Guarded upgrades, second by second: what each comes to, what it leaves, and that on the way clients reach no server that
//! was not promoted, and no write that was acknowledged is lost.

pub mod crash;
mod deleted;
mod deletion;
mod disturbed;
mod evidence;
mod good;
mod hands;
mod idle;
mod notes;
mod people;
mod revert;
mod snapshots;
mod takeover;
pub mod upgrading;
mod way_back;

use serde_json::{Value, json};

use self::upgrading::Upgrading;
use crate::{cluster::Cluster, world::Image};

pub const OLD: &str = "registry/progressdb:0.3.0";
pub const NEW: &str = "registry/progressdb:0.4.0";
const THIRD: &str = "registry/progressdb:0.5.0";

/// A release that does all that it should.
pub fn release(version: &str) -> Image {
    let log = "{\"event\":\"server.ready\"}\n".to_owned();
    Image { version: version.to_owned(), log, ..Image::default() }
}

/// One that changes data when it starts, and then its format.
pub fn migrating() -> Image {
    Image { reads: (1, 2), writes: 2, start_migration: true, finalize_migration: true, ..release("0.4.0") }
}

/// One that changes the format only.
pub fn finalizing() -> Image {
    Image { start_migration: false, ..migrating() }
}

/// Policies that keep a scenario short.
pub fn policy(more: Value) -> Value {
    let mut policy = json!({
        "strategy": "Guarded", "soak": "5s",
        "gates": { "health": { "successes": 1, "period": "100ms", "deadline": "15s" } },
        "snapshot": { "deadline": "20s" }, "rehearsal": { "timeout": "60s" },
    });
    let fields = policy.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        match fields.get_mut(name).and_then(Value::as_object_mut).zip(value.as_object()) {
            Some((known, more)) => known.extend(more.clone()),
            None => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    policy
}

/// Clusters in which upgrades went every way, and what they left is gone.
pub async fn lives() -> Vec<Cluster> {
    let mut finalized = way_back::fails_finalization(migrating(), false).await;
    finalized.ends("Succeeded").await;
    finalized.cluster.server.with(|store| store.advance(8 * 24 * 3_600));
    finalized.rests().await;
    assert_eq!(finalized.left().len(), 1, "{:?}", finalized.left());
    let deleted = deletion::with_its_data().await;
    vec![finalized.cluster, deleted.cluster]
}
