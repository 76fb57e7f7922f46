//! Which pods use which volumes, and that nobody does so beside one that writes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::api::store::Store;
use super::{claims_of, commands::Command, key_of, model::Model, pods::Pod, text};

/// The pods that used each claim in one second, and whether they write.
#[derive(Default)]
pub(super) struct Mounts(BTreeMap<String, Vec<(String, bool)>>);

impl Mounts {
    /// A pod runs: it uses its claims.
    pub(super) fn add(&mut self, store: &Store, model: &mut Model, pod: &Pod<'_>) {
        let mut containers = pod.init_containers().iter().chain([pod.container()]);
        let writes = pod.owner() != "Job" || containers.any(|container| Command::of(container).writes());
        for claim in claims_of(pod.value) {
            self.0.entry(claim).or_default().push((pod.name.clone(), writes));
        }
        Self::note(store, model, pod.value);
    }

    /// A pod has used its volumes until now.
    pub(super) fn note(store: &Store, model: &mut Model, pod: &Value) {
        for claim in claims_of(pod) {
            if let Some(volume) = volume_of(store, pod, &claim) {
                model.used.insert(volume, store.now());
            }
        }
    }

    /// Claims that were used by several pods of which at least one writes.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = String> {
        let shared = self.0.iter().filter(|(_, pods)| pods.len() > 1 && pods.iter().any(|(_, writes)| *writes));
        shared.map(|(claim, pods)| {
            let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
            format!("{} use {claim} at once", names.join(" and "))
        })
    }
}

/// The volume of a claim beside a pod, if it has one.
pub(super) fn volume_of(store: &Store, pod: &Value, claim: &str) -> Option<String> {
    let claim = store.get(&key_of("PersistentVolumeClaim", pod, claim))?;
    Some(text(claim, "/spec/volumeName")).filter(|volume| !volume.is_empty())
}
