//! What never happens, whatever does: held in every state, at every write of the operator, and whenever something opens data
//! or is reached by a client.

use progressdb_operator::{
    crd::{Backing, Outcome, UpgradeStatus, UpgradeStep},
    objects::{UpgradeJob, labels::Role},
};

use crate::{
    operator::Operator,
    state::{Act, Clock, Job, Phase, Pod, Release, Set, Snapshot, State},
};

type Kept = Result<(), String>;

fn promise(holds: bool, broken: impl Into<String>) -> Kept {
    if holds { Ok(()) } else { Err(broken.into()) }
}

/// What a Job may do to data.
fn writes(job: UpgradeJob) -> bool {
    use UpgradeJob::*;
    matches!(job, Finalize | RehearseOld | RehearseNew | RehearseFinalize)
}

impl State {
    /// What holds in every state.
    pub fn check(&self) -> Kept {
        self.check_owners()?;
        let current: Vec<_> = self.claims.values().filter(|claim| claim.role == Role::Current).collect();
        promise(current.len() <= 1, "two claims are labelled as the one with the data")?;
        if let Some(pod) = &self.pod {
            let role = self.claims.get(&pod.of.claim).map(|claim| claim.role);
            promise(role == Some(Role::Current), "a server is on a claim that is not the one with the data")?;
            if pod.phase == Phase::Ready && self.closed.is_none() {
                self.check_reached(pod)?;
            }
        }
        match self.record.as_deref() {
            Some(record) => self.check_record(record),
            None => Ok(()),
        }
    }

    /// No two that are on one claim, if one of them writes.
    fn check_owners(&self) -> Kept {
        let of_jobs = self.jobs.iter().filter(|(_, job)| job.is_busy());
        let of_jobs = of_jobs.filter_map(|(name, job)| Some((job.claim.as_ref()?, name, writes(job.kind))));
        let gone = self.lingering.iter().map(|(name, kind, claim)| (claim, name, writes(*kind)));
        let server = "the server".to_owned();
        let of_server =
            self.pod.iter().filter(|pod| pod.phase != Phase::Waiting).map(|pod| (&pod.of.claim, &server, true));
        let all: Vec<_> = of_server.chain(of_jobs).chain(gone).collect();
        for (index, (claim, name, writes)) in all.iter().enumerate() {
            let other = all[index + 1..].iter().find(|(other, _, also)| other == claim && (*writes || *also));
            if let Some((_, other, _)) = other {
                return Err(format!("{name} and {other} are both on the claim {claim}"));
            }
        }
        Ok(())
    }

    /// A server that a client reaches: none that was not promoted.
    pub fn check_reached(&self, pod: &Pod) -> Kept {
        use UpgradeStep::*;
        let Some(record) = self.under_way() else { return Ok(()) };
        let is_new = pod.of.config == record.to.config;
        promise(
            !is_new || (Promote..=FinalizeDrain).contains(&record.step) || record.step == RollbackStop,
            "a client reaches a server that was not promoted",
        )
    }

    fn check_record(&self, record: &UpgradeStatus) -> Kept {
        use UpgradeStep::*;
        let is_promoted = (Promote..RollbackStop).contains(&record.step) && record.outcome != Some(Outcome::RolledBack);
        if is_promoted && record.changes_image && self.clock != Clock::Ages {
            let cut = self.snapshots.iter().find(|(name, _)| name.ends_with(&format!("{}-last", record.id)));
            let is_cut = cut.is_some_and(|(_, cut)| cut.data.is_some());
            // Then it may just have been let go.
            let is_over = record.outcome.is_some() || record.step == Soak || record.step >= FinalizeGate;
            promise(is_cut || is_over || record.backing == Some(Backing::Checkpoint), "promoted without a cut")?;
            let is_kept = cut.is_none_or(|(_, cut)| cut.is_retained);
            promise(is_kept || is_over, "the cut of a promoted upgrade is not retained")?;
        }
        if record.outcome.is_some() && self.pod.as_ref().is_some_and(|pod| pod.phase == Phase::Ready) {
            self.check_end(record)?;
        }
        Ok(())
    }

