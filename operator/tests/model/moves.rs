//! What may happen next in a world, and how often what need not happen does.

use crate::{
    search::{Cause, Move},
    state::{Left, Release},
};

pub type Moves<S> = Vec<Move<S>>;

/// A state in which things go wrong and people ask for something.
pub trait World: Clone {
    /// How much more may happen.
    fn left(&self) -> Left;
    fn set_left(&mut self, left: Left);
    /// Which release is asked for.
    fn asked(&self) -> Release;
    /// The resource was changed.
    fn raise_generation(&mut self);
}

/// Something that happens.
pub fn happens<S>(moves: &mut Moves<S>, label: impl Into<String>, cause: Cause, then: S) {
    moves.push(Move { label: label.into(), cause, then: Ok(then) });
}

/// The same with a copy of the state that is changed.
pub fn changed<S: Clone>(moves: &mut Moves<S>, state: &S, label: impl Into<String>, change: impl FnOnce(&mut S)) {
    let mut then = state.clone();
    change(&mut then);
    happens(moves, label, Cause::Itself, then);
}

/// Something that goes wrong, as often as that may happen.
pub fn fault<S: World>(moves: &mut Moves<S>, state: &S, label: impl Into<String>, change: impl FnOnce(&mut S)) {
    if let Some(faults) = state.left().faults.checked_sub(1) {
        let mut then = state.clone();
        then.set_left(Left { faults, ..state.left() });
        change(&mut then);
        happens(moves, label, Cause::Other, then);
    }
}

/// Something that a person does.
pub fn person<S: World>(moves: &mut Moves<S>, state: &S, label: impl Into<String>, change: impl FnOnce(&mut S)) {
    if let Some(people) = state.left().people.checked_sub(1) {
        let mut then = state.clone();
        then.set_left(Left { people, ..state.left() });
        change(&mut then);
        if then.asked() != state.asked() {
            then.raise_generation();
        }
        happens(moves, label, Cause::Other, then);
    }
}
