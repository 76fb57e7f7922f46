//! The pod of a server: what runs in it and how it is watched, whoever makes it. In a fleet it has no volume and writes
//! nothing.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    Inputs, fleet,
    labels::{self, Track},
    placement, pod,
};
use crate::crd::ProgressDBSpec;

/// From the end of the drain to the end of the process: the store is flushed.
const FLUSH: SignedDuration = SignedDuration::from_secs(15);
/// As long as the servers of a fleet at least serve on after they are told to stop: until whoever sends them requests has
/// learned of it, and sends them to the others.
const LEAST_HOLD: (&str, SignedDuration) = ("10s", SignedDuration::from_secs(10));

/// The pod template, with the settings of the ConfigMap of this name; without a restart that somebody asks for.
pub(super) fn template(inputs: &Inputs<'_>, config_map: &str) -> Value {
    let spec = &inputs.resource.spec;
    let own = [(labels::ROLL, pod::roll(inputs)), (labels::RELEASE, config_map.to_owned())];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let annotations: BTreeMap<_, _> = spec.pod_annotations.clone().into_iter().chain(own).collect();
    let mut labels = labels::of(&inputs.name(), labels::Component::Server);
    if spec.storage.cassandra().is_some() {
        labels.insert(labels::TRACK.into(), Track::Stable.as_str().into());
    }
    json!({
        "metadata": { "annotations": annotations, "labels": pod::labels_over(&spec.pod_labels, labels) },
        "spec": pod_spec(inputs, config_map),
    })
}

/// How long a server serves on after it was told to stop.
pub(super) fn hold(spec: &ProgressDBSpec) -> Cow<'_, str> {
    let (least, length) = LEAST_HOLD;
    match parse(&spec.drain.hold) < length && spec.storage.cassandra().is_some() {
        true => least.into(),
        false => (&spec.drain.hold).into(),
    }
}

fn pod_spec(inputs: &Inputs<'_>, config_map: &str) -> Value {
    let spec = &inputs.resource.spec;
    let mut pod = pod::spec(inputs, pod::release_volume(config_map));
    let is_fleet = spec.storage.cassandra().is_some();
    if let (false, Some(Value::Array(volumes))) = (is_fleet, pod.get_mut("volumes")) {
        volumes.push(pod::data_volume(&inputs.release.claim));
    }
    pod.insert("terminationGracePeriodSeconds".into(), json!(grace_period(&hold(spec), &spec.drain.timeout)));
    placement::of_server(inputs, &mut pod);
    if is_fleet && spec.topology_spread_constraints.is_empty() {
        pod.insert("topologySpreadConstraints".into(), fleet::spread(&inputs.name()));
    }
    pod.insert("containers".into(), json!([server(inputs, is_fleet)]));
    Value::Object(pod)
}

fn server(inputs: &Inputs<'_>, is_fleet: bool) -> Value {
    let mut server = pod::container(inputs, super::SERVER, &["serve", "--config", &pod::config_path()]);
    if let (false, Some(Value::Array(mounts))) = (is_fleet, server.get_mut("volumeMounts")) {
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

/// Whole seconds that the pod has to end: the drain and the flush.
fn grace_period(hold: &str, timeout: &str) -> i64 {
    let sum = parse(hold) + parse(timeout) + FLUSH;
    sum.as_secs() + i64::from(sum.subsec_nanos() > 0)
}

/// What is no duration, which the API server lets nobody write, counts as nothing.
fn parse(text: &str) -> SignedDuration {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::resource, *};

    #[test]
    fn the_pod_has_as_long_to_end_as_the_server_takes() {
        assert_eq!(grace_period("0s", "45s"), 60);
        assert_eq!(grace_period("10s", "1m30s"), 115);
        assert_eq!(grace_period("1500ms", "1h"), 3617);
    }

    #[test]
    fn a_server_of_a_fleet_serves_on_until_clients_know_that_it_goes() {
        let fleet = json!({ "cassandra": { "contactPoints": ["a"], "datacenter": "d" } });
        let held = |storage: Value, asked: &str| {
            let resource = resource(json!({ "storage": storage, "drain": { "hold": asked } }));
            hold(&resource.spec).into_owned()
        };
        assert_eq!([held(fleet.clone(), "0s"), held(fleet, "1m")], ["10s", "1m"]);
        assert_eq!(held(json!({ "embedded": { "size": "1Gi" } }), "0s"), "0s");
    }
}