    /// In the end every write that was acknowledged is there, but for what a person agreed to lose.
    fn check_end(&self, record: &UpgradeStatus) -> Kept {
        let Some((name, claim)) = self.current() else {
            return Err("no claim is the one with the data in the end".into());
        };
        let data = claim.data.unwrap_or_default();
        let lost = i64::from((self.acked & !data.writes).count_ones());
        let is_said = self.loss_approved && record.loss_bound.is_none_or(|bound| bound >= lost);
        promise(lost == 0 || is_said, format!("{lost} acknowledged writes are not on {name} in the end"))
    }

    /// A server opens its data: what that does, and what it may not.
    pub fn open(&mut self, operator: &Operator) -> Kept {
        let pod = self.pod.as_mut().expect("it is there");
        let (release, claim) = (pod.of.release, pod.of.claim.clone());
        pod.phase = Phase::Open;
        let data = self.claims.get(&claim).and_then(|claim| claim.data).expect("it was filled");
        let migrates = release == Release::New && operator.setup.starts_with_migration && !data.is_changed;
        if migrates && let Some(record) = self.under_way() {
            promise(record.data_mutation_started, "rows are changed and that was not written before")?;
            promise(record.backing == Some(Backing::Snapshots), "rows are changed without a way back")?;
        }
        promise(release != Release::Old || !data.is_changed, "the old release opens rows that the new one changed")?;
        if release == Release::Old && data.format > 1 {
            return Err("the old release is started on a format that it cannot read".into());
        }
        let data = self.claims.get_mut(&claim).and_then(|claim| claim.data.as_mut()).expect("it is there");
        data.is_changed |= migrates;
        Ok(())
    }

    /// A Job opens data.
    pub fn open_for_job(&mut self, job: &Job) -> Kept {
        let is_finalization = job.kind == UpgradeJob::Finalize;
        let claim = job.claim.clone().unwrap_or_default();
        if is_finalization {
            let record = self.under_way().filter(|record| record.id == job.upgrade);
            let is_noted = record.is_some_and(|record| record.data_mutation_started && record.finalizing);
            promise(is_noted, "the format is changed and that was not written before")?;
            let record = record.expect("it is there");
            let cut = self.snapshots.iter().find(|(name, _)| name.ends_with(&format!("{}-before-finalize", record.id)));
            let is_cut = cut.is_some_and(|(_, cut)| cut.is_ready);
            promise(is_cut || record.backing == Some(Backing::Checkpoint), "the format is changed without a way back")?;
        }
        let role = self.claims.get(&claim).map(|claim| claim.role);
        match job.kind {
            UpgradeJob::RehearseOld | UpgradeJob::RehearseNew | UpgradeJob::RehearseFinalize => {
                promise(role == Some(Role::Staging), "a rehearsal is on data that is no copy")?;
            }
            _ => {}
        }
        if let Some(data) = self.claims.get_mut(&claim).and_then(|claim| claim.data.as_mut()) {
            match job.kind {
                UpgradeJob::Finalize | UpgradeJob::RehearseFinalize => (data.format, data.is_changed) = (2, true),
                UpgradeJob::RehearseNew => data.is_changed = true,
                _ => {}
            }
        }
        Ok(())
    }

    pub fn delete_snapshot(&mut self, name: &str) {
        let Some(snapshot) = self.snapshots.get_mut(name) else { return };
        match snapshot.is_retained && snapshot.data.is_some() {
            true => snapshot.is_gone = true,
            false => drop(self.snapshots.remove(name)),
        }
    }

    /// A write of the operator takes effect.
    pub fn apply(&mut self, act: &Act) -> Kept {
        self.check_act(act)?;
        match act {
            Act::Start(set) => self.set = set.clone(),
            Act::Stop => self.set.runs = false,
            Act::Close(closed) => self.closed = closed.clone(),
            Act::Keep(config) => drop(self.releases.insert(config.clone())),
            Act::Drop(config) => drop(self.releases.remove(config)),
            Act::MakeWall(name, upgrade) => drop(self.walls.insert(name.clone(), upgrade.clone())),
            Act::DeleteWall(name) => drop(self.walls.remove(name)),
            Act::Other(what) => return Err(format!("an upgrade does not write {what}")),
            Act::DeleteJob(name) => self.remove_job(name),
            Act::DeleteClaim(name) => {
                self.claims.remove(name);
                // It stays until its last pod has ended.
                self.lingering.retain(|(_, _, claim)| claim != name);
            }
            Act::DeleteSnapshot(name) => self.delete_snapshot(name),
            // What is there already is refused, and with it what follows.
            Act::MakeJob(name, _) if self.jobs.contains_key(name) => self.queue.clear(),
            Act::MakeClaim(name, _) if self.claims.contains_key(name) => self.queue.clear(),
            Act::MakeSnapshot(name, _) if self.snapshots.get(name).is_some_and(|found| !found.is_gone) => {
                self.queue.clear()
            }
            Act::MakeJob(name, job) => drop(self.jobs.insert(name.clone(), job.clone())),
            Act::MakeClaim(name, claim) => drop(self.claims.insert(name.clone(), claim.clone())),
            Act::MakeSnapshot(name, snapshot) => drop(self.snapshots.insert(name.clone(), snapshot.clone())),
            Act::Retain(name, retain) => {
                if let Some(snapshot) = self.snapshots.get_mut(name) {
                    snapshot.is_retained = *retain;
                }
            }
            Act::Label(name, role, upgrade) => match self.claims.get_mut(name) {
                Some(claim) => (claim.role, claim.upgrade) = (*role, Some(upgrade.clone())),
                None => self.queue.clear(),
            },
        }
        Ok(())
    }

