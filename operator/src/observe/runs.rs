//! Whether a server of an instance has run since its StatefulSet was last seen stopped for a change: by every state that
//! the watch shows of its pods, also of those that came and went between two reconciles.
//!
//! The record is kept in memory. A list of the pods ends it, because what happened before the list is not known.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::Value;

use super::{Live, Observed, Observer, cache::key};
use crate::{
    error::Error,
    kind::Kind,
    objects::{
        SERVER,
        labels::{FAILED, RAN, ROLL, TRIED, TRIED_AT},
    },
};

/// A pod that was made this soon after its start was asked for had no predecessor that could have run and ended.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(10);
/// How long a successor may take to be made and placed.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// What is recorded, by instance.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<HashMap<Box<str>, bool>>);

impl Runs {
    /// None of its servers has run so far.
    pub(super) fn begin(&self, instance: &str) {
        self.lock().insert(instance.into(), false);
    }

    /// Whether one has run since; `None` if that is not known.
    pub(super) fn of(&self, instance: &str) -> Option<bool> {
        self.lock().get(instance).copied()
    }

    /// One of its servers runs, or ran.
    pub(super) fn note(&self, instance: &str) {
        if let Some(has_run) = self.lock().get_mut(instance) {
            *has_run = true;
        }
    }

    /// Nobody asks any more.
    pub(super) fn end(&self, instance: &str) {
        self.lock().remove(instance);
    }

    /// The watch of the pods has a gap.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, bool>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// Whether the server of a pod runs, or ever ran. A pod that has left the phase Pending counts too: of one that was evicted
/// a node may tell nothing else.
pub fn has_run(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    let is_told = |server: &Value| {
        let (now, before) = (&server["state"], &server["lastState"]);
        let states = [&now["running"], &now["terminated"], &before["terminated"]];
        states.iter().any(|state| !state.is_null()) || server["restartCount"].as_i64().is_some_and(|count| count > 0)
    };
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !matches!(phase, "" | "Pending") || statuses.filter(|status| status["name"] == SERVER).any(is_told)
}

impl Observer {
    /// Keeps the record of this instance, and says whether one of its servers has run. Before a start is given up, its pod
    /// is read past the cache: it may have begun to run.
    pub(super) async fn observe_runs(&self, seen: &mut Observed, now: Timestamp) -> Result<(), Error> {
        let (namespace, name) = (seen.resource.namespace().unwrap_or_default(), seen.resource.name_any());
        let (runs, instance) = (&self.cache.runs, key(&namespace, &name));
        match Record::of(seen, runs.of(&instance).is_some()) {
            Record::Begins => runs.begin(&instance),
            Record::Ends => runs.end(&instance),
            Record::GoesOn => {}
        }
        if runs.of(&instance) == Some(false) && seen.former().is_some_and(|former| is_overdue(former, now)) {
            self.read_pod_again(seen, &namespace).await?;
        }
        seen.ran_since_stop = runs.of(&instance);
        Ok(())
    }

    async fn read_pod_again(&self, seen: &mut Observed, namespace: &str) -> Result<(), Error> {
        let Some(cached) = seen.pod().map(|pod| (pod.name().to_owned(), pod.uid().to_owned())) else { return Ok(()) };
        let (name, uid) = cached;
        let live = self.get(&Kind::Pod.api_resource(), Some(namespace), &name).await?;
        let Some(live) = live.filter(|live| live.uid() == uid) else {
            let doing = format!("looking at the pod {name} again");
            return Err(Error::Stale { doing, message: "it is gone, which the watch does not show yet".into() });
        };
        self.cache.upsert(Kind::Pod, &live.0);
        seen.objects.insert((Kind::Pod, name), live);
        Ok(())
    }
}

/// Whether a start that is not known to have failed or to have run should have succeeded by now.
fn is_overdue(former: &Live, now: Timestamp) -> bool {
    let is_open = former.annotation(RAN).is_none() && former.annotation(FAILED).is_none();
    is_open && tried_at(former).is_some_and(|at| now.duration_since(at) >= PATIENCE)
}

fn tried_at(former: &Live) -> Option<Timestamp> {
    former.annotation(TRIED_AT)?.parse().ok()
}

/// What is to become of the record of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Nothing of the next start has run: it begins here.
    Begins,
    /// It goes on, if there is one.
    GoesOn,
    /// There is no change for which it would be kept.
    Ends,
}

impl Record {
    /// By what is seen now; `is_kept` says whether there is a record.
    pub(super) fn of(seen: &Observed, is_kept: bool) -> Self {
        let Some(set) = seen.stateful_set() else { return Self::GoesOn };
        let counts_none = |pointer: &str| set.at(pointer).as_i64().unwrap_or_default() == 0;
        let is_stopped = set.at("/spec/replicas") == 0 && counts_none("/status/replicas") && seen.pod().is_none();
        let former = seen.former();
        let tried = former.and_then(|former| former.annotation(TRIED));
        let is_started = tried.is_some() && tried == set.template_annotation(ROLL);
        let begins_late =
            || is_started && !is_kept && seen.pod().zip(former).is_some_and(|(pod, of)| is_first(pod, of));
        match former {
            _ if is_stopped && !is_started => Self::Begins,
            None if !is_stopped => Self::Ends,
            _ if begins_late() => Self::Begins,
            _ => Self::GoesOn,
        }
    }
}

/// Whether a pod is the first one of the start that is being tried, and has not run.
fn is_first(pod: &Live, former: &Live) -> bool {
    let delay = tried_at(former).zip(pod.created_at()).map(|(tried_at, made_at)| made_at.duration_since(tried_at));
    !has_run(&pod.0)
        && pod.annotation(ROLL) == former.annotation(TRIED)
        && delay.is_some_and(|delay| delay.abs() < AT_ONCE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_has_run_when_anything_says_so() {
        let ran = |status: Value| has_run(&json!({ "status": status }));
        let server = |more: Value| {
            let mut status = json!({ "name": SERVER, "state": { "waiting": { "reason": "ImagePullBackOff" } } });
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "phase": "Pending", "containerStatuses": [status] })
        };
        assert!(!ran(json!({})) && !ran(json!({ "phase": "Pending" })) && !ran(server(json!({}))));
        for more in [
            json!({ "state": { "running": {} } }),
            json!({ "state": { "terminated": { "exitCode": 0 } } }),
            json!({ "lastState": { "terminated": { "exitCode": 1 } } }),
            json!({ "restartCount": 1 }),
        ] {
            assert!(ran(server(more.clone())), "{more}");
        }
        // As some nodes leave a pod that they evicted.
        assert!(ran(json!({ "phase": "Failed", "reason": "Evicted" })));
    }

    #[test]
    fn only_a_pod_that_was_made_with_the_start_is_surely_the_first() {
        let former = json!({ TRIED: "1", TRIED_AT: "2030-01-01T00:01:00Z" });
        let former = Live(json!({ "metadata": { "annotations": former } }));
        let pod = |roll: &str, made_at: &str| {
            let annotations = json!({ ROLL: roll });
            Live(json!({ "metadata": { "annotations": annotations, "creationTimestamp": made_at } }))
        };
        assert!(is_first(&pod("1", "2030-01-01T00:01:01Z"), &former));
        assert!(!is_first(&pod("2", "2030-01-01T00:01:01Z"), &former));
        // Later, and, by a clock that differs, before.
        assert!(!is_first(&pod("1", "2030-01-01T00:01:10Z"), &former));
        assert!(!is_first(&pod("1", "2030-01-01T00:00:50Z"), &former));
    }
}
