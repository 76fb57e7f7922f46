//! What a step is a function of, and what all steps ask and say.

use jiff::SignedDuration;

use super::Next;
use crate::{
    crd::{Upgrade as Policy, UpgradeStatus},
    decide::{Case, Step, Write},
    desired,
    facts::{self, UpgradeJobFacts},
    kind::Kind,
    objects::UpgradeJob,
};

/// What a step is a function of.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) case: Case<'a>,
    pub(super) record: &'a UpgradeStatus,
    pub(super) planned: &'a desired::Upgrade,
    pub(super) facts: &'a facts::Upgrade,
}

/// What is recorded from now on, and what the step leads to.
pub(super) type Turn = Step<(UpgradeStatus, Next)>;

impl<'a> At<'a> {
    pub(super) fn policy(self) -> &'a Policy {
        &self.case.spec.upgrade
    }

    /// How long this step has lasted.
    pub(super) fn elapsed(self) -> SignedDuration {
        self.record.step_started_at.map_or(SignedDuration::ZERO, |since| self.case.now.duration_since(since))
    }

    /// How long clients have been without a server, in milliseconds: before they reached one, and since it was stopped again.
    pub(super) fn downtime(self) -> Option<i64> {
        let away = self.case.now.duration_since(self.record.drained_at?).as_millis();
        let before = self.record.downtime_millis.unwrap_or(0);
        i64::try_from(away).ok().map(|away| away.saturating_add(before))
    }

    /// Whether it is of a fleet.
    pub(super) fn is_of_fleet(self) -> bool {
        self.planned.copies.is_none()
    }

    /// The copies of the volume of a single server. Steps that a fleet takes ask for none.
    pub(super) fn copies(self) -> &'a desired::Copies {
        self.planned.copies.as_ref().expect("a single server has a volume, and a fleet takes other steps")
    }

    /// Nothing changes.
    pub(super) fn stay(self) -> Turn {
        self.turn(Next::Stay)
    }

    /// Nothing is recorded but what this leads to.
    pub(super) fn turn(self, next: Next) -> Turn {
        Step::found((self.record.clone(), next))
    }

    /// With something more on record.
    pub(super) fn recording(self, record: UpgradeStatus, next: Next) -> Turn {
        Step::found((record, next))
    }

    /// Whether a person lets it pass this gate or hold, for now.
    pub(super) fn is_overridden(self, name: &str) -> bool {
        let until = self.facts.overrides.get(&format!("{}/{name}", self.record.id));
        until.is_some_and(|until| *until > self.case.now)
    }

    /// How a person says that. It is the same at any time: a status that told the time would change with it.
    pub(super) fn override_command(self, name: &str) -> String {
        format!("kubectl progressdb override {} {name}", self.case.name)
    }

    /// How a person approves the upgrade, or, with `/rollback` or `/loss`, going back from it.
    pub(super) fn approve_command(self, what: &str) -> String {
        let (resource, id) = (self.case.name, &self.record.id);
        format!("kubectl annotate prdb {resource} --overwrite progressdb.io/approve={id}{what}")
    }

    /// What cannot be done, and what the API server says about it.
    pub(super) fn refused(self, what: &str) -> String {
        match &self.case.facts.refusal {
            Some(refusal) => format!("{what}: {refusal}"),
            None => what.to_owned(),
        }
    }

    /// Whether a person agrees to go back from a server that clients have reached. To approve the upgrade itself is not enough.
    pub(super) fn is_rollback_approved(self) -> bool {
        self.approves("rollback") || self.approves("loss")
    }

    /// Whether a person agreed to lose what clients wrote. Who was told that nothing would be lost has not.
    pub(super) fn is_loss_approved(self) -> bool {
        self.approves("loss") || (self.approves("rollback") && self.record.data_mutation_started)
    }

    fn approves(self, what: &str) -> bool {
        let approved = self.facts.approved.as_deref().and_then(|approved| approved.split_once('/'));
        approved == Some((&self.record.id, what))
    }

    /// Whether the pod of a Job that works on the data has not ended, also one whose Job is gone.
    pub(super) fn is_data_in_use(self) -> bool {
        use UpgradeJob::{Finalize, Identity, Inspect, InspectBack};
        const ON_DATA: [UpgradeJob; 4] = [Inspect, InspectBack, Identity, Finalize];
        let names = ON_DATA.iter().filter_map(|job| Some(&self.planned.jobs.get(job)?.job.name));
        let mut pods = names.flat_map(|job| self.facts.busy.iter().filter_map(|pod| pod.strip_prefix(job.as_str())));
        pods.any(|rest| rest.starts_with('-'))
    }

    /// Whether a person gave it up.
    pub(super) fn is_aborted(self) -> bool {
        self.facts.aborted.as_ref() == Some(&self.record.id)
    }

    /// How a person gives it up.
    pub(super) fn abort_command(self) -> String {
        format!("kubectl annotate prdb {} --overwrite progressdb.io/abort={}", self.case.name, self.record.id)
    }

    /// A Job, with the write that makes it if it is not there.
    pub(super) fn job(self, job: UpgradeJob) -> (Option<&'a UpgradeJobFacts>, Option<Write>) {
        let found = self.facts.jobs.get(&job).filter(|found| !found.job.is_deleted);
        // With its pod went what it found out.
        if let Some(found) = found.filter(|found| found.job.is_complete && found.job.pod.is_none()) {
            return (None, Some(delete(found)));
        }
        let is_named = self.facts.jobs.contains_key(&job);
        let create = self.planned.jobs.get(&job).filter(|_| !is_named);
        (found, create.map(|check| Write::Create(check.job.body.clone())))
    }

    /// Deletes Jobs that are no longer needed.
    pub(super) fn without_jobs(self, jobs: &[UpgradeJob]) -> Vec<Write> {
        let there = jobs.iter().filter_map(|job| self.facts.jobs.get(job)).filter(|found| !found.job.is_deleted);
        there.map(delete).collect()
    }
}

fn delete(found: &UpgradeJobFacts) -> Write {
    let (name, uid) = (found.job.name.clone(), found.job.uid.clone());
    Write::Delete { kind: Kind::Job, name, uid }
}
