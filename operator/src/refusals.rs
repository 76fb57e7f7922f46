//! What the API server refused to do, and when it is asked again: after a second, then after twice as long each time, and
//! every minute in the end. Until then nothing is asked, whatever triggers a reconcile, and the condition stays as it is.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Decision, Write};

/// The first wait, and the longest.
const WAIT: (i64, i64) = (1, 60);

/// One write that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was being done, and the API server's message.
    pub message: String,
    /// Which write it was.
    identity: String,
    /// Whether the resource was being deleted.
    is_of_deletion: bool,
    times: u32,
    at: Timestamp,
}

/// The writes of a decision that may be made now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due<'a> {
    /// These, in their order.
    pub writes: Vec<&'a Write>,
    /// How long the others wait, if there are others.
    pub wait: Option<Duration>,
}

impl<'a> Due<'a> {
    /// All writes of a decision; or, while one that was refused has to wait, those before it and those that need not be
    /// made after it: else their order is part of the decision.
    pub fn of(decision: &'a Decision, refusals: &[Refusal], now: Timestamp) -> Self {
        Self::among(decision.all_writes(), refusals, now)
    }

    fn among(all: impl Iterator<Item = &'a Write>, refusals: &[Refusal], now: Timestamp) -> Self {
        let (mut writes, mut wait) = (Vec::new(), None);
        for write in all {
            let refusal = refusals.iter().find(|refusal| refusal.identity == write.identity());
            match refusal.and_then(|refusal| refusal.left(now)) {
                Some(left) => wait = Some(wait.map_or(left, |wait: Duration| wait.min(left))),
                None if wait.is_none() || !write.follows_others() => writes.push(write),
                None => {}
            }
        }
        Self { writes, wait }
    }
}

impl Refusal {
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let age = now.duration_since(self.at);
        let whole = SignedDuration::from_secs((WAIT.0 << (self.times - 1).min(10)).min(WAIT.1));
        // After a step of the clock nothing waits longer than was meant.
        (!age.is_negative() && age < whole).then(|| Duration::try_from(whole - age).ok())?
    }
}

/// The writes that stand refused, by the uid of the resource.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Vec<Refusal>>>);

impl Refusals {
    /// What stands refused. Once the resource is being deleted, what was refused before no longer matters.
    pub fn of(&self, uid: &str, is_deleted: bool) -> Vec<Refusal> {
        let refusals = self.lock();
        let all = refusals.get(uid).into_iter().flatten();
        all.filter(|refusal| refusal.is_of_deletion == is_deleted).cloned().collect()
    }

    /// Notes a refusal; says how long to wait.
    pub fn note(&self, uid: &str, is_deleted: bool, write: &Write, message: String, now: Timestamp) -> Duration {
        let mut refusals = self.lock();
        let known = refusals.entry(uid.to_owned()).or_default();
        let (identity, is_of_deletion) = (write.identity(), is_deleted);
        let index = known.iter().position(|before| before.identity == identity);
        let times = index.map_or(0, |index| known[index].times) + 1;
        let refusal = Refusal { message, identity, is_of_deletion, times, at: now };
        let left = refusal.left(now).unwrap_or_default();
        match index {
            Some(index) => known[index] = refusal,
            None => known.push(refusal),
        }
        left
    }

    /// Keeps only refusals of writes that are still wanted.
    pub fn retain(&self, uid: &str, decision: &Decision) {
        if let Some(known) = self.lock().get_mut(uid) {
            known.retain(|refusal| decision.all_writes().any(|write| write.identity() == refusal.identity));
        }
    }

    /// Forgets all: what was refused is done, or no longer wanted.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Refusal>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn the_same_is_asked_again_after_twice_as_long_and_every_minute_in_the_end() {
        let (refusals, writes) = (Refusals::default(), [Write::Create(json!({ "a": 1 }))]);
        let asked = (0..300).filter(|second| {
            let may = !Due::among(writes.iter(), &refusals.of("a", false), at(*second)).writes.is_empty();
            if may {
                refusals.note("a", false, &writes[0], "no".into(), at(*second));
            }
            may
        });
        assert_eq!(asked.collect::<Vec<i64>>(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    }

    #[test]
    fn what_comes_before_the_refused_write_is_written_and_another_does_not_wait() {
        let refusals = Refusals::default();
        let write = |number: u32| Write::Create(json!({ "number": number }));
        refusals.note("a", false, &write(2), "no".into(), at(0));
        let refused = refusals.of("a", false);
        let writes = [write(1), write(2), write(3)];
        let due = |writes: &[Write], second: i64| {
            let due = Due::among(writes.iter(), &refused, at(second));
            (due.writes.into_iter().cloned().collect::<Vec<_>>(), due.wait)
        };
        assert_eq!(due(&writes, 0), (vec![write(1)], Some(Duration::from_secs(1))));
        assert_eq!(due(&writes[2..], 0), (vec![write(3)], None));
        assert_eq!(due(&writes, -1), (writes.to_vec(), None));
    }

    #[test]
    fn a_claim_is_released_whatever_is_refused_and_is_itself_asked_for_less_and_less() {
        let refusals = Refusals::default();
        let (other, later) = (Write::Create(json!({ "a": 1 })), Write::Create(json!({ "b": 1 })));
        let claim = |version: &str| Write::ReleaseClaim {
            name: "c".into(),
            uid: "c".into(),
            version: version.into(),
            finalizers: Vec::new(),
        };
        let writes = [other, later, claim("1")];
        let mut asked = [0; 3];
        for second in 0..300 {
            for write in Due::among(writes.iter(), &refusals.of("a", false), at(second)).writes {
                asked[writes.iter().position(|one| one == write).unwrap()] += 1;
                // The other one is not tried after a write that failed.
                if *write != writes[1] {
                    refusals.note("a", false, write, "no".into(), at(second));
                }
            }
        }
        assert_eq!((asked[0], asked[2]), (10, 10));
        // While the other one waits.
        let refusals = Refusals::default();
        refusals.note("a", false, &writes[0], "no".into(), at(0));
        let due = Due::among(writes.iter(), &refusals.of("a", false), at(0));
        assert_eq!((due.writes, due.wait), (vec![&writes[2]], Some(Duration::from_secs(1))));
    }

    #[test]
    fn what_was_refused_before_a_deletion_is_not_told_of_it() {
        let refusals = Refusals::default();
        refusals.note("a", false, &Write::Create(json!({})), "before".into(), at(0));
        assert_eq!(refusals.of("a", true), Vec::new());
        refusals.note("a", true, &Write::Create(json!({ "b": 1 })), "then".into(), at(0));
        let told: Vec<String> = refusals.of("a", true).into_iter().map(|refusal| refusal.message).collect();
        assert_eq!(told, ["then"]);
    }
}
