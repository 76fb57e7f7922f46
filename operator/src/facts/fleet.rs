//! The servers of a fleet: what its Deployments ask for and count, and the pods themselves.

use super::{Job, Pod, text};
use crate::{
    desired::Desired,
    objects::{
        SERVER,
        labels::{RELEASE, RESTART, ROLL, Track},
    },
    observe::{Live, Observed},
};

/// The servers of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fleet {
    /// The Deployment with the servers that are asked for.
    pub stable: Option<Deployment>,
    /// The one that tries a new image, while one is tried.
    pub canary: Option<Deployment>,
    /// The pods of both.
    pub pods: Vec<FleetPod>,
    /// The Job that makes the tables.
    pub schema: Option<Job>,
    /// The Job that adds those that an image needs which is asked for.
    pub asked_schema: Option<Job>,
    /// The Job in which that image looks at the data.
    pub asked_data: Option<Job>,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// How many pods it should have.
    pub replicas: i32,
    /// The image in its pod template.
    pub image: Option<String>,
    /// The annotation `roll` of its pod template.
    pub roll: Option<String>,
    /// The restart of the resource that its pod template has seen.
    pub restart: Option<String>,
    /// Whether its counts are of what it asks for now.
    pub is_observed: bool,
    /// Pods that there are.
    pub total: i32,
    /// Those of them that are as the template has them.
    pub updated: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready for long enough.
    pub available: i32,
    /// Why a pod that it needs is not made.
    pub failure: Option<String>,
    /// Whether for a long time none of its pods has come any further, by Kubernetes' own count.
    pub is_stuck: bool,
}

/// A server of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetPod {
    /// Its pod.
    pub pod: Pod,
    /// Which of the two Deployments made it.
    pub track: Track,
    /// The ConfigMap that it reads, if it says which.
    pub release: Option<String>,
    /// Its address.
    pub address: Option<String>,
}

impl Fleet {
    pub(super) fn of(seen: &Observed, desired: Option<&Desired>) -> Option<Self> {
        seen.resource.spec.storage.cassandra()?;
        let planned = desired.and_then(|desired| desired.fleet.as_ref());
        let asked = planned.and_then(|fleet| fleet.asked.as_ref());
        Some(Self {
            stable: seen.deployment(Track::Stable).map(Deployment::of),
            canary: seen.deployment(Track::Canary).map(Deployment::of),
            pods: seen.servers().map(|(pod, track)| FleetPod::of(seen, pod, track)).collect(),
            schema: planned.and_then(|fleet| Job::of(seen, &fleet.schema)),
            asked_schema: asked.and_then(|asked| Job::of(seen, &asked.schema)),
            asked_data: asked.and_then(|asked| Job::of(seen, &asked.data)),
        })
    }

    /// Both Deployments, as far as they are there.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.stable.iter().chain(&self.canary)
    }

    /// The pods that take requests and stay.
    pub fn serving(&self) -> impl Iterator<Item = &FleetPod> {
        self.pods.iter().filter(|server| server.pod.serves())
    }

    /// The first pod of the stable Deployment that takes requests.
    pub fn first_stable(&self) -> Option<&Pod> {
        self.serving().find(|server| server.track == Track::Stable).map(|server| &server.pod)
    }

    /// Whether no server is left, by what the Deployments count and by what is seen.
    pub fn has_stopped(&self) -> bool {
        self.pods.is_empty() && self.deployments().all(|deployment| deployment.is_observed && deployment.total == 0)
    }
}

impl Deployment {
    fn of(live: &Live) -> Self {
        let count = |pointer: &str| live.at(pointer).as_i64().and_then(|count| i32::try_from(count).ok());
        let status = |name: &str| count(&format!("/status/{name}")).unwrap_or(0);
        let failure = live.condition("ReplicaFailure").filter(|(status, ..)| *status == "True");
        let progress = live.condition("Progressing").map(|(status, reason, _)| (status, reason));
        Self {
            name: live.name().to_owned(),
            uid: live.uid().to_owned(),
            version: live.version().to_owned(),
            is_deleted: live.is_deleted(),
            replicas: count("/spec/replicas").unwrap_or(1),
            image: text(&live.template_container(SERVER)["image"]),
            roll: live.template_annotation(ROLL).map(str::to_owned),
            restart: live.template_annotation(RESTART).map(str::to_owned),
            is_observed: live.at("/status/observedGeneration") == live.at("/metadata/generation"),
            total: status("replicas"),
            updated: status("updatedReplicas"),
            ready: status("readyReplicas"),
            available: status("availableReplicas"),
            failure: failure.map(|(_, _, message)| message.to_owned()),
            is_stuck: progress == Some(("False", "ProgressDeadlineExceeded")),
        }
    }

    /// Whether pods make way for others.
    pub fn is_replacing(&self) -> bool {
        !self.is_observed || self.updated != self.total
    }

    /// Whether every pod is as the template has it, and takes requests.
    pub fn is_settled(&self) -> bool {
        self.is_observed && [self.total, self.updated, self.ready].iter().all(|count| *count == self.replicas)
    }
}

impl FleetPod {
    fn of(seen: &Observed, pod: &Live, track: Track) -> Self {
        Self {
            pod: Pod::of(seen, pod, SERVER),
            track,
            release: pod.annotation(RELEASE).map(str::to_owned),
            address: text(pod.at("/status/podIP")),
        }
    }
}
