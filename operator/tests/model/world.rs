//! Everything that may happen next: the operator decides or writes or starts anew, the cluster moves, clients write, people
//! say something, and things go wrong.

use std::sync::Arc;

use progressdb_operator::{
    crd::{Outcome, UpgradeStep},
    gate::{Expectation, Gate, GateRequest},
    objects::UpgradeJob,
};

use crate::{
    facts::SERVER_UID,
    moves::{changed, fault, happens, person},
    operator::Operator,
    search::{Cause, Move},
    state::{Act, Clock, Found, JobPhase, Phase, Pod, Release, State},
};

type Moves = crate::moves::Moves<State>;

/// All moves of a state.
pub fn moves(operator: &mut Operator, state: &State) -> Moves {
    let mut moves = Vec::new();
    if state.is_beyond() {
        return moves;
    }
    match state.queue.front() {
        Some(act) => write(&mut moves, state, act),
        None => decide(operator, &mut moves, state),
    }
    if !state.queue.is_empty() || !state.gates.is_empty() {
        let mut then = state.clone();
        then.queue.clear();
        then.gates.clear();
        happens(&mut moves, "the operator starts anew", Cause::Other, then);
    }
    // What the cluster does meanwhile it may as well do before or after.
    if !state.queue.is_empty() && !operator.setup.interleaves {
        if let Some(pod) = state.pod.as_ref().filter(|pod| pod.phase == Phase::Ready) {
            client(&mut moves, state, pod);
        }
        return moves;
    }
    server(operator, &mut moves, state);
    snapshots(&mut moves, state);
    jobs(&mut moves, state);
    people(operator, &mut moves, state);
    time(&mut moves, state);
    moves
}

fn write(moves: &mut Moves, state: &State, act: &Act) {
    let mut then = state.clone();
    then.queue.pop_front();
    let applied = then.apply(act);
    moves.push(Move { label: format!("writes {act:?}"), cause: Cause::Itself, then: applied.map(|()| then) });
}

/// The operator decides, and the status is written; and each gate that it asks for ends.
fn decide(operator: &mut Operator, moves: &mut Moves, state: &State) {
    let decided = operator.decide(state);
    for request in &decided.gates {
        gate(moves, state, request);
    }
    let mut then = state.clone();
    if decided.has_moved {
        then.clock = Clock::Early;
    }
    then.record = decided.record.clone();
    then.history = Arc::clone(&decided.history);
    then.claim_told = decided.claim_told.clone();
    let step = then.under_way().map(|record| record.step);
    then.gates.retain(|name, _| match step {
        Some(UpgradeStep::Approval) => name.starts_with("Baseline"),
        Some(UpgradeStep::Rehearse) => name.starts_with("Rehearsal-"),
        step => step.is_some_and(|step| name.starts_with(&format!("{step:?}-"))),
    });
    then.queue = decided.acts.clone();
    // A server that ends again and again is replaced as it is: that is no upgrade.
    let is_direct = state.under_way().is_none() && state.pod.as_ref().is_some_and(|pod| pod.phase == Phase::Crashing);
    if then != *state && !(is_direct && then.under_way().is_none()) {
        let label = format!("decides: {step:?}, then {:?}", then.queue);
        moves.push(Move { label, cause: Cause::Itself, then: Ok(then) });
    }
}

fn gate(moves: &mut Moves, state: &State, request: &GateRequest) {
    let name = &request.name;
    let of_server = request.pod_uid == SERVER_UID;
    let serves = match of_server {
        true => state.pod.as_ref().is_some_and(|pod| pod.phase == Phase::Ready),
        false => state.jobs.values().any(|job| matches!(job.phase, JobPhase::Serving(_))),
    };
    let data = state.pod.as_ref().and_then(|pod| state.claims.get(&pod.of.claim)?.data);
    let (passes, fails) = match &request.gate {
        // It goes on until it passes, and only time ends it.
        Gate::Health { expect: Expectation { format, sequence_at_least, .. }, .. } => {
            let is_expected = !of_server
                || data.is_some_and(|data| {
                    format.is_none_or(|format| format == data.format)
                        && sequence_at_least.is_none_or(|sequence| sequence <= data.sequence())
                });
            (serves && is_expected, false)
        }
        _ => (serves, true),
    };
    if passes {
        changed(moves, state, format!("{name} passes"), |then| {
            then.gates.insert(name.clone(), Found::Passed);
            // What is written before the server stops is in every copy that matters.
            let writes = matches!(request.gate, Gate::Smoke { read_only: false } | Gate::Load { .. });
            if writes && of_server && !name.starts_with("Baseline") {
                then.probe();
            }
        });
    }
    let kinds = if name.starts_with("Baseline") { &[Found::Failed][..] } else { &[Found::Failed, Found::Inconclusive] };
    for found in kinds.iter().copied().filter(|_| fails) {
        fault(moves, state, format!("{name}: {found:?}"), |then| {
            then.gates.insert(name.clone(), found);
        });
    }
}

