//! What the API server made of the objects that were applied, and how often each was set back after somebody else had
//! changed it.
//!
//! With this, a policy that changes what is applied costs one write; somebody who insists on another value costs a few, and
//! then one every ten minutes. It is kept in memory: a new process applies such an object once more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::drift;

/// A change that was set back this often is made on purpose: the field is contested.
const CONTESTED: u32 = 3;
/// How long an object is left alone, by how often it was applied.
const REST: [SignedDuration; 7] = [
    SignedDuration::ZERO,
    SignedDuration::ZERO,
    SignedDuration::ZERO,
    SignedDuration::from_secs(5),
    SignedDuration::from_secs(15),
    SignedDuration::from_secs(45),
    LONGEST_REST,
];
const LONGEST_REST: SignedDuration = SignedDuration::from_secs(600);
/// How long after the last time it is told that a field is contested, and how long that time counts. It is told for as
/// long as the object is left alone, in any case.
const TOLD: SignedDuration = SignedDuration::from_secs(900);
const COUNTED: SignedDuration = SignedDuration::from_secs(1800);

/// What became of an object that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// What was applied: [`drift::applied_hash`].
    applied_hash: String,
    /// What the API server made of it, if that was something else: [`drift::outcome`].
    made: Option<String>,
    /// How often it was applied to what was there.
    times: u32,
    /// When it was applied last.
    at: Timestamp,
    /// What had been changed before.
    change: Option<Change>,
}

/// What somebody had changed of an object that was set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The fields: [`drift::changes`].
    pub fields: String,
    /// Who holds them, and which, as far as the API server knows.
    pub by: Option<String>,
}

/// What is known of an object at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// What was applied last.
    applied_hash: String,
    /// What the API server made of it, if that was something else.
    made: Option<String>,
    /// Whether it is left alone for now.
    rests: bool,
    /// Whether its fields are contested, and by whom and which, as far as that is known.
    pub contest: Option<Option<String>>,
    /// How long this stays so, if nothing happens before.
    pub until: Option<Duration>,
}

impl Past {
    /// The hash of what was applied last, if the API server made something else of it or the object is left alone for now.
    pub fn in_vain(&self) -> Option<&str> {
        (self.rests || self.made.is_some()).then_some(&*self.applied_hash)
    }

    /// Whether applying `desired` to `live` would change nothing, or has to wait.
    pub fn forbids(&self, desired: &Value, live: &Value) -> bool {
        self.applied_hash == drift::applied_hash(desired)
            && (self.rests || self.made.as_ref().is_some_and(|made| *made == drift::outcome(desired, live)))
    }
}

/// The outcomes, by the uid of the object.
#[derive(Debug, Default)]
pub struct Outcomes(Mutex<HashMap<String, Outcome>>);

impl Outcomes {
    /// What is known of the object of this uid.
    pub fn past(&self, uid: &str, now: Timestamp) -> Option<Past> {
        let outcomes = self.lock();
        let outcome = outcomes.get(uid)?;
        let age = now.duration_since(outcome.at);
        // After a step of the clock nothing is left alone for longer than was meant.
        let left = |whole: SignedDuration| (!age.is_negative() && age < whole).then(|| whole - age);
        let rest = left(REST[(outcome.times as usize).min(REST.len() - 1)]);
        let told = left(TOLD).filter(|_| outcome.times >= CONTESTED);
        let is_contested = rest.is_some() || told.is_some();
        Some(Past {
            applied_hash: outcome.applied_hash.clone(),
            made: outcome.made.clone(),
            rests: rest.is_some(),
            contest: is_contested.then(|| outcome.change.as_ref().and_then(|change| change.by.clone())),
            until: rest.or(told).and_then(|left| Duration::try_from(left).ok()),
        })
    }

    /// Whether the same was applied to this object a while ago.
    pub fn is_repetition(&self, uid: &str, applied_hash: &str) -> bool {
        self.lock().get(uid).is_some_and(|outcome| outcome.applied_hash == applied_hash)
    }

