//! What an upgrade rests on beside the objects with our labels. It is read by name, past the cache, and only in the steps
//! that decide on it: an upgrade that waits makes no calls.

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, ListParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{FRESH, Live, Lookup, Observed, Observer, core};
use crate::{
    crd::{Need, UpgradeStatus, UpgradeStep},
    error::Error,
    kind::Kind,
    objects::{labels::UPGRADE, names},
    raw::Raw,
};

/// Says which snapshot class of a driver is the default one.
const IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// The class of an upgrade's snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotClass {
    /// This one.
    Found(String),
    /// There is none, for this reason.
    None(String),
    /// Several would do and none is the default.
    Several(Vec<String>),
}

impl Observer {
    /// Reads what the step of the upgrade rests on that is under way, and what one would need that is about to begin.
    pub(super) async fn observe_upgrade(&self, seen: &mut Observed, now: Timestamp) -> Result<(), Error> {
        let Some(record) = seen.upgrade().filter(|record| record.outcome.is_none()).cloned() else { return Ok(()) };
        let (namespace, name) = (seen.resource.namespace().unwrap_or_default(), seen.resource.name_any());
        if asks_for_class(&record) && seen.resource.spec.upgrade.snapshot.policy != Need::Skip {
            seen.upgrade_snapshots = Some(self.upgrade_class(seen, now).await?);
        }
        if record.step == UpgradeStep::Preflight && record.changes_image && record.hold.is_none() {
            seen.has_image = self.has_image(seen, &record).await?;
        }
        if stops(record.step) && seen.pod().is_none() {
            seen.has_left = Some(self.has_left(seen, &namespace, &name).await?);
        }
        if record.step == UpgradeStep::Soak && record.data_mutation_started && record.hold.is_some() {
            seen.sequence = self.sequence(seen).await;
        }
        if record.step == UpgradeStep::Promote {
            seen.is_served = Some(self.is_served(seen, &namespace, &name).await?);
        }
        Ok(())
    }

    /// Reads the contents of the snapshots of the upgrade that is under way, which no watch shows.
    pub async fn observe_copies(&self, seen: &mut Observed) -> Result<(), Error> {
        let Some(id) = seen.upgrade().map(|record| record.id.clone()) else { return Ok(()) };
        self.observe_contents(seen, Some(&id)).await
    }

    /// The contents of the snapshots of this upgrade, or of all.
    pub(super) async fn observe_contents(&self, seen: &mut Observed, upgrade: Option<&str>) -> Result<(), Error> {
        let snapshots = seen.objects.iter().filter(|((kind, _), _)| *kind == Kind::VolumeSnapshot);
        let of_upgrades = snapshots.filter_map(|(key, snapshot)| Some((key, snapshot, snapshot.label(UPGRADE)?)));
        let ours = of_upgrades.filter(|(.., id)| upgrade.is_none_or(|upgrade| upgrade == *id));
        let named = ours.filter_map(|((_, name), snapshot, _)| {
            Some((name.clone(), snapshot.at("/status/boundVolumeSnapshotContentName").as_str()?.to_owned()))
        });
        let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent");
        for (snapshot, content) in named.collect::<Vec<_>>() {
            if let Some(found) = self.get(&ApiResource::from_gvk(&kind), None, &content).await? {
                seen.contents.insert(snapshot, found);
            }
        }
        Ok(())
    }

    /// The class for snapshots of the volume: the one that is named, else the only one of the driver, else its default one.
    async fn upgrade_class(&self, seen: &Observed, now: Timestamp) -> Result<SnapshotClass, Error> {
        if !seen.has_snapshots {
            let why = "this cluster has no VolumeSnapshots: install the snapshot controller and its CRDs";
            return Ok(SnapshotClass::None(why.to_owned()));
        }
        let Some(volume) = seen.claim().and_then(|claim| claim.at("/spec/volumeName").as_str()) else {
            return Ok(SnapshotClass::None("the claim has no volume".to_owned()));
        };
        let named = seen.resource.spec.upgrade.snapshot.class_name.clone().unwrap_or_default();
        let key = ("snapshot class", named, volume.to_owned());
        if let Some(Lookup::SnapshotClass(class)) = self.recall(&key, FRESH, now) {
            return Ok(class);
        }
        let found = self.get(&core("PersistentVolume", "persistentvolumes"), None, volume).await?;
        let driver = found.as_ref().and_then(|volume| volume.at("/spec/csi/driver").as_str());
        let class = match driver {
            Some(driver) => {
                let named = seen.resource.spec.upgrade.snapshot.class_name.as_deref();
                class_among(driver, named, &self.snapshot_classes().await?)
            }
            None => SnapshotClass::None(format!("the volume {volume} is of no CSI driver, so it cannot be copied")),
        };
        self.remember(key, now, Lookup::SnapshotClass(class.clone()));
        Ok(class)
    }

