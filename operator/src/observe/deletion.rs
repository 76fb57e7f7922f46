//! What the deletion of a resource rests on. A watch may lag, and shows nothing without our labels, so the claim, the pod and
//! the last snapshot are read by name, in each reconcile, before anything is destroyed or released.

use kube::{
    ResourceExt,
    core::{ApiResource, GroupVersionKind},
};

use super::{Live, Observed, Observer, core, final_snapshot, owner};
use crate::{
    crd::DeletionPolicy,
    error::Error,
    kind::{Kind, name_of},
    objects::{labels::FINALIZER, names},
};

impl Observer {
    /// Reads what the deletion rests on, as long as the operator has a part in it.
    pub(super) async fn observe_deletion(&self, seen: &mut Observed) -> Result<(), Error> {
        if !seen.resource.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        let (namespace, name) = (seen.resource.namespace().unwrap_or_default(), seen.resource.name_any());
        if seen.resource.spec.storage.cassandra().is_some() {
            return Ok(());
        }
        let known: Vec<String> =
            seen.claims().map(|claim| claim.name().to_owned()).chain([seen.claim_name()]).collect();
        for name in known {
            let claim = self.read(&namespace, Kind::Claim, &name).await?;
            let claim = claim.filter(|claim| owner::is_ours(Kind::Claim, claim, &seen.resource, None));
            replace(seen, Kind::Claim, name, claim);
        }
        if seen.resource.spec.deletion_policy == DeletionPolicy::Retain {
            return Ok(());
        }
        let pod = self.read(&namespace, Kind::Pod, &names::pod(&name)).await?;
        let pod = pod.filter(|pod| is_server(pod, &name, seen.stateful_set()));
        replace(seen, Kind::Pod, names::pod(&name), pod);
        match seen.resource.spec.deletion_policy {
            DeletionPolicy::Snapshot => self.observe_last_snapshot(seen, &namespace).await,
            _ => self.observe_contents(seen, None).await,
        }
    }

    async fn read(&self, namespace: &str, kind: Kind, name: &str) -> Result<Option<Live>, Error> {
        self.get(&kind.api_resource(), Some(namespace), name).await
    }

    async fn observe_last_snapshot(&self, seen: &mut Observed, namespace: &str) -> Result<(), Error> {
        let found = self.get(&core("Namespace", "namespaces"), None, namespace).await?;
        seen.namespace_ends = found.is_none_or(|found| found.is_deleted());
        let volume = seen.claim().and_then(|claim| claim.at("/spec/volumeName").as_str());
        if let Some(volume) = volume {
            seen.volume = self.get(&core("PersistentVolume", "persistentvolumes"), None, volume).await?;
        }
        let name = final_snapshot(&seen.resource);
        if seen.object(Kind::VolumeSnapshot, &name).is_some() {
            let snapshot = self.read(namespace, Kind::VolumeSnapshot, &name).await?;
            replace(seen, Kind::VolumeSnapshot, name.clone(), snapshot);
        }
        let snapshot = seen.object(Kind::VolumeSnapshot, &name);
        let content = snapshot.and_then(|snapshot| snapshot.at("/status/boundVolumeSnapshotContentName").as_str());
        if let Some(content) = content {
            let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent");
            seen.snapshot_content = self.get(&ApiResource::from_gvk(&kind), None, content).await?;
        } else if seen.has_snapshots && snapshot.is_none() && !seen.namespace_ends {
            seen.snapshot_class = self.snapshot_class(seen.volume.as_ref()).await?;
        }
        Ok(())
    }

    /// The snapshot class for the driver of a volume, if there is exactly one; else the cluster takes its default.
    async fn snapshot_class(&self, volume: Option<&Live>) -> Result<Option<String>, Error> {
        let Some(driver) = volume.and_then(|volume| volume.at("/spec/csi/driver").as_str()) else { return Ok(None) };
        let classes = self.snapshot_classes().await?;
        let mut fitting = classes.iter().filter(|class| class["driver"] == driver).map(name_of);
        Ok(fitting.next().filter(|_| fitting.next().is_none()).map(str::to_owned))
    }
}

/// Puts what was read by name in the place of what the cache had.
fn replace(seen: &mut Observed, kind: Kind, name: String, found: Option<Live>) {
    match found {
        Some(found) => drop(seen.objects.insert((kind, name), found)),
        None => drop(seen.objects.remove(&(kind, name))),
    }
}

/// Whether a pod may be at work on the data of this resource: it is one of its StatefulSet, or it uses one of the claims.
fn is_server(pod: &Live, resource: &str, set: Option<&Live>) -> bool {
    let volumes = pod.at("/spec/volumes").as_array().into_iter().flatten();
    let claims = volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
    let is_ours = |claim: &str| names::instance_of(Kind::Claim, claim) == Some(resource);
    set.is_some_and(|set| pod.is_owned_by(set.uid())) || claims.into_iter().any(is_ours)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn whoever_uses_the_claim_may_be_at_work_on_it() {
        let pod = |owner: &str, claim: Value| {
            let volumes = json!([{ "name": "a", "emptyDir": {} }, { "persistentVolumeClaim": { "claimName": claim } }]);
            Live(json!({ "metadata": { "ownerReferences": [{ "uid": owner }] }, "spec": { "volumes": volumes } }))
        };
        let set = Live(json!({ "metadata": { "uid": "set" } }));
        assert!(is_server(&pod("set", json!("other")), "db", Some(&set)));
        assert!(is_server(&pod("gone", json!("db-data-0")), "db", Some(&set)));
        assert!(is_server(&pod("set", json!("db-data-0")), "db", None));
        assert!(!is_server(&pod("other", json!("db2-data-0")), "db", Some(&set)));
    }
}
