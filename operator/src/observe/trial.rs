//! Whether a changed pod can replace the running one, before that is stopped.
//!
//! First come dry runs (`dryRun`): the API server validates the StatefulSet's whole template, and then the pod, with
//! admission, pod security, priority classes, limit ranges and quotas. Then the pod, as admission left it, is compared with
//! the nodes. What the running pod uses counts as free, because it stops first. None of this needs room for both pods, and
//! nothing is reserved: between the trial and the start another pod may take the room.

mod nodes;
mod quota;

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use self::nodes::{Demand, Usage};
use super::{FRESH, Live, Lookup, Observed, Observer, core};
use crate::{
    MANAGER, drift,
    error::Error,
    kind::Kind,
    objects::{hash, labels, names},
    raw::Raw,
};

/// A successor that can run is tried again after this long: the room may be taken.
const ROOM_FRESH: SignedDuration = SignedDuration::from_secs(10);
/// The pods of so many nodes are counted; with more of them the scheduler is trusted.
const MAX_NODES: usize = 16;
/// So many pods of a node are held at one time.
const PAGE: u32 = 100;

/// Why a successor cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Obstacle {
    /// One word, for programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Observer {
    /// Why this StatefulSet and its pod cannot run, if they cannot.
    pub async fn try_successor(
        &self,
        seen: &Observed,
        successor: &Value,
        now: Timestamp,
    ) -> Result<Option<Obstacle>, Error> {
        let namespace = seen.resource.namespace().unwrap_or_default();
        let key = ("trial", namespace.clone(), hash(successor.to_string().as_bytes()));
        // An obstacle lasts longer than room does.
        let known = self.recall(&key, ROOM_FRESH, now).or_else(|| self.recall(&key, FRESH, now).filter(is_refusal));
        if let Some(Lookup::Trial(found)) = known {
            return Ok(found);
        }
        let trial = Trial { observer: self, namespace: &namespace, name: &seen.resource.name_any() };
        let found = trial.of(seen, successor).await?;
        if let Some(Obstacle { reason, message }) = &found {
            tracing::warn!(event = "successor.impossible", name = trial.name, reason, message, "what runs is kept");
        }
        self.remember(key, now, Lookup::Trial(found.clone()));
        Ok(found)
    }
}

fn is_refusal(fact: &Lookup) -> bool {
    matches!(fact, Lookup::Trial(Some(_)))
}

struct Trial<'a> {
    observer: &'a Observer,
    namespace: &'a str,
    name: &'a str,
}

impl Trial<'_> {
    async fn of(&self, seen: &Observed, successor: &Value) -> Result<Option<Obstacle>, Error> {
        let running = self.running().await?;
        let refused = |message| Some(Obstacle { reason: "PodRefused", message });
        if let Some(message) = verdict(self.set(successor).await.map(drop))? {
            return Ok(refused(format!("the API server refuses the changed pod: {message}")));
        }
        let pod = pod_of(successor, self.name);
        let admitted = match self.admit(&pod).await {
            Ok(admitted) => admitted,
            Err(error) => match verdict(Err(error))? {
                None => pod,
                // The quota is the last step of admission: everything else has let the pod in.
                Some(message) if quota::fits_instead(&message, &pod, json(&running)) => pod,
                Some(message) => {
                    return Ok(refused(format!(
                        "the cluster refuses the changed pod: {message}; {}",
                        advice(&message)
                    )));
                }
            },
        };
        let volume = self.volume(seen).await?;
        let no_room = self.room(&admitted, running.as_ref(), json(&volume)).await?;
        Ok(no_room.map(|message| Obstacle { reason: "Unschedulable", message }))
    }

    /// The StatefulSet as it would be applied.
    async fn set(&self, successor: &Value) -> Result<DynamicObject, Error> {
        let sets: Api<DynamicObject> =
            Api::namespaced_with(self.observer.client.clone(), self.namespace, &Kind::StatefulSet.api_resource());
        let params = PatchParams::apply(MANAGER).force().dry_run();
        let applied = sets.patch(self.name, &params, &Patch::Apply(&drift::with_applied_hash(successor.clone()))).await;
        applied.map_err(|error| Error::new("trying the StatefulSet", error))
    }

    /// The pod, as admission would let it in.
    async fn admit(&self, pod: &Value) -> Result<Value, Error> {
        let pods: Api<DynamicObject> =
            Api::namespaced_with(self.observer.client.clone(), self.namespace, &Kind::Pod.api_resource());
        let params = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        let pod: DynamicObject = serde_json::from_value(pod.clone()).expect("it has metadata");
        let admitted = pods.create(&params, &pod).await.map_err(|error| Error::new("trying the pod", error))?;
        Ok(json!(admitted))
    }

    async fn running(&self) -> Result<Option<Live>, Error> {
        self.observer.get(&Kind::Pod.api_resource(), Some(self.namespace), &names::pod(self.name)).await
    }

    async fn volume(&self, seen: &Observed) -> Result<Option<Live>, Error> {
        let Some(name) = seen.claim().and_then(|claim| claim.at("/spec/volumeName").as_str()) else { return Ok(None) };
        self.observer.get(&core("PersistentVolume", "persistentvolumes"), None, name).await
    }

    /// Why no node has room for the pod. The node on which it runs is tried first, which is mostly enough.
    async fn room(&self, pod: &Value, running: Option<&Live>, volume: &Value) -> Result<Option<String>, Error> {
        let demand = Demand::of(pod);
        let home = running.and_then(|pod| pod.at("/spec/nodeName").as_str());
        if let Some(home) = home
            && let Some(node) = self.observer.get(&core("Node", "nodes"), None, home).await?
            && nodes::takes(&node.0, pod, volume).is_ok()
            && demand.fits(&node.0, &self.usage(home, running, &demand).await?).is_ok()
        {
            return Ok(None);
        }
        let nodes = self.observer.api::<Raw>(&core("Node", "nodes"), None);
        let found = nodes.list(&ListParams::default()).await.map_err(|error| Error::new("listing the nodes", error))?;
        let mut why = Vec::new();
        let mut looked_at = 0;
        for node in found {
            let name = node.name_any();
            let node = node.to_value();
            let bare = nodes::takes(&node, pod, volume).and_then(|()| demand.fits(&node, &Usage::default()));
            if let Err(reason) = bare {
                why.push(reason);
                continue;
            }
            looked_at += 1;
            if looked_at > MAX_NODES {
                return Ok(None);
            }
            match demand.fits(&node, &self.usage(&name, running, &demand).await?) {
                Ok(()) => return Ok(None),
                Err(reason) => why.push(reason),
            }
        }
        Ok(Some(nodes::summary(&why)))
    }

    /// What the other pods of a node use: of all namespaces, or of this one if the operator may not see the others.
    async fn usage(&self, node: &str, running: Option<&Live>, demand: &Demand) -> Result<Usage, Error> {
        let mut there = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(PAGE);
        let mut pods = self.observer.api::<Raw>(&Kind::Pod.api_resource(), None);
        let mut usage = Usage::default();
        loop {
            let page = match pods.list(&there).await {
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    pods = self.observer.api(&Kind::Pod.api_resource(), Some(self.namespace));
                    pods.list(&there).await
                }
                answer => answer,
            };
            let page = page.map_err(|error| Error::new(format!("listing the pods of {node}"), error))?;
            there.continue_token = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            let is_other = |pod: &Raw| running.is_none_or(|running| pod.uid().as_deref() != Some(running.uid()));
            usage.add(page.into_iter().filter(is_other).map(|pod| pod.to_value()), demand);
            if there.continue_token.is_none() {
                return Ok(usage);
            }
        }
    }
}

