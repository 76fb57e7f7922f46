//! The same for a fleet: rollouts that are good, fail or are held, with an operator that dies before and after each write.

mod facts;
mod operator;
mod promises;
mod state;
mod world;

use std::time::Instant;

use progressdb_operator::objects::labels::Track;
use serde_json::{Value, json};

use self::{
    operator::{Operator, Setup},
    state::{State, WANTED},
};
use crate::{search::Graph, state::Left};

/// Something goes wrong, or a person says something; what a hold says to type somebody always may.
fn explore(name: &str, setup: &Setup) {
    explore_with(&format!("{name}, a fault"), setup, Left { writes: 0, faults: 1, people: 0 });
    explore_with(&format!("{name}, a person"), setup, Left { writes: 0, faults: 0, people: 1 });
    if testing::variable("PROGRESSDB_TORTURE_LOOPS").is_some() {
        explore_with(&format!("{name}, a fault and a person"), setup, Left { writes: 0, faults: 1, people: 1 });
        explore_with(&format!("{name}, two faults"), setup, Left { writes: 0, faults: 2, people: 0 });
    }
}

/// Explores a world and holds it to every promise.
#[expect(clippy::disallowed_methods, reason = "how long it takes is shown, and judged by nobody")]
fn explore_with(name: &str, setup: &Setup, left: Left) {
    let began = Instant::now();
    let (mut operator, start) = Operator::new(setup.clone(), left);
    let graph = Graph::explore(start, |state| world::moves(&mut operator, state), State::check);
    let (states, moves) = (graph.states.len(), graph.transitions);
    let has_ended = |state: &State| state.record.as_ref().is_some_and(|record| record.outcome.is_some());
    graph.leads(
        "neither an end nor a hold can be reached",
        |_| true,
        |state: &State| {
            let is_held = state.under_way().is_some_and(|record| record.hold.is_some());
            let has_nothing_to_do =
                state.under_way().is_none() && (state.suspended || state.asked == state.stable.of.release);
            is_held || has_nothing_to_do || state.is_beyond() || (has_ended(state) && state.queue.is_empty())
        },
    );
    graph.leads(
        "what a hold says to type leads nowhere",
        |state| state.told.is_some(),
        |state| state.told.is_none() || state.is_beyond(),
    );
    graph.leads(
        "a rollout that has ended comes to no rest",
        |state| state.record.is_some() && state.under_way().is_none(),
        |state| (operator.is_at_rest(state) && is_whole(state)) || state.under_way().is_some(),
    );
    eprintln!("{name}: {states} states, {moves} moves, {:.1} s", began.elapsed().as_secs_f64());
}

/// As many servers run as are asked for, all of them of what the Deployment asks for.
fn is_whole(state: &State) -> bool {
    let wanted = if state.suspended { 0 } else { usize::try_from(WANTED).unwrap() };
    let servers = state.of_track(Track::Stable);
    servers.filter(|(_, pod)| pod.of == state.stable.of).count() == wanted && state.pods.len() == wanted
}

fn setup(is_finalized: bool, more: Value) -> Setup {
    let mut policy = json!({
        "canary": { "steps": [1], "stepDuration": "10s" },
        "gates": { "metrics": { "failureLimit": 1 } },
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Setup { is_finalized, finalizes: false, policy }
}

#[test]
fn torture_a_canary_of_one_step() {
    explore("fleet", &setup(false, json!({})));
}

#[test]
fn torture_canaries_of_two_steps() {
    explore("fleet, two steps", &setup(false, json!({ "canary": { "steps": [1, "100%"], "stepDuration": "10s" } })));
}

#[test]
fn torture_a_format_that_changes_once_no_server_runs() {
    explore("fleet, finalization", &setup(true, json!({})));
}

#[test]
fn torture_a_format_that_changes_while_servers_run() {
    explore("fleet, finalization beside servers", &Setup { finalizes: true, ..setup(true, json!({})) });
}

#[test]
fn torture_a_person_decides_about_a_fleet() {
    let policy = json!({
        "approval": "Manual",
        "rollback": { "beforePromotion": "Manual", "afterPromotion": "Approve" },
    });
    explore("fleet, by hand", &setup(false, policy));
}
