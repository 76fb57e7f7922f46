//! The Events about objects that wait: often the only place that says why nothing happens.
//!
//! Only warnings count, and only those about objects that make no progress. They are listed by the object's uid, at most
//! every ten seconds.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::{Live, Lookup, Observed, Observer};
use crate::{error::Error, kind::Kind};

/// An object may wait this long before its Events are read.
const GRACE: SignedDuration = SignedDuration::from_secs(5);
/// Between two lists of the Events about one object.
pub(super) const INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// Of so many objects of an instance: the servers of a fleet mostly wait for the same.
const MOST: usize = 8;

/// The last warning about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning {
    /// One word that its author chose.
    pub reason: String,
    /// Its author's text.
    pub message: String,
    /// When the first warning with this reason came.
    pub since: Timestamp,
}

impl Observer {
    /// The warnings about everything that waits, by uid.
    pub(super) async fn warnings(&self, seen: &Observed, now: Timestamp) -> Result<BTreeMap<String, Warning>, Error> {
        let mut warnings = BTreeMap::new();
        for object in waiting(seen, now) {
            let uid = object.uid().to_owned();
            if let Some(found) = self.warning_about(seen, object, now).await? {
                warnings.insert(uid, found);
            }
        }
        Ok(warnings)
    }

    async fn warning_about(&self, seen: &Observed, object: &Live, now: Timestamp) -> Result<Option<Warning>, Error> {
        let namespace = seen.resource.metadata.namespace.clone().unwrap_or_default();
        let key = ("events", namespace.clone(), object.uid().to_owned());
        if let Some(Lookup::Warning(found)) = self.recall(&key, INTERVAL, now) {
            return Ok(found);
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let about = ListParams::default().fields(&format!("involvedObject.uid={}", object.uid()));
        let found = events.list(&about).await;
        let found = found.map_err(|error| Error::new(format!("listing the events of {}", object.name()), error))?;
        let warning = last_warning(found.items, object);
        self.remember(key, now, Lookup::Warning(warning.clone()));
        Ok(warning)
    }
}

/// The objects that make no progress.
fn waiting(seen: &Observed, now: Timestamp) -> Vec<&Live> {
    let is_late = |object: &Live| object.created_at().is_none_or(|at| now.duration_since(at) >= GRACE);
    let objects = seen.objects.iter().map(|((kind, _), object)| (*kind, object));
    let waits = objects.filter(|(kind, object)| !object.is_deleted() && waits(seen, *kind, object));
    waits.map(|(_, object)| object).filter(|object| is_late(object)).take(MOST).collect()
}

fn waits(seen: &Observed, kind: Kind, object: &Live) -> bool {
    match kind {
        Kind::Job => {
            let has_ended = ["Complete", "Failed", "Suspended"].iter().any(|end| object.condition(end).is_some());
            !has_ended && seen.pod_of_job(object).is_none()
        }
        // What keeps a Deployment from making pods is one of its conditions.
        Kind::StatefulSet => object.at("/spec/replicas").as_i64() != Some(0) && seen.pod().is_none(),
        Kind::Pod => object.at("/status/phase") == "Pending",
        Kind::Claim => object.at("/status/phase") == "Pending" && seen.pod().is_some(),
        _ => false,
    }
}

/// The newest warning. That a pod could not be scheduled no longer matters once it is.
fn last_warning(events: Vec<Event>, object: &Live) -> Option<Warning> {
    let is_placed = object.condition("PodScheduled").is_some_and(|(status, ..)| status == "True");
    let matters = |event: &&Event| {
        event.type_.as_deref() == Some("Warning") && !(is_placed && event.reason.as_deref() == Some("FailedScheduling"))
    };
    let newest = events.iter().filter(matters).max_by_key(|event| last_time(event))?;
    let first = |event: &Event| {
        event.first_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
    };
    let same_reason = events.iter().filter(|event| event.reason == newest.reason);
    Some(Warning {
        reason: newest.reason.clone().unwrap_or_default(),
        message: newest.message.clone().unwrap_or_default(),
        since: same_reason.filter_map(first).min().unwrap_or_default(),
    })
}

fn last_time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
    let times =
        [series, event.last_timestamp.as_ref().map(|time| time.0), event.event_time.as_ref().map(|time| time.0)];
    times.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, reason: &str, first: &str, last: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "type": kind, "reason": reason, "message": format!("why {reason}"),
            "firstTimestamp": first, "lastTimestamp": last,
        }))
        .unwrap()
    }

    fn found(status: Value) -> Option<String> {
        let events = vec![
            event("Normal", "Pulled", "2030-01-01T00:00:00Z", "2030-01-01T09:00:00Z"),
            event("Warning", "FailedMount", "2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z"),
            event("Warning", "FailedScheduling", "2030-01-01T00:00:00Z", "2030-01-01T02:00:00Z"),
        ];
        last_warning(events, &Live(json!({ "status": status }))).map(|warning| warning.message)
    }

    #[test]
    fn the_newest_warning_that_still_matters_is_found() {
        assert_eq!(found(json!({})), Some("why FailedScheduling".into()));
        let placed = json!({ "conditions": [{ "type": "PodScheduled", "status": "True" }] });
        assert_eq!(found(placed), Some("why FailedMount".into()));
    }
}
