//! The StatefulSet: one replica on one claim. It has no claim templates, because the controller would make an empty claim
//! whenever the name is missing; and it never replaces a pod by itself.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Inputs, config, labels, names, owned, placement, pod};
use crate::crd::Drain;

/// From the end of the drain to the end of the process: the store is flushed.
const FLUSH: SignedDuration = SignedDuration::from_secs(15);

/// The instance, with as many pods as its release has.
pub fn stateful_set(inputs: &Inputs<'_>) -> Value {
    let name = inputs.name();
    let labels = labels::of(&name, labels::Component::Server);
    let mut template = template(inputs, &config::config_map_name(inputs));
    if let Some(asked) = inputs.resource.annotations().get(labels::RESTARTED_AT) {
        template["metadata"]["annotations"][labels::RESTART] = json!(asked);
    }
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
            "template": template,
        },
    })
}

/// The pod template, with the settings of the ConfigMap of this name; without a restart that somebody asks for.
pub(super) fn template(inputs: &Inputs<'_>, config_map: &str) -> Value {
    let spec = &inputs.resource.spec;
    let own = [(labels::ROLL, pod::roll(inputs)), (labels::RELEASE, config_map.to_owned())];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let annotations: BTreeMap<_, _> = spec.pod_annotations.clone().into_iter().chain(own).collect();
    let labels = labels::of(&inputs.name(), labels::Component::Server);
    json!({
        "metadata": { "annotations": annotations, "labels": pod::labels_over(&spec.pod_labels, labels) },
        "spec": pod_spec(inputs, config_map),
    })
}

fn pod_spec(inputs: &Inputs<'_>, config_map: &str) -> Value {
    let spec = &inputs.resource.spec;
    let mut pod = pod::spec(inputs, pod::release_volume(config_map));
    if let Some(Value::Array(volumes)) = pod.get_mut("volumes") {
        volumes.push(pod::data_volume(&inputs.release.claim));
    }
    pod.insert("terminationGracePeriodSeconds".into(), json!(grace_period(&spec.drain)));
    placement::of_server(inputs, &mut pod);
    pod.insert("containers".into(), json!([server(inputs)]));
    Value::Object(pod)
}

fn server(inputs: &Inputs<'_>) -> Value {
    let mut server = pod::container(inputs, super::SERVER, &["serve", "--config", &pod::config_path()]);
    if let Some(Value::Array(mounts)) = server.get_mut("volumeMounts") {
        mounts.push(pod::data_mount());
    }
    server.insert("ports".into(), pod::ports());
    server.insert("startupProbe".into(), probe("/healthz", 1, 120));
    server.insert("livenessProbe".into(), probe("/healthz", 10, 6));
    server.insert("readinessProbe".into(), probe("/readyz", 2, 2));
    pod::set(&mut server, "resources", json!(inputs.resource.spec.resources));
    Value::Object(server)
}

fn probe(path: &str, every_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "management", "scheme": "HTTP" },
        "periodSeconds": every_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// Whole seconds that the pod has to end: the drain and the flush. What is no duration, which the API server lets
/// nobody write, counts as nothing.
fn grace_period(drain: &Drain) -> i64 {
    let parse = |text: &str| text.parse::<SignedDuration>().unwrap_or_default();
    let sum = parse(&drain.hold) + parse(&drain.timeout) + FLUSH;
    sum.as_secs() + i64::from(sum.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_has_as_long_to_end_as_the_server_takes() {
        let seconds = |hold: &str, timeout: &str| grace_period(&Drain { hold: hold.into(), timeout: timeout.into() });
        assert_eq!(seconds("0s", "45s"), 60);
        assert_eq!(seconds("10s", "1m30s"), 115);
        assert_eq!(seconds("1500ms", "1h"), 3617);
    }
}
