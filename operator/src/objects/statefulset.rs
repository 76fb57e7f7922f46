//! The StatefulSet: one replica on one claim. It has no claim templates, because the controller would make an empty claim
//! whenever the name is missing; and it never replaces a pod by itself.

use serde_json::{Value, json};

use super::{Inputs, config, labels, names, owned, server};

/// The instance, with as many pods as its release has.
pub fn stateful_set(inputs: &Inputs<'_>) -> Value {
    let name = inputs.name();
    let labels = labels::of(&name, labels::Component::Server);
    let template = server::template(inputs, &config::config_map_name(inputs));
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": owned(inputs.resource, &name, labels),
        "spec": {
            "serviceName": names::headless_service(&name),
            "replicas": inputs.release.replicas,
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": labels::selector(&name, labels::Component::Server) },
            "template": inputs.restarted(template),
        },
    })
}
