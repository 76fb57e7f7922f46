//! Jobs that try something before the server depends on it: with its image, its identity and its secrets, and without its
//! data. Their settings travel in an annotation, so that what is tried is not yet what a restarted server would read.

use serde_json::{Value, json};

use super::{Inputs, config, hash, labels, names, owned, pod};

/// `progressdb config check`: the image judges the settings it would get.
pub fn config_check(inputs: &Inputs<'_>) -> Value {
    let settings = config::render(inputs);
    let name = names::config_check(&inputs.name(), &identity(inputs, &settings, keys_read(inputs)));
    let path = pod::config_path();
    job(inputs, &name, "config-check", &["config", "check", "--json", "--file", &path], &settings)
}

/// `progressdb kms check`: wraps and unwraps a key as the server would; `None` if there is no KMS.
pub fn kms_check(inputs: &Inputs<'_>) -> Option<Value> {
    let kms = inputs.resource.spec.kms.as_ref()?;
    let settings = config::render(inputs);
    let name = names::kms_check(&inputs.name(), &identity(inputs, &settings, json!([kms, inputs.kms_secrets])));
    let job = job(inputs, &name, "kms-check", &["kms", "check", "--json", "--config", &pod::config_path()], &settings);
    Some(match inputs.wrapped_keys {
        Some(keys) => with_wrapped_keys(job, keys),
        None => job,
    })
}

/// Has a check of the KMS open the keys of a store as well: a key that was replaced wraps and unwraps, and opens nothing.
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

/// What stands for the Secrets whose entries the server reads when it starts.
fn keys_read(inputs: &Inputs<'_>) -> Value {
    match inputs.changed_keys {
        Some(changed) => json!([inputs.read_at_start, changed]),
        None => json!(inputs.read_at_start),
    }
}

/// Another one whenever the outcome could be another: of what is tried, and of what keeps its pod from starting.
fn identity(inputs: &Inputs<'_>, settings: &str, secrets: Value) -> String {
    let spec = &inputs.resource.spec;
    let pulled = json!([spec.image, spec.image_pull_policy, spec.image_pull_secrets]);
    hash(json!([pulled, settings, secrets, pod::placement(spec)]).to_string().as_bytes())
}

fn job(inputs: &Inputs<'_>, name: &str, what: &str, args: &[&str], settings: &str) -> Value {
    let labels = labels::of(&inputs.name(), labels::Component::Job);
    let from_annotation = json!({
        "path": pod::CONFIG_FILE,
        "fieldRef": { "apiVersion": "v1", "fieldPath": format!("metadata.annotations['{}']", labels::SETTINGS) },
    });
    let mut spec = pod::spec(inputs, json!({ "name": "config", "downwardAPI": { "items": [from_annotation] } }));
    spec.insert("restartPolicy".into(), json!("Never"));
    let mut container = pod::container(inputs, what, args);
    let little = json!({ "cpu": "10m", "memory": "64Mi" });
    container.insert("resources".into(), json!({ "requests": little, "limits": { "memory": "256Mi" } }));
    spec.insert("containers".into(), json!([container]));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owned(inputs.resource, name, labels.clone()),
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": { "annotations": { labels::SETTINGS: settings }, "labels": labels },
                "spec": spec,
            },
        },
    })
}
