//! Every write, one after the other, in the order that was decided.
//!
//! Before each of them the Lease is checked. A write names the object by its uid, so that it is refused when another
//! has taken the name; a write that cannot be undone reads the resource once more, past every cache.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::rand;
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::{
    MANAGER,
    crd::{self, ProgressDB},
    decide::Write,
    drift,
    error::{Error, is_gone},
    kind::{Kind, name_of, uid_of},
    lease::Leadership,
    objects::labels::{self, MANAGED_BY},
    observe::Cache,
    outcomes::Change,
    raw::Raw,
    telemetry,
};

/// Writes to the cluster, as long as this process leads. A clone writes as the same.
#[derive(Clone)]
pub struct Writer {
    /// The client of the API server.
    pub client: Client,
    /// Whether anything may be written.
    pub leadership: Leadership,
    /// Keeps what the API server answers.
    pub cache: Arc<Cache>,
}

/// What became of the writes.
#[derive(Debug, Default)]
pub struct Applied<'a> {
    /// The resource as it then is, if it was written to.
    pub resource: Option<ProgressDB>,
    /// The writes that failed and why; those that have to follow the first one were not tried.
    pub failures: Vec<(&'a Write, Error)>,
}

impl Writer {
    /// Does what was decided; when a write fails, only what need not follow it.
    pub async fn apply<'a>(&self, resource: &ProgressDB, writes: &[&'a Write], now: Timestamp) -> Applied<'a> {
        let mut applied = Applied::default();
        for &write in writes {
            if !applied.failures.is_empty() && write.follows_others() {
                continue;
            }
            match self.apply_one(resource, write, now).await {
                Ok(None) => {}
                Ok(written) => applied.resource = written,
                Err(error) => applied.failures.push((write, error)),
            }
        }
        applied
    }

    /// Returns the resource if that was written to.
    async fn apply_one(
        &self,
        resource: &ProgressDB,
        write: &Write,
        now: Timestamp,
    ) -> Result<Option<ProgressDB>, Error> {
        self.check()?;
        telemetry::record_write(write.name());
        tracing::debug!(event = "act", resource = resource.name_any(), act = write.name(), about = write.about());
        match write {
            Write::SetFinalizers(finalizers) => return self.set_finalizers(resource, finalizers).await.map(Some),
            Write::Apply(object) => self.apply_object(resource, object, now).await?,
            Write::Correct { kind, name, uid, version, patch } => {
                self.correct(resource, *kind, name, (uid, version), patch, now).await?;
            }
            Write::Create(object) => self.create(resource, object).await?,
            Write::CreateKeys(object) => self.create(resource, &with_keys(object)).await?,
            Write::Conclude { name, uid, verdict } => self.conclude(resource, name, uid, verdict).await?,
            Write::Stop { kind, name, uid, version } => self.stop(resource, *kind, name, (uid, version)).await?,
            Write::Delete { kind, name, uid } => self.delete(resource, *kind, name, uid).await?,
            Write::Destroy { kind, name, uid } => {
                self.confirm_deletion(resource).await?;
                self.delete(resource, *kind, name, uid).await?;
            }
            Write::ReleaseClaim { name, uid, version, finalizers } => {
                let patch = with_finalizers(Some(uid), Some(version), finalizers);
                self.release_claim(resource, name, &patch).await?;
            }
            Write::RetainVolume { name } => self.retain_volume(name).await?,
            Write::Label { kind, name, uid, labels } => self.label(resource, *kind, name, uid, labels).await?,
            Write::SetContentPolicy { name, retain } => self.set_content_policy(name, *retain).await?,
        }
        Ok(None)
    }

    /// Refuses to write without the Lease.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.leadership.holds() { Ok(()) } else { Err(Error::NotLeading) }
    }

    fn api(&self, resource: &ProgressDB, kind: Kind) -> Api<Raw> {
        let namespace = resource.namespace().unwrap_or_default();
        Api::namespaced_with(self.client.clone(), &namespace, &kind.api_resource())
    }

    /// The resources beside this one, and itself.
    pub(crate) fn resources(&self, resource: &ObjectMeta) -> Api<Raw> {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<ProgressDB>(&()))
    }

    /// Server-side apply. What exists must be the object that was seen; what does not is made without force, so that
    /// nobody's object is taken who made it a moment ago.
    async fn apply_object(&self, resource: &ProgressDB, object: &Value, now: Timestamp) -> Result<(), Error> {
        let (kind, name) = identify(object);
        let uid = uid_of(object);
        let params = PatchParams::apply(MANAGER);
        let params = if uid.is_some() { params.force() } else { params };
        let outcomes = &self.cache.outcomes;
        let is_repetition = uid.is_some_and(|uid| outcomes.is_repetition(uid, drift::applied_hash(object)));
        let change = if is_repetition { self.what_changed(resource, object).await } else { None };
        let applied = self.api(resource, kind).patch(&name, &params, &Patch::Apply(object)).await;
        if kind.is_optional() && applied.as_ref().is_err_and(is_gone) {
            // Its definition is gone. The watch lists the kind when it is served again.
            self.cache.remove_kind(kind);
            return Ok(());
        }
        let applied = applied.map_err(|error| Error::new(format!("applying {} {name}", kind.name()), error))?;
        let answer = applied.to_value();
        outcomes.note(object, &answer, uid.is_none(), change, now);
        self.cache.upsert(kind, &answer);
        Ok(())
    }

    /// Replaces a part of an object that is still as it was seen.
    async fn correct(
        &self,
        resource: &ProgressDB,
        kind: Kind,
        name: &str,
        (uid, version): (&str, &str),
        patch: &Value,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut patch = patch.clone();
        patch["metadata"] = json!({ "uid": uid, "resourceVersion": version });
        let corrected = self.api(resource, kind).patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        let corrected = corrected.map_err(|error| Error::new(format!("correcting {} {name}", kind.name()), error))?;
        self.cache.outcomes.note_correction(&corrected.to_value(), "spec.ports".to_owned(), now);
        self.keep(kind, &corrected);
        Ok(())
    }

    /// What was changed of an object that was right before, and by whom; `None` if that cannot be known.
    async fn what_changed(&self, resource: &ProgressDB, desired: &Value) -> Option<Change> {
        let (kind, name) = identify(desired);
        let namespace = resource.namespace().unwrap_or_default();
        let whole: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &kind.api_resource());
        let live = whole.get(&name).await.ok()?;
        let live = serde_json::to_value(live).ok()?;
        let change = Change { fields: drift::changes(desired, &live), by: drift::owners(desired, &live) };
        let (fields, by) = (&change.fields, &change.by);
        let (resource, kind) = (resource.name_any(), kind.name());
        tracing::info!(event = "contested", resource, kind, name, fields, by, "set back");
        Some(change)
    }

    async fn create(&self, resource: &ProgressDB, object: &Value) -> Result<(), Error> {
        let (kind, name) = identify(object);
        let failed = |error| Error::new(format!("creating {} {name}", kind.name()), error);
        let api = self.api(resource, kind);
        match api.create(&creation(), &Raw::from(object)).await {
            Ok(made) => self.keep(kind, &made),
            Err(error) => {
                self.delete_hidden_check(resource, kind, &api, &name, &error).await?;
                return Err(failed(error));
            }
        }
        Ok(())
    }

    /// Deletes a check of ours that no watch shows, because its labels were edited, and whose name is needed. It is made
    /// again.
    async fn delete_hidden_check(
        &self,
        resource: &ProgressDB,
        kind: Kind,
        api: &Api<Raw>,
        name: &str,
        error: &kube::Error,
    ) -> Result<(), Error> {
        let is_taken = matches!(error, kube::Error::Api(status) if status.is_already_exists());
        if !is_taken || kind != Kind::Job {
            return Ok(());
        }
        let found = api.get_opt(name).await.map_err(|error| Error::new(format!("reading Job {name}"), error))?;
        let is_ours =
            |found: &Raw| found.owner_references().iter().any(|owner| Some(&owner.uid) == resource.meta().uid.as_ref());
        let hidden = |found: &Raw| found.labels().get(MANAGED_BY).is_none_or(|by| by != MANAGER);
        match found.filter(|found| is_ours(found) && hidden(found)).and_then(|found| found.uid()) {
            Some(uid) => self.delete(resource, kind, name, &uid).await,
            None => Ok(()),
        }
    }

    /// Scales what makes the servers to 0 and leaves all else as it is.
    async fn stop(
        &self,
        resource: &ProgressDB,
        kind: Kind,
        name: &str,
        (uid, version): (&str, &str),
    ) -> Result<(), Error> {
        let patch = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "spec": { "replicas": 0 } });
        let stopped = self.api(resource, kind).patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        self.keep(kind, &stopped.map_err(|error| Error::new(format!("stopping {name}"), error))?);
        // It will be applied again as it was before, and that sets back nobody's edit.
        self.cache.outcomes.forget(uid);
        Ok(())
    }

    /// A Job that is suspended keeps its annotations and loses its pod.
    async fn conclude(&self, resource: &ProgressDB, name: &str, uid: &str, verdict: &str) -> Result<(), Error> {
        let annotations = json!({ labels::VERDICT: verdict });
        let patch = json!({ "metadata": { "uid": uid, "annotations": annotations }, "spec": { "suspend": true } });
        let concluded = self.api(resource, Kind::Job).patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        self.keep(Kind::Job, &concluded.map_err(|error| Error::new(format!("concluding the Job {name}"), error))?);
        Ok(())
    }

    async fn delete(&self, resource: &ProgressDB, kind: Kind, name: &str, uid: &str) -> Result<(), Error> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        match self.api(resource, kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(Error::new(format!("deleting {} {name}", kind.name()), error)),
        }
    }

    /// Refuses unless the resource is still being deleted, under the policy that was decided on.
    async fn confirm_deletion(&self, resource: &ProgressDB) -> Result<(), Error> {
        let name = resource.name_any();
        let doing = format!("looking at {name} again");
        let live = self.resources(&resource.metadata).get(&name).await.map_err(|error| Error::new(&doing, error))?;
        let live = decoded(&live, doing)?;
        let agrees = live.uid() == resource.uid()
            && live.meta().deletion_timestamp.is_some()
            && live.spec.deletion_policy == resource.spec.deletion_policy;
        if agrees {
            return Ok(());
        }
        Err(Error::Stale {
            doing: format!("deleting the data of {name}"),
            message: "its deletion policy changed".into(),
        })
    }

    async fn set_finalizers(&self, resource: &ProgressDB, finalizers: &[String]) -> Result<ProgressDB, Error> {
        let name = resource.name_any();
        let (uid, version) = (resource.uid(), resource.resource_version());
        let patch = with_finalizers(uid.as_deref(), version.as_deref(), finalizers);
        let doing = format!("setting the finalizers of {name}");
        let written = self.resources(&resource.metadata).patch(&name, &as_manager(), &Patch::Merge(&patch)).await;
        decoded(&written.map_err(|error| Error::new(&doing, error))?, doing)
    }

    async fn release_claim(&self, resource: &ProgressDB, name: &str, patch: &Value) -> Result<(), Error> {
        // The claim may be gone with this patch, so the answer is not kept: the watch tells what became of it.
        let released = self.api(resource, Kind::Claim).patch(name, &as_manager(), &Patch::Merge(patch)).await;
        released.map(drop).map_err(|error| Error::new(format!("releasing the claim {name}"), error))
    }

    async fn retain_volume(&self, name: &str) -> Result<(), Error> {
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::PersistentVolume>(&());
        let volumes: Api<Raw> = Api::all_with(self.client.clone(), &kind);
        let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": "Retain" } });
        let kept = volumes.patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        kept.map(drop).map_err(|error| Error::new(format!("keeping the volume {name}"), error))
    }

    async fn label(
        &self,
        resource: &ProgressDB,
        kind: Kind,
        name: &str,
        uid: &str,
        labels: &[(String, String)],
    ) -> Result<(), Error> {
        let labels: BTreeMap<_, _> = labels.iter().cloned().collect();
        let patch = json!({ "metadata": { "uid": uid, "labels": labels } });
        let labelled = self.api(resource, kind).patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        self.keep(kind, &labelled.map_err(|error| Error::new(format!("labelling {} {name}", kind.name()), error))?);
        Ok(())
    }

    async fn set_content_policy(&self, name: &str, retain: bool) -> Result<(), Error> {
        let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent");
        let contents: Api<Raw> = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind));
        let patch = json!({ "spec": { "deletionPolicy": if retain { "Retain" } else { "Delete" } } });
        let set = contents.patch(name, &as_manager(), &Patch::Merge(&patch)).await;
        set.map(drop)
            .map_err(|error| Error::new(format!("setting the deletion policy of the snapshot content {name}"), error))
    }

    fn keep(&self, kind: Kind, object: &Raw) {
        self.cache.upsert(kind, &object.to_value());
    }
}