/// The object as JSON; null if there is none.
fn json(object: &Option<Live>) -> &Value {
    object.as_ref().map_or(&Value::Null, |object| &object.0)
}

/// The message of a refusal; any other error ends the reconcile.
fn verdict(answer: Result<(), Error>) -> Result<Option<String>, Error> {
    match answer {
        Ok(()) => Ok(None),
        Err(Error::Refused { message, .. }) => Ok(Some(message)),
        Err(error) => Err(error),
    }
}

/// The pod that Kubernetes would create from the StatefulSet, with a name that is not used.
fn pod_of(set: &Value, name: &str) -> Value {
    let template = &set["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!(names::successor(name));
    metadata["namespace"] = set["metadata"]["namespace"].clone();
    metadata["labels"][labels::POD_NAME] = json!(format!("{name}-0"));
    metadata["ownerReferences"] = json!([{
        "apiVersion": set["apiVersion"], "kind": set["kind"], "controller": true, "name": name,
        "uid": set["metadata"]["uid"],
    }]);
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

/// What to do about a message by which the cluster refuses a pod.
pub fn advice(message: &str) -> &'static str {
    let has = |part: &str| message.contains(part);
    match () {
        () if has("exceeded quota") => "raise the quota of the namespace, or ask for less in spec.resources",
        () if has("failed quota") => "set in spec.resources what the quota of the namespace demands",
        () if has("PriorityClass") => "make the priority class, or correct spec.priorityClassName",
        () if has("serviceaccount") || has("service account") => "make the service account, or correct spec.kms",
        () if has("PodSecurity") => {
            "remove what the namespace's pod security forbids, or label the namespace otherwise"
        }
        () if has("usage per") || has("limit to request ratio") => "keep spec.resources within the limit range",
        () if has("denied") => "satisfy the policy, with spec.podLabels or spec.podAnnotations if it demands them",
        () => "correct the spec, or what forbids it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_the_pod_that_the_stateful_set_would_create() {
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db", "namespace": "ns", "uid": "u" },
            "spec": { "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [] } } },
        });
        let pod = pod_of(&set, "db");
        assert_eq!(pod["metadata"]["labels"], json!({ "a": "b", "statefulset.kubernetes.io/pod-name": "db-0" }));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(pod["spec"], json!({ "containers": [] }));
    }

    #[test]
    fn a_refusal_comes_with_advice() {
        let message = "pods \"db\" is forbidden: no PriorityClass with name high was found";
        assert!(advice(message).contains("spec.priorityClassName"));
        assert!(advice("exceeded quota: q").contains("raise the quota"));
    }
}
