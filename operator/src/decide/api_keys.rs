//! The keys that clients present: whether the Secret holds what the server needs, and whether the server accepts them.
//!
//! A server reads its key files again, so keys that were changed are good after a minute or two without a restart. Until
//! they are, the database is not ready: who takes a key from the Secret would be refused.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::conditions::{ConditionType, Finding};
use crate::{
    crd::ApiKeysStatus,
    kind::Kind,
    objects::{api_key_secret, config::KEY_ENTRIES, config_text, names},
    observe::{Observed, SecretSeen, Verdict},
};

/// The kubelet brings a new Secret within two minutes, and the server reads it within seconds.
const PATIENCE: SignedDuration = SignedDuration::from_secs(300);
const NOT_ACCEPTED: &str = "KeysNotAccepted";

/// Entries that the server needs and the Secret no longer has: it runs on without them, and could not start again.
pub(super) fn lost(seen: &Observed) -> Option<Finding> {
    let secret = api_key_secret(&seen.resource);
    let Some(named) = &seen.resource.spec.api_keys else {
        let missing = missing(seen.generated_keys.as_ref()?, KEY_ENTRIES.into_iter());
        let message = format!(
            "the Secret {secret} lacks {missing}, or it is empty: a server that runs keeps its former keys and could not \
             start again, so nothing is restarted: add it again"
        );
        return (!missing.is_empty()).then(|| Finding::no("SecretEmpty", message));
    };
    let runs = seen.stateful_set().is_some_and(|set| set.at("/spec/replicas") != 0);
    let in_use = entries_in_use(seen);
    let missing = missing(seen.secrets.get(&named.secret_name)?, in_use.into_iter());
    let message = format!(
        "the Secret {secret} of spec.apiKeys.secretName no longer has {missing}, or it is empty, and the server that runs \
         uses it: add it again, or, to go on without it, set spec.suspend to true and then to false"
    );
    (runs && !missing.is_empty()).then(|| Finding::no("SecretEmpty", message))
}

fn missing(secret: &SecretSeen, wanted: impl Iterator<Item = &'static str>) -> String {
    let is_there = matches!(secret, SecretSeen::Found { .. });
    wanted.filter(|entry| is_there && !secret.has(entry)).collect::<Vec<_>>().join(", ")
}

/// The entries that the settings of the server name.
fn entries_in_use(seen: &Observed) -> Vec<&'static str> {
    let name = names::config_map(&seen.resource.metadata.name.clone().unwrap_or_default());
    let text = seen.objects.get(&(Kind::ConfigMap, name)).and_then(config_text);
    let settings: Option<Value> = text.and_then(|text| serde_saphyr::from_str(text).ok());
    let names_it = |entry: &&str| {
        let keys = settings.as_ref().and_then(|settings| settings.pointer("/server/api_keys"));
        keys.is_some_and(|keys| keys.get(format!("{entry}_file")).is_some())
    };
    KEY_ENTRIES.into_iter().filter(names_it).collect()
}

/// That the server does not accept the keys of the Secret; what was found stands until there is another answer.
pub(super) fn refused(seen: &Observed) -> Option<Finding> {
    let entries = match seen.verdict.as_ref()? {
        Verdict::Accepted => return None,
        Verdict::Unknown => return told(seen).map(|message| Finding::no(NOT_ACCEPTED, message)),
        Verdict::Refused(entries) => entries.join(", "),
    };
    let name = seen.resource.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "the server does not accept the keys {entries} of the Secret {}: a changed Secret reaches it within two minutes; if \
         that does not help, its version reads keys only when it starts: type kubectl progressdb restart {name}",
        api_key_secret(&seen.resource),
    );
    Some(Finding::no(NOT_ACCEPTED, message))
}

/// Whether keys have not been accepted for so long that somebody must restart the server.
pub(super) fn is_overdue(seen: &Observed, now: Timestamp) -> bool {
    let ready = condition(seen).filter(|ready| ready.reason == NOT_ACCEPTED);
    ready.is_some_and(|ready| now.duration_since(ready.last_transition_time.0) > PATIENCE)
}

fn told(seen: &Observed) -> Option<String> {
    condition(seen).filter(|ready| ready.reason == NOT_ACCEPTED).map(|ready| ready.message.clone())
}

fn condition(seen: &Observed) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let conditions = &seen.resource.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.name())
}

/// What the status says: the state of the Secret that was accepted with everything that the server needs in it.
pub(super) fn status(seen: &Observed) -> Option<ApiKeysStatus> {
    let old = seen.resource.status.as_ref().and_then(|status| status.api_keys.clone());
    if seen.verdict != Some(Verdict::Accepted) || lost(seen).is_some() {
        return old;
    }
    Some(ApiKeysStatus { accepted_version: seen.key_secret_version().map(str::to_owned) })
}
