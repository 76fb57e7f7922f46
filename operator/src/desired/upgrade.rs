//! The objects of an upgrade: the release before and the one after, as they were when it began, and what is made to prove the
//! one on the data of the other.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::{Check, Desired, Object, Server, kept, without_nulls};
use crate::{
    crd::{EmbeddedStorage, UpgradeStatus, UpgradeStep},
    kind::Kind,
    objects::{self, Copied, Inputs, Release, UpgradeJob, config::SETTINGS_FILE, labels::ROLL, names},
    observe::{Live, Observed},
};

/// The ends of the names of the snapshots.
const ONLINE: &str = "online";
const LAST: &str = "last";
const BEFORE_FINALIZE: &str = "before-finalize";

/// Builds a claim of this name from a snapshot.
type Restore = fn(&Inputs<'_>, &EmbeddedStorage, &str, Copied<'_>) -> Value;

/// What an upgrade needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Its id.
    pub id: String,
    /// The release before it, on the data that it began with; `None` if what it was made of is gone.
    pub from: Option<Server>,
    /// The release that it leads to: what the resource asked for when it began.
    pub to: Option<Server>,
    /// Its Jobs.
    pub jobs: BTreeMap<UpgradeJob, Check>,
    /// A snapshot of the data while the old server runs.
    pub online_snapshot: Object,
    /// A snapshot of the data at rest.
    pub final_snapshot: Object,
    /// A snapshot of the data before its format is changed.
    pub finalize_snapshot: Object,
    /// The copy of the data that is rehearsed on, from the first of them.
    pub staging_claim: Object,
    /// The data as it was at rest, from the second or the third of them, to go back.
    pub restored_claim: Object,
    /// What pods that rehearse may reach.
    pub rehearsal_policy: Object,
}

/// The upgrade that keeps clients away from the server, if one does.
pub(super) fn closed_for(seen: &Observed) -> Option<&str> {
    let record = seen.upgrade().filter(|record| record.outcome.is_none())?;
    let (before, from_the_format_on) = (UpgradeStep::Drain..UpgradeStep::Promote, UpgradeStep::FinalizeDrain..);
    (before.contains(&record.step) || from_the_format_on.contains(&record.step)).then_some(&*record.id)
}

