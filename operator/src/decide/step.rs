//! What one part of a decision returns: what it found, and what is to be written for it.

use super::Write;
use crate::gate::GateRequest;

/// What was found, together with the writes that follow from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Step<T> {
    /// What was found.
    pub(super) found: T,
    /// What is to be written, in this order.
    pub(super) writes: Vec<Write>,
    /// The write that cannot be taken back, if there is one: it comes after all others.
    pub(super) irreversible: Option<Write>,
    /// What is to be tried meanwhile.
    pub(super) gates: Vec<GateRequest>,
}

impl<T> Step<T> {
    /// Nothing is to be written.
    pub(super) fn found(found: T) -> Self {
        Self { found, writes: Vec::new(), irreversible: None, gates: Vec::new() }
    }

    /// With these writes after those that there are.
    pub(super) fn writing(mut self, writes: impl IntoIterator<Item = Write>) -> Self {
        self.writes.extend(writes);
        self
    }

    /// With the write that cannot be taken back. A step has no place for two.
    pub(super) fn ending_with(self, write: Option<Write>) -> Self {
        Self { irreversible: write, ..self }
    }

    /// With gates that should run.
    pub(super) fn trying(mut self, gates: impl IntoIterator<Item = GateRequest>) -> Self {
        self.gates.extend(gates);
        self
    }

    /// What was found, and nothing written for it.
    pub(super) fn without_writes(self) -> Self {
        Self::found(self.found)
    }

    /// The same writes for something else that is found.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Step<U> {
        Step { found: change(self.found), writes: self.writes, irreversible: self.irreversible, gates: self.gates }
    }
}

impl Step<()> {
    /// Adds the writes of a part; returns what it found. Parts are taken in the order in which they are to be written.
    ///
    /// A write that cannot be taken back is kept if there is none yet: the other one is decided on again the next time.
    pub(super) fn take<T>(&mut self, part: Step<T>) -> T {
        self.writes.extend(part.writes);
        self.gates.extend(part.gates);
        self.irreversible = self.irreversible.take().or(part.irreversible);
        part.found
    }
}
