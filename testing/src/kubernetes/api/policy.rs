//! Admission policies, and kinds whose definition is made or deleted.

use serde_json::Value;

use super::{
    object::{Key, Refusal, refuse},
    store::Store,
};

/// An admission policy.
pub type Policy = fn(&Key, &mut Value) -> Result<(), &'static str>;

impl Store {
    /// Has the policy judge and change what a request writes.
    pub fn admit(&self, key: &Key, mut object: Value) -> Result<Value, Refusal> {
        let verdict = self.policy.map_or(Ok(()), |policy| policy(key, &mut object));
        verdict.map(|()| object).map_err(|why| refuse(403, "Forbidden", why))
    }

    /// A definition is made.
    pub fn serve(&mut self, kind: &'static str) {
        self.discovered.insert(kind);
        self.unserved.remove(kind);
        // Wakes watches.
        self.version += 1;
    }

    /// A definition is deleted, and its objects with it.
    pub fn unserve(&mut self, kind: &'static str) {
        for key in self.keys().into_iter().filter(|key| key.kind.kind == kind) {
            self.end(&key);
        }
        self.discovered.remove(kind);
        self.unserved.insert(kind);
        self.version += 1;
    }
}