impl Upgrade {
    /// Of the upgrade that is under way, else of the one that would lead from what runs to `server`.
    pub(super) fn build(
        inputs: &Inputs<'_>,
        storage: &EmbeddedStorage,
        seen: &Observed,
        server: &Server,
    ) -> Option<Self> {
        let record = seen.upgrade().filter(|record| record.outcome.is_none());
        let running = || {
            let set = seen.stateful_set()?;
            let map = seen.mounted_config_map()?;
            // One that was made before releases were kept holds settings only.
            let settings = || Some((map.at("/data").get(SETTINGS_FILE)?.clone(), template_of(set)));
            let (settings, template) = kept(map).or_else(settings)?;
            Server::of_kept(inputs, server, settings, template)
        };
        let (id, from, to) = match record {
            Some(record) => {
                let claim = record.claim.clone().unwrap_or_else(|| inputs.release.claim.clone());
                let inputs = Inputs { release: Release { claim, ..inputs.release.clone() }, ..inputs.clone() };
                let release = |name: &str| {
                    let (settings, template) = kept(seen.objects.get(&(Kind::ConfigMap, name.to_owned()))?)?;
                    Server::of_kept(&inputs, server, settings, template)
                };
                // Until both are kept they are made of what runs, and of what is asked for.
                let named = |server: Option<Server>, name: &str| server.filter(|server| server.config_map.name == name);
                let asked = |name: &str| named(Some(server.clone()), name);
                let from = release(&record.from.config).or_else(|| named(running(), &record.from.config));
                let from = from.or_else(|| asked(&record.from.config));
                let to = release(&record.to.config).or_else(|| asked(&record.to.config));
                (record.id.clone(), from, to)
            }
            None => {
                let set = seen.stateful_set()?;
                let roll = set.template_annotation(ROLL).filter(|roll| *roll != server.roll)?;
                (id(seen, roll, &server.roll), running(), Some(server.clone()))
            }
        };
        let name = inputs.resource.name_any();
        let of_upgrade = |what: &str| names::of_upgrade(&name, &id, what);
        let current = &inputs.release.claim;
        let staging = of_upgrade("staging");
        let snapshot = |what: &str| {
            let class = seen.upgrade_class();
            Object::new(objects::upgrade_snapshot(inputs.resource, &of_upgrade(what), current, class, &id))
        };
        let copied = |make: Restore, claim: &str, from: &str| {
            let snapshot = of_upgrade(from);
            let copied = Copied { snapshot: &snapshot, upgrade: &id, least: seen.restore_size(&snapshot) };
            let body = make(inputs, storage, claim, copied);
            Object::new(match seen.claim() {
                Some(Live(live)) => objects::like_claim(body, live),
                None => body,
            })
        };
        let restored = record.and_then(|record| record.restored_claim.clone()).unwrap_or_else(|| next_claim(seen));
        let at_rest = if record.is_some_and(|record| record.finalizing) { BEFORE_FINALIZE } else { LAST };
        let is_changed = record.is_some_and(|record| record.data_mutation_started || record.finalizing);
        let mut jobs = BTreeMap::new();
        for job in UpgradeJob::ALL {
            let (server, claim) = match job {
                UpgradeJob::Gate => continue,
                UpgradeJob::Version => (&to, None),
                // Whichever is still there: somebody may delete what the old one was made of.
                UpgradeJob::Inspect if from.is_none() => (&to, Some(current.as_str())),
                UpgradeJob::Inspect => (&from, Some(current.as_str())),
                UpgradeJob::Identity => (&from, Some(restored.as_str())),
                UpgradeJob::RehearseOld => (&from, Some(staging.as_str())),
                UpgradeJob::RehearseNew | UpgradeJob::RehearseFinalize => (&to, Some(staging.as_str())),
                // As long as nothing was changed for the new image, the old one says best whether it can go on.
                UpgradeJob::InspectBack if from.is_some() && !is_changed => (&from, Some(current.as_str())),
                UpgradeJob::Finalize | UpgradeJob::InspectBack => (&to, Some(current.as_str())),
            };
            if let Some(server) = server {
                let release = Release { image: server.image().to_owned(), ..inputs.release.clone() };
                let inputs = Inputs { release, ..inputs.clone() };
                let body = objects::upgrade_job(&inputs, &id, job, &server.config_map.name, claim);
                jobs.insert(job, Check::new(body));
            }
        }
        let test = inputs.resource.spec.upgrade.gates.job.as_ref();
        let address = seen.pod().and_then(|pod| pod.at("/status/podIP").as_str());
        let test = test.zip(address).map(|(test, address)| objects::gate_job(inputs, &id, &test.template, address));
        jobs.extend(test.map(|job| (UpgradeJob::Gate, Check::new(job))));
        Some(Self {
            online_snapshot: snapshot(ONLINE),
            final_snapshot: snapshot(LAST),
            finalize_snapshot: snapshot(BEFORE_FINALIZE),
            staging_claim: copied(objects::staging_claim, &staging, ONLINE),
            restored_claim: copied(objects::restored_claim, &restored, at_rest),
            rehearsal_policy: Object::new(objects::rehearsal_policy(inputs, &id)),
            id,
            from,
            to,
            jobs,
        })
    }
}

impl Desired {
    /// The report of an upgrade of the resource of this name, that ended then, with the end of a log. It is where the settings
    /// are, and belongs to whom they do.
    pub fn upgrade_report(
        &self,
        name: &str,
        record: &UpgradeStatus,
        ended: Option<Timestamp>,
        log: Option<&str>,
    ) -> Object {
        Object::new(objects::upgrade_report(&self.server.config_map.body["metadata"], name, record, ended, log))
    }
}

fn template_of(set: &Live) -> Value {
    without_nulls(set.at("/spec/template").clone())
}

/// The id of the upgrade between these releases: the same if the operator decides on it again, and another one if the
/// resource asks for it again later.
fn id(seen: &Observed, from: &str, to: &str) -> String {
    let generation = seen.resource.metadata.generation.unwrap_or_default();
    let made_of = format!("{} {from} {to} {generation}", seen.uid());
    objects::hash(made_of.as_bytes())[..8].to_owned()
}

/// The name of a claim that there never was.
fn next_claim(seen: &Observed) -> String {
    let name = seen.resource.name_any();
    let stem = names::claim(&name, 0);
    let stem = stem.trim_end_matches('0');
    let numbers = seen.objects.keys().filter(|(kind, _)| *kind == Kind::Claim);
    let used = numbers.filter_map(|(_, claim)| claim.strip_prefix(stem)?.parse::<u32>().ok()).max();
    names::claim(&name, used.map_or(1, |used| used.saturating_add(1)))
}
