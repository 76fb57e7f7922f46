//! What is known of an upgrade: what was written of it, what people say about it, and what its Jobs, snapshots, claims and
//! gates have come to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::{Job, Pod, text};
use crate::{
    crd::{HistoryEntry, ReleaseStatus, UpgradeStatus},
    desired::Desired,
    drift,
    gate::GateResult,
    kind::Kind,
    objects::{
        LOG_FILE, SERVER, UpgradeJob,
        labels::{ABORT, APPROVE, OVERRIDE, RELEASE, ROLE, ROLL, Role, UPGRADE},
        overrides,
    },
    observe::{Live, Observed, SnapshotClass, image_id},
};

/// What is known of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upgrade {
    /// What was written of the one that is under way, or of the last one.
    pub record: Option<Box<UpgradeStatus>>,
    /// Whether one is written that a newer operator began.
    pub is_unreadable: bool,
    /// Those that have ended.
    pub history: Vec<HistoryEntry>,
    /// The upgrade that a person approves.
    pub approved: Option<String>,
    /// The upgrade that a person gives up.
    pub aborted: Option<String>,
    /// What a person lets pass, as `<id>/<name>`, and until when that is meant.
    pub overrides: BTreeMap<String, Timestamp>,
    /// What of it cannot be understood, and is not about another upgrade.
    pub odd_override: Option<String>,
    /// What the StatefulSet, or the stable Deployment of a fleet, asks for.
    pub running: ReleaseStatus,
    /// The claim that its pods mount.
    pub running_claim: Option<String>,
    /// The ConfigMaps of releases.
    pub releases: Vec<String>,
    /// What the server's pod reads.
    pub mounted: Mounted,
    /// Its Jobs.
    pub jobs: BTreeMap<UpgradeJob, UpgradeJobFacts>,
    /// The pods of its Jobs that have not ended: none of them may share a volume with another.
    pub busy: Vec<String>,
    /// The snapshots of all upgrades, by name.
    pub snapshots: BTreeMap<String, UpgradeSnapshot>,
    /// Which class its snapshots have, if that was asked.
    pub class: Option<SnapshotClass>,
    /// How many commits the data of a promoted server has seen, if that was asked.
    pub sequence: Option<i64>,
    /// Whether the node of the server has the image that runs; `None` if that was not asked.
    pub has_image: Option<bool>,
    /// Claims beside the one with the data, by name.
    pub other_claims: BTreeMap<String, OtherClaim>,
    /// Whether nothing is left of the server's pod: no pod, and no volume that is attached; `None` if that was not asked.
    pub has_left: Option<bool>,
    /// The pod of the server: its uid and its address.
    pub server: Option<(String, String)>,
    /// What the gates have found, by the name of the gate and the uid of the pod.
    pub gates: BTreeMap<(String, String), GateResult>,
    /// Whether the client Service leads to the server's pod; `None` if that was not asked.
    pub is_served: Option<bool>,
    /// The reports of upgrades, by their ids.
    pub reports: BTreeMap<String, UpgradeReport>,
}

/// The ConfigMap of a release that a pod reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mounted {
    /// There is no pod.
    #[default]
    None,
    /// The one of this name.
    Release(String),
    /// The pod does not say which.
    Unsaid,
}

/// The report of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpgradeReport {
    /// The ConfigMap.
    pub name: String,
    /// The upgrade.
    pub upgrade: String,
    /// The hash of what was applied.
    pub applied: String,
    /// Whether it never changes any more.
    pub is_final: bool,
    /// The end of a log in it, while it may change.
    pub log: Option<String>,
}

/// A Job of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpgradeJobFacts {
    /// The Job.
    pub job: Job,
    /// When it was made.
    pub made_at: Option<Timestamp>,
    /// The uid of its pod and its address.
    pub pod: Option<(String, String)>,
    /// When its main container began, if it runs.
    pub serves_since: Option<Timestamp>,
    /// How long it took from its making to the end of its main container, in milliseconds.
    pub took: Option<i64>,
    /// Its containers that have ended, by name.
    pub ended: BTreeMap<String, EndedContainer>,
}

/// A container that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndedContainer {
    /// Whether it ended well.
    pub passed: bool,
    /// Its exit code.
    pub exit_code: Option<i64>,
    /// What it wrote: a JSON line if it ended well.
    pub message: String,
    /// How long it ran, in milliseconds.
    pub millis: i64,
}

impl EndedContainer {
    /// What it found, as JSON.
    pub fn report(&self) -> Value {
        let lines = self.message.lines().rev().map(str::trim);
        lines.filter_map(|line| serde_json::from_str(line).ok()).find(Value::is_object).unwrap_or(Value::Null)
    }
}

