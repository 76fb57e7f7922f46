//! What is found about each part, and what is to be done for it.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    Write, apply_if_needed,
    checks::Check,
    conditions::{ConditionStatus, ConditionType, Finding, WARNED},
    deletion,
    desired::Desired,
    hitch::Hitch,
    pods,
};
use crate::{
    MANAGER,
    crd::DeletionPolicy,
    drift,
    kind::Kind,
    objects::{SERVER, labels, names},
    observe::{Class, Live, Observed, Obstacle, Taken, complaint, container_of, name_of, needs},
};

/// Reasons of a server that does not serve yet and will by itself.
pub(super) const PASSING: [&str; 5] = ["Stopped", "Starting", "NotReady", "Stopping", "Suspended"];

/// A volume that waits for a restart which nobody but its owner decides about: the operator has nothing more to do.
pub(super) const RESTART_TO_GROW: &str = "RestartToGrow";

/// A check of settings says the same again; only the cluster can have been at fault.
const RETRY_CONFIGURATION: SignedDuration = SignedDuration::from_secs(300);
/// A KMS may come back any minute.
const RETRY_KEYS: SignedDuration = SignedDuration::from_secs(60);
/// A server that takes requests answers at once, unless the network keeps the operator from it: then the KMS is tried
/// without the keys of the data.
const WAIT_FOR_WRAPPED_KEYS: SignedDuration = SignedDuration::from_secs(60);

/// What the API server does not let us do.
pub(super) fn refusal(seen: &Observed) -> Option<Finding> {
    let refusal = seen.refusal.as_ref()?;
    Some(Finding::no(
        "ApiRefuses",
        format!("the cluster does not allow what is needed; it is tried every minute: {refusal}"),
    ))
}

/// Who keeps changing what the operator makes.
pub(super) fn contest(seen: &Observed) -> Option<Finding> {
    let contested = seen.objects.iter().find_map(|((kind, name), live)| {
        let by = seen.pasts.get(live.uid())?.contest.clone()?;
        Some((kind.name(), name, by))
    });
    let (kind, name, by) = contested?;
    let who = by.unwrap_or_else(|| "somebody changes it".to_owned());
    let message = format!(
        "the {kind} {name} does not stay as the operator makes it: {who}. Take that away, or set what it wants in this \
         resource; until then the operator sets it back now and then"
    );
    Some(Finding::no("FieldConflict", message))
}

/// Whether all names are ours.
pub(super) fn name_conflicts(seen: &Observed) -> Option<Finding> {
    let resource = &seen.resource;
    if let Some(taken) = seen.taken.first() {
        return Some(Finding::no("NameTaken", name_taken(taken, &resource.name_any())));
    }
    let uid = resource.metadata.uid.as_deref().unwrap_or_default();
    let former = seen
        .objects
        .iter()
        .find(|((kind, _), live)| !matches!(kind, Kind::Pod) && live.owner().is_some() && !live.is_owned_by(uid));
    former.map(|((kind, name), _)| {
        let message =
            format!("the {} {name} belongs to a former ProgressDB of this name and is about to go", kind.name());
        Finding::unknown("FormerObjects", message)
    })
}

