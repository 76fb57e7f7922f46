//! Everything that may happen next to a fleet: the operator decides or writes or starts anew, the controllers of its Deployments
//! move, users come, people say something, and things go wrong.

use std::sync::Arc;

use progressdb_operator::{
    crd::{Outcome, UpgradeStep},
    gate::{Gate, GateRequest},
    objects::labels::Track,
};

use super::{
    operator::Operator,
    state::{Act, Deployment, Found, JobPhase, Phase, Pod, State, Users, uid},
};
use crate::{
    moves::{changed, fault, happens, person},
    search::{Cause, Move},
    state::{Clock, Release},
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
    if !state.queue.is_empty() {
        return moves;
    }
    controllers(&mut moves, state);
    pods(&mut moves, state);
    jobs(&mut moves, state);
    people(&mut moves, state);
    as_told(&mut moves, state);
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
    let step = then.under_way().map(|record| format!("{:?}-", record.step));
    then.gates.retain(|(name, _), _| step.as_ref().is_some_and(|step| name.starts_with(step)));
    let hold = then.under_way().and_then(|record| record.hold.as_ref()).map(|hold| &hold.reason);
    if then.told.as_ref() != hold {
        then.told = None;
    }
    then.queue = decided.acts.clone();
    if then != *state {
        let label = format!("decides: {}, then {:?}", step.unwrap_or_default(), then.queue);
        happens(moves, label, Cause::Itself, then);
    }
}

fn gate(moves: &mut Moves, state: &State, request: &GateRequest) {
    let tried = (request.name.clone(), request.pod_uid.clone());
    let end = |found: Found| {
        let tried = tried.clone();
        move |then: &mut State| drop(then.gates.insert(tried, found))
    };
    let name = &request.name;
    if let Gate::Counters { pods } = &request.gate {
        let pods: Vec<(String, bool)> = pods.iter().map(|pod| (pod.uid.clone(), pod.canary)).collect();
        let begins = name.contains("-Begin-");
        let well = if begins { Users::None } else { Users::Well };
        changed(moves, state, format!("{name}: {well:?}"), end(Found::Counted(pods.clone(), well)));
        for users in [Users::Badly, Users::Few].into_iter().filter(|_| !begins) {
            fault(moves, state, format!("{name}: {users:?}"), end(Found::Counted(pods.clone(), users)));
        }
        return fault(moves, state, format!("{name}: a pod does not tell"), end(Found::Inconclusive));
    }
    let serves = state.pods.iter().any(|(number, pod)| uid(*number) == request.pod_uid && pod.phase == Phase::Ready);
    if serves {
        changed(moves, state, format!("{name} passes"), end(Found::Passed));
    }
    // A health gate goes on until it passes, and only time ends it.
    if !matches!(request.gate, Gate::Health { .. }) {
        fault(moves, state, format!("{name} fails"), end(Found::Failed));
        fault(moves, state, format!("{name} tells too little"), end(Found::Inconclusive));
    }
}

/// The controllers of the Deployments: one is started before another is stopped.
fn controllers(moves: &mut Moves, state: &State) {
    for track in Track::ALL {
        let Some(live) = state.deployment(track) else {
            if let Some((number, _)) = state.there(track).next() {
                changed(moves, state, "a pod goes with its Deployment", |then| then.remove_pod(number));
            }
            continue;
        };
        let mut then = state.clone();
        if roll(&mut then, track, live) {
            happens(moves, format!("the controller of {track:?} moves"), Cause::Itself, then);
        }
    }
}

/// A step of a rolling update; says whether there was one.
fn roll(then: &mut State, track: Track, live: &Deployment) -> bool {
    if !live.is_observed {
        let seen = Deployment { is_observed: true, ..live.clone() };
        match track {
            Track::Stable => then.stable = seen,
            Track::Canary => then.canary = Some(seen),
        }
        return true;
    }
    let pods: Vec<(u8, Pod)> = then.there(track).map(|(number, pod)| (number, pod.clone())).collect();
    let wanted = usize::try_from(live.replicas).unwrap();
    let (new, old): (Vec<_>, Vec<_>) = pods.iter().partition(|(_, pod)| pod.of == live.of);
    if new.len() < wanted && pods.len() <= wanted {
        then.new_pod(track, live.of.clone());
        return true;
    }
    let ready = pods.iter().filter(|(_, pod)| pod.phase == Phase::Ready).count();
    let surplus = if old.is_empty() { new } else { old };
    let goes = surplus.iter().min_by_key(|(_, pod)| pod.phase == Phase::Ready);
    let may_go = |(_, pod): &&&(u8, Pod)| pod.phase != Phase::Ready || ready > wanted;
    let goes = goes.filter(|_| pods.len() > wanted || pods.iter().any(|(_, pod)| pod.of != live.of)).filter(may_go);
    goes.map(|(number, _)| then.remove_pod(*number)).is_some()
}

