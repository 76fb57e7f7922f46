//! The same for a fleet: rollouts that are good, fail or are held, with an operator that dies before and after each write.

mod facts;
mod operator;
mod promises;
mod state;
mod world;

use std::time::Instant;

use progressdb_operator::{crd::UpgradeStep, objects::labels::Track};
use serde_json::{Value, json};

use self::{
    operator::{Finalization, Operator, Setup},
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
            is_held || has_nothing_to_do(state) || state.is_beyond() || (has_ended(state) && state.queue.is_empty())
        },
    );
    graph.leads_if_told(
        "no end can be reached by what holds say to type",
        |_| true,
        |state: &State| has_ended(state) || has_nothing_to_do(state) || state.is_beyond() || needs_hands(state),
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

/// There is nothing to roll out, or it is waited for servers that are not ready, which is told as well.
fn has_nothing_to_do(state: &State) -> bool {
    let is_wanted = !state.suspended && state.asked != state.stable.of.release && !state.is_full;
    state.under_way().is_none() && !is_wanted
}

/// Where no word to the operator leads on: the old servers find no room, or a policy bars the way back.
fn needs_hands(state: &State) -> bool {
    let Some((record, hold)) = state.under_way().and_then(|record| Some((record, record.hold.as_ref()?))) else {
        return false;
    };
    let is_barred = hold.next_command.as_deref().is_some_and(|command| command.starts_with("kubectl patch "));
    is_barred || (state.is_full && record.step >= UpgradeStep::RollbackStart)
}

/// As many servers are there as are asked for, all of them of what the Deployment asks for.
fn is_whole(state: &State) -> bool {
    let wanted = if state.suspended { 0 } else { usize::try_from(WANTED).unwrap() };
    let servers = |track: Track| state.there(track);
    let right = servers(Track::Stable).filter(|(_, pod)| pod.of == state.stable.of).count();
    right == wanted && Track::ALL.into_iter().map(|track| servers(track).count()).sum::<usize>() == wanted
}

fn setup(finalization: Finalization, more: Value) -> Setup {
    let mut policy = json!({
        "canary": { "steps": [1], "stepDuration": "10s" },
        "gates": { "metrics": { "failureLimit": 1 } },
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Setup { finalization, policy }
}

#[test]
fn torture_a_canary_of_one_step() {
    explore("fleet", &setup(Finalization::None, json!({})));
}

#[test]
fn torture_canaries_of_two_steps() {
    let steps = json!({ "canary": { "steps": [1, "100%"], "stepDuration": "10s" } });
    explore("fleet, two steps", &setup(Finalization::None, steps));
}

#[test]
fn torture_a_format_that_changes_once_no_server_runs() {
    explore("fleet, finalization that is refused", &setup(Finalization::IsRefused, json!({})));
}

#[test]
fn torture_a_format_that_changes_while_servers_run() {
    explore("fleet, finalization", &setup(Finalization::Works, json!({})));
}

#[test]
fn torture_a_format_that_cannot_be_changed() {
    explore("fleet, finalization that fails", &setup(Finalization::Fails, json!({})));
}

#[test]
fn torture_a_policy_that_bars_the_way_back() {
    explore("fleet, never back", &setup(Finalization::None, json!({ "rollback": { "afterPromotion": "Never" } })));
}

#[test]
fn torture_a_person_decides_about_a_fleet() {
    let policy = json!({
        "approval": "Manual",
        "rollback": { "beforePromotion": "Manual", "afterPromotion": "Approve" },
    });
    explore("fleet, by hand", &setup(Finalization::None, policy));
}
