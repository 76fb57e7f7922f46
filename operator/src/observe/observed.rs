//! What was observed of one resource and of what belongs to it.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;
use serde_json::Value;

use super::{Installation, Live, SecretSeen, ServerInfo, SnapshotClass, Taken, Verdict, Warning, Wrapped};
use crate::{
    crd::{ProgressDB, UpgradeStatus},
    drift,
    gate::GateResult,
    kind::Kind,
    objects::{
        labels::{COMPONENT, Component, ROLE, Role, TRACK, Track},
        names,
    },
    outcomes::Past,
};

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The desired state, and the status.
    pub resource: Arc<ProgressDB>,
    /// The objects of the instance.
    pub objects: BTreeMap<(Kind, String), Live>,
    /// Names that the instance needs and that objects of others have.
    pub taken: Vec<Taken>,
    /// Whether the cluster has the kind ServiceMonitor.
    pub has_service_monitors: bool,
    /// Whether the cluster has the kind PrometheusRule.
    pub has_prometheus_rules: bool,
    /// Whether the cluster can make snapshots.
    pub has_snapshots: bool,
    /// The Secrets that the resource names.
    pub secrets: BTreeMap<String, SecretSeen>,
    /// The class of the volume, while it is not bound or has to grow.
    pub storage_class: Option<Class>,
    /// Whether a server has run since the StatefulSet was last seen stopped for a change; `None` if that is not known.
    pub ran_since_stop: Option<bool>,
    /// The node of a pod that should have ended, and whether it is ready.
    pub node: Option<(String, bool)>,
    /// What the server says of itself, if the status does not have it yet.
    pub server_info: Option<ServerInfo>,
    /// Whether the namespace is being deleted; read only while the resource is being deleted.
    pub namespace_ends: bool,
    /// The VolumeSnapshotContent of the last snapshot.
    pub snapshot_content: Option<Live>,
    /// The volume of the claim of a resource that is being deleted.
    pub volume: Option<Live>,
    /// The only snapshot class for the driver of that volume.
    pub snapshot_class: Option<String>,
    /// The snapshot class of an upgrade, if that was asked.
    pub upgrade_snapshots: Option<SnapshotClass>,
    /// How many commits the data of a promoted server has seen, if going back would lose some and somebody asks for that.
    pub sequence: Option<i64>,
    /// Whether the node of the server has the image that runs, so that going back needs no registry; `None` if that was not
    /// asked.
    pub has_image: Option<bool>,
    /// The VolumeSnapshotContents of an upgrade's snapshots, by the names of these.
    pub contents: BTreeMap<String, Live>,
    /// Whether nothing is left of the server that an upgrade stopped; `None` if that was not asked.
    pub has_left: Option<bool>,
    /// What the gates of an upgrade have found, by gate and pod.
    pub gates: BTreeMap<(String, String), GateResult>,
    /// Whether the client Service leads to the server's pod; `None` if that was not asked.
    pub is_served: Option<bool>,
    /// The entries of the Secret with generated keys, if the server has not accepted them yet.
    pub generated_keys: Option<SecretSeen>,
    /// What the server says of the API keys, if it has not accepted those of the Secret yet.
    pub verdict: Option<Verdict>,
    /// The wrapped keys of the store that runs, if a KMS is to be tried on them; `None` if the server did not respond.
    pub wrapped_keys: Option<Wrapped>,
    /// The key by which the KMS wraps, if the server was probed for it.
    pub kms_key: Option<String>,
    /// This installation of the operator; a NetworkPolicy must let it in.
    pub installation: Option<Installation>,
    /// What the API server made of objects that were applied before, by uid.
    pub pasts: BTreeMap<String, Past>,
    /// The last warning about each object that makes no progress, by uid.
    pub warnings: BTreeMap<String, Warning>,
}

