//! The controllers of Deployments and of ReplicaSets, as far as rolling updates go: another template makes another
//! ReplicaSet, and pods move from the old ones to the new one as `maxSurge` and `maxUnavailable` allow.
//!
//! One step of it is taken in a second. A pod counts as available once it is ready. A Deployment that does not come any further
//! for its `progressDeadlineSeconds` says so, until it does.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::api::{Key, object::is_deleted, store::Store};
use super::{key_of, text, workloads::pod_of};

/// The label by which the pods of one template are told from those of others.
const HASH: &str = "pod-template-hash";

/// Takes a step of every Deployment, and then of every ReplicaSet.
pub(super) fn run(store: &mut Store) {
    for deployment in store.all("Deployment").into_iter().filter(|deployment| !is_deleted(deployment)) {
        roll(store, &deployment);
    }
    for set in store.all("ReplicaSet").into_iter().filter(|set| !is_deleted(set)) {
        keep_pods(store, &set);
    }
    for deployment in store.all("Deployment") {
        count(store, &deployment);
    }
}

/// A ReplicaSet, and the pods of it that nobody deleted.
struct Set {
    key: Key,
    replicas: i64,
    ready: i64,
    pods: i64,
}

/// The ReplicaSet of the template as it is now, and those of former ones.
fn roll(store: &mut Store, deployment: &Value) {
    let current = current(store, deployment);
    let sets: Vec<Set> = owned(store, "ReplicaSet", deployment).iter().map(|set| look(store, set)).collect();
    let (new, old): (Vec<&Set>, Vec<&Set>) = sets.iter().partition(|set| set.key == current);
    let new = new[0];
    let wanted = number(deployment, "/spec/replicas").unwrap_or(1);
    let update = "/spec/strategy/rollingUpdate";
    let (surge, unavailable) = (
        number(deployment, &format!("{update}/maxSurge")).unwrap_or(1),
        number(deployment, &format!("{update}/maxUnavailable")).unwrap_or(0),
    );
    let asked: i64 = sets.iter().map(|set| set.replicas).sum();
    let room = (wanted + surge - asked).max(0);
    scale(store, &new.key, if new.replicas > wanted { wanted } else { (new.replicas + room).min(wanted) });
    // Those that are not ready go first: nobody misses them.
    let mut spare = sets.iter().map(|set| set.ready).sum::<i64>() - (wanted - unavailable).max(0);
    for set in old {
        let idle = (set.pods - set.ready).max(0);
        let gone = set.replicas.min(idle + spare.max(0));
        spare -= (gone - idle).max(0);
        scale(store, &set.key, set.replicas - gone);
    }
    forget(store, deployment, &current);
}

/// Deletes the ReplicaSets of templates that are too long ago.
fn forget(store: &mut Store, deployment: &Value, current: &Key) {
    let mut idle: Vec<_> = owned(store, "ReplicaSet", deployment)
        .iter()
        .map(|set| (text(set, "/metadata/creationTimestamp"), look(store, set)))
        .collect();
    idle.retain(|(_, set)| set.key != *current && set.replicas == 0 && set.pods == 0);
    idle.sort_by(|(one, _), (other, _)| other.cmp(one));
    let kept =
        number(deployment, "/spec/revisionHistoryLimit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10);
    for (_, set) in idle.iter().skip(kept) {
        store.delete(&set.key, &Value::Null).expect("it is there");
    }
}

/// The ReplicaSet of the template, which is made if there is none.
fn current(store: &mut Store, deployment: &Value) -> Key {
    let template = &deployment["spec"]["template"];
    let hash = hash(&template.to_string());
    let key = key_of("ReplicaSet", deployment, &format!("{}-{hash}", text(deployment, "/metadata/name")));
    if store.get(&key).is_none() {
        let mut template = template.clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let labels = template["metadata"]["labels"].clone();
        let set = json!({
            "metadata": { "labels": labels, "ownerReferences": [reference(deployment)] },
            "spec": { "replicas": 0, "selector": selector, "template": template },
        });
        store.create(&key, set, BTreeMap::new()).expect("nothing else has this name");
    }
    key
}

/// Makes and deletes pods until there are as many as a ReplicaSet asks for.
fn keep_pods(store: &mut Store, set: &Value) {
    let mut pods: Vec<Arc<Value>> =
        owned(store, "Pod", set).into_iter().filter(|pod| !is_deleted(pod) && !super::has_ended(pod)).collect();
    let wanted = number(set, "/spec/replicas").unwrap_or(1);
    let key = key_of("ReplicaSet", set, &text(set, "/metadata/name"));
    let mut made = number(set, "/status/made").unwrap_or(0);
    let mut refusal = Value::Null;
    for _ in pods.len()..usize::try_from(wanted).unwrap_or(0) {
        made += 1;
        let pod = key_of("Pod", set, &format!("{}-{made}", key.name));
        if let Err(refused) = store.create(&pod, pod_of(set), BTreeMap::new()) {
            refusal = json!(refused.message);
            break;
        }
    }
    pods.sort_by_key(|pod| (is_ready(pod), std::cmp::Reverse(text(pod, "/metadata/name"))));
    for pod in pods.iter().take(pods.len().saturating_sub(usize::try_from(wanted).unwrap_or(0))) {
        let pod = key_of("Pod", pod, &text(pod, "/metadata/name"));
        store.delete(&pod, &Value::Null).expect("it is there");
    }
    if made != number(set, "/status/made").unwrap_or(0) || set["status"]["refusal"] != refusal {
        store.edit(&key, |set| set["status"] = json!({ "made": made, "refusal": refusal }));
    }
}

/// What a Deployment tells of its pods.
fn count(store: &mut Store, deployment: &Value) {
    let sets = owned(store, "ReplicaSet", deployment);
    let counts = |set: &Arc<Value>| look(store, set);
    let all: Vec<Set> = sets.iter().map(counts).collect();
    let hash = hash(&deployment["spec"]["template"].to_string());
    let updated = all.iter().filter(|set| set.key.name.ends_with(&hash));
    let ready: i64 = all.iter().map(|set| set.ready).sum();
    let refusal = sets.iter().map(|set| &set["status"]["refusal"]).find(|refusal| refusal.is_string());
    let refused = refusal.map(
        |message| json!({ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message }),
    );
    let mut status = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": all.iter().map(|set| set.pods).sum::<i64>(),
        "updatedReplicas": updated.map(|set| set.pods).sum::<i64>(),
        "readyReplicas": ready, "availableReplicas": ready,
    });
    let progress = progress(deployment, &status, store.now());
    status["conditions"] = [progress].into_iter().chain(refused).collect();
    if deployment["status"] != status {
        let key = key_of("Deployment", deployment, &text(deployment, "/metadata/name"));
        store.edit(&key, |deployment| deployment["status"] = status);
    }
}

