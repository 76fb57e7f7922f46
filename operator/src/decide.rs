//! What follows from what was seen: pure, without a client, a clock or chance.
//!
//! The order of the writes is the order in which they are written, and at most one of them cannot be undone. Nothing that
//! runs is touched before what it would become has been checked: Secrets are there, the new image accepts the settings,
//! the KMS wraps and unwraps. What cannot be known holds everything as it is.

mod api_keys;
mod assess;
mod back;
mod checks;
pub mod conditions;
mod deletion;
mod desired;
mod hitch;
mod pods;
mod restart;
mod roll;
mod unreadable;
mod write;

use jiff::Timestamp;
use std::time::Duration;

use self::{
    conditions::{ConditionType, Finding},
    desired::Desired,
};
pub use self::{
    unreadable::{UNREADABLE, unreadable},
    write::Write,
};
use crate::{
    crd::{DeletionPolicy, KmsStatus, ProgressDBStatus},
    drift,
    kind::Kind,
    objects::{SERVER, labels::FINALIZER},
    observe::{Live, Observed, Verdict, image_id, name_of},
};

/// When nothing calls earlier.
const SETTLED: Duration = Duration::from_secs(600);
/// When something is awaited that no watch tells of.
const SOON: Duration = Duration::from_secs(60);

/// When a file is awaited that the kubelet brings.
const VERY_SOON: Duration = Duration::from_secs(15);

/// What is to be told and done.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The whole status.
    pub status: ProgressDBStatus,
    /// The writes, in their order.
    pub writes: Vec<Write>,
    /// When to look again, if nothing changes before.
    pub requeue_after: Duration,
}

/// What is found about each part.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    /// The settings and what they name.
    pub(crate) configuration: Finding,
    /// The volume.
    pub(crate) storage: Finding,
    /// The KMS; `None` without one.
    pub(crate) keys: Option<Finding>,
    /// The server.
    pub(crate) server: Finding,
    /// That the server does not accept the keys of clients, and whether somebody must do something about it.
    pub(crate) api_keys: Option<(Finding, bool)>,
    /// Whether the server that should run is another one than the one that does.
    pub(crate) is_behind: bool,
    /// What is in the way of everything.
    pub(crate) blocked: Option<Finding>,
    /// What the API server refuses.
    pub(crate) refused: Option<Finding>,
    /// Who insists on another value of a field than the operator.
    pub(crate) contested: Option<Finding>,
}

/// The StatefulSet that would take the place of one that runs: to be tried before that is stopped.
pub fn successor(seen: &Observed) -> Option<serde_json::Value> {
    if seen.resource.metadata.deletion_timestamp.is_some() || assess::name_conflicts(seen).is_some() {
        return None;
    }
    let desired = Desired::build(seen).ok()?;
    let is_given_up = back::given_up(seen, &desired).is_some();
    roll::successor(seen, &desired).filter(|_| !is_given_up)
}

/// Decides what to do about a resource.
pub fn decide(seen: &Observed, now: Timestamp) -> Decision {
    if seen.resource.metadata.deletion_timestamp.is_some() {
        return deletion::decide(seen, now);
    }
    let mut writes = Vec::new();
    writes.extend(finalizers(seen));
    if let Some(blocked) = assess::name_conflicts(seen) {
        return held(seen, writes, blocked, now);
    }
    let desired = match Desired::build(seen) {
        Ok(desired) => desired,
        Err(problem) => {
            let findings = Findings { configuration: problem, ..Findings::before_anything(seen, now) };
            return finish(seen, findings, writes, now);
        }
    };
    writes.extend(assess::unwanted(seen, &desired));
    writes.extend(desired.always.iter().filter_map(|object| apply_if_needed(seen, object)));
    if let Some(keys) = desired.api_keys.as_ref().filter(|_| !assess::has_keys(seen)) {
        writes.push(Write::CreateKeys(keys.clone()));
    }
    writes.extend(desired.api_keys.as_ref().and_then(|keys| assess::labels_back(seen, keys)));
    let storage = assess::storage(seen, &desired, &mut writes, now);
    if let Some(given_up) = back::given_up(seen, &desired) {
        return go_back(seen, &desired, given_up, storage, writes, now);
    }
    let secrets = assess::secrets(seen);
    let impossible = assess::trial(seen);
    let lacking = secrets.0.or_else(|| api_keys::lost(seen));
    if lacking.is_some() {
        writes.extend(assess::former_checks(seen, &desired.config_check));
    }
    // What the API server refuses of the server's pod it refuses of a check's.
    let mut none = Vec::new();
    let checks = if impossible.is_some() { &mut none } else { &mut writes };
    assess::check_settings(seen, &desired, checks, now);
    let configuration = lacking.or(impossible);
    let configuration = configuration.unwrap_or_else(|| assess::configuration(seen, &desired, checks, now));
    let keys =
        desired.kms_check.as_ref().map(|check| secrets.1.unwrap_or_else(|| assess::keys(seen, check, checks, now)));
    let may_start = configuration.holds() && keys.as_ref().is_none_or(Finding::holds) && assess::has_volume(seen);
    writes.extend(back::forget(seen, &desired));
    let is_behind = match back::give_up(seen, &desired, now) {
        Some(write) => {
            writes.push(write);
            true
        }
        None => roll::roll(seen, &desired, may_start, &mut writes, || back::keep(seen, &desired, now)),
    };
    let server = assess::server(seen, now);
    finish(
        seen,
        Findings {
            configuration,
            storage,
            keys,
            server,
            api_keys: api_keys::refused(seen).map(|finding| (finding, api_keys::is_overdue(seen, now))),
            is_behind,
            blocked: None,
            refused: assess::refusal(seen),
            contested: assess::contest(seen),
        },
        writes,
        now,
    )
}

