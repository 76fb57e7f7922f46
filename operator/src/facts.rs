//! Everything that a decision may rest on, besides the resource's spec and what should be: small, comparable, and without
//! JSON but for a patch that is only passed on. They are taken from what was observed here and nowhere else.
//!
//! Moments are kept as moments, and a decision compares them with its own `now`. So decisions can be explored from any
//! facts, also from such as no cluster has shown yet.

mod before;
mod claim;
mod fleet;
mod job;
mod object;
mod pod;
mod upgrade;

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt;
use serde_json::Value;

pub use self::{
    before::{Before, Told},
    claim::{Claim, ClaimPhase, Snapshot, Volume},
    fleet::{Deployment, Fleet, FleetPod},
    job::{Conclusion, Failure, Job},
    object::{Fit, Object},
    pod::{Container, Ended, InitContainer, Pod, State},
    upgrade::{EndedContainer, Mounted, OtherClaim, Upgrade, UpgradeJobFacts, UpgradeReport, UpgradeSnapshot},
};
pub use crate::observe::{Class, Obstacle, PATIENCE, ServerInfo, SnapshotClass, Taken, Verdict, Warning, advice};
use crate::{
    crd::ProgressDB,
    desired::Desired,
    kind::Kind,
    objects::{
        SERVER,
        config::KEY_ENTRIES,
        config_text,
        labels::{FAILED, RAN, RESTARTED_AT, ROLL, TRIED, TRIED_AT},
    },
    observe::{Live, Observed, Purpose, SecretSeen, complaint, needs},
};

/// The kind and the name of an object.
pub type Id = (Kind, String);

/// What is known of one resource and of what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Whether somebody deleted the resource.
    pub is_deleted: bool,
    /// The finalizers of the resource.
    pub finalizers: Vec<String>,
    /// The restart that somebody asked for with an annotation of the resource.
    pub restart: Option<String>,
    /// What the status said before.
    pub before: Before,
    /// Names that the resource needs and others have.
    pub taken: Vec<Taken>,
    /// Every object of the instance.
    pub objects: BTreeMap<Id, Object>,
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// The servers of a fleet.
    pub fleet: Option<Fleet>,
    /// The pod of the server.
    pub pod: Option<Pod>,
    /// The claim.
    pub claim: Option<Claim>,
    /// Its storage class, while that matters.
    pub storage_class: Option<Class>,
    /// The Job that checks the settings.
    pub config_check: Option<Job>,
    /// The Job that checks the KMS.
    pub kms_check: Option<Job>,
    /// What was kept of what ran before.
    pub former: Option<Former>,
    /// Whether a server has run since the StatefulSet was last seen stopped for a change; `None` if that is not known.
    pub ran_since_stop: Option<bool>,
    /// Why what should run instead of the running server cannot, if it was tried and cannot.
    pub trial: Option<Obstacle>,
    /// What the Secrets hold that the resource names or that was generated.
    pub secrets: Secrets,
    /// What a ready server said of itself, if it was probed.
    pub server_info: Option<ServerInfo>,
    /// Whether the server showed the wrapped keys of its store, or said that it does not; always if nobody needs them.
    pub has_wrapped_keys: bool,
    /// The key by which the KMS wraps, if the server was asked for it.
    pub kms_key: Option<String>,
    /// The installation of the operator that decides.
    pub operator: Option<String>,
    /// The write that the API server refuses, in its words.
    pub refusal: Option<String>,
    /// In how long one of the objects that rest may be written again.
    pub rests_for: Option<Duration>,
    /// Claims of which each is labelled as the one with the data, if there are several.
    pub claims_in_conflict: Vec<String>,
    /// What is known of an upgrade.
    pub upgrade: Upgrade,
    /// What matters only while the resource is being deleted.
    pub deletion: Deletion,
}

