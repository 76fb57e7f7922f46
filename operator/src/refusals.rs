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
    /// All writes of a decision; or, while the one that was refused last has to wait, those before it. Those after it are
    /// made only when it is: their order is part of the decision.
    pub fn of(decision: &'a Decision, refusal: Option<&Refusal>, now: Timestamp) -> Self {
        Self::among(decision.all_writes(), refusal, now)
    }

    fn among(writes: impl Iterator<Item = &'a Write>, refusal: Option<&Refusal>, now: Timestamp) -> Self {
        let all: Vec<&Write> = writes.collect();
        let Some((refusal, left)) = refusal.and_then(|refusal| Some((refusal, refusal.left(now)?))) else {
            return Self { writes: all, wait: None };
        };
        let writes: Vec<&Write> =
            all.iter().copied().take_while(|write| write.identity() != refusal.identity).collect();
        let wait = (writes.len() < all.len()).then_some(left);
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

/// The write of each resource that was refused last, by the resource's uid.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Refusal>>);

impl Refusals {
    /// What stands refused.
    pub fn of(&self, uid: &str) -> Option<Refusal> {
        self.lock().get(uid).cloned()
    }

    /// Notes a refusal; says how long to wait.
    pub fn note(&self, uid: &str, write: &Write, message: String, now: Timestamp) -> Duration {
        let mut refusals = self.lock();
        let identity = write.identity();
        let times = refusals.get(uid).filter(|before| before.identity == identity).map_or(0, |before| before.times) + 1;
        let refusal = Refusal { message, identity, times, at: now };
        let left = refusal.left(now).unwrap_or_default();
        refusals.insert(uid.to_owned(), refusal);
        left
    }

    /// Forgets the refusal: what was refused is done, or no longer wanted.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
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
            let may = !Due::among(writes.iter(), refusals.of("a").as_ref(), at(*second)).writes.is_empty();
            if may {
                refusals.note("a", &writes[0], "no".into(), at(*second));
            }
            may
        });
        assert_eq!(asked.collect::<Vec<i64>>(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    }

    #[test]
    fn what_comes_before_the_refused_write_is_written_and_another_does_not_wait() {
        let refusals = Refusals::default();
        let write = |number: u32| Write::Create(json!({ "number": number }));
        refusals.note("a", &write(2), "no".into(), at(0));
        let refusal = refusals.of("a");
        let writes = [write(1), write(2), write(3)];
        let due = |writes: &[Write], second: i64| {
            let due = Due::among(writes.iter(), refusal.as_ref(), at(second));
            (due.writes.into_iter().cloned().collect::<Vec<_>>(), due.wait)
        };
        assert_eq!(due(&writes, 0), (vec![write(1)], Some(Duration::from_secs(1))));
        assert_eq!(due(&writes[2..], 0), (vec![write(3)], None));
        assert_eq!(due(&writes, -1), (writes.to_vec(), None));
    }
}