    /// All snapshot classes.
    pub(super) async fn snapshot_classes(&self) -> Result<Vec<Value>, Error> {
        let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass");
        let plural = ApiResource::from_gvk_with_plural(&kind, "volumesnapshotclasses");
        let classes: Api<Raw> = Api::all_with(self.client.clone(), &plural);
        let failed = |error| Error::new("listing the snapshot classes", error);
        let found = classes.list(&ListParams::default()).await.map_err(failed)?;
        Ok(found.into_iter().map(|class| class.to_value()).collect())
    }

    async fn sequence(&self, seen: &Observed) -> Option<i64> {
        let address = seen.pod()?.at("/status/podIP").as_str()?.parse().ok()?;
        (self.probe.readiness)(address).await?.sequence
    }

    /// Whether the node of the server lists the image that runs. A node lists the fifty largest only.
    async fn has_image(&self, seen: &Observed, record: &UpgradeStatus) -> Result<Option<bool>, Error> {
        let Some(node) = seen.pod().and_then(|pod| pod.at("/spec/nodeName").as_str()) else { return Ok(None) };
        let node = self.get(&core("Node", "nodes"), None, node).await?;
        Ok(node.map(|node| lists_image(&node, &record.from.image, record.from.image_id.as_deref())))
    }

    /// Whether the pod is gone, and its volume from the node. A watch may lag, so both are read.
    async fn has_left(&self, seen: &Observed, namespace: &str, name: &str) -> Result<bool, Error> {
        let pod = self.get(&Kind::Pod.api_resource(), Some(namespace), &names::pod(name)).await?;
        if pod.is_some() {
            return Ok(false);
        }
        let Some(volume) = seen.claim().and_then(|claim| claim.at("/spec/volumeName").as_str()) else {
            return Ok(true);
        };
        let kind = GroupVersionKind::gvk("storage.k8s.io", "v1", "VolumeAttachment");
        let attachments: Api<Raw> = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind));
        let failed = |error| Error::new("listing the volumes that are attached", error);
        let found = attachments.list(&ListParams::default()).await.map_err(failed)?;
        let is_ours = |attachment: Raw| {
            attachment.to_value().pointer("/spec/source/persistentVolumeName").and_then(Value::as_str) == Some(volume)
        };
        Ok(!found.into_iter().any(is_ours))
    }

    /// Whether an EndpointSlice of the client Service lists the pod as ready.
    async fn is_served(&self, seen: &Observed, namespace: &str, name: &str) -> Result<bool, Error> {
        let Some(pod) = seen.pod() else { return Ok(false) };
        let kind = GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice");
        let slices: Api<Raw> = Api::namespaced_with(self.client.clone(), namespace, &ApiResource::from_gvk(&kind));
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let failed = |error| Error::new(format!("listing the endpoints of the Service {name}"), error);
        let found = slices.list(&of_service).await.map_err(failed)?;
        Ok(found.into_iter().any(|slice| lists(&slice.to_value(), pod)))
    }
}