fn pods(moves: &mut Moves, state: &State) {
    let set = |number: u8, phase: Phase| {
        move |then: &mut State| {
            let pod = then.pods.get_mut(&number).expect("it is there");
            pod.phase = phase;
            pod.has_restarted |= phase == Phase::Crashing;
        }
    };
    // Which of several comes first makes no difference.
    let first = |phase: Phase| state.pods.iter().find(move |(_, pod)| pod.phase == phase).map(|(number, _)| *number);
    if let Some(number) = first(Phase::Waiting).filter(|_| !state.is_full) {
        changed(moves, state, format!("{} is ready", uid(number)), set(number, Phase::Ready));
    }
    if let Some(number) = first(Phase::Crashing) {
        changed(moves, state, format!("{} recovers", uid(number)), set(number, Phase::Ready));
    }
    for (number, pod) in state.pods.iter().filter(|(_, pod)| pod.phase != Phase::Lost) {
        let what = format!("{} of {:?} and {:?}", uid(*number), pod.track, pod.of.release);
        if pod.phase != Phase::Crashing {
            fault(moves, state, format!("{what} crashes"), set(*number, Phase::Crashing));
        }
        fault(moves, state, format!("{what} is evicted"), |then| then.remove_pod(*number));
        fault(moves, state, format!("the node of {what} is lost, and no other has room"), |then| then.lose(*number));
    }
}

fn jobs(moves: &mut Moves, state: &State) {
    for (name, job) in &state.jobs {
        let set = |phase: JobPhase| move |then: &mut State| then.jobs.get_mut(name).expect("it is there").phase = phase;
        if job.phase == JobPhase::Runs {
            changed(moves, state, format!("{name} ends"), set(JobPhase::Passed));
            fault(moves, state, format!("{name} fails"), |then| {
                set(JobPhase::Failed)(then);
                // Whoever had it tried again is told once more.
                then.told = None;
            });
        }
        fault(moves, state, format!("{name} is deleted by somebody"), |then| {
            then.jobs.remove(name);
        });
    }
    if state.canary.is_some() {
        fault(moves, state, "somebody deletes the canaries", |then| then.canary = None);
    }
}

fn people(moves: &mut Moves, state: &State) {
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
    if let Some(record) = state.under_way().filter(|record| state.aborted.as_ref() != Some(&record.id)) {
        person(moves, state, "somebody aborts", |then| then.aborted = Some(record.id.clone()));
    }
}

/// Somebody types what a hold says.
fn as_told(moves: &mut Moves, state: &State) {
    let Some((record, hold)) = state.under_way().and_then(|record| Some((record, record.hold.as_ref()?))) else {
        return;
    };
    let Some(command) = hold.next_command.as_deref().filter(|_| state.told.is_none()) else { return };
    let id = || Some(record.id.clone());
    let mut then = State { told: Some(hold.reason.clone()), ..state.clone() };
    match command.split_once('=').unwrap_or((command, "")) {
        ("progressdb.io/approve", value) => then.approved = Some(value.to_owned()),
        ("progressdb.io/override", value) => then.overridden = Some(value.to_owned()),
        ("progressdb.io/abort", _) => then.aborted = id(),
        (command, _) if command.starts_with("kubectl progressdb abort ") => then.aborted = id(),
        (command, _) if command.starts_with("kubectl delete pod ") => {
            let is_named = |number: &&u8| command.split(' ').any(|word| word == uid(**number));
            let number = *state.pods.keys().find(is_named).expect("it is there");
            then.remove_pod(number);
        }
        (command, _) => match command.strip_prefix("kubectl delete job ") {
            Some(rest) => {
                then.jobs.remove(rest.split(' ').next().unwrap_or(rest));
            }
            // It is looked at, and goes on by itself.
            None => return,
        },
    }
    happens(moves, format!("somebody types {command}"), Cause::Told, then);
}

fn time(moves: &mut Moves, state: &State) {
    // Pods are asked again each few seconds, and what told too little each minute; users come some time.
    let goes_by = |found: &Found| matches!(found, Found::Counted(..) | Found::Inconclusive);
    if state.gates.values().any(goes_by) {
        changed(moves, state, "a minute passes", |then| then.gates.retain(|_, found| !goes_by(found)));
    }
    if state.under_way().is_some() && state.clock == Clock::Early {
        changed(moves, state, "time passes", |then| then.clock = Clock::Late);
    }
}

impl State {
    /// Whether another rollout is on its way, which goes as the first one did.
    pub fn is_beyond(&self) -> bool {
        !self.history.is_empty() && self.under_way().is_some_and(|record| record.step >= UpgradeStep::Canary)
    }
}