/// Whether the KMS is to be tried in a way in which it was not tried yet.
pub fn awaits_kms_check(seen: &Observed) -> bool {
    let desired = seen.resource.spec.kms.as_ref().and_then(|_| Desired::build(seen).ok());
    let check = desired.and_then(|desired| desired.kms_check);
    check.is_some_and(|check| seen.job(name_of(&check)).is_none())
}

/// Starts again what ran before: that has been tried already.
fn go_back(
    seen: &Observed,
    desired: &Desired,
    given_up: Finding,
    storage: Finding,
    mut writes: Vec<Write>,
    now: Timestamp,
) -> Decision {
    if let Some(instead) = back::instead(seen, desired) {
        roll::roll(seen, &instead, assess::has_volume(seen), &mut writes, || None);
    }
    let keys = desired
        .kms_check
        .as_ref()
        .map(|check| assess::secrets(seen).1.unwrap_or_else(|| assess::keys(seen, check, &mut writes, now)));
    let findings = Findings { configuration: given_up, storage, keys, ..Findings::before_anything(seen, now) };
    finish(seen, findings, writes, now)
}

impl Findings {
    fn before_anything(seen: &Observed, now: Timestamp) -> Self {
        let unknown = || Finding::unknown("NotChecked", "nothing was checked yet");
        Self {
            configuration: unknown(),
            storage: unknown(),
            keys: seen.resource.spec.kms.as_ref().map(|_| unknown()),
            server: assess::server(seen, now),
            api_keys: None,
            is_behind: true,
            blocked: None,
            refused: assess::refusal(seen),
            contested: assess::contest(seen),
        }
    }
}

fn held(seen: &Observed, writes: Vec<Write>, blocked: Finding, now: Timestamp) -> Decision {
    let findings = Findings { blocked: Some(blocked), ..Findings::before_anything(seen, now) };
    finish(seen, findings, writes, now)
}

/// The finalizer is there exactly as long as deletion has something to do: with the data, or to let go of the claim.
fn finalizers(seen: &Observed) -> Option<Write> {
    let has = seen.resource.metadata.finalizers.clone().unwrap_or_default();
    let mut wants: Vec<String> = has.iter().filter(|name| *name != FINALIZER).cloned().collect();
    if seen.resource.spec.deletion_policy != DeletionPolicy::Retain || deletion::release_claim(seen).is_some() {
        wants.push(FINALIZER.to_owned());
    }
    let same = has.len() == wants.len() && has.iter().all(|name| wants.contains(name));
    (!same).then_some(Write::SetFinalizers(wants))
}

