//! Every read of the cluster, and the only place that reads.
//!
//! What carries our labels comes from watches and costs no call. What does not is asked for by name, and only when the
//! decision needs it: Secrets that the resource names and the class of a volume (each remembered for a minute), the node
//! of a pod that does not end, the namespace and the snapshot of a resource that is being deleted, Events of what waits,
//! and names that we are about to take. No answer is an error and never "it is not there".

mod answer;
mod archive;
mod asked;
mod cache;
mod events;
mod health;
mod installation;
mod keys;
mod live;
mod owner;
mod packed;
mod secrets;
mod trial;
mod watches;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, DynamicResourceScope, GroupVersionKind},
};
use serde_json::Value;

pub use self::{
    answer::{Answer, Ask, Call, over_http},
    cache::Cache,
    events::Told,
    health::Health,
    installation::Installation,
    keys::{Verdict, Wrapped},
    live::Live,
    owner::Taken,
    secrets::{Need, SecretSeen, complaint, fingerprint, needs},
    trial::{Obstacle, advice},
    watches::watch_config,
};
use crate::{
    MANAGER,
    crd::{DeletionPolicy, ProgressDB},
    error::Error,
    kind::Kind,
    objects::{SERVER, labels, names},
    outcomes::Past,
    raw::Raw,
};

/// What was asked for by name is good for this long.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);

/// Nothing is remembered for longer.
const LONGEST: SignedDuration = SignedDuration::from_secs(600);

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What should be.
    pub resource: Arc<ProgressDB>,
    /// The objects of the instance that are ours.
    pub objects: BTreeMap<(Kind, String), Live>,
    /// Names that we need and that others have.
    pub taken: Vec<Taken>,
    /// Whether the cluster has the kind ServiceMonitor.
    pub has_service_monitors: bool,
    /// Whether the cluster has the kind PrometheusRule.
    pub has_prometheus_rules: bool,
    /// Whether the cluster can make snapshots.
    pub has_snapshots: bool,
    /// The Secrets that the resource names.
    pub secrets: BTreeMap<String, SecretSeen>,
    /// The class of the volume, if it matters now.
    pub storage_class: Option<Class>,
    /// Whether the node of a pod that should have ended is ready, and its name.
    pub node: Option<(String, bool)>,
    /// What the server says, if the status does not have it yet.
    pub answer: Option<Answer>,
    /// Whether the namespace is being deleted; looked up only while the resource is.
    pub namespace_ends: bool,
    /// The content that the last snapshot is bound to.
    pub snapshot_content: Option<Live>,
    /// The volume of the claim of a resource that is being deleted.
    pub volume: Option<Live>,
    /// The only snapshot class for the driver of that volume.
    pub snapshot_class: Option<String>,
    /// The entries of the Secret with generated keys, if the server has not accepted them yet.
    pub generated_keys: Option<SecretSeen>,
    /// What the server says of the API keys, if it has not accepted those of the Secret yet.
    pub verdict: Option<Verdict>,
    /// The wrapped keys of the store that runs, if a KMS is to be tried on them; no answer is `None`.
    pub wrapped_keys: Option<Wrapped>,
    /// By which key the KMS wraps, if the server was asked for it.
    pub kms_key: Option<String>,
    /// The installation of the operator that looks; a NetworkPolicy must let it in.
    pub installation: Option<Installation>,
    /// What the API server refuses, in its words.
    pub refusal: Option<String>,
    /// What became of objects when they were applied before, by uid.
    pub pasts: BTreeMap<String, Past>,
    /// Why what should run instead of the server cannot, if it cannot.
    pub trial: Option<Obstacle>,
    /// The last warning about each object that waits for something, by uid.
    pub told: BTreeMap<String, Told>,
}

/// What is known of a storage class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// There is none of this name.
    Missing(String),
    /// Whether its volumes can grow.
    Found {
        /// Its name.
        name: String,
        /// Whether its volumes can grow.
        grows: bool,
    },
}

/// The one who reads.
pub struct Observer {
    client: Client,
    cache: Arc<Cache>,
    ask: Ask,
    installation: Option<Installation>,
    remembered: Mutex<HashMap<About, (Timestamp, Fact)>>,
}