    /// What the operator may write in this state.
    fn check_act(&self, act: &Act) -> Kept {
        use UpgradeStep::*;
        let step = self.under_way().map(|record| record.step);
        let is_in = |steps: &[UpgradeStep]| step.is_none_or(|step| steps.contains(&step));
        match act {
            Act::Stop => {
                promise(is_in(&[Drain, FinalizeDrain, RollbackStop]), "a server is stopped in another step")?;
                let serves = self.pod.as_ref().is_some_and(|pod| pod.phase == Phase::Ready);
                self.under_way().filter(|_| serves).map_or(Ok(()), |record| self.check_rehearsed(record))
            }
            Act::Start(Set { claim, .. }) => {
                promise(is_in(&[Swap, FinalizeStart, RollbackStart]), "a server is started in another step")?;
                let role = self.claims.get(claim).map(|claim| claim.role);
                promise(role == Some(Role::Current), "a server is started on a claim that is not the one with the data")
            }
            Act::MakeJob(_, job) if job.kind == UpgradeJob::Finalize => {
                promise(step == Some(FinalizeMigrate), "the format is changed in another step")
            }
            Act::Label(..) => promise(step == Some(RollbackRestore), "the data is replaced in another step"),
            Act::DeleteClaim(name) => {
                let claim = self.claims.get(name);
                promise(claim.is_none_or(|claim| claim.role != Role::Current), "the data is deleted")?;
                let is_used = self.set.claim == *name || self.pod.as_ref().is_some_and(|pod| pod.of.claim == *name);
                promise(!is_used, "a claim is deleted that the server mounts")?;
                self.check_copies(|other, _| other != name, |_, _| true)
            }
            Act::DeleteSnapshot(name) => {
                let is_needed = self.under_way().is_some_and(|record| name.contains(&record.id));
                promise(!is_needed, "a snapshot of an upgrade is deleted that is under way")?;
                self.check_copies(|_, _| true, |other, _| other != name)
            }
            _ => Ok(()),
        }
    }

    /// Each acknowledged write stays somewhere: what a person agreed to lose stays for as long as copies are kept.
    fn check_copies(
        &self,
        stays: impl Fn(&str, &crate::state::Claim) -> bool,
        remains: impl Fn(&str, &Snapshot) -> bool,
    ) -> Kept {
        let claims = self.claims.iter().filter(|(name, claim)| stays(name, claim)).filter_map(|(_, claim)| claim.data);
        let copies = self.snapshots.iter().filter(|(name, copy)| remains(name, copy)).filter_map(|(_, copy)| copy.data);
        let kept = claims.chain(copies).fold(0, |kept, data| kept | data.writes);
        let lost = self.acked & !kept;
        promise(lost == 0 || (self.loss_approved && self.clock == Clock::Ages), "the only copy of a write is deleted")
    }

    /// Nothing that serves is stopped before the rehearsal.
    fn check_rehearsed(&self, record: &UpgradeStatus) -> Kept {
        let has_passed = record.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.passed == Some(true));
        let is_skipped = record.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.passed.is_none());
        let is_overridden = self.overridden.is_some();
        let cannot = record.backing == Some(Backing::Checkpoint) || !record.changes_image;
        promise(has_passed || is_skipped || is_overridden || cannot, "a server is stopped before the rehearsal passed")
    }
}