impl State {
    /// Whether another upgrade is on its way, which goes as the first one did.
    pub fn is_beyond(&self) -> bool {
        !self.history.is_empty() && self.under_way().is_some_and(|record| record.step >= UpgradeStep::Rehearse)
    }

    /// A gate writes something.
    fn probe(&mut self) {
        let claim = self.pod.as_ref().map(|pod| pod.of.claim.clone());
        if let Some(data) = claim.and_then(|claim| self.claims.get_mut(&claim)?.data.as_mut()) {
            data.probes = 1;
        }
    }

    /// The volume of a claim that is made from a snapshot comes with its first pod, once that is ready.
    fn fill(&mut self, claim: &str) -> bool {
        let source = self.claims.get(claim).and_then(|claim| self.snapshots.get(claim.source.as_ref()?));
        let copy = source.filter(|source| source.is_ready && !source.is_gone).and_then(|source| source.data);
        let Some(claim) = self.claims.get_mut(claim) else { return false };
        claim.data = claim.data.or(copy);
        claim.data.is_some()
    }

    /// The pod of a Job that is gone ends a little later.
    pub fn remove_job(&mut self, name: &str) {
        let Some(job) = self.jobs.remove(name) else { return };
        if job.is_busy() {
            self.lingering.push((name.to_owned(), job.kind, job.claim.clone().unwrap_or_default()));
            self.lingering.sort();
        }
        self.gates.retain(|name, _| !name.starts_with("Rehearsal-"));
    }

    fn end_pod(&mut self) {
        if let Some(pod) = &mut self.pod {
            pod.phase = Phase::Ending;
        }
        self.gates.retain(|name, _| name.starts_with("Rehearsal-"));
    }
}

fn server(operator: &Operator, moves: &mut Moves, state: &State) {
    let Some(pod) = &state.pod else {
        if state.attached {
            changed(moves, state, "the volume is detached", |then| then.attached = false);
        }
        if state.set.runs && state.claims.contains_key(&state.set.claim) {
            changed(moves, state, format!("a pod of {:?} is made", state.set.release), |then| {
                (then.pod, then.attached) = (Some(Pod { of: state.set.clone(), phase: Phase::Waiting }), false);
            });
        }
        return;
    };
    let phase = |then: &mut State, phase: Phase| then.pod.as_mut().expect("it is there").phase = phase;
    match pod.phase {
        Phase::Waiting => {
            let mut then = state.clone();
            if then.fill(&pod.of.claim) {
                let opened = then.open(operator);
                moves.push(Move {
                    label: "the server opens the data".into(),
                    cause: Cause::Itself,
                    then: opened.map(|()| then),
                });
            }
        }
        Phase::Open => changed(moves, state, "the server is ready", |then| phase(then, Phase::Ready)),
        Phase::Crashing => changed(moves, state, "the server recovers", |then| phase(then, Phase::Open)),
        Phase::Ending => {
            changed(moves, state, "the pod is gone", |then| (then.pod, then.attached) = (None, true));
            fault(moves, state, "the node is lost", |then| phase(then, Phase::Lost));
        }
        Phase::Lost => changed(moves, state, "the node is back", |then| phase(then, Phase::Ending)),
        Phase::Ready => client(moves, state, pod),
    }
    if matches!(pod.phase, Phase::Open | Phase::Ready) {
        fault(moves, state, "the server crashes", |then| phase(then, Phase::Crashing));
    }
    if pod.phase < Phase::Ending {
        match state.set.runs {
            false => changed(moves, state, "the pod ends", State::end_pod),
            true => fault(moves, state, "the pod is evicted", State::end_pod),
        }
    }
}

/// A write before the server is about to stop is as good as the one that was there at the start: no copy of it becomes the
/// data.
fn client(moves: &mut Moves, state: &State, pod: &Pod) {
    let counts = state.under_way().is_none_or(|record| record.step >= UpgradeStep::Drain);
    let may_write = state.closed.is_none() && state.record.is_some() && counts;
    let Some(writes) = state.left.writes.checked_sub(1).filter(|_| may_write) else { return };
    let label = format!("a client writes to {:?}", pod.of.release);
    let mut then = state.clone();
    then.left.writes = writes;
    let bit = 1 << state.acked.count_ones();
    then.acked |= bit;
    let data = then.claims.get_mut(&pod.of.claim).and_then(|claim| claim.data.as_mut());
    data.expect("a server that is ready has data").writes |= bit;
    moves.push(Move { label, cause: Cause::Other, then: state.check_reached(pod).map(|()| then) });
}