/// Applies an object if it is not there or not as it should be.
pub(crate) fn apply_if_needed(seen: &Observed, object: &serde_json::Value) -> Option<Write> {
    let kind = Kind::of(object)?;
    let name = name_of(object);
    let desired = drift::with_applied_hash(object.clone());
    let Some(live) = seen.objects.get(&(kind, name.to_owned())) else { return Some(Write::Apply(desired)) };
    let is_in_vain = || seen.pasts.get(live.uid()).is_some_and(|past| past.forbids(&desired, &live.0));
    if drift::object_is_subset_of(&desired, &live.0) || is_in_vain() {
        return None;
    }
    if let Some(patch) = drift::correction(object, &live.0) {
        let (uid, version) = (live.uid().to_owned(), live.version().to_owned());
        return Some(Write::Correct { kind, name: name.to_owned(), uid, version, patch });
    }
    Some(Write::Apply(with_uid(desired, live)))
}

fn with_uid(mut object: serde_json::Value, live: &Live) -> serde_json::Value {
    object["metadata"]["uid"] = live.uid().into();
    object
}

/// The status, and when to look again.
fn finish(seen: &Observed, findings: Findings, writes: Vec<Write>, now: Timestamp) -> Decision {
    let rests = seen.secrets.is_empty() && !findings.waits() && seen.answer_is_known() && seen.verdict_is_known();
    let requeue_after = match rests {
        _ if findings.api_keys.is_some() => VERY_SOON,
        _ if back::is_open(seen) || findings.starts() => VERY_SOON,
        true => SETTLED,
        false => SOON,
    };
    let requeue_after = seen.pasts.values().filter_map(|past| past.until).fold(requeue_after, Duration::min);
    Decision { status: status(seen, &findings, &writes, now), writes, requeue_after }
}

impl Findings {
    fn waits(&self) -> bool {
        let parts = [Some(&self.configuration), Some(&self.storage), self.keys.as_ref(), Some(&self.server)];
        let rests = |finding: &Finding| finding.holds() || finding.reason == assess::RESTART_TO_GROW;
        let all_hold = parts.into_iter().flatten().all(rests);
        !all_hold || self.blocked.is_some() || self.refused.is_some()
    }

    /// Whether something should go on any moment that no watch may tell of.
    fn starts(&self) -> bool {
        let parts = [Some(&self.configuration), Some(&self.storage), self.keys.as_ref(), Some(&self.server)];
        let mut awaited = parts.into_iter().flatten();
        awaited.any(|finding| ["Checking", "Creating", "Starting", "Stopped", "Binding"].contains(&finding.reason))
    }

    /// The first thing that somebody must mend.
    fn stalled(&self) -> Option<&Finding> {
        let needs_hands = |finding: &&Finding| finding.fails();
        let parts = [Some(&self.configuration), Some(&self.storage), self.keys.as_ref()];
        let server = Some(&self.server).filter(|server| !assess::PASSING.contains(&server.reason) && server.fails());
        self.blocked
            .as_ref()
            .or(self.refused.as_ref())
            .or_else(|| parts.into_iter().flatten().find(needs_hands))
            .or(server)
            .or(self.api_keys.as_ref().filter(|(_, is_overdue)| *is_overdue).map(|(finding, _)| finding))
            .or(self.contested.as_ref())
    }
}