/// A snapshot that was made for an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpgradeSnapshot {
    /// Its uid.
    pub uid: String,
    /// The upgrade.
    pub upgrade: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// Whether the state of the volume is fixed, though it may not be ready to be restored.
    pub is_cut: bool,
    /// Whether it can be restored; its content is there and names it.
    pub is_ready: bool,
    /// When it was made.
    pub made_at: Option<Timestamp>,
    /// Whether it says so itself. Nothing rests on that alone.
    pub says_ready: bool,
    /// Why the driver cannot make it.
    pub error: Option<String>,
    /// Its VolumeSnapshotContent, and whether that outlives it.
    pub content: Option<(String, bool)>,
}

/// A claim that is not the one with the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OtherClaim {
    /// Its uid.
    pub uid: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// When it was made.
    pub made_at: Option<Timestamp>,
    /// What its data is to the database.
    pub role: Option<Role>,
    /// The upgrade that it was made for, or that left it.
    pub upgrade: Option<String>,
}

impl Upgrade {
    pub(super) fn of(seen: &Observed, desired: Option<&Desired>) -> Self {
        let status = seen.resource.status.as_ref();
        let annotation = |name: &str| seen.resource.annotations().get(name).cloned();
        let asked = annotation(OVERRIDE).unwrap_or_default();
        let id = status.and_then(|status| status.upgrade.as_ref()).map(|record| record.id.as_str());
        let planned = desired.and_then(|desired| desired.upgrade.as_ref());
        let jobs = planned.into_iter().flat_map(|planned| &planned.jobs);
        let current = seen.claim().map(Live::name);
        let named = |kind: Kind| seen.objects.iter().filter(move |((of, _), _)| *of == kind);
        let claims = named(Kind::Claim).filter(|((_, name), _)| Some(&**name) != current);
        Self {
            record: status.and_then(|status| status.upgrade.clone()),
            is_unreadable: status.is_some_and(|status| status.has_unreadable_upgrade),
            history: status.map(|status| status.history.clone()).unwrap_or_default(),
            approved: annotation(APPROVE),
            aborted: annotation(ABORT),
            overrides: overrides::read(&asked).collect(),
            odd_override: overrides::not_understood(&asked, id),
            running: running(seen),
            running_claim: seen.stateful_set().and_then(mounted_claim),
            releases: named(Kind::ConfigMap)
                .filter(|(_, map)| is_release(map))
                .map(|((_, name), _)| name.clone())
                .collect(),
            mounted: seen.pod().map_or(Mounted::None, Mounted::of),
            jobs: jobs
                .filter_map(|(job, check)| {
                    Some((*job, UpgradeJobFacts::of(seen, Job::of(seen, check)?, &check.container)))
                })
                .collect(),
            busy: named(Kind::Pod).filter(|(_, pod)| is_busy(pod)).map(|((_, name), _)| name.clone()).collect(),
            snapshots: named(Kind::VolumeSnapshot)
                .filter_map(|((_, name), snapshot)| Some((name.clone(), UpgradeSnapshot::of(seen, snapshot)?)))
                .collect(),
            class: seen.upgrade_snapshots.clone(),
            sequence: seen.sequence,
            has_image: seen.has_image,
            other_claims: claims.map(|((_, name), claim)| (name.clone(), OtherClaim::of(claim))).collect(),
            has_left: seen.has_left,
            server: seen.pod().and_then(address),
            gates: seen.gates.clone(),
            is_served: seen.is_served,
            reports: named(Kind::ConfigMap)
                .filter_map(|(_, map)| UpgradeReport::of(map))
                .map(|report| (report.upgrade.clone(), report))
                .collect(),
        }
    }

    /// What a gate of this name found about this pod.
    pub fn gate(&self, name: &str, pod: &str) -> Option<&GateResult> {
        self.gates.get(&(name.to_owned(), pod.to_owned()))
    }
}

fn mounted_claim(set: &Live) -> Option<String> {
    let volumes = set.at("/spec/template/spec/volumes").as_array()?;
    volumes.iter().find_map(|volume| text(&volume["persistentVolumeClaim"]["claimName"]))
}

fn is_release(map: &Live) -> bool {
    map.at("/data").get(crate::objects::config::TEMPLATE_FILE).is_some() && map.at("/immutable") == true
}

fn is_busy(pod: &Live) -> bool {
    let has_ended = ["Succeeded", "Failed"].iter().any(|phase| pod.at("/status/phase") == *phase);
    pod.label(UPGRADE).is_some() && !has_ended
}

fn address(pod: &Live) -> Option<(String, String)> {
    let address = text(pod.at("/status/podIP")).filter(|_| !pod.is_deleted())?;
    Some((pod.uid().to_owned(), address))
}