    /// Notes what the API server answered when `applied` was applied to an object in which `change` was seen, or to none if
    /// `is_new`. A change of other fields than before is counted anew.
    pub fn note(&self, applied: &Value, answer: &Value, is_new: bool, change: Option<Change>, now: Timestamp) {
        let Some(uid) = answer.pointer("/metadata/uid").and_then(Value::as_str) else { return };
        let applied_hash = drift::applied_hash(applied);
        let made = (!drift::object_is_subset_of(applied, answer)).then(|| drift::outcome(applied, answer));
        let mut outcomes = self.lock();
        outcomes.retain(|_, outcome| outcome.made.is_some() || now.duration_since(outcome.at) < COUNTED);
        if is_new && made.is_none() {
            return;
        }
        let before = outcomes
            .remove(uid)
            .filter(|before| before.applied_hash == applied_hash && now.duration_since(before.at) < COUNTED);
        let fields = |change: &Option<Change>| change.as_ref().map(|change| change.fields.clone());
        let is_another = |before: &Outcome| {
            fields(&before.change).zip(fields(&change)).is_some_and(|(before, after)| before != after)
        };
        let counted = before.as_ref().filter(|before| !is_another(before)).map_or(0, |before| before.times);
        let times = counted + u32::from(!is_new);
        let change = change.or_else(|| before.and_then(|before| before.change));
        outcomes
            .insert(uid.to_owned(), Outcome { applied_hash: applied_hash.to_owned(), made, times, at: now, change });
    }

    /// Notes that these fields of an object were set right, and what the API server answered.
    pub fn note_correction(&self, answer: &Value, fields: String, now: Timestamp) {
        self.note(answer, answer, false, Some(Change { fields, by: None }), now);
    }

    /// Forgets the object of this uid: it is gone, or the operator itself changed it.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Outcome>> {
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

    fn object(replicas: u32) -> Value {
        let mut object = json!({ "metadata": { "uid": "a" }, "spec": { "replicas": replicas } });
        object["metadata"]["annotations"] = drift::with_applied_hash(json!({}))["metadata"]["annotations"].clone();
        object
    }

    #[test]
    fn who_insists_is_named_and_the_object_rests_longer_each_time() {
        let outcomes = Outcomes::default();
        let (ours, theirs) = (object(1), object(2));
        let mut times = Vec::new();
        for second in 0..3_600 {
            if outcomes.past("a", at(second)).is_none_or(|past| !past.forbids(&ours, &theirs)) {
                let change = outcomes.is_repetition("a", drift::applied_hash(&ours)).then(|| Change {
                    fields: drift::changes(&ours, &theirs),
                    by: Some("scaler sets spec.replicas".to_owned()),
                });
                outcomes.note(&ours, &ours, false, change, at(second));
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 2, 7, 22, 67, 667, 1267, 1867, 2467, 3067]);
        let past = outcomes.past("a", at(3_600)).unwrap();
        assert_eq!(past.contest, Some(Some("scaler sets spec.replicas".into())));
        // Nobody contests it any more.
        assert_eq!(outcomes.past("a", at(3_067 + 901)).unwrap().contest, None);
    }

    #[test]
    fn one_edit_after_another_is_nobody_who_insists() {
        let outcomes = Outcomes::default();
        let ours = object(1);
        for (second, field) in ["a", "b", "a", "b", "c", "a", "c"].into_iter().enumerate() {
            let change = Change { fields: field.to_owned(), by: None };
            outcomes.note(&ours, &ours, false, Some(change), at(second as i64));
            let past = outcomes.past("a", at(second as i64)).unwrap();
            assert!(!past.forbids(&ours, &object(2)) && past.contest.is_none(), "{field}");
        }
    }

    #[test]
    fn what_a_policy_makes_of_it_is_left_until_it_is_something_else() {
        let outcomes = Outcomes::default();
        let (ours, made) = (object(1), object(2));
        outcomes.note(&ours, &made, true, None, at(0));
        let past = outcomes.past("a", at(1)).unwrap();
        assert!(past.forbids(&ours, &made));
        assert!(!past.forbids(&ours, &object(3)));
        assert_eq!(past.contest, None);
    }

    #[test]
    fn a_clock_that_goes_back_makes_nobody_wait() {
        let outcomes = Outcomes::default();
        for second in 0..6 {
            outcomes.note(&object(1), &object(1), false, None, at(second));
        }
        assert!(outcomes.past("a", at(6)).unwrap().forbids(&object(1), &object(2)));
        assert!(!outcomes.past("a", at(-1)).unwrap().forbids(&object(1), &object(2)));
    }
}
