//! An exhaustive breadth-first search: every state that can be reached, and from which of them which others can be.
//!
//! A crate for this would answer whether something holds in all states, and not whether from each of them something good
//! can still be reached; half of what is asked here is of that kind.

use std::{collections::HashMap, fmt::Debug, hash::Hash, sync::Arc};

/// A transition.
pub struct Move<S> {
    /// What happens, for a trace.
    pub label: String,
    pub cause: Cause,
    /// The state after it, or what it breaks.
    pub then: Result<S, String>,
}

/// Why something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It does in a world that behaves.
    Itself,
    /// Somebody does what they were told to.
    Told,
    /// It need not happen.
    Other,
}

/// Every state that was reached.
pub struct Graph<S> {
    pub states: Vec<Arc<S>>,
    /// How each state was reached first: from which, and by what.
    from: Vec<(usize, String)>,
    /// The transitions that lead somewhere, backwards.
    back: Vec<Vec<(u32, Cause)>>,
    pub transitions: usize,
}

impl<S: Clone + Eq + Hash + Debug> Graph<S> {
    /// Goes everywhere from `start`; panics with the way to it when something is broken.
    pub fn explore(
        start: S,
        mut moves: impl FnMut(&S) -> Vec<Move<S>>,
        check: impl Fn(&S) -> Result<(), String>,
    ) -> Self {
        let start = Arc::new(start);
        let mut known = HashMap::from([(Arc::clone(&start), 0)]);
        let mut graph =
            Self { states: vec![start], from: vec![(0, "start".into())], back: vec![Vec::new()], transitions: 0 };
        let mut next = 0;
        while let Some(state) = graph.states.get(next).cloned() {
            if let Err(broken) = check(&state) {
                panic!("{broken}\n{}\n{state:?}", graph.way_to(next));
            }
            for Move { label, cause, then } in moves(&state) {
                let then = match then {
                    Ok(then) => Arc::new(then),
                    Err(broken) => panic!("{broken}\n{}\n{label}\n{state:?}", graph.way_to(next)),
                };
                let index = *known.entry(Arc::clone(&then)).or_insert_with(|| {
                    graph.states.push(then);
                    graph.from.push((next, label));
                    graph.back.push(Vec::new());
                    graph.states.len() - 1
                });
                graph.transitions += 1;
                if cause != Cause::Other {
                    graph.back[index].push((u32::try_from(next).expect("there are fewer states"), cause));
                }
            }
            next += 1;
        }
        graph
    }

    /// Panics with the way to a state of `from` from which a world that behaves leads to none of `to`.
    pub fn leads(&self, claim: &str, from: impl Fn(&S) -> bool, to: impl FnMut(&S) -> bool) {
        self.leads_by(Cause::Itself, claim, from, to);
    }

    /// The same where people do what they are told to.
    pub fn leads_if_told(&self, claim: &str, from: impl Fn(&S) -> bool, to: impl FnMut(&S) -> bool) {
        self.leads_by(Cause::Told, claim, from, to);
    }

    fn leads_by(&self, cause: Cause, claim: &str, from: impl Fn(&S) -> bool, mut to: impl FnMut(&S) -> bool) {
        let mut leads: Vec<bool> = self.states.iter().map(|state| to(state)).collect();
        let mut open: Vec<usize> = (0..leads.len()).filter(|index| leads[*index]).collect();
        while let Some(index) = open.pop() {
            let counts = self.back[index].iter().filter(|(_, of)| *of <= cause);
            for before in counts.map(|(before, _)| *before as usize) {
                if !std::mem::replace(&mut leads[before], true) {
                    open.push(before);
                }
            }
        }
        let lost = (0..leads.len()).find(|index| !leads[*index] && from(&self.states[*index]));
        if let Some(lost) = lost {
            panic!("{claim}\n{}\n{:?}", self.way_to(lost), self.states[lost]);
        }
    }

    /// The moves from the start to a state.
    pub fn way_to(&self, mut index: usize) -> String {
        let mut labels = Vec::new();
        while index != 0 {
            labels.push(self.from[index].1.as_str());
            index = self.from[index].0;
        }
        labels.reverse();
        labels.join("\n")
    }
}
