//! Tells what was decided: one Event for each transition, then the status.
//!
//! The name of an Event follows from the transition it tells of, so that a repeated reconcile tells it once. The
//! status is written at the version that was read: whoever decided on something older decides again.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{
    Api, Resource,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use crate::{
    MANAGER,
    apply::{Writer, creation},
    conditions::{ConditionType, WARNED, is_ordinary},
    crd::{Hold, ProgressDB, ProgressDBStatus, StepStatus, UpgradeStatus},
    error::Error,
    objects::hash,
    raw::Raw,
    status::{self, News, UNREADABLE},
    telemetry,
};

impl Writer {
    /// Writes the status if it is another one; returns the resource as it then is.
    pub async fn report(
        &self,
        resource: &ObjectMeta,
        old: Option<&ProgressDBStatus>,
        status: &ProgressDBStatus,
        now: Timestamp,
    ) -> Result<Option<Raw>, Error> {
        let parts = status::parts(status);
        let before = old.map(status::parts).unwrap_or_default();
        let changed: Vec<_> = parts.into_iter().filter(|part| !is_told(&before, part)).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        let known = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let upgrade = News::between(old.and_then(|old| old.upgrade.as_deref()), status.upgrade.as_deref());
        let of_upgrade = upgrade.into_iter().flat_map(|news| of_upgrade(resource, &news, now));
        for event in transitions(resource, known, &status.conditions, now).into_iter().chain(of_upgrade) {
            self.tell(resource, &event).await?;
        }
        let mut written: Option<Raw> = None;
        for (owner, part) in changed {
            let resource = written.as_ref().map_or(resource, |written| &written.metadata);
            written = Some(self.write_part(resource, owner, &part).await?);
        }
        Ok(written)
    }

    /// Writes the fields of the status that this owner has.
    async fn write_part(&self, resource: &ObjectMeta, owner: &str, part: &Value) -> Result<Raw, Error> {
        self.check()?;
        telemetry::record_write("status");
        let name = resource.name.clone().unwrap_or_default();
        let patch = json!({
            "apiVersion": ProgressDB::api_version(&()),
            "kind": ProgressDB::kind(&()),
            "metadata": { "uid": resource.uid, "resourceVersion": resource.resource_version },
            "status": part,
        });
        let params = PatchParams::apply(owner).force();
        let written = self.resources(resource).patch_status(&name, &params, &Patch::Apply(&patch)).await;
        written.map_err(|error| Error::new(format!("writing the status of {name}"), error))
    }

    /// Tells that another installation of the operator looks after the resource.
    pub async fn tell_left_alone(&self, resource: &ObjectMeta, other: &str, now: Timestamp) -> Result<(), Error> {
        let message = format!(
            "the operator {other} looks after this, and another one that was started for this namespace too leaves it \
             alone: uninstall one of the two, or give it one namespace (namespaced: true)"
        );
        let what = format!("{:?} left to {other}", resource.uid);
        self.tell(resource, &event(resource, &what, ("Warning", "OperatorsOverlap", &message), now)).await
    }

    /// Tells that nobody took the news of an upgrade at the URL of the resource.
    pub(crate) async fn tell_unheard(
        &self,
        resource: &ObjectMeta,
        (id, what): (&str, &str),
        why: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let message = shortened(&format!("spec.upgrade.notify was not told that the upgrade {id} is {what}: {why}"));
        let news = format!("{:?} {id} {what} unheard", resource.uid);
        self.tell(resource, &event(resource, &news, ("Warning", "NotificationFailed", &message), now)).await
    }

    async fn tell(&self, resource: &ObjectMeta, event: &Event) -> Result<(), Error> {
        self.check()?;
        telemetry::record_write("event");
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), resource.namespace.as_deref().unwrap_or_default());
        match events.create(&creation(), event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            // A namespace that is being deleted takes no Events.
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(()),
            Err(error) => Err(Error::new("writing an event", error)),
        }
    }
}