fn lists_image(node: &Live, image: &str, image_id: Option<&str>) -> bool {
    let images = node.at("/status/images").as_array().into_iter().flatten();
    let mut names = images.flat_map(|image| image["names"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    names.any(|name| name == image || Some(name) == image_id)
}

/// Whether a slice lists a pod as ready.
fn lists(slice: &Value, pod: &Live) -> bool {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints.into_iter().any(|endpoint| {
        endpoint["targetRef"]["uid"] == pod.uid() && endpoint["conditions"]["ready"].as_bool() != Some(false)
    })
}

/// The class of this driver, if there is one that is meant: by its name, as the only one, or as the default.
fn class_among(driver: &str, named: Option<&str>, classes: &[Value]) -> SnapshotClass {
    let name = |class: &&Value| class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let fitting: Vec<&Value> = classes.iter().filter(|class| class["driver"] == driver).collect();
    if let Some(named) = named {
        return match fitting.iter().any(|class| name(class) == named) {
            true => SnapshotClass::Found(named.to_owned()),
            false => SnapshotClass::None(format!("there is no VolumeSnapshotClass {named} of the driver {driver}")),
        };
    }
    let defaults: Vec<String> =
        fitting.iter().filter(|class| class["metadata"]["annotations"][IS_DEFAULT] == "true").map(name).collect();
    let all: Vec<String> = fitting.iter().map(name).collect();
    match (&*all, &*defaults) {
        ([], _) => SnapshotClass::None(format!("no VolumeSnapshotClass has the driver {driver} of the volume")),
        ([only], _) | (_, [only]) => SnapshotClass::Found(only.clone()),
        _ => SnapshotClass::Several(all),
    }
}

/// Why an upgrade is held if it has no snapshot class. Nothing tells when there is one, so it is looked for every minute.
const OF_CLASS: [&str; 3] = ["SnapshotClassUnclear", "SnapshotsUnavailable", "Unprotected"];

fn asks_for_class(record: &UpgradeStatus) -> bool {
    use UpgradeStep::*;
    let waits_for_other = record.hold.as_ref().is_some_and(|hold| !OF_CLASS.contains(&&*hold.reason));
    matches!(record.step, Preflight | SnapshotOnline | SnapshotFinal | FinalizeSnapshot) && !waits_for_other
}

fn stops(step: UpgradeStep) -> bool {
    use UpgradeStep::*;
    matches!(step, Drain | FinalizeDrain | RollbackStop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, driver: &str, is_default: &str) -> Value {
        json!({ "metadata": { "name": name, "annotations": { IS_DEFAULT: is_default } }, "driver": driver })
    }

    #[test]
    fn a_class_is_taken_only_if_it_is_clear_which_one_is_meant() {
        let found = |classes: &[Value]| class_among("csi", None, classes);
        let named =
            |name: &str| class_among("csi", Some(name), &[class("a", "csi", "true"), class("b", "other", "true")]);
        assert_eq!(named("a"), SnapshotClass::Found("a".into()));
        assert!(matches!(named("b"), SnapshotClass::None(_)) && matches!(named("c"), SnapshotClass::None(_)));
        assert!(matches!(found(&[class("a", "other", "true")]), SnapshotClass::None(_)));
        assert_eq!(found(&[class("a", "csi", "false")]), SnapshotClass::Found("a".into()));
        let two = [class("a", "csi", "false"), class("b", "csi", "true")];
        assert_eq!(found(&two), SnapshotClass::Found("b".into()));
        let unclear = SnapshotClass::Several(vec!["a".into(), "b".into()]);
        assert_eq!(found(&[class("a", "csi", "false"), class("b", "csi", "false")]), unclear);
        assert_eq!(found(&[class("a", "csi", "true"), class("b", "csi", "true")]), unclear);
    }

    #[test]
    fn an_image_is_known_by_its_name_or_its_digest() {
        let node = Live(json!({ "status": { "images": [{ "names": ["a@sha256:1", "a:1"] }, {}] } }));
        assert!(lists_image(&node, "a:1", None) && lists_image(&node, "other:1", Some("a@sha256:1")));
        assert!(!lists_image(&node, "a:2", Some("a@sha256:2")) && !lists_image(&Live(json!({})), "a:1", None));
    }

    #[test]
    fn only_an_endpoint_of_this_pod_that_is_ready_serves() {
        let pod = Live(json!({ "metadata": { "uid": "a" } }));
        let slice = |uid: &str, ready: Value| json!({ "endpoints": [{ "targetRef": { "uid": uid }, "conditions": { "ready": ready } }] });
        assert!(lists(&slice("a", json!(true)), &pod));
        assert!(!lists(&slice("a", json!(false)), &pod));
        assert!(!lists(&slice("b", json!(true)), &pod));
        assert!(!lists(&json!({}), &pod));
    }
}
