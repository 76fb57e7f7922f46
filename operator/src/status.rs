//! The status of a resource: built here, from facts and findings, and nowhere else.
//!
//! Each field has one owner, a field manager of server-side apply. [`OWNERS`] names the fields of each; a manager sends all
//! of its own fields and no others, so that one that does not know a field leaves it alone. A part of the status that comes
//! later, such as the progress of an upgrade, gets an owner of its own: an older operator, which does not know that owner,
//! then removes nothing. Conditions are entries of a map by their type, and an entry has one owner as well.

mod findings;
mod news;
mod progress;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

pub use findings::Findings;
pub use news::News;
pub use progress::Progress;

use crate::{
    MANAGER,
    conditions::{self, ConditionStatus, ConditionType, Finding},
    crd::{ApiKeysStatus, KmsStatus, ProgressDB, ProgressDBStatus, Unreadable},
    facts::{Facts, Verdict},
    objects::{self, labels},
};

/// The owners of the fields of `status`: the name of the field manager, and its fields.
pub const OWNERS: [(&str, &[&str]); 2] = [
    (
        MANAGER,
        &[
            "observedGeneration",
            "phase",
            "conditions",
            "image",
            "imageId",
            "version",
            "dataFormat",
            "replicas",
            "readyReplicas",
            "selector",
            "service",
            "claim",
            "operator",
            "size",
            "apiKeys",
            "kms",
        ],
    ),
    ("progressdb-operator-upgrade", &["upgrade", "history"]),
];

/// The reason of the conditions of a resource that cannot be read.
pub const UNREADABLE: &str = "Unreadable";

