//! Every read of the cluster, and the only place that reads.
//!
//! Objects with our labels come from watches and cost no call. Others are read by name, and only when the decision needs
//! them: Secrets that the resource names and the class of a volume (each kept for a minute), the node of a pod that does not
//! end, all that the deletion of a resource rests on, Events about what waits, and names that are about to be used. A read that fails is an error and never means that the object does not exist.

mod api_keys;
mod archive;
mod cache;
mod compressed;
mod deletion;
mod events;
mod health;
mod installation;
mod live;
mod observed;
mod owner;
mod runs;
mod secrets;
mod server_info;
mod trial;
mod upgrade;
mod watches;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::DynamicObject,
    core::{ApiResource, DynamicResourceScope, GroupVersionKind},
};

pub use self::{
    api_keys::{Verdict, Wrapped},
    cache::Cache,
    events::Warning,
    health::Health,
    installation::Installation,
    live::Live,
    observed::{Class, Observed},
    owner::Taken,
    runs::{PATIENCE, has_run},
    secrets::{CERTIFICATE, Need, Purpose, SecretSeen, complaint, fingerprint, needs},
    server_info::{ApiRequest, Probe, ServerInfo},
    trial::{Obstacle, advice},
    upgrade::SnapshotClass,
    watches::watch_config,
};
use crate::{
    MANAGER,
    crd::ProgressDB,
    error::Error,
    kind::Kind,
    objects::{SERVER, labels, names},
    raw::Raw,
};

/// What was read by name is used for this long.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// The name of the KMS' key is used for this long.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(600);

/// Reads the cluster.
pub struct Observer {
    client: Client,
    cache: Arc<Cache>,
    probe: Probe,
    installation: Option<Installation>,
    lookups: Mutex<HashMap<LookupKey, (Timestamp, Lookup)>>,
}