fn running(seen: &Observed) -> ReleaseStatus {
    let Some(set) = seen.workload() else { return ReleaseStatus::default() };
    let status = seen.resource.status.as_ref();
    ReleaseStatus {
        config: seen.mounted_config_map().map(|map| map.name().to_owned()).unwrap_or_default(),
        roll: set.template_annotation(ROLL).unwrap_or_default().to_owned(),
        image: text(&set.template_container(SERVER)["image"]).unwrap_or_default(),
        image_id: seen.pod().or_else(|| seen.ready_servers().next()).and_then(image_id).map(str::to_owned),
        version: status.and_then(|status| status.version.clone()),
        ..ReleaseStatus::default()
    }
}

impl UpgradeJobFacts {
    fn of(seen: &Observed, job: Job, main: &str) -> Self {
        let live = seen.job(&job.name);
        let made_at = live.and_then(Live::created_at);
        let Some(pod) = live.and_then(|job| seen.pod_of_job(job)) else {
            return Self { job, made_at, ..Self::default() };
        };
        let statuses = |pointer: &str| pod.at(pointer).as_array().into_iter().flatten();
        let all = statuses("/status/initContainerStatuses").chain(statuses("/status/containerStatuses"));
        let ended = all.filter_map(|status| {
            let ended = Some(&status["state"]["terminated"]).filter(|ended| !ended.is_null())?;
            Some((text(&status["name"])?, EndedContainer::of(ended)))
        });
        let since = &pod.container(main)["state"]["running"]["startedAt"];
        let finished = &pod.container(main)["state"]["terminated"]["finishedAt"];
        let finished = finished.as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let took = finished.zip(made_at).map(|(to, from)| to.duration_since(from).as_millis());
        let is_placed = job.pod.as_ref().is_some_and(|Pod { is_deleted, .. }| !is_deleted);
        Self {
            made_at,
            pod: address(pod).filter(|_| is_placed),
            serves_since: since.as_str().and_then(|since| since.parse().ok()),
            took: took.and_then(|millis| i64::try_from(millis).ok()),
            ended: ended.collect(),
            job,
        }
    }
}

impl Mounted {
    fn of(pod: &Live) -> Self {
        pod.annotation(RELEASE).map_or(Self::Unsaid, |config| Self::Release(config.to_owned()))
    }
}

impl EndedContainer {
    fn of(ended: &Value) -> Self {
        let at = |field: &str| ended[field].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let ran = at("finishedAt").zip(at("startedAt")).map(|(to, from)| to.duration_since(from).as_millis());
        Self {
            passed: ended["exitCode"].as_i64() == Some(0),
            exit_code: ended["exitCode"].as_i64(),
            message: text(&ended["message"]).unwrap_or_default(),
            millis: ran.and_then(|millis| i64::try_from(millis).ok()).unwrap_or_default(),
        }
    }
}

impl UpgradeSnapshot {
    fn of(seen: &Observed, snapshot: &Live) -> Option<Self> {
        let upgrade = snapshot.label(UPGRADE)?.to_owned();
        let content = seen.contents.get(snapshot.name());
        let is_bound = content.is_some_and(|content| content.at("/spec/volumeSnapshotRef/uid") == snapshot.uid());
        let is_there = !snapshot.is_deleted() && content.is_some_and(|content| !content.is_deleted());
        let has = |pointer: &str| content.is_some_and(|content| !content.at(pointer).is_null());
        let says_ready = snapshot.at("/status/readyToUse") == true;
        Some(Self {
            uid: snapshot.uid().to_owned(),
            upgrade,
            is_deleted: snapshot.is_deleted(),
            made_at: snapshot.created_at(),
            says_ready,
            is_cut: is_bound && is_there && has("/status/creationTime") && has("/status/snapshotHandle"),
            is_ready: is_bound && is_there && says_ready,
            error: text(snapshot.at("/status/error/message")),
            content: content
                .filter(|_| is_bound)
                .map(|content| (content.name().to_owned(), content.at("/spec/deletionPolicy") == "Retain")),
        })
    }
}

impl UpgradeReport {
    fn of(map: &Live) -> Option<Self> {
        Some(Self {
            name: map.name().to_owned(),
            upgrade: map.label(UPGRADE)?.to_owned(),
            applied: drift::applied_hash(&map.0).to_owned(),
            is_final: map.at("/immutable") == true,
            log: text(&map.at("/data")[LOG_FILE]),
        })
    }
}

impl OtherClaim {
    fn of(claim: &Live) -> Self {
        Self {
            uid: claim.uid().to_owned(),
            is_deleted: claim.is_deleted(),
            made_at: claim.created_at(),
            role: claim.label(ROLE).and_then(Role::of),
            upgrade: claim.label(UPGRADE).map(str::to_owned),
        }
    }
}
