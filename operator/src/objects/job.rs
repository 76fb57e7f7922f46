//! Jobs that try something before the server depends on it: with its image, its identity, its placement and its secrets,
//! and without its data. Their settings lie in a ConfigMap of their own, so that a server that restarts meanwhile does not
//! read what is only tried.
//!
//! Their pods carry what people add to the server's, for policies that demand it. They ask service meshes for no sidecar,
//! which would outlive the check, and for little: the server's own resources are compared with the nodes instead.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::{Inputs, config, hash, labels, names, owned, placement, pod};
use crate::{crd::Resources, drift};

/// What a check asks for, if the server asks for no less.
const REQUESTS: [(&str, &str); 3] = [("cpu", "10m"), ("memory", "64Mi"), ("ephemeral-storage", "16Mi")];
/// What a check gets at most, if the server gets no less.
const LIMITS: [(&str, &str); 3] = [("cpu", "500m"), ("memory", "256Mi"), ("ephemeral-storage", "64Mi")];
/// How meshes are asked to stay out of a pod, as labels.
const NO_MESH_LABELS: [(&str, &str); 2] =
    [("sidecar.istio.io/inject", "false"), ("kuma.io/sidecar-injection", "disabled")];
/// And as annotations.
const NO_MESH_ANNOTATIONS: [(&str, &str); 4] = [
    ("sidecar.istio.io/inject", "false"),
    ("linkerd.io/inject", "disabled"),
    ("kuma.io/sidecar-injection", "disabled"),
    ("consul.hashicorp.com/connect-inject", "false"),
];

/// `progressdb config check`: the image judges the settings it would get.
pub fn config_check(inputs: &Inputs<'_>) -> Value {
    let name = names::config_check(&inputs.name(), &identity(inputs, &config::render(inputs), keys_read(inputs)));
    job(inputs, &name, "config-check", &["config", "check", "--json", "--file", &pod::config_path()])
}

/// `progressdb kms check`: wraps and unwraps a key as the server would; `None` if there is no KMS.
pub fn kms_check(inputs: &Inputs<'_>) -> Option<Value> {
    let kms = inputs.resource.spec.kms.as_ref()?;
    let name =
        names::kms_check(&inputs.name(), &identity(inputs, &config::render(inputs), json!([kms, inputs.kms_secrets])));
    let job = job(inputs, &name, "kms-check", &["kms", "check", "--json", "--config", &pod::config_path()]);
    Some(match inputs.wrapped_keys {
        Some(keys) => with_wrapped_keys(job, keys),
        None => job,
    })
}

/// `progressdb schema apply`: makes the keyspace and the tables of a fleet, or finds that they are there; `None` of a single
/// server, whose store makes its own.
pub fn schema_apply(inputs: &Inputs<'_>) -> Option<Value> {
    let cassandra = inputs.resource.spec.storage.cassandra()?;
    let name = names::schema(&inputs.name(), &identity(inputs, "", json!([cassandra, inputs.store_secrets])));
    Some(job(inputs, &name, "schema", &["schema", "apply", "--json", "--config", &pod::config_path()]))
}

/// `progressdb inspect`: an image reads what the store of a fleet says of itself, or says why it cannot; `None` of a single
/// server, whose data nobody else may open.
pub fn data_check(inputs: &Inputs<'_>) -> Option<Value> {
    let cassandra = inputs.resource.spec.storage.cassandra()?;
    let name = names::data_check(&inputs.name(), &identity(inputs, "", json!([cassandra, inputs.store_secrets])));
    Some(job(inputs, &name, "data-check", &["inspect", "--json", "--config", &pod::config_path()]))
}

/// Has a check of the KMS open the keys of a store as well: a KMS key that was replaced wraps and unwraps, but does not open
/// what the former one wrapped.
fn with_wrapped_keys(mut job: Value, keys: &str) -> Value {
    const NAME: &str = "wrapped-keys";
    const FILE: &str = "wrapped-keys.json";
    let directory = "/run/progressdb";
    let field = json!({ "apiVersion": "v1", "fieldPath": format!("metadata.annotations['{}']", labels::WRAPPED_KEYS) });
    let volume = json!({ "name": NAME, "downwardAPI": { "items": [{ "path": FILE, "fieldRef": field }] } });
    let template = &mut job["spec"]["template"];
    template["metadata"]["annotations"][labels::WRAPPED_KEYS] = json!(keys);
    let parts = [
        ("/spec/volumes", vec![volume]),
        ("/spec/containers/0/volumeMounts", vec![json!({ "name": NAME, "mountPath": directory, "readOnly": true })]),
        ("/spec/containers/0/args", vec![json!("--wrapped-keys"), json!(format!("{directory}/{FILE}"))]),
    ];
    for (pointer, more) in parts {
        if let Some(Value::Array(items)) = template.pointer_mut(pointer) {
            items.extend(more);
        }
    }
    job
}

