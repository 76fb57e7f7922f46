//! The way back: when a successor cannot be started within a minute after the stop, what ran before is started again.
//!
//! What ran before is kept in the ConfigMap `NAME-former` from just before the start of its successor until a pod of that
//! is ready:
//!
//! ```text
//! data         config.yaml, template.json    its settings and its pod template
//! annotations  progressdb.io/tried           the value of the successor's annotation `roll`
//!              progressdb.io/tried-at        since when it should start
//!              progressdb.io/failed          why it could not
//! ```
//!
//! A successor that failed is not tried again until the resource asks for another one. Only what never ran is given up: a
//! server that starts and fails may have changed its data.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Write, apply_if_needed, conditions::Finding, desired::Desired, hitch::Hitch};
use crate::{
    kind::Kind,
    objects::{SERVER, labels::ROLL, names},
    observe::{Live, Observed},
};

const TRIED: &str = "progressdb.io/tried";
const TRIED_AT: &str = "progressdb.io/tried-at";
const FAILED: &str = "progressdb.io/failed";
const TEMPLATE: &str = "template.json";
const SETTINGS: &str = "config.yaml";

/// So long a successor has to be made and placed.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// What keeps a container from ever having run.
const NEVER_RAN: [&str; 6] = [
    "Unschedulable",
    "ImagePullFailed",
    "PodRefused",
    "VolumeNotMounted",
    "InitContainerFails",
    "ContainerCannotStart",
];

/// What is kept of what ran before.
fn former(seen: &Observed) -> Option<&Live> {
    let name = names::former(seen.resource.metadata.name.as_deref()?);
    seen.objects.get(&(Kind::ConfigMap, name)).filter(|former| !former.is_deleted())
}

/// Why what should run was given up, if it was.
pub(super) fn given_up(seen: &Observed, desired: &Desired) -> Option<Finding> {
    let former = former(seen).filter(|former| former.annotation(TRIED) == Some(&desired.roll))?;
    let why = former.annotation(FAILED)?;
    let message = format!(
        "what was asked for could not be started within a minute, so what ran before was started again; correct the spec, \
         or, once the cause is gone, change it back and forth: {why}"
    );
    Some(Finding::no("RolledBack", message))
}

/// What runs instead of a successor that was given up.
pub(super) fn instead(seen: &Observed, desired: &Desired) -> Option<Desired> {
    let former = former(seen)?;
    let template: Value = serde_json::from_str(former.at("/data").get(TEMPLATE)?.as_str()?).ok()?;
    let mut instead = desired.clone();
    instead.roll = template.pointer("/metadata/annotations")?.get(ROLL)?.as_str()?.to_owned();
    instead.config_map["data"][SETTINGS] = former.at("/data").get(SETTINGS)?.clone();
    instead.stateful_set["spec"]["template"] = template;
    Some(instead)
}

/// Keeps what ran before, as the first write of starting its successor.
pub(super) fn keep(seen: &Observed, desired: &Desired, now: Timestamp) -> Option<Write> {
    let set = seen.stateful_set()?;
    let data = match former(seen) {
        Some(former) if is_under_way(former, desired, now) => return None,
        // What it holds has run; what the StatefulSet holds may not have.
        Some(former) => former.at("/data").clone(),
        None => {
            let name = names::config_map(seen.resource.metadata.name.as_deref()?);
            let settings = seen.objects.get(&(Kind::ConfigMap, name))?.at("/data").get(SETTINGS)?.clone();
            json!({ SETTINGS: settings, TEMPLATE: without_nulls(set.at("/spec/template").clone()).to_string() })
        }
    };
    let annotations = json!({ TRIED: desired.roll, TRIED_AT: now.to_string() });
    write(seen, desired, data, annotations)
}

/// Whether this very start was begun a moment ago.
fn is_under_way(former: &Live, desired: &Desired, now: Timestamp) -> bool {
    let at = former.annotation(TRIED_AT).and_then(|at| at.parse::<Timestamp>().ok());
    let is_tried = former.annotation(TRIED) == Some(&desired.roll) && former.annotation(FAILED).is_none();
    is_tried && at.is_some_and(|at| now.duration_since(at) < PATIENCE)
}

/// Says that the successor has failed, once it has.
pub(super) fn give_up(seen: &Observed, desired: &Desired, now: Timestamp) -> Option<Write> {
    let former = former(seen).filter(|_| !seen.resource.spec.suspend)?;
    let tried_at: Timestamp = former.annotation(TRIED_AT)?.parse().ok()?;
    let is_tried = former.annotation(TRIED) == Some(&desired.roll) && former.annotation(FAILED).is_none();
    if !is_tried || now.duration_since(tried_at) < PATIENCE {
        return None;
    }
    let why = hitch(seen, desired, now)?;
    let annotations = json!({ TRIED: desired.roll, TRIED_AT: tried_at.to_string(), FAILED: why });
    write(seen, desired, former.at("/data").clone(), annotations)
}

/// Why the successor does not run; `None` if it does, or if nothing is known against it.
fn hitch(seen: &Observed, desired: &Desired, now: Timestamp) -> Option<String> {
    let set = seen.stateful_set()?;
    let is_asked_for = set.at("/spec/template/metadata/annotations").get(ROLL) == Some(&json!(desired.roll));
    let Some(pod) = seen.pod() else {
        let said = Hitch::of("StatefulSet", seen, set, now).map(|hitch| hitch.message);
        let refused = seen.refusal.clone().filter(|_| !is_asked_for);
        return said.or(refused).or_else(|| is_asked_for.then(|| "no pod was made".to_owned()));
    };
    let is_new = pod.annotation(ROLL) == Some(&desired.roll) && !pod.is_deleted();
    let container = pod.container(SERVER);
    let has_run = !container["state"]["running"].is_null()
        || !container["lastState"]["terminated"].is_null()
        || !container["state"]["terminated"].is_null();
    let hitch = Hitch::of_pod(seen, pod, SERVER, now).filter(|_| is_new && !has_run)?;
    NEVER_RAN.contains(&hitch.reason).then_some(hitch.message)
}

/// Forgets what ran before, once what should run is ready.
pub(super) fn forget(seen: &Observed, desired: &Desired) -> Option<Write> {
    let former = former(seen)?;
    let pod = seen.pod().filter(|pod| pod.annotation(ROLL) == Some(&desired.roll) && !pod.is_deleted())?;
    let is_ready = pod.condition("Ready").is_some_and(|(status, ..)| status == "True");
    let name = former.name().to_owned();
    is_ready.then(|| Write::Delete { kind: Kind::ConfigMap, name, uid: former.uid().to_owned() })
}

/// Whether a start is under way whose outcome is not known.
pub(super) fn is_open(seen: &Observed) -> bool {
    former(seen).is_some_and(|former| former.annotation(FAILED).is_none())
}

/// The ConfigMap: as that of the settings, under its own name.
fn write(seen: &Observed, desired: &Desired, data: Value, annotations: Value) -> Option<Write> {
    let mut object = desired.config_map.clone();
    let name = names::former(seen.resource.metadata.name.as_deref().unwrap_or_default());
    object["metadata"]["name"] = json!(name);
    object["metadata"]["annotations"] = annotations;
    object["data"] = data;
    match former(seen) {
        Some(_) => apply_if_needed(seen, &object),
        None => Some(Write::Create(object)),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
