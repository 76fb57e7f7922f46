//! What to do about a resource: a pure function of its spec, of what should be, of [`Facts`] and of the time. It has no
//! client, no clock and no randomness.
//!
//! Writes are made in the order of the decision, and the one that cannot be taken back comes last. Nothing that runs is
//! touched before what is to replace it has been checked: the Secrets are there, the new image accepts the settings, the
//! KMS wraps and unwraps. What is not known leaves everything as it is.

mod api_keys;
mod checks;
mod configuration;
mod delay;
mod deletion;
mod fleet;
mod keys;
mod names;
mod objects;
mod pods;
mod restart;
mod roll;
mod rollback;
mod schema;
mod server;
mod step;
mod storage;
mod upgrade;
mod write;

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use self::step::Step;
use self::upgrade::Plan;
pub use self::write::Write;
use crate::{
    conditions::Finding,
    crd::{ProgressDB, ProgressDBSpec, ProgressDBStatus, UpgradeStatus, UpgradeStep},
    desired::{AskedImage, Desired},
    facts::{Facts, Verdict},
    gate::GateRequest,
    status::{self, Findings},
};

/// When nothing is awaited.
const SETTLED: Duration = Duration::from_secs(600);
/// When something is awaited that no watch tells of.
const SOON: Duration = Duration::from_secs(60);
/// When something is awaited that comes within seconds.
const VERY_SOON: Duration = Duration::from_secs(15);

/// What is decided about a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The whole status.
    pub status: ProgressDBStatus,
    /// The writes, in their order. Each can be repeated, and what it does can be undone or made again.
    pub writes: Vec<Write>,
    /// The write that cannot be taken back: after all others, and never more than one.
    pub irreversible: Option<Write>,
    /// What is to be tried meanwhile.
    pub gates: Vec<GateRequest>,
    /// When to decide again, if nothing changes before.
    pub requeue_after: Duration,
}

/// What the parts of a decision are functions of.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// The name of the resource.
    name: &'a str,
    /// What the resource asks for.
    spec: &'a ProgressDBSpec,
    /// The objects that follow from it.
    desired: &'a Desired,
    /// What is known.
    facts: &'a Facts,
    /// The time.
    now: Timestamp,
}

impl Decision {
    /// Everything that is to be written, in its order.
    pub fn all_writes(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter().chain(&self.irreversible)
    }
}

/// The StatefulSet that would take the place of a server that runs, to be tried before that is stopped.
pub fn successor(resource: &ProgressDB, desired: &Desired, facts: &Facts) -> Option<serde_json::Value> {
    let is_given_up = rollback::given_up(desired, facts).is_some();
    let is_decided = upgrade::is_decided(&resource.spec, desired, facts);
    if facts.is_deleted || is_given_up || is_decided || names::conflict(&resource.name_any(), facts).is_some() {
        return None;
    }
    roll::successor(&resource.spec, desired, facts)
}

/// Whether the decision rests on the copies behind the snapshots of an upgrade.
pub fn looks_at_copies(resource: &ProgressDB, desired: &Desired, facts: &Facts, now: Timestamp) -> bool {
    let (name, spec) = (&*resource.name_any(), &resource.spec);
    !facts.is_deleted && upgrade::looks_at_copies(Case { name, spec, desired, facts, now })
}

/// Decides what to do about a resource; `desired` is what should be, or why that cannot be said.
pub fn decide(resource: &ProgressDB, desired: &Result<Desired, Finding>, facts: &Facts, now: Timestamp) -> Decision {
    if facts.is_deleted {
        return deletion::decide(resource, facts, now);
    }
    let mut step = Step::default().writing(objects::finalizers(&resource.spec, facts));
    let findings = match (names::conflict(&resource.name_any(), facts), desired) {
        (Some(blocked), _) => Findings { blocked: Some(blocked), ..unchecked(&resource.spec, facts, now) },
        (None, Err(problem)) => Findings { configuration: problem.clone(), ..unchecked(&resource.spec, facts, now) },
        (None, Ok(desired)) => {
            let (name, spec) = (&*resource.name_any(), &resource.spec);
            step.take(Case { name, spec, desired, facts, now }.decide())
        }
    };
    let requeue_after = requeue_after(&findings, facts);
    let is_writing = !step.writes.is_empty() || step.irreversible.is_some();
    Decision {
        status: status::of_resource(resource, facts, &findings, is_writing, now),
        writes: step.writes,
        irreversible: step.irreversible,
        gates: step.gates,
        requeue_after,
    }
}