/// What was read, the namespace and the name.
type LookupKey = (&'static str, String, String);

/// What was read by name.
#[derive(Clone, Debug)]
enum Lookup {
    Secret(SecretSeen),
    Class(Class),
    KmsKey,
    Warning(Option<Warning>),
    Trial(Option<Obstacle>),
    SnapshotClass(SnapshotClass),
}

impl Lookup {
    /// It is not used when it is older.
    fn max_age(&self) -> SignedDuration {
        match self {
            Self::Secret(_) | Self::Class(_) | Self::Trial(_) | Self::SnapshotClass(_) => FRESH,
            Self::KmsKey => MAX_AGE,
            Self::Warning(_) => events::INTERVAL,
        }
    }
}

impl Observer {
    /// Reads through this client and this cache, and probes servers in this way.
    pub fn new(client: Client, cache: Arc<Cache>, probe: Probe) -> Self {
        Self { client, cache, probe, installation: None, lookups: Mutex::default() }
    }

    /// Belongs to this installation of the operator.
    pub fn with_installation(self, installation: Option<Installation>) -> Self {
        Self { installation, ..self }
    }

    /// Reads everything that the decision about this resource needs; `awaits_kms_check` says of what was read so far whether
    /// the KMS is still to be tried.
    pub async fn observe(
        &self,
        resource: Arc<ProgressDB>,
        awaits_kms_check: fn(&Observed) -> bool,
        now: Timestamp,
    ) -> Result<Observed, Error> {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let mut objects = self.cache.instance(&namespace, &name);
        if resource.spec.storage.cassandra().is_some() {
            // A fleet has neither: those under its name are what an instance of this name has left.
            objects.retain(|(kind, _), _| !matches!(kind, Kind::Claim | Kind::VolumeSnapshot));
        }
        let mut seen = Observed {
            objects,
            has_service_monitors: self.cache.knows(Kind::ServiceMonitor),
            has_prometheus_rules: self.cache.knows(Kind::PrometheusRule),
            has_snapshots: self.cache.knows(Kind::VolumeSnapshot),
            installation: self.installation.clone(),
            ..Observed::nothing(resource)
        };
        if seen.resource.metadata.deletion_timestamp.is_some() {
            self.observe_deletion(&mut seen).await?;
            return Ok(seen);
        }
        self.observe_names(&mut seen).await?;
        // Boxed, as all that is rare.
        Box::pin(self.observe_upgrade(&mut seen, now)).await?;
        self.observe_runs(&mut seen, now).await?;
        for need in needs(&seen.resource.spec) {
            let secret = self.secret(&namespace, &need.secret, now).await?;
            seen.secrets.insert(need.secret, secret);
        }
        seen.storage_class = self.storage_class(&seen, now).await?;
        seen.node = self.node(&seen, now).await?;
        seen.server_info = self.server_info(&seen).await;
        self.observe_keys(&mut seen, awaits_kms_check, now).await?;
        let past = |live: &Live| Some((live.uid().to_owned(), self.cache.outcomes.past(live.uid(), now)?));
        seen.pasts = seen.objects.values().filter_map(past).collect();
        seen.warnings = self.warnings(&seen, now).await?;
        Ok(seen)
    }

    /// Reads the objects that have names of the instance and are not in the cache.
    async fn observe_names(&self, seen: &mut Observed) -> Result<(), Error> {
        let namespace = seen.resource.namespace().unwrap_or_default();
        for (kind, name) in expected(seen) {
            let is_known = !kind.is_optional() || self.cache.knows(kind);
            if !is_known || seen.objects.contains_key(&(kind, name.clone())) {
                continue;
            }
            let found = self.get(&kind.api_resource(), Some(&namespace), &name).await?;
            match found {
                None => {}
                Some(live) if owner::is_ours(kind, &live, &seen.resource, seen.stateful_set()) => {
                    // Without our label the watch does not show it: it is read each time, until it has the label again.
                    if live.label(labels::MANAGED_BY) == Some(MANAGER) {
                        self.cache.upsert(kind, &live.0);
                    }
                    seen.objects.insert((kind, name), live);
                }
                Some(live) => seen.taken.push(Taken { whose: owner::whose(kind, &live), kind, name }),
            }
        }
        Ok(())
    }

    async fn get(&self, kind: &ApiResource, namespace: Option<&str>, name: &str) -> Result<Option<Live>, Error> {
        let failed = |error| Error::new(format!("reading {} {name}", kind.kind), error);
        match self.api::<DynamicObject>(kind, namespace).get_opt(name).await {
            Ok(found) => Ok(found.map(|object| Live(serde_json::to_value(object).expect("an object is JSON")))),
            // It is nested too deep to be decoded: its metadata is read.
            Err(kube::Error::SerdeError(_)) => {
                let found = self.api::<Raw>(kind, namespace).get_opt(name).await.map_err(failed)?;
                Ok(found.map(|object| Live(object.to_value())))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn api<K>(&self, kind: &ApiResource, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
            None => Api::all_with(self.client.clone(), kind),
        }
    }

    async fn secret(&self, namespace: &str, name: &str, now: Timestamp) -> Result<SecretSeen, Error> {
        let key = ("secret", namespace.to_owned(), name.to_owned());
        if let Some(Lookup::Secret(seen)) = self.recall(&key, FRESH, now) {
            return Ok(seen);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret =
            secrets.get_opt(name).await.map_err(|error| Error::new(format!("reading the Secret {name}"), error))?;
        let seen = SecretSeen::of(secret.as_ref());
        self.remember(key, now, Lookup::Secret(seen.clone()));
        Ok(seen)
    }

    /// The class of the claim while that is not bound or has to grow.
    async fn storage_class(&self, seen: &Observed, now: Timestamp) -> Result<Option<Class>, Error> {
        let Some(claim) = seen.claim() else { return Ok(None) };
        let is_settled = claim.at("/status/phase") == "Bound" && !seen.wants_to_grow();
        let Some(name) = claim.at("/spec/storageClassName").as_str().filter(|_| !is_settled) else { return Ok(None) };
        let key = ("class", String::new(), name.to_owned());
        if let Some(Lookup::Class(class)) = self.recall(&key, FRESH, now) {
            return Ok(Some(class));
        }
        let kind = GroupVersionKind::gvk("storage.k8s.io", "v1", "StorageClass");
        let found = self.get(&ApiResource::from_gvk_with_plural(&kind, "storageclasses"), None, name).await?;
        let class = match found {
            None => Class::Missing(name.to_owned()),
            Some(found) => Class::Found { name: name.to_owned(), grows: found.at("/allowVolumeExpansion") == true },
        };
        self.remember(key, now, Lookup::Class(class.clone()));
        Ok(Some(class))
    }

    /// The node of a pod that should have ended by now.
    async fn node(&self, seen: &Observed, now: Timestamp) -> Result<Option<(String, bool)>, Error> {
        let Some(pod) = seen.pod() else { return Ok(None) };
        let is_overdue = pod.deleted_at().is_some_and(|at| at < now);
        let Some(name) = pod.at("/spec/nodeName").as_str().filter(|_| is_overdue) else { return Ok(None) };
        let node = self.get(&core("Node", "nodes"), None, name).await?;
        let ready = node.is_some_and(|node| node.condition("Ready").is_some_and(|(status, ..)| status == "True"));
        Ok(Some((name.to_owned(), ready)))
    }

    /// Probes a ready server that the status does not know yet.
    async fn server_info(&self, seen: &Observed) -> Option<ServerInfo> {
        let pod = seen.ready_servers().next()?;
        let status = seen.resource.status.clone().unwrap_or_default();
        let is_known = status.version.is_some() && status.image_id.as_deref() == image_id(pod);
        if is_known {
            return None;
        }
        let address = pod.at("/status/podIP").as_str()?.parse().ok()?;
        (self.probe.readiness)(address).await
    }

    fn recall(&self, key: &LookupKey, max_age: SignedDuration, now: Timestamp) -> Option<Lookup> {
        let lookups = self.lookups.lock().expect("nobody panics while holding it");
        lookups.get(key).filter(|(at, _)| now.duration_since(*at) < max_age).map(|(_, found)| found.clone())
    }

    fn remember(&self, key: LookupKey, now: Timestamp, found: Lookup) {
        let mut lookups = self.lookups.lock().expect("nobody panics while holding it");
        lookups.retain(|_, (at, found)| now.duration_since(*at) < found.max_age());
        lookups.insert(key, (now, found));
    }
}

/// A kind of the core API that the operator does not watch. Such objects are read as JSON: code that decodes each of their
/// fields would be a large part of the program.
fn core(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural)
}

/// The objects that the resource needs. The pod comes last, because its StatefulSet says whether it is ours.
fn expected(seen: &Observed) -> Vec<(Kind, String)> {
    let resource = &seen.resource;
    let (name, spec) = (resource.name_any(), &resource.spec);
    let is_fleet = spec.storage.cassandra().is_some();
    let is_stopped = spec.suspend || seen.stateful_set().is_some_and(|set| set.at("/spec/replicas") == 0);
    let has_canary = is_fleet && seen.upgrade().is_some_and(|record| record.outcome.is_none());
    let aws = spec.kms.as_ref().and_then(|kms| kms.aws.as_ref());
    let named_account =
        aws.and_then(|aws| aws.credentials.as_ref()).and_then(|given| given.service_account_name.as_ref());
    let names = [
        (Kind::StatefulSet, (!is_fleet).then(|| name.clone())),
        (Kind::Claim, (!is_fleet).then(|| seen.claim_name())),
        (Kind::Deployment, is_fleet.then(|| name.clone())),
        (Kind::Deployment, has_canary.then(|| names::deployment(&name, labels::Track::Canary))),
        (Kind::DisruptionBudget, is_fleet.then(|| name.clone())),
        (Kind::Service, Some(name.clone())),
        (Kind::Service, Some(names::headless_service(&name))),
        (Kind::ConfigMap, seen.mounted_config_map_name()),
        (Kind::Secret, spec.api_keys.is_none().then(|| names::api_keys(&name))),
        (Kind::ServiceAccount, named_account.is_none().then(|| names::service_account(&name))),
        (Kind::NetworkPolicy, spec.network_policy.enabled.then(|| name.clone())),
        (Kind::ServiceMonitor, spec.monitoring.service_monitor.then(|| name.clone())),
        (Kind::PrometheusRule, spec.monitoring.prometheus_rule.then(|| name.clone())),
        (Kind::Pod, (!is_stopped && !is_fleet).then(|| names::pod(&name))),
    ];
    names.into_iter().filter_map(|(kind, name)| Some((kind, name?))).collect()
}

/// The name of the snapshot that is left when the resource goes.
pub fn final_snapshot(resource: &ProgressDB) -> String {
    names::final_snapshot(&resource.name_any(), resource.uid().as_deref().unwrap_or_default())
}

/// The id of the image that the server of a pod runs, as the node reports it.
pub fn image_id(pod: &Live) -> Option<&str> {
    pod.container(SERVER)["imageID"].as_str().filter(|id| !id.is_empty())
}
