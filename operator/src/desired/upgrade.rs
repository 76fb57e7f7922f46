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
    objects::{
        self, Copied, Inputs, Release, UpgradeJob,
        config::SETTINGS_FILE,
        labels::{ROLL, Track},
        names,
    },
    observe::{Live, Observed},
};

/// The ends of the names of the snapshots.
const ONLINE: &str = "online";
const LAST: &str = "last";
const BEFORE_FINALIZE: &str = "before-finalize";
/// The end of the name of the copy that is rehearsed on.
const STAGING: &str = "staging";

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
    /// Copies of the volume; `None` of a fleet, which has none.
    pub copies: Option<Copies>,
}

/// What an upgrade makes of the volume of a single server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
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
    // A fleet has servers for them at any time.
    let record = seen.upgrade().filter(|record| record.outcome.is_none() && !record.is_of_fleet())?;
    let (before, from_the_format_on) = (UpgradeStep::Drain..UpgradeStep::Promote, UpgradeStep::FinalizeDrain..);
    (before.contains(&record.step) || from_the_format_on.contains(&record.step)).then_some(&*record.id)
}

/// The releases of an upgrade, and its id.
struct Releases {
    id: String,
    from: Option<Server>,
    to: Option<Server>,
}

impl Upgrade {
    /// Of the upgrade that is under way, else of the one that would lead from what runs to `server`.
    pub(super) fn build(
        inputs: &Inputs<'_>,
        storage: Option<&EmbeddedStorage>,
        seen: &Observed,
        server: &Server,
    ) -> Option<Self> {
        let record = seen.upgrade().filter(|record| record.outcome.is_none());
        let releases = releases(inputs, seen, server)?;
        let mut jobs = match storage {
            Some(_) => jobs_on_data(inputs, record, &releases, &restored(seen, record)),
            None => jobs_of_fleet(inputs, &releases),
        };
        jobs.extend(test(inputs, seen, &releases.id));
        let copies = storage.map(|storage| Copies::build(inputs, storage, seen, &releases.id));
        let Releases { id, from, to } = releases;
        Some(Self { id, from, to, jobs, copies })
    }
}

/// The releases as they were kept; until they are, as they run and as they are asked for.
fn releases(inputs: &Inputs<'_>, seen: &Observed, server: &Server) -> Option<Releases> {
    let running = || {
        let workload = seen.workload()?;
        let map = seen.mounted_config_map()?;
        // One that was made before releases were kept holds settings only.
        let settings = || Some((map.at("/data").get(SETTINGS_FILE)?.clone(), template_of(workload)));
        let (settings, template) = kept(map).or_else(settings)?;
        Server::of_kept(inputs, server, settings, template)
    };
    let Some(record) = seen.upgrade().filter(|record| record.outcome.is_none()) else {
        let roll = seen.workload()?.template_annotation(ROLL).filter(|roll| *roll != server.roll)?;
        return Some(Releases { id: id(seen, roll, &server.roll), from: running(), to: Some(server.clone()) });
    };
    let claim = record.claim.clone().unwrap_or_else(|| inputs.release.claim.clone());
    let of_upgrade = Inputs { release: Release { claim, ..inputs.release.clone() }, ..inputs.clone() };
    let release = |name: &str| {
        let (settings, template) = kept(seen.objects.get(&(Kind::ConfigMap, name.to_owned()))?)?;
        Server::of_kept(&of_upgrade, server, settings, template)
    };
    // Until both are kept they are made of what runs, and of what is asked for.
    let named = |server: Option<Server>, name: &str| server.filter(|server| server.config_map.name == name);
    let asked = |name: &str| named(Some(server.clone()), name);
    let from = release(&record.from.config).or_else(|| named(running(), &record.from.config));
    let from = from.or_else(|| asked(&record.from.config));
    let to = release(&record.to.config).or_else(|| asked(&record.to.config));
    Some(Releases { id: record.id.clone(), from, to })
}

