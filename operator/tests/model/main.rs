//! The machine of guarded upgrades, explored exhaustively: the product's own decisions in every state that a small world can
//! come to, with an operator that dies before and after any write, and what must never happen in any of them.
#![allow(unreachable_pub, reason = "modules of a suite, not a crate")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod acts;
mod facts;
mod fleet;
mod moves;
mod operator;
mod promises;
mod search;
mod state;
mod world;
mod written;

use std::time::Instant;

use progressdb_operator::crd::UpgradeStep;
use serde_json::{Value, json};

use self::{
    operator::{Operator, Setup},
    search::Graph,
    state::{Left, State},
};

/// Something goes wrong, or a person says something.
fn explore(name: &str, setup: &Setup) {
    explore_from(name, setup, UpgradeStep::Preflight);
}

/// The same from the moment when this step begins; nothing happens before that.
fn explore_from(name: &str, setup: &Setup, step: UpgradeStep) {
    explore_with(&format!("{name}, a fault"), setup, step, Left { writes: 1, faults: 1, people: 0 });
    explore_with(&format!("{name}, a person"), setup, step, Left { writes: 1, faults: 0, people: 1 });
}

/// The first state in which this step has begun, of a world in which nothing happens.
fn reach(operator: &mut Operator, start: State, step: UpgradeStep) -> State {
    if step == UpgradeStep::Preflight {
        return start;
    }
    let quiet = State { left: Left { writes: 0, faults: 0, people: 0 }, ..start.clone() };
    let graph = Graph::explore(quiet, |state| world::moves(operator, state), State::check);
    let has_begun = |state: &&std::sync::Arc<State>| state.under_way().is_some_and(|record| record.step == step);
    let begun = graph.states.iter().find(has_begun).expect("a world in which nothing happens comes to each step");
    State { left: start.left, ..State::clone(begun) }
}

/// Explores a world and holds it to every promise.
#[expect(clippy::disallowed_methods, reason = "how long it takes is shown, and judged by nobody")]
fn explore_with(name: &str, setup: &Setup, step: UpgradeStep, left: Left) {
    let began = Instant::now();
    let (mut operator, start) = Operator::new(setup.clone(), left);
    let start = reach(&mut operator, start, step);
    let graph = Graph::explore(start, |state| world::moves(&mut operator, state), State::check);
    let (states, moves) = (graph.states.len(), graph.transitions);
    graph.leads(
        "neither an end nor a hold can be reached",
        |_| true,
        |state: &State| {
            let is_held = state.under_way().is_some_and(|record| record.hold.is_some());
            let has_ended = state.record.as_ref().is_some_and(|record| record.outcome.is_some());
            let has_nothing_to_do =
                state.under_way().is_none() && (state.suspended || state.asked == state.set.release);
            is_held || has_nothing_to_do || state.is_beyond() || (has_ended && state.queue.is_empty())
        },
    );
    graph.leads(
        "an upgrade that was given up cannot go back",
        |state| {
            state.under_way().is_some_and(|record| {
                state.aborted.as_ref() == Some(&record.id)
                    && (UpgradeStep::Drain..UpgradeStep::Promote).contains(&record.step)
            })
        },
        |state| {
            state.record.as_ref().is_some_and(|record| written::is_undone(record.outcome))
                || state
                    .under_way()
                    .is_some_and(|record| record.hold.is_some() && record.step >= UpgradeStep::RollbackStop)
        },
    );
    graph.leads(
        "what a hold says to type leads nowhere",
        |state| typed(state).is_some(),
        |state| typed(state).is_none(),
    );
    graph.leads(
        "an upgrade that has ended comes to no rest",
        |state| state.record.is_some() && state.under_way().is_none(),
        |state| operator.is_at_rest(state) || state.under_way().is_some(),
    );
    eprintln!("{name}: {states} states, {moves} moves, {:.1} s", began.elapsed().as_secs_f64());
}

/// What the hold of a state says to type, if somebody has.
fn typed(state: &State) -> Option<&str> {
    let typed = state.under_way()?.hold.as_ref()?.next_command.as_deref()?;
    let (annotation, value) = typed.strip_prefix("progressdb.io/")?.split_once('=')?;
    let said = match annotation {
        "approve" => &state.approved,
        "abort" => &state.aborted,
        _ => &state.overridden,
    };
    (said.as_deref() == Some(value)).then_some(typed)
}

fn setup(starts_with_migration: bool, is_finalized: bool, policy: Value) -> Setup {
    Setup {
        starts_with_migration,
        is_finalized,
        has_snapshots: true,
        is_of_settings: false,
        policy,
        interleaves: false,
    }
}

#[test]
fn a_release_that_changes_nothing() {
    explore("plain", &setup(false, false, json!({})));
}

#[test]
fn a_release_that_changes_rows_when_it_starts() {
    explore("start migration", &setup(true, false, json!({})));
}

#[test]
fn torture_a_release_that_changes_the_format() {
    // Until it soaks it goes as a release that changes nothing: all of it takes minutes, and gigabytes.
    let is_whole = testing::variable("PROGRESSDB_TORTURE_LOOPS").is_some();
    let step = if is_whole { UpgradeStep::Preflight } else { UpgradeStep::Soak };
    explore_from("finalization", &setup(false, true, json!({})), step);
}

#[test]
fn a_release_that_changes_rows_and_the_format() {
    explore("both", &setup(true, true, json!({ "rollback": { "afterPromotion": "Approve" }, "approval": "Manual" })));
}

#[test]
fn a_cluster_without_snapshots() {
    explore("no snapshots", &Setup { has_snapshots: false, ..setup(false, true, json!({})) });
}

#[test]
fn a_change_of_settings() {
    explore("settings", &Setup { is_of_settings: true, ..setup(false, false, json!({})) });
}

#[test]
fn a_person_decides() {
    let policy = json!({
        "approval": "Manual",
        "rollback": { "beforePromotion": "Manual", "afterPromotion": "Approve" },
        "rehearsal": { "policy": "Required" },
    });
    explore("by hand", &setup(false, false, policy));
}