/// What is known of a storage class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Observed {
    /// The resource, before anything else was looked at.
    pub fn nothing(resource: Arc<ProgressDB>) -> Self {
        Self {
            resource,
            objects: BTreeMap::new(),
            taken: Vec::new(),
            has_service_monitors: false,
            has_prometheus_rules: false,
            has_snapshots: false,
            secrets: BTreeMap::new(),
            storage_class: None,
            ran_since_stop: None,
            node: None,
            server_info: None,
            namespace_ends: false,
            snapshot_content: None,
            volume: None,
            snapshot_class: None,
            upgrade_snapshots: None,
            sequence: None,
            has_image: None,
            contents: BTreeMap::new(),
            has_left: None,
            gates: BTreeMap::new(),
            is_served: None,
            generated_keys: None,
            verdict: None,
            wrapped_keys: Some(Wrapped::NotShown),
            kms_key: None,
            installation: None,
            pasts: BTreeMap::new(),
            warnings: BTreeMap::new(),
        }
    }

    pub(super) fn object(&self, kind: Kind, name: &str) -> Option<&Live> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// The uid of the resource.
    pub fn uid(&self) -> &str {
        self.resource.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The StatefulSet.
    pub fn stateful_set(&self) -> Option<&Live> {
        self.object(Kind::StatefulSet, &self.resource.name_any())
    }

    /// A Deployment of a fleet.
    pub fn deployment(&self, track: Track) -> Option<&Live> {
        self.object(Kind::Deployment, &names::deployment(&self.resource.name_any(), track))
    }

    /// What makes the pods of the release that runs.
    pub fn workload(&self) -> Option<&Live> {
        match self.resource.spec.storage.cassandra() {
            None => self.stateful_set(),
            Some(_) => self.deployment(Track::Stable),
        }
    }

    /// The servers of a fleet, with their tracks.
    pub fn servers(&self) -> impl Iterator<Item = (&Live, Track)> {
        let pods = self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Pod).map(|(_, pod)| pod);
        let is_server = |pod: &&Live| pod.label(COMPONENT) == Some(Component::Server.as_str());
        pods.filter(is_server).filter_map(|pod| Some((pod, Track::of(pod.label(TRACK)?)?)))
    }

    /// The servers that take requests: the pod of a single one, or those of a fleet with the release that runs.
    pub fn ready_servers(&self) -> impl Iterator<Item = &Live> {
        let is_ready = |pod: &&Live| pod.condition("Ready").is_some_and(|(status, ..)| status == "True");
        let stable = self.servers().filter(|(pod, track)| *track == Track::Stable && !pod.is_deleted());
        self.pod().into_iter().chain(stable.map(|(pod, _)| pod)).filter(is_ready)
    }

    /// The claim with its data: the one that is labelled so. Where none is, it is the one that the status names, or that was
    /// made before there were labels. Two that are labelled so are none: see [`Self::claims_in_conflict`].
    pub fn claim(&self) -> Option<&Live> {
        match &*self.claims_of(Role::Current) {
            [] => self.object(Kind::Claim, &self.unlabelled_claim()).filter(|claim| claim.label(ROLE).is_none()),
            [one] => Some(one),
            _ => None,
        }
    }

    /// The names of claims of which each is labelled as the one with the data, if there are several.
    pub fn claims_in_conflict(&self) -> Vec<String> {
        let current = self.claims_of(Role::Current);
        if current.len() < 2 { Vec::new() } else { current.iter().map(|claim| claim.name().to_owned()).collect() }
    }

    /// The name of the claim with the data, or of the one that is to be made.
    pub fn claim_name(&self) -> String {
        self.claim().map_or_else(|| self.unlabelled_claim(), |claim| claim.name().to_owned())
    }

    fn unlabelled_claim(&self) -> String {
        let named = self.resource.status.as_ref().and_then(|status| status.claim.clone());
        let is_ours = |name: &String| names::instance_of(Kind::Claim, name) == Some(&*self.resource.name_any());
        named.filter(is_ours).unwrap_or_else(|| names::claim(&self.resource.name_any(), 0))
    }

    /// All claims.
    pub fn claims(&self) -> impl Iterator<Item = &Live> {
        self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Claim).map(|(_, claim)| claim)
    }

    fn claims_of(&self, role: Role) -> Vec<&Live> {
        self.claims().filter(|claim| claim.label(ROLE) == Some(role.as_str())).collect()
    }

    /// The upgrade that is under way, or the last one.
    pub fn upgrade(&self) -> Option<&UpgradeStatus> {
        self.resource.status.as_ref()?.upgrade.as_deref()
    }

    /// The ConfigMap with the settings that the pod template mounts.
    pub fn mounted_config_map(&self) -> Option<&Live> {
        self.object(Kind::ConfigMap, &self.mounted_config_map_name()?)
    }

    /// Its name.
    pub fn mounted_config_map_name(&self) -> Option<String> {
        let volumes = self.workload()?.at("/spec/template/spec/volumes").as_array()?;
        let config = volumes.iter().find(|volume| volume["name"] == "config")?;
        config.pointer("/configMap/name")?.as_str().map(str::to_owned)
    }

    /// The snapshot class of an upgrade.
    pub fn upgrade_class(&self) -> Option<&str> {
        match self.upgrade_snapshots.as_ref()? {
            SnapshotClass::Found(class) => Some(class),
            _ => None,
        }
    }

    /// The least size of a volume that is restored from this snapshot.
    pub fn restore_size(&self, snapshot: &str) -> Option<&str> {
        self.object(Kind::VolumeSnapshot, snapshot)?.at("/status/restoreSize").as_str()
    }

    /// Its pod.
    pub fn pod(&self) -> Option<&Live> {
        self.object(Kind::Pod, &names::pod(&self.resource.name_any()))
    }

    /// The ConfigMap with what ran before.
    pub fn former(&self) -> Option<&Live> {
        self.object(Kind::ConfigMap, &names::former(&self.resource.name_any())).filter(|former| !former.is_deleted())
    }

    /// The Job of this name.
    pub fn job(&self, name: &str) -> Option<&Live> {
        self.object(Kind::Job, name)
    }

    /// The last pod of a Job.
    pub fn pod_of_job(&self, job: &Live) -> Option<&Live> {
        let mut pods = self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Pod).map(|(_, pod)| pod);
        pods.rfind(|pod| pod.owner() == Some(job.uid()))
    }

    /// Whether the resource asks for a larger volume than the claim does.
    pub fn wants_to_grow(&self) -> bool {
        let storage = self.resource.spec.storage.embedded();
        let wanted = storage.and_then(|storage| drift::quantity(&Value::from(storage.size.clone())));
        let asked = self.claim().and_then(|claim| drift::quantity(claim.at("/spec/resources/requests/storage")));
        wanted.zip(asked).is_some_and(|(wanted, asked)| wanted > asked)
    }
}