fn snapshots(moves: &mut Moves, state: &State) {
    use UpgradeStep::{Rehearse, SnapshotOnline};
    // The first one matters to the rehearsal and to nothing else.
    let rehearses = state.under_way().is_some_and(|record| [SnapshotOnline, Rehearse].contains(&record.step));
    let matters = |name: &str| rehearses || !name.ends_with("-online");
    let there = state.snapshots.iter().filter(|(name, snapshot)| !snapshot.is_gone && matters(name));
    for (name, snapshot) in there {
        if snapshot.data.is_none() {
            let data = state.claims.get(&snapshot.claim).and_then(|claim| claim.data);
            if data.is_some() {
                changed(moves, state, format!("{name} is cut"), |then| {
                    then.snapshots.get_mut(name).expect("it is there").data = data;
                });
            }
        } else if !snapshot.is_ready {
            changed(moves, state, format!("{name} is ready"), |then| {
                then.snapshots.get_mut(name).expect("it is there").is_ready = true;
            });
        }
        fault(moves, state, format!("somebody deletes {name}"), |then| then.delete_snapshot(name));
    }
}

fn jobs(moves: &mut Moves, state: &State) {
    for (name, job) in &state.jobs {
        let set = |then: &mut State, phase: JobPhase| then.jobs.get_mut(name).expect("it is there").phase = phase;
        let data = job.claim.as_ref().and_then(|claim| state.claims.get(claim)?.data);
        let label = |what: &str| format!("{name} {what}");
        match job.phase {
            JobPhase::Waiting => {
                let mut then = state.clone();
                if job.claim.as_ref().is_none_or(|claim| then.fill(claim)) {
                    // One that opens no data is in nobody's way.
                    set(&mut then, if job.claim.is_some() { JobPhase::Running } else { JobPhase::Passed(None) });
                    let opened = then.open_for_job(job);
                    moves.push(Move { label: label("runs"), cause: Cause::Itself, then: opened.map(|()| then) });
                }
            }
            JobPhase::Running => {
                let serves = matches!(job.kind, UpgradeJob::RehearseOld | UpgradeJob::RehearseNew);
                let end = if serves { JobPhase::Serving("same") } else { JobPhase::Passed(data) };
                changed(moves, state, label("does its work"), |then| set(then, end));
                fault(moves, state, label("fails"), |then| set(then, JobPhase::Failed));
                if job.kind == UpgradeJob::RehearseNew {
                    let other = JobPhase::Serving("other");
                    fault(moves, state, label("reads other data"), |then| set(then, other));
                }
            }
            JobPhase::Serving(_) => fault(moves, state, label("fails"), |then| set(then, JobPhase::Failed)),
            JobPhase::Passed(_) | JobPhase::Failed => {}
        }
        if job.phase == JobPhase::Waiting && job.claim.is_none() {
            fault(moves, state, label("fails"), |then| set(then, JobPhase::Failed));
        }
        fault(moves, state, label("is deleted by somebody"), |then| then.remove_job(name));
    }
    for (index, (name, ..)) in state.lingering.iter().enumerate() {
        changed(moves, state, format!("the pod of {name} is gone"), |then| drop(then.lingering.remove(index)));
    }
}

fn people(operator: &Operator, moves: &mut Moves, state: &State) {
    let has_succeeded = state.record.as_ref().is_some_and(|record| record.outcome == Some(Outcome::Succeeded));
    if state.asked != Release::Old && !has_succeeded {
        person(moves, state, "somebody asks for the old release", |then| then.asked = Release::Old);
    }
    if state.asked == Release::Old {
        person(moves, state, "somebody asks for the new release", |then| then.asked = Release::New);
    }
    if state.asked == Release::New && state.record.is_some() {
        person(moves, state, "somebody asks for a third release", |then| then.asked = Release::Third);
    }
    person(moves, state, "somebody suspends or resumes", |then| then.suspended = !then.suspended);
    let Some(record) = state.under_way() else { return };
    if state.aborted.as_ref() != Some(&record.id) {
        person(moves, state, "somebody aborts", |then| then.aborted = Some(record.id.clone()));
    }
    let is_manual = operator.setup.policy["approval"] == "Manual";
    if is_manual && state.approved.is_none() {
        person(moves, state, "somebody approves", |then| then.approved = Some(record.id.clone()));
    }
    let typed = record.hold.as_ref().and_then(|hold| hold.next_command.as_deref()).unwrap_or_default();
    if let Some(id) = typed.strip_prefix("progressdb.io/approve=").filter(|id| state.approved.as_deref() != Some(id)) {
        person(moves, state, "somebody approves as told", |then| {
            then.approved = Some(id.to_owned());
            let is_told = record.data_mutation_started || id.ends_with("/loss");
            let asks = record.hold.as_ref().is_some_and(|hold| hold.reason == "RollbackRequiresApproval");
            then.loss_approved |= asks && is_told;
        });
    }
    let what = typed.strip_prefix("progressdb.io/override=");
    if let Some(what) = what.filter(|what| state.overridden.as_deref() != Some(what)) {
        person(moves, state, "somebody overrides", |then| then.overridden = Some(what.to_owned()));
    }
}

fn time(moves: &mut Moves, state: &State) {
    if state.under_way().is_some() && state.clock == Clock::Early {
        changed(moves, state, "time passes", |then| then.clock = Clock::Late);
    }
    if state.record.as_ref().is_some_and(|record| record.outcome.is_some()) && state.clock != Clock::Ages {
        changed(moves, state, "weeks pass", |then| then.clock = Clock::Ages);
    }
}