/// Whether an owner has told this already. One that never told anything need not tell nothing.
fn is_told(before: &[(&'static str, Value)], (owner, part): &(&'static str, Value)) -> bool {
    let told = before.iter().find(|(of, _)| of == owner).map(|(_, told)| told);
    told.map_or_else(|| part.as_object().is_none_or(Map::is_empty), |told| told == part)
}

/// An Event for each condition that changed its status or its reason.
fn transitions(resource: &ObjectMeta, old: &[Condition], new: &[Condition], now: Timestamp) -> Vec<Event> {
    new.iter()
        .filter_map(|condition| {
            let before = old.iter().find(|before| before.type_ == condition.type_);
            let is_news = match before {
                Some(before) => (&before.status, &before.reason) != (&condition.status, &condition.reason),
                None => condition.status == "True",
            };
            // Of what cannot be read one thing is to be said, and once.
            let is_repeated = condition.reason == UNREADABLE && condition.type_ != ConditionType::Stalled.name();
            (is_news && !is_repeated).then(|| transition(resource, before, condition, now))
        })
        .collect()
}

fn transition(resource: &ObjectMeta, before: Option<&Condition>, condition: &Condition, now: Timestamp) -> Event {
    let from = before.map(|before| (&before.status, &before.reason, before.last_transition_time.0.as_second()));
    let what = format!("{:?} {} {:?} {} {}", resource.uid, condition.type_, from, condition.status, condition.reason);
    let is_abnormal = ConditionType::ABNORMAL.iter().any(|kind| kind.name() == condition.type_);
    let is_bad = if is_abnormal {
        condition.type_ == ConditionType::Stalled.name() && condition.status == "True"
    } else {
        (condition.status == "False" && !is_ordinary(&condition.reason)) || condition.reason == WARNED
    };
    let kind = if is_bad { "Warning" } else { "Normal" };
    let message = shortened(&format!("{}: {}", condition.type_, condition.message));
    event(resource, &what, (kind, &condition.reason, &message), now)
}

/// An Event for each step of an upgrade that it has entered, and for what it waits for. How it ended the condition tells.
fn of_upgrade(resource: &ObjectMeta, news: &News<'_>, now: Timestamp) -> Vec<Event> {
    let UpgradeStatus { id, to, .. } = news.record;
    let step = |entered: &StepStatus| {
        let step = format!("{:?}", entered.step);
        let what = format!("{:?} {id} {step} {:?}", resource.uid, entered.at);
        let message = shortened(&format!("the upgrade {id} to {} is in {step}", to.image));
        event(resource, &what, ("Normal", &step, &message), entered.at.unwrap_or(now))
    };
    let hold = |hold: &Hold| {
        let what = format!("{:?} {id} {:?} {}", resource.uid, news.record.step, hold.reason);
        let kind = if hold.is_stuck { "Warning" } else { "Normal" };
        let message = shortened(&format!("the upgrade {id} to {} waits: {}", to.image, hold.message));
        event(resource, &what, (kind, &hold.reason, &message), now)
    };
    let odd = |odd: &str| {
        let what = format!("{:?} {id} override {odd}", resource.uid);
        let message = shortened(&format!("progressdb.io/override lets nothing pass: {odd}"));
        event(resource, &what, ("Warning", "OverrideNotUnderstood", &message), now)
    };
    news.steps.iter().map(step).chain(news.hold.map(hold)).chain(news.odd_override.map(odd)).collect()
}

/// Events take at most 1 024 bytes.
fn shortened(message: &str) -> String {
    message.chars().take(250).collect()
}

/// An Event whose name follows from `what` it tells.
fn event(resource: &ObjectMeta, what: &str, (kind, reason, message): (&str, &str, &str), now: Timestamp) -> Event {
    let (name, namespace) = (resource.name.clone().unwrap_or_default(), resource.namespace.clone());
    let time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{}", hash(what.as_bytes()))),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(ProgressDB::api_version(&()).into_owned()),
            kind: Some(ProgressDB::kind(&()).into_owned()),
            name: Some(name),
            namespace,
            uid: resource.uid.clone(),
            resource_version: resource.resource_version.clone(),
            field_path: None,
        },
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource { component: Some(MANAGER.to_owned()), host: None }),
        reporting_component: Some(MANAGER.to_owned()),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: "why".into(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn told(old: &[Condition], new: &[Condition]) -> Vec<(String, String)> {
        let resource = ObjectMeta { name: Some("db".into()), ..ObjectMeta::default() };
        let events = transitions(&resource, old, new, Timestamp::UNIX_EPOCH);
        events.into_iter().map(|event| (event.type_.unwrap(), event.message.unwrap())).collect()
    }

    #[test]
    fn a_resource_that_cannot_be_read_is_told_once() {
        let before = [condition("Ready", "True", "Serving"), condition("Stalled", "False", "AllWell")];
        let after = [condition("Ready", "False", UNREADABLE), condition("Stalled", "True", UNREADABLE)];
        assert_eq!(told(&before, &after), [("Warning".into(), "Stalled: why".into())]);
    }

    #[test]
    fn a_transition_is_told_and_a_repetition_is_not() {
        let starting = [condition("Ready", "False", "Starting"), condition("Stalled", "False", "AllWell")];
        let serving = [condition("Ready", "True", "Serving"), condition("Stalled", "False", "AllWell")];
        assert_eq!(told(&[], &starting), []);
        assert_eq!(told(&starting, &serving), [("Normal".into(), "Ready: why".into())]);
        assert_eq!(told(&serving, &serving), []);
        let crashing = [condition("Ready", "False", "Crashing"), starting[1].clone()];
        assert_eq!(told(&serving, &crashing), [("Warning".into(), "Ready: why".into())]);
    }

    #[test]
    fn each_step_and_each_hold_of_an_upgrade_is_an_event_of_its_own() {
        use crate::crd::UpgradeStep::{Approval, Preflight, Rehearse};
        let resource = ObjectMeta { name: Some("db".into()), uid: Some("u".into()), ..ObjectMeta::default() };
        let events_at = |second: i64, old: Option<&UpgradeStatus>, new: &UpgradeStatus| {
            let news = News::between(old, Some(new)).unwrap();
            let events = of_upgrade(&resource, &news, Timestamp::from_second(second).unwrap());
            events.into_iter().map(|event| (event.metadata.name.unwrap(), event.reason.unwrap())).collect::<Vec<_>>()
        };
        let events = |old: Option<&UpgradeStatus>, new: &UpgradeStatus| events_at(0, old, new);
        let steps = |steps: &[crate::crd::UpgradeStep]| {
            steps.iter().map(|step| StepStatus { step: *step, at: Some(Timestamp::UNIX_EPOCH) }).collect::<Vec<_>>()
        };
        let begun = UpgradeStatus { id: "a".into(), steps: steps(&[Preflight, Rehearse]), ..UpgradeStatus::default() };
        let told = events(None, &begun);
        assert_eq!(told.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>(), ["Preflight", "Rehearse"]);
        // The same transition has the same name at any time, so that it is told once.
        assert_eq!(events_at(9, None, &begun), told);
        let mut held =
            UpgradeStatus { steps: steps(&[Preflight, Rehearse, Approval]), step: Approval, ..begun.clone() };
        held.hold = Some(Hold { reason: "ApprovalNeeded".into(), ..Hold::default() });
        let reasons: Vec<String> = events(Some(&begun), &held).into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, ["Approval", "ApprovalNeeded"]);
        assert_eq!(events_at(9, Some(&begun), &held), events(Some(&begun), &held));
        assert_eq!(events(Some(&held), &held), []);
        let odd = UpgradeStatus { odd_override: Some("what is x?".into()), ..held.clone() };
        let told = events(Some(&held), &odd);
        assert_eq!(told[0].1, "OverrideNotUnderstood");
        assert_eq!((told.len(), events(Some(&odd), &odd)), (1, vec![]));
        let other = UpgradeStatus { id: "b".into(), ..begun.clone() };
        assert_ne!(events(None, &other)[0].0, told[0].0);
    }

    #[test]
    fn what_every_start_and_stop_goes_through_is_no_warning() {
        let serving = [condition("Ready", "True", "Serving"), condition("Available", "True", "Serving")];
        for reason in ["Updating", "Stopping", "Stopped", "Starting", "NotReady", "Suspended", "Deleting"] {
            let now = [condition("Ready", "False", reason), condition("Available", "False", reason)];
            let kinds: Vec<String> = told(&serving, &now).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, ["Normal", "Normal"], "{reason}");
        }
    }
}