/// The Jobs that look at a volume, or at a copy of it.
fn jobs_on_data(
    inputs: &Inputs<'_>,
    record: Option<&UpgradeStatus>,
    Releases { id, from, to }: &Releases,
    restored: &str,
) -> BTreeMap<UpgradeJob, Check> {
    let (current, staging) =
        (inputs.release.claim.as_str(), names::of_upgrade(&inputs.resource.name_any(), id, STAGING));
    let is_changed = record.is_some_and(|record| record.data_mutation_started || record.finalizing);
    let job = |job: UpgradeJob| {
        let (server, claim) = match job {
            UpgradeJob::Version => (to, None),
            // Whichever is still there: somebody may delete what the old one was made of.
            UpgradeJob::Inspect if from.is_none() => (to, Some(current)),
            UpgradeJob::Inspect => (from, Some(current)),
            UpgradeJob::Identity => (from, Some(restored)),
            UpgradeJob::RehearseOld => (from, Some(&*staging)),
            UpgradeJob::RehearseNew | UpgradeJob::RehearseFinalize => (to, Some(&*staging)),
            // As long as nothing was changed for the new image, the old one says best whether it can go on.
            UpgradeJob::InspectBack if from.is_some() && !is_changed => (from, Some(current)),
            UpgradeJob::Finalize | UpgradeJob::InspectBack => (to, Some(current)),
            UpgradeJob::Gate | UpgradeJob::Backup | UpgradeJob::FinalBackup => return None,
            UpgradeJob::Schema | UpgradeJob::SchemaApply => return None,
        };
        Some((job, upgrade_job(inputs, id, job, server.as_ref()?, claim)))
    };
    UpgradeJob::ALL.into_iter().filter_map(job).collect()
}

/// Those that ask the new image about itself and about the keyspace, and those of the resource's owner.
fn jobs_of_fleet(inputs: &Inputs<'_>, Releases { id, to, .. }: &Releases) -> BTreeMap<UpgradeJob, Check> {
    let of_image = [UpgradeJob::Version, UpgradeJob::Schema, UpgradeJob::SchemaApply, UpgradeJob::Finalize];
    let of_image = of_image.into_iter().zip(std::iter::repeat(to));
    let mut jobs: BTreeMap<UpgradeJob, Check> = of_image
        .filter_map(|(job, server)| Some((job, upgrade_job(inputs, id, job, server.as_ref()?, None))))
        .collect();
    let own = inputs.resource.spec.upgrade.snapshot.job.as_ref();
    let backups = [UpgradeJob::Backup, UpgradeJob::FinalBackup];
    jobs.extend(
        own.into_iter()
            .flat_map(|own| backups.map(|job| (job, Check::new(objects::backup_job(inputs, id, job, &own.template))))),
    );
    jobs
}

fn upgrade_job(inputs: &Inputs<'_>, id: &str, job: UpgradeJob, server: &Server, claim: Option<&str>) -> Check {
    let release = Release { image: server.image().to_owned(), ..inputs.release.clone() };
    let inputs = Inputs { release, ..inputs.clone() };
    Check::new(objects::upgrade_job(&inputs, id, job, &server.config_map.name, claim))
}

/// The test of the resource's owner, of the server, or of a canary that takes requests.
fn test(inputs: &Inputs<'_>, seen: &Observed, id: &str) -> Option<(UpgradeJob, Check)> {
    let test = inputs.resource.spec.upgrade.gates.job.as_ref()?;
    let canary = seen.servers().filter(|(pod, track)| *track == Track::Canary && pod.is_ready());
    let pod = seen.pod().or_else(|| canary.map(|(pod, _)| pod).next())?;
    let address = pod.at("/status/podIP").as_str()?;
    Some((UpgradeJob::Gate, Check::new(objects::gate_job(inputs, id, &test.template, address))))
}

/// The claim that the way back restores.
fn restored(seen: &Observed, record: Option<&UpgradeStatus>) -> String {
    record.and_then(|record| record.restored_claim.clone()).unwrap_or_else(|| next_claim(seen))
}

impl Copies {
    fn build(inputs: &Inputs<'_>, storage: &EmbeddedStorage, seen: &Observed, id: &str) -> Self {
        let record = seen.upgrade().filter(|record| record.outcome.is_none());
        let of_upgrade = |what: &str| names::of_upgrade(&inputs.resource.name_any(), id, what);
        let snapshot = |what: &str| {
            let (class, current) = (seen.upgrade_class(), &inputs.release.claim);
            Object::new(objects::upgrade_snapshot(inputs.resource, &of_upgrade(what), current, class, id))
        };
        let copied = |make: Restore, claim: &str, from: &str| {
            let snapshot = of_upgrade(from);
            let copied = Copied { snapshot: &snapshot, upgrade: id, least: seen.restore_size(&snapshot) };
            let body = make(inputs, storage, claim, copied);
            Object::new(match seen.claim() {
                Some(Live(live)) => objects::like_claim(body, live),
                None => body,
            })
        };
        let at_rest = if record.is_some_and(|record| record.finalizing) { BEFORE_FINALIZE } else { LAST };
        Self {
            online_snapshot: snapshot(ONLINE),
            final_snapshot: snapshot(LAST),
            finalize_snapshot: snapshot(BEFORE_FINALIZE),
            staging_claim: copied(objects::staging_claim, &of_upgrade(STAGING), ONLINE),
            restored_claim: copied(objects::restored_claim, &restored(seen, record), at_rest),
            rehearsal_policy: Object::new(objects::rehearsal_policy(inputs, id)),
        }
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