impl<'a> Case<'a> {
    /// Decides about a resource whose names are its own and whose objects can be built.
    fn decide(self) -> Step<Findings> {
        let mut step = Step::default().writing(objects::unwanted(self));
        step = step.writing(self.desired.always.iter().filter_map(|object| self.apply_if_needed(object)));
        step = step.writing(api_keys::secret(self));
        let storage = step.take(match &self.desired.fleet {
            Some(planned) => schema::assess(self, planned),
            None => storage::assess(self),
        });
        let findings = match upgrade::plan(self) {
            Plan::Guarded(record, first) => {
                step = step.writing(first);
                step.take(self.upgrade(&record))
            }
            Plan::Stays(upgrade) => step.take(self.stay()).with_upgrade(upgrade),
            Plan::Direct(upgrade) => match &self.desired.fleet {
                Some(planned) => step.take(fleet::run(self, planned, &storage)).with_upgrade(upgrade),
                None => step.take(self.roll_directly()).with_upgrade(upgrade),
            },
        };
        step.take(upgrade::tidy(self));
        // Nothing waits for it.
        step = step.writing(upgrade::report(self, &findings.upgrade));
        step.map(|()| Findings { storage, ..findings })
    }

    /// What another image has to pass that is asked for and takes the place of the one that runs without an upgrade.
    fn image_without_upgrade(self) -> Option<&'a AskedImage> {
        let asked = self.desired.fleet.as_ref()?.asked.as_ref()?;
        matches!(upgrade::plan(self), Plan::Direct(_)).then_some(asked)
    }

    /// Stops what runs and starts what should.
    fn roll_directly(self) -> Step<Findings> {
        match rollback::given_up(self.desired, self.facts) {
            Some(given_up) => self.roll_back(given_up),
            None => self.roll_forward(),
        }
    }

    /// Takes a step of a guarded upgrade.
    fn upgrade(self, record: &UpgradeStatus) -> Step<Findings> {
        let (configuration, keys) = self.prove().found;
        // A fleet takes requests at any time.
        let is_away =
            self.desired.fleet.is_none() && record.step >= UpgradeStep::Drain && record.step != UpgradeStep::Soak;
        let step = upgrade::advance(self, record);
        step.map(|upgrade| {
            let known =
                Findings { configuration, keys, is_behind: is_away, ..unchecked(self.spec, self.facts, self.now) };
            known.with_upgrade(upgrade)
        })
    }

    /// Leaves what runs as it is, because what the resource asks for did not pass its upgrade.
    fn stay(self) -> Step<Findings> {
        let of_fleet = fleet::stay(self);
        let set = self.facts.stateful_set.as_ref();
        // Somebody may have scaled it.
        let start = set
            .filter(|set| !set.runs() && !set.is_deleted && !self.facts.upgrade.is_unreadable)
            .and_then(|_| self.desired.upgrade.as_ref()?.from.as_ref());
        let applied = start.zip(set).map(|(from, set)| Write::Apply(from.workload.applied_to(Some(&set.uid))));
        let (configuration, keys) = self.prove().found;
        let found = Findings { configuration, keys, is_behind: false, ..unchecked(self.spec, self.facts, self.now) };
        Step::found(found).writing(applied).writing(of_fleet)
    }

    /// What the image says of the settings, and the KMS of the keys, with the Jobs that find it out.
    fn prove(self) -> Step<(Finding, Option<Finding>)> {
        let facts = self.facts;
        let mut step = Step::default();
        let lacking = facts.secrets.api_keys.clone().map(|(reason, message)| Finding::no(reason, message));
        let lacking = lacking.or_else(|| api_keys::lost(self));
        // The pod of the check mounts them as well.
        let awaited =
            || Finding::unknown("NotChecked", "the settings are checked once the Secrets of the store are there");
        let lacking = lacking.or_else(|| facts.secrets.store.as_ref().map(|_| awaited()));
        if lacking.is_some() {
            step = step.writing(checks::delete_former(self, &self.desired.config_check));
        }
        let impossible = facts.trial.as_ref().map(|trial| Finding::no(trial.reason, trial.message.clone()));
        let checks = self.check(lacking.or(impossible));
        // What the API server refuses of the server's pod it would refuse of a check's: then no check is made.
        let found = step.take(if facts.trial.is_some() { checks.without_writes() } else { checks });
        step.map(|()| found)
    }

    /// Brings the server to what the resource asks for, as far as the checks allow.
    fn roll_forward(self) -> Step<Findings> {
        let Self { facts, now, .. } = self;
        let mut step = Step::default();
        let (configuration, keys) = step.take(self.prove());
        let may_start = configuration.holds() && keys.as_ref().is_none_or(Finding::holds) && storage::is_there(facts);
        step = step.writing(rollback::forget(self).or_else(|| rollback::note_run(self)));
        let given_up = rollback::give_up(self);
        let is_behind = match given_up.is_empty() {
            true => step.take(roll::roll(self, may_start)),
            false => {
                step = step.writing(given_up);
                true
            }
        };
        let api_keys = api_keys::refused(self).map(|finding| (finding, api_keys::is_overdue(facts, now)));
        step.map(|()| Findings { configuration, keys, api_keys, is_behind, ..unchecked(self.spec, facts, now) })
    }

    /// Starts again what ran before. That has been checked already.
    fn roll_back(self, given_up: Finding) -> Step<Findings> {
        let mut step = Step::default().writing(checks::settings(self));
        match rollback::take_back(self) {
            Some(write) => step = step.writing([write]),
            None if self.desired.rollback.is_some() => drop(step.take(roll::roll(self, storage::is_there(self.facts)))),
            None => {}
        }
        let keys = step.take(self.check_keys());
        step.map(|()| Findings { configuration: given_up, keys, ..unchecked(self.spec, self.facts, self.now) })
    }

    /// Has the settings and the KMS checked; the settings only if nothing is `known` against them.
    fn check(self, known: Option<Finding>) -> Step<(Finding, Option<Finding>)> {
        let mut step = Step::default().writing(checks::settings(self));
        let configuration = match known {
            Some(known) => known,
            None => step.take(configuration::assess(self)),
        };
        let keys = step.take(self.check_keys());
        step.map(|()| (configuration, keys))
    }

    fn check_keys(self) -> Step<Option<Finding>> {
        match (&self.desired.kms_check, &self.facts.secrets.kms) {
            (None, _) => Step::found(None),
            (Some(_), Some((reason, message))) => Step::found(Some(Finding::no(reason, message.clone()))),
            (Some(_), None) if self.facts.secrets.store.is_some() => Step::found(Some(Finding::unknown(
                "NotChecked",
                "the KMS is tried once the Secrets of the store are there",
            ))),
            (Some(check), None) => keys::assess(self, check).map(Some),
        }
    }
}