/// What a fact is about: what it is, its namespace and its name.
type About = (&'static str, String, String);

#[derive(Clone, Debug)]
enum Fact {
    Secret(SecretSeen),
    Class(Class),
    KmsKey,
    Told(Option<Told>),
    Trial(Option<Obstacle>),
}

impl Fact {
    /// Nobody wants it when it is older.
    fn lasts(&self) -> SignedDuration {
        match self {
            Self::Secret(_) | Self::Class(_) | Self::Trial(_) => REMEMBERED,
            Self::KmsKey => LONGEST,
            Self::Told(_) => events::BETWEEN,
        }
    }
}

impl Observer {
    /// One who reads the cluster through this client and asks servers in this way.
    pub fn new(client: Client, cache: Arc<Cache>, ask: Ask) -> Self {
        Self { client, cache, ask, installation: None, remembered: Mutex::default() }
    }

    /// Says which installation of the operator it belongs to.
    pub fn of(self, installation: Option<Installation>) -> Self {
        Self { installation, ..self }
    }

    /// Looks at everything that the decision about this resource needs.
    pub async fn observe(&self, resource: Arc<ProgressDB>, now: Timestamp) -> Result<Observed, Error> {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let objects = self.cache.instance(&namespace, &name);
        let mut seen = Observed {
            objects,
            taken: Vec::new(),
            has_service_monitors: self.cache.knows(Kind::ServiceMonitor),
            has_prometheus_rules: self.cache.knows(Kind::PrometheusRule),
            has_snapshots: self.cache.knows(Kind::VolumeSnapshot),
            secrets: BTreeMap::new(),
            storage_class: None,
            node: None,
            answer: None,
            namespace_ends: false,
            snapshot_content: None,
            volume: None,
            snapshot_class: None,
            generated_keys: None,
            verdict: None,
            wrapped_keys: Some(Wrapped::NotShown),
            kms_key: None,
            installation: self.installation.clone(),
            refusal: None,
            pasts: BTreeMap::new(),
            trial: None,
            told: BTreeMap::new(),
            resource,
        };
        if seen.resource.metadata.deletion_timestamp.is_some() {
            self.observe_deletion(&mut seen).await?;
            return Ok(seen);
        }
        self.observe_names(&mut seen).await?;
        for need in needs(&seen.resource.spec) {
            let secret = self.secret(&namespace, &need.secret, now).await?;
            seen.secrets.insert(need.secret, secret);
        }
        seen.storage_class = self.storage_class(&seen, now).await?;
        seen.node = self.node(&seen, now).await?;
        seen.answer = self.answer(&seen).await;
        self.observe_keys(&mut seen, now).await?;
        let past = |live: &Live| Some((live.uid().to_owned(), self.cache.outcomes.past(live.uid(), now)?));
        seen.pasts = seen.objects.values().filter_map(past).collect();
        seen.told = self.told(&seen, now).await?;
        Ok(seen)
    }

    /// Looks who has the names that we need and have not got.
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
                    // The watch tells nothing of one that lost our label: it is asked for each time, until it has it again.
                    if live.label(labels::MANAGED_BY) == Some(MANAGER) {
                        self.cache.absorb(kind, &live.0);
                    }
                    seen.objects.insert((kind, name), live);
                }
                Some(live) => seen.taken.push(Taken { whose: owner::whose(kind, &live), kind, name }),
            }
        }
        Ok(())
    }

    async fn observe_deletion(&self, seen: &mut Observed) -> Result<(), Error> {
        if seen.resource.spec.deletion_policy != DeletionPolicy::Snapshot || seen.resource.finalizers().is_empty() {
            return Ok(());
        }
        let namespace = seen.resource.namespace().unwrap_or_default();
        let found = self.get(&core("Namespace", "namespaces"), None, &namespace).await?;
        seen.namespace_ends = found.is_none_or(|found| found.is_deleted());
        let volume = seen.claim().and_then(|claim| claim.at("/spec/volumeName").as_str());
        if let Some(volume) = volume {
            seen.volume = self.get(&core("PersistentVolume", "persistentvolumes"), None, volume).await?;
        }
        let snapshot = seen.objects.get(&(Kind::VolumeSnapshot, final_snapshot(&seen.resource)));
        let content = snapshot.and_then(|snapshot| snapshot.at("/status/boundVolumeSnapshotContentName").as_str());
        if let Some(content) = content {
            let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent");
            seen.snapshot_content = self.get(&ApiResource::from_gvk(&kind), None, content).await?;
        } else if seen.has_snapshots && snapshot.is_none() && !seen.namespace_ends {
            seen.snapshot_class = self.snapshot_class(seen.volume.as_ref()).await?;
        }
        Ok(())
    }

    /// The class for the driver of a volume, if there is exactly one; else the cluster chooses its default.
    async fn snapshot_class(&self, volume: Option<&Live>) -> Result<Option<String>, Error> {
        let Some(driver) = volume.and_then(|volume| volume.at("/spec/csi/driver").as_str()) else { return Ok(None) };
        let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass");
        let plural = ApiResource::from_gvk_with_plural(&kind, "volumesnapshotclasses");
        let classes: Api<Raw> = Api::all_with(self.client.clone(), &plural);
        let failed = |error| Error::new("listing the snapshot classes", error);
        let found = classes.list(&ListParams::default()).await.map_err(failed)?;
        let mut fitting =
            found.into_iter().filter(|class| class.to_value()["driver"] == driver).map(|class| class.name_any());
        Ok(fitting.next().filter(|_| fitting.next().is_none()))
    }

    async fn get(&self, kind: &ApiResource, namespace: Option<&str>, name: &str) -> Result<Option<Live>, Error> {
        let failed = |error| Error::new(format!("reading {} {name}", kind.kind), error);
        match self.api::<DynamicObject>(kind, namespace).get_opt(name).await {
            Ok(found) => Ok(found.map(|object| Live(serde_json::to_value(object).expect("an object is JSON")))),
            // Of one that is nested too deep it is known who it is.
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
        if let Some(Fact::Secret(seen)) = self.recall(&key, REMEMBERED, now) {
            return Ok(seen);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret =
            secrets.get_opt(name).await.map_err(|error| Error::new(format!("reading the Secret {name}"), error))?;
        let seen = SecretSeen::of(secret.as_ref());
        self.remember(key, now, Fact::Secret(seen.clone()));
        Ok(seen)
    }

    /// The class of the claim while that is not bound, or is smaller than it should be.
    async fn storage_class(&self, seen: &Observed, now: Timestamp) -> Result<Option<Class>, Error> {
        let Some(claim) = seen.claim() else { return Ok(None) };
        let is_settled = claim.at("/status/phase") == "Bound" && !seen.wants_to_grow();
        let Some(name) = claim.at("/spec/storageClassName").as_str().filter(|_| !is_settled) else { return Ok(None) };
        let key = ("class", String::new(), name.to_owned());
        if let Some(Fact::Class(class)) = self.recall(&key, REMEMBERED, now) {
            return Ok(Some(class));
        }
        let kind = GroupVersionKind::gvk("storage.k8s.io", "v1", "StorageClass");
        let found = self.get(&ApiResource::from_gvk_with_plural(&kind, "storageclasses"), None, name).await?;
        let class = match found {
            None => Class::Missing(name.to_owned()),
            Some(found) => Class::Found { name: name.to_owned(), grows: found.at("/allowVolumeExpansion") == true },
        };
        self.remember(key, now, Fact::Class(class.clone()));
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

    /// Asks a ready server that the status does not know yet.
    async fn answer(&self, seen: &Observed) -> Option<Answer> {
        let pod = seen.pod().filter(|pod| pod.condition("Ready").is_some_and(|(status, ..)| status == "True"))?;
        let status = seen.resource.status.clone().unwrap_or_default();
        let is_known = status.version.is_some() && status.image_id.as_deref() == image_id(pod);
        if is_known {
            return None;
        }
        let address = pod.at("/status/podIP").as_str()?.parse().ok()?;
        (self.ask.readiness)(address).await
    }

    fn recall(&self, key: &About, period: SignedDuration, now: Timestamp) -> Option<Fact> {
        let remembered = self.remembered.lock().expect("nobody panics while holding it");
        remembered.get(key).filter(|(at, _)| now.duration_since(*at) < period).map(|(_, fact)| fact.clone())
    }

    fn remember(&self, key: About, now: Timestamp, fact: Fact) {
        let mut remembered = self.remembered.lock().expect("nobody panics while holding it");
        remembered.retain(|_, (at, fact)| now.duration_since(*at) < fact.lasts());
        remembered.insert(key, (now, fact));
    }
}

/// A kind of the core API that the operator does not follow. Such objects are read as JSON: the code that decodes each of
/// their fields would be a large part of the program.
fn core(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural)
}

/// The names that the resource needs. A pod is looked for last, when its StatefulSet is known.
fn expected(seen: &Observed) -> Vec<(Kind, String)> {
    let resource = &seen.resource;
    let (name, spec) = (resource.name_any(), &resource.spec);
    let is_stopped = spec.suspend || seen.stateful_set().is_some_and(|set| set.at("/spec/replicas") == 0);
    let aws = spec.kms.as_ref().and_then(|kms| kms.aws.as_ref());
    let named_account =
        aws.and_then(|aws| aws.credentials.as_ref()).and_then(|given| given.service_account_name.as_ref());
    let names = [
        (Kind::StatefulSet, Some(name.clone())),
        (Kind::Claim, Some(names::claim(&name))),
        (Kind::Service, Some(name.clone())),
        (Kind::Service, Some(names::headless_service(&name))),
        (Kind::ConfigMap, Some(names::config_map(&name))),
        (Kind::Secret, spec.api_keys.is_none().then(|| names::api_keys(&name))),
        (Kind::ServiceAccount, named_account.is_none().then(|| names::service_account(&name))),
        (Kind::NetworkPolicy, spec.network_policy.enabled.then(|| name.clone())),
        (Kind::ServiceMonitor, spec.monitoring.service_monitor.then(|| name.clone())),
        (Kind::PrometheusRule, spec.monitoring.prometheus_rule.then(|| name.clone())),
        (Kind::Pod, (!is_stopped).then(|| names::pod(&name))),
    ];
    names.into_iter().filter_map(|(kind, name)| Some((kind, name?))).collect()
}

/// The name of the snapshot that is left when the resource goes.
pub fn final_snapshot(resource: &ProgressDB) -> String {
    names::final_snapshot(&resource.name_any(), resource.uid().as_deref().unwrap_or_default())
}

/// What the node says that the server of a pod runs.
pub fn image_id(pod: &Live) -> Option<&str> {
    pod.container(SERVER)["imageID"].as_str().filter(|id| !id.is_empty())
}

impl Observed {
    fn object(&self, kind: Kind, name: &str) -> Option<&Live> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// The instance.
    pub fn stateful_set(&self) -> Option<&Live> {
        self.object(Kind::StatefulSet, &self.resource.name_any())
    }

    /// Its volume.
    pub fn claim(&self) -> Option<&Live> {
        self.object(Kind::Claim, &names::claim(&self.resource.name_any()))
    }

    /// Its pod.
    pub fn pod(&self) -> Option<&Live> {
        self.object(Kind::Pod, &names::pod(&self.resource.name_any()))
    }

    /// The Job of this name.
    pub fn job(&self, name: &str) -> Option<&Live> {
        self.object(Kind::Job, name)
    }

    /// The pod that a Job made last.
    pub fn pod_of_job(&self, job: &Live) -> Option<&Live> {
        let mut pods = self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Pod).map(|(_, pod)| pod);
        pods.rfind(|pod| pod.owner() == Some(job.uid()))
    }

    /// Whether the volume is asked to be larger than the claim says.
    pub fn wants_to_grow(&self) -> bool {
        let wanted = crate::drift::quantity(&Value::from(self.resource.spec.storage.embedded.size.clone()));
        let asked = self.claim().and_then(|claim| crate::drift::quantity(claim.at("/spec/resources/requests/storage")));
        wanted.zip(asked).is_some_and(|(wanted, asked)| wanted > asked)
    }
}
