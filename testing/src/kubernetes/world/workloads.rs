//! The controllers that make single pods: of StatefulSets and of Jobs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::api::{Key, object::is_deleted, store::Store};
use super::{key_of, text};

/// Makes and deletes the pod of every StatefulSet.
pub(super) fn run_stateful_sets(store: &mut Store) {
    for set in store.all("StatefulSet") {
        let name = text(&set, "/metadata/name");
        let pod = key_of("Pod", &set, &format!("{name}-0"));
        let wanted = set["spec"]["replicas"].as_i64().unwrap_or(1);
        let made = store.get(&pod).cloned();
        if is_deleted(&set) {
            continue;
        }
        match &made {
            None if wanted > 0 => make_pod(store, &pod, &set),
            Some(made) if wanted == 0 && !is_deleted(made) => {
                store.delete(&pod, &Value::Null).expect("it is there");
            }
            _ => {}
        }
        let ready =
            made.as_ref().is_some_and(|pod| pod["status"]["conditions"][0]["status"] == "True" && !is_deleted(pod));
        let status = json!({
            "replicas": i64::from(store.get(&pod).is_some()), "readyReplicas": i64::from(ready),
            "observedGeneration": set["metadata"]["generation"],
        });
        store.edit(&key_of("StatefulSet", &set, &name), |set| set["status"] = status);
    }
}

/// Makes the pod of every Job, and ends the Job with its pod.
pub(super) fn run_jobs(store: &mut Store) {
    for job in store.all("Job") {
        let name = text(&job, "/metadata/name");
        let pod = key_of("Pod", &job, &format!("{name}-pod"));
        if is_deleted(&job) || !job["status"]["conditions"].is_null() {
            continue;
        }
        if job["spec"]["suspend"] == true {
            store.edit(&key_of("Job", &job, &name), |job| {
                job["status"] = json!({ "conditions": [{ "type": "Suspended", "status": "True" }] });
            });
            if store.get(&pod).is_some() {
                store.delete(&pod, &Value::Null).expect("it is there");
            }
            continue;
        }
        match store.get(&pod).cloned() {
            None => make_pod(store, &pod, &job),
            // That of a Job of the same name, which was deleted a moment ago.
            Some(made) if made["metadata"]["ownerReferences"][0]["uid"] != job["metadata"]["uid"] => {}
            Some(made) => {
                let (kind, counted) = match made["status"]["phase"].as_str() {
                    Some("Succeeded") => ("Complete", "succeeded"),
                    Some("Failed") => ("Failed", "failed"),
                    _ => continue,
                };
                let now = store.now().to_string();
                store.edit(&key_of("Job", &job, &name), |job| {
                    job["status"] = json!({
                        counted: 1, "completionTime": now,
                        "conditions": [{ "type": kind, "status": "True", "lastTransitionTime": now }],
                    });
                });
            }
        }
    }
}

/// A pod as its controller makes it from its template.
pub(super) fn pod_of(owner: &Value) -> Value {
    let template = &owner["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    if owner["kind"] == "Job" {
        metadata["labels"]["batch.kubernetes.io/job-name"] = owner["metadata"]["name"].clone();
    }
    json!({ "metadata": metadata, "spec": template["spec"], "status": { "phase": "Pending" } })
}

fn make_pod(store: &mut Store, key: &Key, owner: &Value) {
    let mut pod = pod_of(owner);
    pod["spec"]["hostname"] = json!(key.name);
    // Refused in a namespace that is being deleted, and by quotas and admission.
    if let Err(refusal) = store.create(key, pod, BTreeMap::new()) {
        let message = format!("Error creating: {}", refusal.message);
        tell(store, owner, "FailedCreate", &message);
    }
}

/// Makes an Event about an object, once for each reason.
pub(super) fn tell(store: &mut Store, about: &Value, reason: &str, message: &str) {
    let (kind, name) = (text(about, "/kind"), text(about, "/metadata/name"));
    let uid = &about["metadata"]["uid"];
    let key = key_of("Event", about, &format!("{}.{reason}", uid.as_str().unwrap_or_default()));
    let event = json!({
        "type": "Warning", "reason": reason, "message": message,
        "involvedObject": { "kind": kind, "name": name, "uid": uid, "namespace": key.namespace },
        "firstTimestamp": store.now().to_string(), "lastTimestamp": store.now().to_string(),
    });
    // There may be one already.
    let _ = store.create(&key, event, BTreeMap::new());
}