/// Whose a name is, and the ways out. None of them is to delete: it may be somebody's data.
fn name_taken(taken: &Taken, resource: &str) -> String {
    let Taken { kind, name, whose } = taken;
    let way_out = match kind {
        Kind::Claim | Kind::Secret => format!(
            "if it is of this database, give it the labels {}={resource} and {}={MANAGER}; else make this database under \
             another name",
            labels::INSTANCE,
            labels::MANAGED_BY,
        ),
        Kind::Pod => format!(
            "if it is the server, give it back the labels {}; else have it made under another name",
            labels::selector(resource, labels::Component::Server)
                .iter()
                .map(|(label, value)| format!("{label}={value}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        _ => "make one of the two under another name".to_owned(),
    };
    format!("the {} {name}, whose name this ProgressDB needs, {whose}: {way_out}", kind.name())
}

/// Whether the Secret with the generated keys is there.
pub(super) fn has_keys(seen: &Observed) -> bool {
    seen.objects.contains_key(&(Kind::Secret, names::api_keys(&seen.resource.name_any())))
}

/// Gives an object, of which nothing else is ever changed, its labels back.
pub(super) fn labels_back(seen: &Observed, object: &Value) -> Option<Write> {
    let kind = Kind::of(object)?;
    let name = name_of(object);
    let live = seen.objects.get(&(kind, name.to_owned())).filter(|live| !live.is_deleted())?;
    let labels = object.pointer("/metadata/labels")?;
    if drift::is_subset_of(labels, live.at("/metadata/labels")) {
        return None;
    }
    let metadata =
        json!({ "name": name, "namespace": object["metadata"]["namespace"], "uid": live.uid(), "labels": labels });
    Some(Write::Apply(json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata })))
}

/// What the resource no longer asks for, of kinds that hold no data.
pub(super) fn unwanted(seen: &Observed, desired: &Desired) -> Vec<Write> {
    const KINDS: [Kind; 3] = [Kind::NetworkPolicy, Kind::ServiceMonitor, Kind::PrometheusRule];
    let is_wanted = |kind: Kind| desired.always.iter().any(|object| Kind::of(object) == Some(kind));
    let former =
        seen.objects.iter().filter(|((kind, _), live)| KINDS.contains(kind) && !is_wanted(*kind) && !live.is_deleted());
    former
        .map(|((kind, name), live)| Write::Delete { kind: *kind, name: name.clone(), uid: live.uid().to_owned() })
        .collect()
}

/// The volume: made once, grown, and never made again in place of one that was lost.
pub(super) fn storage(seen: &Observed, desired: &Desired, writes: &mut Vec<Write>, now: Timestamp) -> Finding {
    let Some(claim) = seen.claim() else {
        let had = seen.resource.status.as_ref().and_then(|status| status.claim.as_ref());
        if let Some(had) = had {
            let message = format!(
                "the claim {had} with the data is gone, and an empty one would hide that: restore it under this name, or \
                 make a ProgressDB under another name to begin with an empty database"
            );
            return Finding::no("ClaimLost", message);
        }
        writes.push(Write::Apply(desired.claim.clone()));
        return Finding::unknown("Creating", "the claim is being made");
    };
    if claim.is_deleted() {
        let release = deletion::release_claim(seen);
        let what_next = match seen.resource.spec.deletion_policy {
            DeletionPolicy::Snapshot if release.is_some() => "delete this ProgressDB, and its volume is kept",
            _ => {
                writes.extend(release);
                "save the data now, which goes when its pod stops"
            }
        };
        let name = claim.name();
        let message =
            format!("somebody deleted the claim {name}, and Kubernetes cannot take a deletion back: {what_next}");
        return Finding::no("ClaimDeleted", message);
    }
    match claim.at("/status/phase").as_str() {
        Some("Bound") => grow(seen, desired, writes),
        Some("Lost") => {
            Finding::no("VolumeLost", format!("the volume of the claim {} is gone: restore it", claim.name()))
        }
        _ => not_bound(seen, claim, desired, writes, now),
    }
}

fn not_bound(seen: &Observed, claim: &Live, desired: &Desired, writes: &mut Vec<Write>, now: Timestamp) -> Finding {
    writes.extend(labels_back(seen, &desired.claim));
    match &seen.storage_class {
        Some(Class::Missing(class)) => Finding::no(
            "StorageClassMissing",
            format!("there is no storage class {class}: make it; the class of a claim cannot be changed"),
        ),
        _ => Hitch::of("claim", seen, claim, now).map_or_else(
            || Finding::unknown("Binding", "the volume is made when its pod is scheduled"),
            Hitch::finding,
        ),
    }
}

fn grow(seen: &Observed, desired: &Desired, writes: &mut Vec<Write>) -> Finding {
    let claim = seen.claim().map(|claim| claim.0.clone()).unwrap_or_default();
    let size = |pointer: &str| claim.pointer(pointer).and_then(drift::quantity).unwrap_or(0.0);
    let asked = claim.pointer("/spec/resources/requests/storage").cloned().unwrap_or_default();
    if seen.wants_to_grow() {
        if let Some(Class::Found { name, grows: false }) = &seen.storage_class {
            let message = format!(
                "volumes of the storage class {name} cannot grow: set allowVolumeExpansion: true in it if its driver can, or \
                 set spec.storage.embedded.size back to {}",
                asked.as_str().unwrap_or_default()
            );
            return Finding::no("CannotGrow", message);
        }
        writes.extend(apply_if_needed(seen, &desired.claim));
        return Finding::unknown("Growing", "the volume is asked to grow");
    }
    writes.extend(apply_if_needed(seen, &desired.claim));
    if size("/status/capacity/storage") < size("/spec/resources/requests/storage") {
        return match pending_resize(&claim) {
            true => Finding::unknown(
                RESTART_TO_GROW,
                "the volume has grown, its file system grows when the server is restarted, when that suits you: kubectl progressdb restart",
            ),
            false => Finding::unknown("Growing", "the volume grows"),
        };
    }
    match desired.claim_differs.is_empty() {
        true => Finding::yes("Bound", "the volume is there"),
        false => Finding::yes("Bound", format!("the volume is there; {}", desired.claim_differs.join("; "))),
    }
}

fn pending_resize(claim: &Value) -> bool {
    let conditions = claim.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "FileSystemResizePending")
}

