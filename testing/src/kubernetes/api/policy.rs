//! Admission policies, and definitions that come and go.

use serde_json::Value;

use super::store::{Key, Refusal, Store, refuse};

/// An admission policy.
pub type Policy = fn(&Key, &mut Value) -> Result<(), &'static str>;

impl Store {
    /// Has a policy look at what a request writes.
    pub fn admit(&self, key: &Key, mut object: Value) -> Result<Value, Refusal> {
        let verdict = self.policy.map_or(Ok(()), |policy| policy(key, &mut object));
        verdict.map(|()| object).map_err(|why| refuse(403, "Forbidden", why))
    }

    /// A definition comes.
    pub fn serve(&mut self, kind: &'static str) {
        self.discovered.insert(kind);
        self.unserved.remove(kind);
        // Watches look again.
        self.version += 1;
    }

    /// A definition goes, and its objects with it.
    pub fn unserve(&mut self, kind: &'static str) {
        for key in self.keys().into_iter().filter(|key| key.kind.kind == kind) {
            self.end(&key);
        }
        self.discovered.remove(kind);
        self.unserved.insert(kind);
        self.version += 1;
    }
}
