//! What never happens to a fleet, whatever does: held in every state, and at every write of the operator.

use std::collections::BTreeSet;

use progressdb_operator::{
    crd::{Outcome, UpgradeStatus, UpgradeStep, Verdict},
    objects::{UpgradeJob, labels::Track},
};

use super::state::{Act, Deployment, Job, JobPhase, Phase, Pod, State, Template, WANTED};
use crate::state::Release;

type Kept = Result<(), String>;

fn promise(holds: bool, broken: impl Into<String>) -> Kept {
    if holds { Ok(()) } else { Err(broken.into()) }
}

/// What each rollout of another image has to have passed before all users meet it.
const GATES: [&str; 4] = ["Health", "Smoke", "Logs", "Metrics"];

impl State {
    /// What holds in every state.
    pub fn check(&self) -> Kept {
        let releases: BTreeSet<Release> = self.seen().map(|pod| pod.of.release).collect();
        promise(releases.len() <= 2, "two releases other than the old one serve")?;
        match self.record.as_deref() {
            Some(record) if record.outcome.is_none() => self.check_under_way(record),
            Some(record) => self.check_ended(record),
            None => promise(self.canary.is_none(), "a canary is there without a rollout"),
        }
    }

    fn check_under_way(&self, record: &UpgradeStatus) -> Kept {
        let (from, to) = (&record.from.config, &record.to.config);
        let is_of_it = |of: &Template| [from, to].contains(&&of.config);
        promise(self.seen().all(|pod| is_of_it(&pod.of)), "a third release serves")?;
        promise(
            self.canary.as_ref().is_none_or(|canary| canary.of.config == *to),
            "the canary is not the new release",
        )?;
        if record.promoted {
            let has_passed = |name: &&str| {
                let mut gates = record.gates.iter();
                gates.any(|gate| gate.name == **name && (gate.overridden || gate.verdict == Verdict::Passed))
            };
            let missing = GATES.iter().find(|name| !has_passed(name));
            return promise(missing.is_none(), format!("all users meet what has not passed {missing:?}"));
        }
        let is_touched =
            self.stable.of.config != *from || self.there(Track::Stable).any(|(_, pod)| pod.of.config != *from);
        promise(!is_touched, "what serves is touched before the canary has passed")
    }

    /// The servers on nodes that can be seen.
    fn seen(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| pod.phase != Phase::Lost)
    }

    /// Whatever came of it, its canaries are gone.
    fn check_ended(&self, record: &UpgradeStatus) -> Kept {
        let canaries = self.of_track(Track::Canary).count();
        promise(self.canary.is_none() && canaries == 0, format!("{canaries} canaries are left in the end"))?;
        let is_undone = matches!(record.outcome, Some(Outcome::RolledBack | Outcome::Aborted));
        let has_new = self.seen().any(|pod| pod.of.config == record.to.config);
        promise(
            !is_undone || !has_new || self.suspended || self.is_after(record),
            "what did not pass serves in the end",
        )
    }

    /// Whether something else was decided since: a fleet that was stopped starts with what it is asked for.
    fn is_after(&self, record: &UpgradeStatus) -> bool {
        self.stable.of.config != record.from.config || self.stable.replicas == 0
    }

    /// A write of the operator takes effect.
    pub fn apply(&mut self, act: &Act) -> Kept {
        self.check_act(act)?;
        match act {
            Act::Set(track, of, replicas) => {
                let asked = Deployment { of: of.clone(), replicas: *replicas, is_observed: false };
                match track {
                    Track::Stable => self.stable = asked,
                    Track::Canary => self.canary = Some(asked),
                }
            }
            Act::Stop => self.stable = Deployment { replicas: 0, is_observed: false, ..self.stable.clone() },
            Act::DeleteCanary => self.canary = None,
            // What is there already is refused, and with it what follows.
            Act::MakeJob(name, _) if self.jobs.contains_key(name) => self.queue.clear(),
            Act::MakeJob(name, kind) => {
                let job = Job { kind: *kind, phase: JobPhase::Runs };
                self.jobs.insert(name.clone(), job);
            }
            Act::DeleteJob(name) => {
                self.jobs.remove(name);
            }
            Act::Keep(config) => drop(self.releases.insert(config.clone())),
            Act::Drop(config) => drop(self.releases.remove(config)),
            Act::Other(what) => return Err(format!("a rollout does not write {what}")),
        }
        Ok(())
    }

    /// What the operator may write in this state.
    fn check_act(&self, act: &Act) -> Kept {
        use UpgradeStep::*;
        let under_way = self.under_way();
        let step = under_way.map(|record| record.step);
        match act {
            Act::Stop => promise(under_way.is_none() && self.suspended, "servers are stopped"),
            Act::Set(Track::Stable, of, replicas) => {
                let Some(record) = under_way else { return Ok(()) };
                promise(*replicas == WANTED, "the fleet gets another size")?;
                let goes_back = matches!(record.step, RollbackStart | RollbackGate);
                let is_new = of.config == record.to.config;
                promise(!is_new || (record.promoted && !goes_back), "all users get the new release in another step")
            }
            Act::Set(Track::Canary, of, replicas) => {
                let record = under_way.ok_or("a canary is made without a rollout")?;
                promise((Canary..=MetricGate).contains(&record.step), "a canary is made in another step")?;
                promise(of.config == record.to.config, "the canary is not the new release")?;
                let asked = record.canary.as_ref().map(|canary| canary.replicas);
                promise(asked == Some(*replicas), "more canaries are made than were written")
            }
            Act::DeleteCanary => {
                let is_needed = step.is_some_and(|step| (Canary..=MetricGate).contains(&step));
                promise(!is_needed, "a canary is taken away that is tried")
            }
            Act::MakeJob(_, UpgradeJob::Finalize) => {
                let record = under_way.ok_or("the format is changed without a rollout")?;
                promise(record.step == FinalizeMigrate, "the format is changed in another step")?;
                promise(record.data_mutation_started && record.finalizing, "it was not written that it is changed")?;
                let is_new = self.pods.values().all(|pod| pod.of.config == record.to.config);
                promise(is_new, "the format is changed while a server cannot read it")
            }
            Act::Drop(config) => {
                let is_read =
                    self.pods.values().any(|pod| pod.of.config == *config) || self.stable.of.config == *config;
                promise(!is_read, "the settings of a server are deleted")?;
                let is_of_it =
                    under_way.is_some_and(|record| [&record.from.config, &record.to.config].contains(&config));
                promise(!is_of_it, "a release of the rollout is deleted")
            }
            _ => Ok(()),
        }
    }
}
