//! The keys that clients present: whether the Secret holds what the server needs, and whether the server accepts them.
//!
//! A server reads its key files again, so keys that were changed are good after a minute or two without a restart. Until
//! they are, the database is not ready: who takes a key from the Secret would be refused.

use jiff::{SignedDuration, Timestamp};

use super::{Case, Write};
use crate::{
    conditions::{ConditionType, Finding},
    facts::{Facts, Verdict},
    objects::names,
};

/// The kubelet brings a new Secret within two minutes, and the server reads it within seconds.
const PATIENCE: SignedDuration = SignedDuration::from_secs(300);
const NOT_ACCEPTED: &str = "KeysNotAccepted";

/// Creates the Secret with generated keys if it is not there, or gives it its labels back.
pub(super) fn secret(case: Case<'_>) -> Option<Write> {
    let secret = case.desired.api_keys.as_ref()?;
    match case.facts.object(secret.kind, &secret.name) {
        None => Some(Write::CreateKeys(secret.body.clone())),
        Some(_) => case.restore_labels(secret),
    }
}

/// Entries that the server needs and the Secret no longer has: it runs on without them, and could not start again.
pub(super) fn lost(case: Case<'_>) -> Option<Finding> {
    let missing = case.facts.secrets.lost.join(", ");
    let secret = secret_name(case);
    let message = match case.spec.api_keys {
        None => format!(
            "the Secret {secret} lacks {missing}, or it is empty: a server that runs keeps its former keys and could not \
             start again, so nothing is restarted: add it again"
        ),
        Some(_) => format!(
            "the Secret {secret} of spec.apiKeys.secretName no longer has {missing}, or it is empty, and the server that \
             runs uses it: add it again, or, to go on without it, set spec.suspend to true and then to false"
        ),
    };
    (!missing.is_empty()).then(|| Finding::no("SecretEmpty", message))
}

/// That the server does not accept the keys of the Secret. What was found is told until there is another answer.
pub(super) fn refused(case: Case<'_>) -> Option<Finding> {
    let entries = match case.facts.secrets.verdict.as_ref()? {
        Verdict::Accepted => return None,
        Verdict::Unknown => {
            let told = case.facts.before.told(ConditionType::Ready, NOT_ACCEPTED)?;
            return Some(Finding::no(NOT_ACCEPTED, told.message.clone()));
        }
        Verdict::Refused(entries) => entries.join(", "),
    };
    let message = format!(
        "the server does not accept the keys {entries} of the Secret {}: a changed Secret reaches it within two minutes; if \
         that does not help, its version reads keys only when it starts: type kubectl progressdb restart {}",
        secret_name(case),
        case.name,
    );
    Some(Finding::no(NOT_ACCEPTED, message))
}

/// Whether keys have not been accepted for so long that somebody must restart the server.
pub(super) fn is_overdue(facts: &Facts, now: Timestamp) -> bool {
    let told = facts.before.told(ConditionType::Ready, NOT_ACCEPTED);
    told.is_some_and(|told| now.duration_since(told.since) > PATIENCE)
}

fn secret_name(case: Case<'_>) -> String {
    let named = case.spec.api_keys.as_ref().map(|keys| keys.secret_name.clone());
    named.unwrap_or_else(|| names::api_keys(case.name))
}