/// Whether a Deployment comes further, given what it counts now. One that had come to its end has no deadline until it is
/// changed.
fn progress(deployment: &Value, status: &Value, now: Timestamp) -> Value {
    const COUNTS: [&str; 4] = ["observedGeneration", "replicas", "updatedReplicas", "readyReplicas"];
    let wanted = number(deployment, "/spec/replicas").unwrap_or(1);
    let is_complete = COUNTS[1..].iter().all(|count| status[count] == wanted);
    let old = &deployment["status"]["conditions"][0];
    let said = |status: &str, reason: &str, since: &Value| json!({ "type": "Progressing", "status": status, "reason": reason, "lastUpdateTime": since });
    let has_moved = COUNTS.iter().any(|count| deployment["status"][count] != status[count]);
    let is_settled = old["reason"] == "NewReplicaSetAvailable"
        && deployment["status"]["observedGeneration"] == status["observedGeneration"];
    let since = old["lastUpdateTime"].as_str().and_then(|since| since.parse::<Timestamp>().ok());
    let deadline = number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
    match since {
        Some(_) if is_settled => old.clone(),
        _ if is_complete => said("True", "NewReplicaSetAvailable", &json!(now)),
        Some(_) if has_moved => said("True", "ReplicaSetUpdated", &json!(now)),
        None => said("True", "ReplicaSetUpdated", &json!(now)),
        Some(since) if now.duration_since(since).as_secs() >= deadline => {
            said("False", "ProgressDeadlineExceeded", &old["lastUpdateTime"])
        }
        Some(_) => old.clone(),
    }
}

fn look(store: &Store, set: &Arc<Value>) -> Set {
    let pods = owned(store, "Pod", set);
    let living: Vec<_> = pods.iter().filter(|pod| !is_deleted(pod) && !super::has_ended(pod)).collect();
    Set {
        key: key_of("ReplicaSet", set, &text(set, "/metadata/name")),
        replicas: number(set, "/spec/replicas").unwrap_or(1),
        ready: living.iter().filter(|pod| is_ready(pod)).count() as i64,
        pods: living.len() as i64,
    }
}

fn scale(store: &mut Store, key: &Key, replicas: i64) {
    if store.get(key).is_some_and(|set| set["spec"]["replicas"] != replicas) {
        store.edit(key, |set| set["spec"]["replicas"] = json!(replicas));
    }
}

/// The objects of a kind whose controller this is.
fn owned(store: &Store, kind: &str, owner: &Value) -> Vec<Arc<Value>> {
    let uid = &owner["metadata"]["uid"];
    store.all(kind).into_iter().filter(|object| object["metadata"]["ownerReferences"][0]["uid"] == *uid).collect()
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// Of the same text always the same, and of another another.
fn hash(text: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:010x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix) & 0xff_ffff_ffff)
}