/// Decodes the resource as it was answered. It could be read when the reconcile began; if it no longer can be, it was
/// changed.
pub(crate) fn decoded(resource: &Raw, doing: String) -> Result<ProgressDB, Error> {
    crd::read(resource.text()).map_err(|unreadable| Error::Stale { doing, message: unreadable.why })
}

/// Replaces the finalizers of an object that is still as it was seen.
fn with_finalizers(uid: Option<&str>, version: Option<&str>, finalizers: &[String]) -> Value {
    json!({ "metadata": { "uid": uid, "resourceVersion": version, "finalizers": finalizers } })
}

/// For a patch of some fields, which the operator then owns.
fn as_manager() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// For an object that the operator makes, and then owns.
pub(crate) fn creation() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn identify(object: &Value) -> (Kind, String) {
    (Kind::of(object).expect("we make objects of kinds that we know"), name_of(object).to_owned())
}

/// The Secret with a random key for each entry that is empty.
fn with_keys(secret: &Value) -> Value {
    let mut secret = secret.clone();
    let entries = secret.get_mut("stringData").and_then(Value::as_object_mut);
    for value in entries.into_iter().flat_map(|entries| entries.values_mut()) {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system gives random bytes");
        *value = hex::encode(bytes).into();
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_another_one() {
        let secret = with_keys(&json!({ "stringData": { "backend": "", "signing": "" } }));
        let (a, b) =
            (secret["stringData"]["backend"].as_str().unwrap(), secret["stringData"]["signing"].as_str().unwrap());
        assert_eq!((a.len(), b.len()), (64, 64));
        assert_ne!(a, b);
    }
}