/// Whether a server would find its data.
pub(super) fn has_volume(seen: &Observed) -> bool {
    seen.claim().is_some_and(|claim| !claim.is_deleted())
}

/// What is wrong with Secrets: of clients' keys, and of the KMS.
pub(super) fn secrets(seen: &Observed) -> (Option<Finding>, Option<Finding>) {
    let complaint = |for_kms: bool| {
        needs(&seen.resource.spec).into_iter().filter(|need| need.is_for_kms == for_kms).find_map(|need| {
            let (reason, message) = complaint(&need, seen.secrets.get(&need.secret)?)?;
            Some(Finding::no(reason, message))
        })
    };
    (complaint(false), complaint(true))
}

/// What is in the way of the pod that should run instead of the one that does.
pub(super) fn trial(seen: &Observed) -> Option<Finding> {
    seen.trial.as_ref().map(|Obstacle { reason, message }| Finding::no(reason, message.clone()))
}

/// Whether the image accepts the settings, in its own words.
pub(super) fn configuration(seen: &Observed, desired: &Desired, writes: &mut Vec<Write>, now: Timestamp) -> Finding {
    match checked(seen, &desired.config_check, RETRY_CONFIGURATION, writes, now) {
        Check::Passed { warnings } => accepted(seen, warnings),
        Check::Failed { message, .. } => {
            Finding::no("SettingsRefused", format!("the image refuses the settings: correct spec.settings: {message}"))
        }
        Check::Running(Some(hitch)) => hitch.finding(),
        Check::Absent | Check::Running(None) | Check::HeldOpen(_) => {
            found_before(seen, ConditionType::ConfigurationValid, "SettingsRefused")
                .unwrap_or_else(|| Finding::unknown("Checking", "the image checks the settings"))
        }
    }
}

/// With what the image warns of; what it said is kept when the pod of the check is gone.
fn accepted(seen: &Observed, warnings: Option<Vec<String>>) -> Finding {
    let warned = |message: String| Finding { status: ConditionStatus::True, reason: WARNED, message };
    match warnings {
        Some(warnings) if !warnings.is_empty() => {
            warned(format!("the image accepts the settings and warns: {}", warnings.join("; ")))
        }
        None => found_before(seen, ConditionType::ConfigurationValid, WARNED)
            .map_or_else(|| Finding::yes("Accepted", "the image accepts the settings"), |told| warned(told.message)),
        Some(_) => Finding::yes("Accepted", "the image accepts the settings"),
    }
}

/// Whether the KMS wraps and unwraps for the instance's own identity, in the provider's words.
pub(super) fn keys(seen: &Observed, check: &Value, writes: &mut Vec<Write>, now: Timestamp) -> Finding {
    let name = name_of(check);
    if seen.wrapped_keys.is_none() && seen.job(name).is_none() && !is_undecided_for(seen, WAIT_FOR_WRAPPED_KEYS, now) {
        let message = "the server is asked for the wrapped keys of its data, on which the KMS is to be tried";
        return found_before(seen, ConditionType::KeyManagementReady, "KmsFailed")
            .unwrap_or_else(|| Finding::unknown("Checking", message));
    }
    match checked(seen, check, RETRY_KEYS, writes, now) {
        Check::Passed { .. } => Finding::yes("Answered", "the KMS wrapped and unwrapped a key"),
        Check::Failed { message, .. } => Finding::no(
            "KmsFailed",
            format!(
                "what runs is left alone, since it could not start again; the KMS is tried every minute: {message}"
            ),
        ),
        Check::Running(Some(hitch)) => hitch.finding(),
        Check::Absent | Check::Running(None) | Check::HeldOpen(_) => {
            found_before(seen, ConditionType::KeyManagementReady, "KmsFailed")
                .unwrap_or_else(|| Finding::unknown("Checking", "the KMS is asked to wrap and unwrap a key"))
        }
    }
}