/// What each owner sends: its name and its fields.
pub fn parts(status: &ProgressDBStatus) -> Vec<(&'static str, Value)> {
    let Value::Object(all) = json!(status) else { unreachable!("a status is an object") };
    let part = |fields: &[&str]| {
        let own = all.iter().filter(|(name, _)| fields.contains(&name.as_str()));
        own.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    let mine = OWNERS.into_iter().filter(|(owner, _)| *owner == MANAGER || !status.has_unreadable_upgrade);
    mine.map(|(owner, fields)| (owner, part(fields).into())).collect()
}

/// The status of a resource; `is_writing` says whether anything is to be written for it.
pub fn of_resource(
    resource: &ProgressDB,
    facts: &Facts,
    findings: &Findings,
    is_writing: bool,
    now: Timestamp,
) -> ProgressDBStatus {
    let old = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation;
    let is_suspended = resource.spec.suspend;
    let fleet = facts.fleet.as_ref();
    let has_pods = facts.pod.is_some() || fleet.is_some_and(|fleet| !fleet.pods.is_empty());
    let has_nothing_to_do = is_suspended && !has_pods && !is_writing;
    let is_working = is_writing || findings.waits() || findings.is_behind || findings.upgrade.is_active();
    let stable = fleet.and_then(|fleet| fleet.stable.as_ref());
    let pod = facts.pod.as_ref().filter(|pod| !pod.is_deleted).or_else(|| fleet?.first_stable());
    let image_id = pod.and_then(|pod| pod.image_id.clone());
    // What a former image said is not said of this one.
    let kept = Some(&old).filter(|old| old.image_id == image_id);
    let info = facts.server_info.as_ref();
    let set = facts.stateful_set.as_ref();
    let claim = facts.claim.as_ref();
    ProgressDBStatus {
        observed_generation: generation,
        phase: Some(findings.phase(is_suspended).to_owned()),
        conditions: conditions::from_findings(
            findings.conditions(is_suspended, is_working && !has_nothing_to_do),
            &old.conditions,
            generation,
            now,
        ),
        image: set.map(|set| &set.image).or(stable.map(|stable| &stable.image)).cloned().flatten(),
        version: info.map(|info| info.version.clone()).or_else(|| kept.and_then(|old| old.version.clone())),
        // It is the data's, and no image changes it by starting: what was said last counts while nobody can be asked.
        data_format: info.map(|info| info.format).or(old.data_format),
        image_id,
        replicas: match fleet {
            Some(fleet) => Some(fleet.deployments().map(|deployment| deployment.total).sum()),
            None => set.and_then(|set| set.replicas),
        },
        ready_replicas: Some(match fleet {
            Some(fleet) => i32::try_from(fleet.serving().count()).unwrap_or(i32::MAX),
            None => i32::from(findings.server.holds()),
        }),
        selector: resource.spec.storage.cassandra().map(|_| labels::query(&resource.name_any())),
        service: Some(service_address(resource)),
        claim: claim.map(|claim| claim.name.clone()).or(old.claim),
        size: claim.and_then(|claim| claim.size.clone()).or(old.size),
        api_keys: api_keys(facts, old.api_keys),
        operator: facts.operator.clone().or(old.operator),
        kms: findings.keys.as_ref().map(|finding| KmsStatus {
            provider: provider(resource),
            ok: match finding.status {
                ConditionStatus::Unknown => None,
                status => Some(status == ConditionStatus::True),
            },
            key_id: facts.kms_key.clone().or_else(|| old.kms.and_then(|kms| kms.key_id)),
        }),
        has_unreadable_upgrade: old.has_unreadable_upgrade,
        upgrade: findings.upgrade.record.clone(),
        history: findings.upgrade.history.clone(),
    }
}

/// The status of a resource that is being deleted: what its deletion has come to, and how its server is.
pub fn of_deletion(resource: &ProgressDB, deletion: Finding, server: Finding, now: Timestamp) -> ProgressDBStatus {
    let is_stalled = deletion.fails();
    let Finding { reason, message, .. } = deletion;
    let findings = vec![
        (ConditionType::Ready, Finding::no("Deleting", message.clone())),
        (ConditionType::Available, server),
        (
            ConditionType::Reconciling,
            match is_stalled {
                true => Finding::no("Stalled", message.clone()),
                false => Finding::yes(reason, message.clone()),
            },
        ),
        (
            ConditionType::Stalled,
            match is_stalled {
                true => Finding::yes(reason, message),
                false => findings::nothing_in_the_way(),
            },
        ),
    ];
    over(resource.status.as_ref(), "Deleting", findings, resource.metadata.generation, now)
}

/// The status of a resource that cannot be read.
pub fn of_unreadable(resource: &Unreadable, now: Timestamp) -> ProgressDBStatus {
    let message =
        format!("the operator cannot read this resource and leaves everything as it is: correct {}", resource.why);
    let no = || Finding::no(UNREADABLE, message.clone());
    let findings = vec![
        (ConditionType::Ready, no()),
        (ConditionType::ConfigurationValid, no()),
        (ConditionType::Reconciling, no()),
        (ConditionType::Stalled, Finding::yes(UNREADABLE, message.clone())),
    ];
    over(resource.status.as_ref(), "Stalled", findings, resource.metadata.generation, now)
}

/// The old status with another phase and these conditions in the place of the old ones of their types.
fn over(
    old: Option<&ProgressDBStatus>,
    phase: &str,
    findings: Vec<(ConditionType, Finding)>,
    generation: Option<i64>,
    now: Timestamp,
) -> ProgressDBStatus {
    let old = old.cloned().unwrap_or_default();
    let mut conditions = conditions::from_findings(findings, &old.conditions, generation, now);
    let is_new = |kind: &str| conditions.iter().any(|new| new.type_ == kind);
    let others: Vec<_> = old.conditions.iter().filter(|known| !is_new(&known.type_)).cloned().collect();
    conditions.extend(others);
    ProgressDBStatus { observed_generation: generation, phase: Some(phase.to_owned()), conditions, ..old }
}

/// The version of the Secret whose keys the server accepted, with everything in it that the server needs.
fn api_keys(facts: &Facts, old: Option<ApiKeysStatus>) -> Option<ApiKeysStatus> {
    match facts.secrets.verdict == Some(Verdict::Accepted) && facts.secrets.lost.is_empty() {
        true => facts.secrets.version.clone().map(|version| ApiKeysStatus { accepted_version: Some(version) }),
        false => old,
    }
}

/// Where clients in the cluster reach the server.
fn service_address(resource: &ProgressDB) -> String {
    format!("{}.{}.svc:{}", resource.name_any(), resource.namespace().unwrap_or_default(), objects::API_PORT)
}

/// The KMS as the server names it.
fn provider(resource: &ProgressDB) -> Option<String> {
    let kms = resource.spec.kms.as_ref()?;
    let name = match (&kms.aws, &kms.vault, &kms.http) {
        (Some(_), ..) => "aws",
        (_, Some(_), _) => "vault",
        (_, _, Some(_)) => "http",
        _ => "local",
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crd::{self, CONDITION_TYPES};

    #[test]
    fn every_field_of_the_status_has_one_owner() {
        let crd = json!(crd::definition());
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties").unwrap();
        let fields: BTreeSet<&str> = schema.as_object().unwrap().keys().map(String::as_str).collect();
        let owned: Vec<&str> = OWNERS.iter().flat_map(|(_, fields)| fields.iter().copied()).collect();
        assert_eq!(owned.iter().copied().collect::<BTreeSet<_>>(), fields);
        assert_eq!(owned.len(), fields.len(), "a field has two owners");
    }

    #[test]
    fn conditions_of_others_are_not_read_and_all_of_ours_are() {
        assert_eq!(ConditionType::ALL.map(ConditionType::name), CONDITION_TYPES);
    }
}