/// Identifies the entries of Secrets that the server reads when it starts.
fn keys_read(inputs: &Inputs<'_>) -> Value {
    match inputs.changed_keys {
        Some(changed) => json!([inputs.read_at_start, changed]),
        None => json!(inputs.read_at_start),
    }
}

/// The ConfigMap with the settings that checks try. It is never changed: other settings are in another one.
pub fn check_settings(inputs: &Inputs<'_>) -> Value {
    let settings = config::render(inputs);
    let metadata = owned(inputs.resource, &settings_name(inputs), labels::of(&inputs.name(), labels::Component::Job));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": true,
        "data": { pod::CONFIG_FILE: settings },
    })
}

fn settings_name(inputs: &Inputs<'_>) -> String {
    names::check_settings(&inputs.name(), &hash(config::render(inputs).as_bytes()))
}

/// Identifies a check: it differs whenever the outcome could, by what is tried or by what could keep its pod from starting.
fn identity(inputs: &Inputs<'_>, settings: &str, secrets: Value) -> String {
    let spec = &inputs.resource.spec;
    let pulled = json!([inputs.release.image, spec.image_pull_policy, spec.image_pull_secrets]);
    let admitted = json!([spec.pod_labels, spec.pod_annotations, spec.resources]);
    let all = json!([pulled, settings, secrets, pod::placement(spec), admitted]);
    hash(all.to_string().as_bytes())
}

fn job(inputs: &Inputs<'_>, name: &str, what: &str, args: &[&str]) -> Value {
    let spec = &inputs.resource.spec;
    let own = labels::of(&inputs.name(), labels::Component::Job);
    let config = json!({ "name": "config", "configMap": { "name": settings_name(inputs) } });
    let mut pod = pod::spec(inputs, config);
    placement::of_check(inputs, &mut pod);
    pod.insert("restartPolicy".into(), json!("Never"));
    let mut container = pod::container(inputs, what, args);
    container.insert("resources".into(), resources(&spec.resources));
    pod.insert("containers".into(), json!([container]));
    let metadata = json!({
        "annotations": without_mesh_annotations(&spec.pod_annotations),
        "labels": pod::labels_over(&without_mesh_labels(&spec.pod_labels), with(&own, &[(labels::CHECK, "true")])),
    });
    of_template(inputs, name, own, json!({ "metadata": metadata, "spec": pod }))
}

/// A Job that runs this pod once: what it finds is its outcome, and a second try is another Job.
pub(super) fn of_template(inputs: &Inputs<'_>, name: &str, labels: BTreeMap<String, String>, template: Value) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owned(inputs.resource, name, labels),
        "spec": { "backoffLimit": 0, "podReplacementPolicy": "Failed", "template": template },
    })
}

/// Labels of a Job's pod: what people add, and what keeps sidecars out.
pub(super) fn without_mesh_labels(base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    with(base, &NO_MESH_LABELS)
}

/// And its annotations.
pub(super) fn without_mesh_annotations(base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    with(base, &NO_MESH_ANNOTATIONS)
}

fn with(base: &BTreeMap<String, String>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    base.clone().into_iter().chain(more).collect()
}

/// Little of each, and never more than the server; a limit for what the server has one, because a quota may demand it.
pub(super) fn resources(server: &Resources) -> Value {
    let least = |wanted: &str, given: Option<&Quantity>| {
        let number = |text: &str| drift::quantity(&json!(text));
        let given = given.filter(|given| number(&given.0).zip(number(wanted)).is_some_and(|(a, b)| a < b));
        json!(given.map_or(wanted, |given| &given.0))
    };
    let mut parts = [Map::new(), Map::new()];
    for (((name, request), (_, limit)), always) in REQUESTS.into_iter().zip(LIMITS).zip([1, 2, 0]) {
        let (requested, limited) = (server.requests.get(name), server.limits.get(name));
        if always > 0 || requested.is_some() || limited.is_some() {
            parts[0].insert(name.into(), least(request, requested.or(limited)));
        }
        if always > 1 || limited.is_some() {
            parts[1].insert(name.into(), least(limit, limited));
        }
    }
    let [requests, limits] = parts;
    json!({ "requests": requests, "limits": limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(server: Value) -> Value {
        resources(&serde_json::from_value(server).unwrap())
    }

    #[test]
    fn a_check_asks_for_little_and_never_for_more_than_the_server() {
        let plain = json!({ "requests": { "cpu": "10m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } });
        assert_eq!(asked(json!({})), plain);
        let limited = json!({ "requests": { "memory": "4Gi" }, "limits": { "cpu": "2", "memory": "128Mi" } });
        let found =
            json!({ "requests": { "cpu": "10m", "memory": "64Mi" }, "limits": { "cpu": "500m", "memory": "128Mi" } });
        assert_eq!(asked(limited), found);
        let tiny = json!({ "limits": { "memory": "32Mi", "ephemeral-storage": "1Gi" } });
        let found = json!({
            "requests": { "cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi" },
            "limits": { "memory": "32Mi", "ephemeral-storage": "64Mi" },
        });
        assert_eq!(asked(tiny), found);
    }
}
