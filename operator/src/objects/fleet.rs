//! What only a fleet has: its Deployments, and how many of its servers may be missing at once.
//!
//! The stable Deployment has as many servers as the resource asks for. The canary Deployment is there only while a new image
//! is tried, and runs the same pod but for its label. Both stand behind one Service, and the label of the track keeps their
//! selectors apart. A server is replaced only when its successor takes requests, one after the other.

use serde_json::{Value, json};

use super::{
    Inputs, config,
    labels::{self, Component, Track},
    names, owned, server,
};

/// A server counts as available when it has been ready for so long: by then clients are led to it.
const SETTLED_SECONDS: u32 = 5;

/// The Deployment of a track. The canary's has no servers until somebody says how many.
pub fn deployment(inputs: &Inputs<'_>, track: Track) -> Value {
    let name = inputs.name();
    let with_track = |mut labels: std::collections::BTreeMap<String, String>| {
        labels.insert(labels::TRACK.into(), track.as_str().into());
        labels
    };
    let template = server::template(inputs, &config::config_map_name(inputs));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owned(inputs.resource, &names::deployment(&name, track), with_track(labels::of(&name, Component::Server))),
        "spec": {
            "replicas": match track {
                Track::Stable => inputs.release.replicas,
                Track::Canary => 0,
            },
            "minReadySeconds": SETTLED_SECONDS,
            "revisionHistoryLimit": 2,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "selector": { "matchLabels": with_track(labels::selector(&name, Component::Server)) },
            "template": on_track(inputs.restarted(template), track),
        },
    })
}

/// The same pods on another track.
pub fn on_track(mut template: Value, track: Track) -> Value {
    template["metadata"]["labels"][labels::TRACK] = json!(track.as_str());
    template
}

/// At most one server of both tracks may be evicted at a time, and one that does not take requests anyway is never in the
/// way of a drain; `None` of a single server, which could then not be moved at all.
pub fn disruption_budget(inputs: &Inputs<'_>) -> Option<Value> {
    inputs.resource.spec.storage.cassandra()?;
    let name = inputs.name();
    Some(json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owned(inputs.resource, &name, labels::of(&name, Component::Server)),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": { "matchLabels": labels::selector(&name, Component::Server) },
        },
    }))
}

/// Over nodes and zones as evenly as may be, each release by itself.
pub(super) fn spread(name: &str) -> Value {
    let over = |topology: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": topology,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": labels::selector(name, Component::Server) },
            "matchLabelKeys": ["pod-template-hash"],
        })
    };
    json!([over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")])
}

#[cfg(test)]
mod tests;