/// The StatefulSet of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatefulSet {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// How many pods it should have.
    pub replicas: Option<i32>,
    /// Whether it has pods, by its own count.
    pub has_pods: bool,
    /// The image in its pod template.
    pub image: Option<String>,
    /// The annotation `roll` of its pod template.
    pub roll: Option<String>,
    /// The restart that somebody asked for with an annotation of its pod template.
    pub restarted_at: Option<String>,
    /// The last warning about it.
    pub warning: Option<Warning>,
}

/// What was kept of what ran before, while it is not known whether its successor starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Former {
    /// The annotation `roll` of the successor.
    pub tried: Option<String>,
    /// Since when the successor should start.
    pub tried_at: Option<jiff::Timestamp>,
    /// Why it could not, once it was given up.
    pub failed: Option<String>,
    /// Whether a server has run since, or may have.
    pub ran: bool,
}

/// What Secrets hold; never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Secrets {
    /// Whether the resource names a Secret; nothing tells when one of them changes.
    pub are_named: bool,
    /// What is wrong with the Secret of the API keys: reason and message.
    pub api_keys: Option<(&'static str, String)>,
    /// What is wrong with the Secrets of the KMS.
    pub kms: Option<(&'static str, String)>,
    /// What is wrong with the Secrets of a fleet's store.
    pub store: Option<(&'static str, String)>,
    /// Entries with keys that the server that runs uses, or a generated Secret had, and that are gone.
    pub lost: Vec<&'static str>,
    /// The version of the Secret with the API keys.
    pub version: Option<String>,
    /// What the server says of these keys, if it was asked.
    pub verdict: Option<Verdict>,
}

/// What matters only while the resource is being deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// Whether the namespace is being deleted as well.
    pub namespace_ends: bool,
    /// Whether the cluster has VolumeSnapshots.
    pub has_snapshots: bool,
    /// The only snapshot class for the driver of the volume.
    pub snapshot_class: Option<String>,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    /// The volume of the claim.
    pub volume: Option<Volume>,
}

impl Facts {
    /// Takes the facts from what was observed; `desired` is what should be, if that can be said. Whether a successor can
    /// be, and what the API server refuses, is known only later.
    pub fn of(seen: &Observed, desired: Option<&Desired>) -> Self {
        let check = |check: &crate::desired::Check| Job::of(seen, check);
        Self {
            is_deleted: seen.resource.metadata.deletion_timestamp.is_some(),
            finalizers: seen.resource.finalizers().to_vec(),
            restart: seen.resource.annotations().get(RESTARTED_AT).cloned(),
            before: Before::of(&seen.resource),
            taken: seen.taken.clone(),
            objects: seen.objects.iter().map(|(id, live)| (id.clone(), Object::of(seen, id, live, desired))).collect(),
            stateful_set: seen.stateful_set().map(|set| StatefulSet::of(seen, set)),
            fleet: Fleet::of(seen, desired),
            pod: seen.pod().map(|pod| Pod::of(seen, pod, SERVER)),
            claim: seen.claim().map(|claim| Claim::of(seen, claim)),
            storage_class: seen.storage_class.clone(),
            config_check: desired.and_then(|desired| check(&desired.config_check)),
            kms_check: desired.and_then(|desired| desired.kms_check.as_ref()).and_then(check),
            former: seen.former().map(Former::of),
            ran_since_stop: seen.ran_since_stop,
            trial: None,
            secrets: Secrets::of(seen),
            server_info: seen.server_info.clone(),
            has_wrapped_keys: seen.wrapped_keys.is_some(),
            kms_key: seen.kms_key.clone(),
            operator: seen.installation.as_ref().map(ToString::to_string),
            refusal: None,
            rests_for: seen.pasts.values().filter_map(|past| past.until).min(),
            claims_in_conflict: seen.claims_in_conflict(),
            upgrade: Upgrade::of(seen, desired),
            deletion: Deletion::of(seen),
        }
    }

    /// The same facts about the resource as it is after a write.
    pub fn with_resource(self, resource: &ProgressDB) -> Self {
        Self { finalizers: resource.finalizers().to_vec(), before: Before::of(resource), ..self }
    }

    /// The object of this kind and name.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// The objects of this kind that nobody deleted, with their names.
    pub fn living(&self, kind: Kind) -> impl Iterator<Item = (&str, &Object)> {
        let of_kind = self.objects.iter().filter(move |((other, _), object)| *other == kind && !object.is_deleted);
        of_kind.map(|((_, name), object)| (name.as_str(), object))
    }
}

impl StatefulSet {
    fn of(seen: &Observed, set: &Live) -> Self {
        let count = |pointer: &str| set.at(pointer).as_i64();
        Self {
            name: set.name().to_owned(),
            uid: set.uid().to_owned(),
            version: set.version().to_owned(),
            is_deleted: set.is_deleted(),
            replicas: count("/spec/replicas").and_then(|count| i32::try_from(count).ok()),
            has_pods: count("/status/replicas").unwrap_or(0) != 0,
            image: text(&set.template_container(SERVER)["image"]),
            roll: set.template_annotation(ROLL).map(str::to_owned),
            restarted_at: set.template_annotation(RESTARTED_AT).map(str::to_owned),
            warning: warning(seen, set),
        }
    }

    /// Whether it should have a pod.
    pub fn runs(&self) -> bool {
        self.replicas != Some(0)
    }
}

impl Former {
    fn of(former: &Live) -> Self {
        let annotation = |name: &str| former.annotation(name).map(str::to_owned);
        Self {
            tried: annotation(TRIED),
            tried_at: former.annotation(TRIED_AT).and_then(|at| at.parse().ok()),
            failed: annotation(FAILED),
            ran: annotation(RAN).is_some(),
        }
    }
}

impl Secrets {
    fn of(seen: &Observed) -> Self {
        let wrong = |purpose: Purpose| {
            let needs = needs(&seen.resource.spec).into_iter().filter(|need| need.purpose == purpose);
            needs.into_iter().find_map(|need| complaint(&need, seen.secrets.get(&need.secret)?))
        };
        Self {
            are_named: !seen.secrets.is_empty(),
            api_keys: wrong(Purpose::ApiKeys),
            kms: wrong(Purpose::Kms),
            store: wrong(Purpose::Store),
            lost: lost_entries(seen),
            version: seen.key_secret_version().map(str::to_owned),
            verdict: seen.verdict.clone(),
        }
    }
}

/// Entries with keys that are needed and no longer there: of a generated Secret all, of one that is named those that the
/// settings of the running server name.
fn lost_entries(seen: &Observed) -> Vec<&'static str> {
    let runs = || seen.workload().is_some_and(|set| set.at("/spec/replicas") != 0);
    let (secret, needed) = match &seen.resource.spec.api_keys {
        None => (seen.generated_keys.as_ref(), KEY_ENTRIES.to_vec()),
        Some(named) => (seen.secrets.get(&named.secret_name), if runs() { entries_in_use(seen) } else { Vec::new() }),
    };
    let Some(secret @ SecretSeen::Found { .. }) = secret else { return Vec::new() };
    needed.into_iter().filter(|entry| !secret.has(entry)).collect()
}

/// The entries that the settings of the server name.
fn entries_in_use(seen: &Observed) -> Vec<&'static str> {
    let text = seen.mounted_config_map().and_then(|live| config_text(&live.0));
    let settings: Option<Value> = text.and_then(|text| serde_saphyr::from_str(text).ok());
    let keys = settings.as_ref().and_then(|settings| settings.pointer("/server/api_keys"));
    let names_it = |entry: &&str| keys.is_some_and(|keys| keys.get(format!("{entry}_file")).is_some());
    KEY_ENTRIES.into_iter().filter(names_it).collect()
}

impl Deletion {
    fn of(seen: &Observed) -> Self {
        Self {
            namespace_ends: seen.namespace_ends,
            has_snapshots: seen.has_snapshots,
            snapshot_class: seen.snapshot_class.clone(),
            snapshot: Snapshot::of(seen),
            volume: seen.volume.as_ref().map(Volume::of),
        }
    }
}

fn warning(seen: &Observed, live: &Live) -> Option<Warning> {
    seen.warnings.get(live.uid()).cloned()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
