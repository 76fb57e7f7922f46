//! What the API server refused to do, and when it is asked again: after a second, then after twice as long each time, and
//! every minute in the end. Until then nothing is asked, whatever triggers a reconcile, and the condition stays as it is.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::decide::Write;

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

impl Refusal {
    /// Those of the writes that may be done now, and how long the others wait.
    pub fn hold<'a>(&self, writes: &'a [Write], now: Timestamp) -> (&'a [Write], Option<Duration>) {
        let index = writes.iter().position(|write| write.identity() == self.identity);
        match index.zip(self.left(now)) {
            Some((index, left)) => (&writes[..index], Some(left)),
            None => (writes, None),
        }
    }

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
            let may = refusals.of("a").is_none_or(|refusal| !refusal.hold(&writes, at(*second)).0.is_empty());
            if may {
                refusals.note("a", &writes[0], "no".into(), at(*second));
            }
            may
        });
        assert_eq!(asked.collect::<Vec<i64>>(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    }

    #[test]
    fn what_comes_before_the_refused_act_is_done_and_another_act_does_not_wait() {
        let refusals = Refusals::default();
        let write = |number: u32| Write::Create(json!({ "number": number }));
        refusals.note("a", &write(2), "no".into(), at(0));
        let refusal = refusals.of("a").unwrap();
        let writes = [write(1), write(2), write(3)];
        assert_eq!(refusal.hold(&writes, at(0)), (&writes[..1], Some(Duration::from_secs(1))));
        assert_eq!(refusal.hold(&writes[2..], at(0)), (&writes[2..], None));
        assert_eq!(refusal.hold(&writes, at(-1)), (&writes[..], None));
    }
}