fn status(seen: &Observed, findings: &Findings, writes: &[Write], now: Timestamp) -> ProgressDBStatus {
    let resource = &seen.resource;
    let old = resource.status.clone().unwrap_or_default();
    let is_suspended = resource.spec.suspend;
    let works = !writes.is_empty() || findings.waits() || findings.is_behind;
    let stalled = findings.stalled();
    let ready = ready(findings, is_suspended);
    let mut written = vec![
        (ConditionType::Ready, ready.clone()),
        (ConditionType::Available, findings.server.clone()),
        (ConditionType::ConfigurationValid, findings.configuration.clone()),
        (ConditionType::StorageReady, findings.storage.clone()),
        (ConditionType::Suspended, suspended(is_suspended)),
        (
            ConditionType::Stalled,
            match stalled {
                Some(finding) => Finding::yes(finding.reason, finding.message.clone()),
                None => Finding::no("NothingInTheWay", "nothing needs a hand"),
            },
        ),
        (
            ConditionType::Reconciling,
            match works && stalled.is_none() && !(is_suspended && seen.pod().is_none() && writes.is_empty()) {
                true => Finding::yes("Working", ready.message.clone()),
                false => Finding::no("Settled", "there is nothing to do"),
            },
        ),
    ];
    written.extend(findings.keys.clone().map(|finding| (ConditionType::KeyManagementReady, finding)));
    let generation = resource.metadata.generation;
    let pod = seen.pod().filter(|pod| !pod.is_deleted());
    let set = seen.stateful_set();
    let image_id = pod.and_then(image_id).map(str::to_owned);
    // What a former image said is not said of this one.
    let kept = Some(&old).filter(|old| old.image_id == image_id);
    ProgressDBStatus {
        observed_generation: generation,
        phase: Some(phase(findings, stalled.is_some(), is_suspended).to_owned()),
        conditions: conditions::write(written, &old.conditions, generation, now),
        image: set.and_then(|set| set.template_container(SERVER)["image"].as_str()).map(str::to_owned),
        image_id: image_id.clone(),
        version: seen
            .server_info
            .as_ref()
            .map(|info| info.version.clone())
            .or_else(|| kept.and_then(|old| old.version.clone())),
        data_format: seen.server_info.as_ref().map(|info| info.format).or_else(|| kept.and_then(|old| old.data_format)),
        replicas: set.and_then(|set| set.at("/spec/replicas").as_i64()).and_then(|count| i32::try_from(count).ok()),
        ready_replicas: Some(i32::from(findings.server.holds())),
        service: Some(desired::service_address(resource)),
        claim: seen.claim().map(|claim| claim.name().to_owned()).or(old.claim),
        size: asked_size(seen).or(old.size),
        api_keys: api_keys::status(seen),
        operator: seen.installation.as_ref().map(ToString::to_string).or(old.operator),
        kms: findings.keys.as_ref().map(|finding| KmsStatus {
            provider: desired::provider(resource),
            ok: match finding.status {
                conditions::ConditionStatus::Unknown => None,
                status => Some(status == conditions::ConditionStatus::True),
            },
            key_id: seen.kms_key.clone().or_else(|| old.kms.and_then(|kms| kms.key_id)),
        }),
    }
}

/// The size that the claim asks for.
fn asked_size(seen: &Observed) -> Option<String> {
    seen.claim()?.at("/spec/resources/requests/storage").as_str().map(str::to_owned)
}

fn ready(findings: &Findings, is_suspended: bool) -> Finding {
    if let Some(blocked) = findings.blocked.as_ref().or(findings.refused.as_ref()) {
        return Finding::no(blocked.reason, blocked.message.clone());
    }
    if is_suspended {
        return Finding::no("Suspended", "the server is stopped because spec.suspend is true");
    }
    let parts = [Some(&findings.configuration), findings.keys.as_ref(), Some(&findings.storage)];
    if let Some(finding) = parts.into_iter().flatten().find(|finding| finding.fails()) {
        return finding.clone();
    }
    if findings.is_behind {
        let parts = [Some(&findings.configuration), findings.keys.as_ref()];
        let awaited = parts.into_iter().flatten().find(|finding| !finding.holds());
        let message =
            awaited.map_or("the server is stopped and started anew".to_owned(), |finding| finding.message.clone());
        return Finding::no(if findings.server.holds() { "Updating" } else { "Starting" }, message);
    }
    let refused = findings.api_keys.as_ref().filter(|_| findings.server.holds());
    refused.map_or_else(|| findings.server.clone(), |(finding, _)| finding.clone())
}

fn suspended(is_suspended: bool) -> Finding {
    match is_suspended {
        true => Finding::yes("Requested", "spec.suspend is true: set it to false to start the server"),
        false => Finding::no("NotRequested", "spec.suspend is false"),
    }
}

fn phase(findings: &Findings, is_stalled: bool, is_suspended: bool) -> &'static str {
    match (is_stalled, is_suspended, findings.is_behind, findings.server.holds()) {
        (true, ..) => "Stalled",
        (_, true, ..) => "Suspended",
        (_, _, true, true) => "Updating",
        (_, _, false, true) => "Running",
        _ => "Starting",
    }
}

/// Whether this is the reason of something that does not last: no need to warn.
pub fn is_ordinary(reason: &str) -> bool {
    assess::PASSING.contains(&reason) || ["Updating", "Deleting"].contains(&reason)
}

impl Observed {
    /// Whether the status says what the server says of itself.
    fn answer_is_known(&self) -> bool {
        let status = self.resource.status.as_ref();
        self.server_info.is_some() || status.is_some_and(|status| status.version.is_some())
    }

    /// Whether the server said something about its keys, if it was asked.
    fn verdict_is_known(&self) -> bool {
        self.verdict != Some(Verdict::Unknown)
    }
}