/// Whether nothing has been known of the KMS for so long.
fn is_undecided_for(seen: &Observed, time: SignedDuration, now: Timestamp) -> bool {
    let conditions = seen.resource.status.iter().flat_map(|status| &status.conditions);
    let told = conditions.into_iter().find(|condition| condition.type_ == ConditionType::KeyManagementReady.name());
    told.is_some_and(|told| told.status == "Unknown" && now.duration_since(told.last_transition_time.0) > time)
}

/// Has the settings that checks judge there as long as a check needs them, and no others.
pub(super) fn check_settings(seen: &Observed, desired: &Desired, writes: &mut Vec<Write>, now: Timestamp) {
    let settings = &desired.check_settings;
    let name = name_of(settings);
    let jobs = [Some(&desired.config_check), desired.kms_check.as_ref()];
    let is_open = |job: &Value| {
        let (name, container) = (name_of(job), container_of(job));
        !matches!(Check::of(seen, name, container, RETRY_KEYS, now), Check::Passed { .. })
    };
    let is_needed = jobs.into_iter().flatten().any(is_open);
    let is_of_a_check = |live: &Live| live.label(labels::COMPONENT) == Some(labels::Component::Job.as_str());
    let there = seen.objects.iter().filter(|((kind, _), live)| *kind == Kind::ConfigMap && is_of_a_check(live));
    let has_use = |other: &str| is_needed && other == name;
    for ((kind, other), live) in there.filter(|((_, other), live)| !live.is_deleted() && !has_use(other)) {
        writes.push(Write::Delete { kind: *kind, name: other.clone(), uid: live.uid().to_owned() });
    }
    if is_needed && !seen.objects.contains_key(&(Kind::ConfigMap, name.to_owned())) {
        writes.push(Write::Create(settings.clone()));
    }
}

/// The failure that the status tells, while the same is asked again: it stands until there is another answer.
fn found_before(seen: &Observed, about: ConditionType, reason: &'static str) -> Option<Finding> {
    let told = seen.resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == about.name())?;
    let is_of_this = told.reason == reason && told.observed_generation == seen.resource.metadata.generation;
    is_of_this.then(|| Finding::no(reason, told.message.clone()))
}

/// Sees to it that the check is made once, again after a failure, and that former ones go.
fn checked(seen: &Observed, job: &Value, retry: SignedDuration, writes: &mut Vec<Write>, now: Timestamp) -> Check {
    let name = name_of(job);
    writes.extend(former_checks(seen, job));
    let check = Check::of(seen, name, container_of(job), retry, now);
    match (&check, seen.job(name)) {
        (Check::HeldOpen(verdict), Some(live)) => {
            writes.push(Write::Conclude { name: name.to_owned(), uid: live.uid().to_owned(), verdict: verdict.clone() })
        }
        (Check::Absent, None) => writes.push(Write::Create(job.clone())),
        (Check::Failed { retry_at, .. }, Some(live)) if *retry_at <= now => writes.push(delete_job(name, live.uid())),
        _ => {}
    }
    check
}

/// Has checks go that tried something else than this one: what they found is not about what is there now.
pub(super) fn former_checks(seen: &Observed, job: &Value) -> Vec<Write> {
    let name = name_of(job);
    let stem = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
    let former = seen.objects.iter().filter(|((kind, other), live)| {
        *kind == Kind::Job
            && other != name
            && other.rsplit_once('-').is_some_and(|(other, _)| other == stem)
            && !live.is_deleted()
    });
    former.map(|((_, other), live)| delete_job(other, live.uid())).collect()
}

fn delete_job(name: &str, uid: &str) -> Write {
    Write::Delete { kind: Kind::Job, name: name.to_owned(), uid: uid.to_owned() }
}

/// The server as its pod shows it.
pub(super) fn server(seen: &Observed, now: Timestamp) -> Finding {
    match seen.pod() {
        Some(pod) => starting(pods::assess(pod, seen.node.as_ref(), now), Hitch::of_pod(seen, pod, SERVER, now)),
        None if seen.resource.spec.suspend => {
            Finding::no("Suspended", "the server is stopped because spec.suspend is true")
        }
        None => {
            let hitch = seen.stateful_set().and_then(|set| Hitch::of("StatefulSet", seen, set, now));
            starting(Finding::no("Stopped", "the server does not run"), hitch)
        }
    }
}

/// With what keeps it from starting: at first as something to know.
fn starting(found: Finding, hitch: Option<Hitch>) -> Finding {
    match hitch.filter(|_| ["Stopped", "Starting"].contains(&found.reason)) {
        Some(Hitch { reason, message, lasts: true }) => Finding::no(reason, message),
        Some(Hitch { message, .. }) => Finding { message, ..found },
        None => found,
    }
}