/// What is found when nothing could be checked.
fn unchecked(spec: &ProgressDBSpec, facts: &Facts, now: Timestamp) -> Findings {
    let unknown = || Finding::unknown("NotChecked", "nothing was checked yet");
    Findings {
        configuration: unknown(),
        storage: unknown(),
        keys: spec.kms.as_ref().map(|_| unknown()),
        server: server::assess(spec, facts, now),
        servers: facts.fleet.as_ref().and_then(|fleet| fleet::assess(spec, fleet, now).1),
        api_keys: None,
        is_behind: true,
        blocked: None,
        refused: refused(facts, "see to it, or take back what was asked for"),
        contested: objects::contest(facts),
        // What is under way rests, and is not forgotten.
        upgrade: upgrade::kept(facts),
    }
}

/// What the API server refuses, and what to do about it.
fn refused(facts: &Facts, what_next: &str) -> Option<Finding> {
    let refusal = facts.refusal.as_ref()?;
    let message =
        format!("the cluster does not allow what is needed; {what_next}; it is tried every minute: {refusal}");
    Some(Finding::no("ApiRefuses", message))
}

/// When to decide again though nothing tells of a change.
fn requeue_after(findings: &Findings, facts: &Facts) -> Duration {
    let knows_server = facts.server_info.is_some() || facts.before.has_version;
    let knows_keys = facts.secrets.verdict != Some(Verdict::Unknown);
    if findings.upgrade.is_active() {
        return upgrade::requeue_after(&findings.upgrade, facts);
    }
    let is_settled = !facts.secrets.are_named && !findings.waits() && knows_server && knows_keys;
    let requeue_after = match is_settled {
        _ if findings.api_keys.is_some() || findings.starts() || rollback::is_open(facts) => VERY_SOON,
        true => SETTLED,
        false => SOON,
    };
    facts.rests_for.map_or(requeue_after, |rest| rest.min(requeue_after))
}

#[cfg(test)]
mod tests;
