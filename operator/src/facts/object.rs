//! What is known of any object: who it is, and whether it is as it should be.

use serde_json::Value;

use crate::{
    desired::{self, Desired},
    drift,
    kind::Kind,
    objects::labels::{COMPONENT, Component, UPGRADE},
    observe::{Live, Observed},
    outcomes::Past,
};

/// An object that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// Whether it belongs to a former resource of the same name.
    pub is_of_former_resource: bool,
    /// Whether its labels say that it belongs to a check.
    pub is_of_check: bool,
    /// The upgrade that it was made for.
    pub upgrade: Option<String>,
    /// Whether it lacks labels that it should have.
    pub lacks_labels: bool,
    /// Whether it is as it should be.
    pub fit: Fit,
    /// The hash of what was applied to it before, if to apply that once more would be in vain or has to wait.
    pub in_vain: Option<String>,
    /// Who insists on other values of its fields, if somebody does and is known.
    pub contest: Option<Option<String>>,
}

/// How an object compares with the one that should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Nothing is asked of it but its labels.
    #[default]
    NotDesired,
    /// It is as it should be, or to apply it once more would be in vain.
    AsDesired,
    /// It has to be applied.
    Differs,
    /// Applying it would not be enough: this patch takes an edit back.
    NeedsPatch(Value),
}

impl Object {
    pub(super) fn of(seen: &Observed, (kind, name): &(Kind, String), live: &Live, desired: Option<&Desired>) -> Self {
        let uid = seen.resource.metadata.uid.as_deref().unwrap_or_default();
        let past = seen.pasts.get(live.uid());
        let desired = desired.and_then(|desired| find(desired, *kind, name));
        Self {
            uid: live.uid().to_owned(),
            version: live.version().to_owned(),
            is_deleted: live.is_deleted(),
            is_of_former_resource: *kind != Kind::Pod && live.owner().is_some() && !live.is_owned_by(uid),
            is_of_check: live.label(COMPONENT) == Some(Component::Job.as_str()),
            upgrade: live.label(UPGRADE).map(str::to_owned),
            lacks_labels: desired.is_some_and(|desired| lacks_labels(live, desired)),
            // Of a Secret only labels are known, and nothing else of it is ever changed.
            fit: desired
                .filter(|_| *kind != Kind::Secret)
                .map(|desired| Fit::of(live, past, desired))
                .unwrap_or_default(),
            in_vain: past.and_then(Past::in_vain).map(str::to_owned),
            contest: past.and_then(|past| past.contest.clone()),
        }
    }
}

impl Fit {
    fn of(live: &Live, past: Option<&Past>, desired: &desired::Object) -> Self {
        let applied = desired.applied_to(None);
        let is_in_vain = || past.is_some_and(|past| past.forbids(&applied, &live.0));
        if drift::object_is_subset_of(&applied, &live.0) || is_in_vain() {
            return Self::AsDesired;
        }
        drift::correction(&desired.body, &live.0).map_or(Self::Differs, Self::NeedsPatch)
    }
}

/// The object of this kind and name that should be there.
fn find<'a>(desired: &'a Desired, kind: Kind, name: &str) -> Option<&'a desired::Object> {
    let server = match &desired.fleet {
        // What runs is set right until it is known that what is asked for may take its place.
        Some(fleet) => fleet.running.as_ref().unwrap_or(&desired.server),
        None => desired.running(),
    };
    let parts = [&server.workload, &server.config_map, &desired.server.config_map];
    let mut all = desired.always.iter().chain(parts).chain(&desired.claim).chain(&desired.api_keys);
    all.find(|object| object.kind == kind && object.name == name)
}

fn lacks_labels(live: &Live, desired: &desired::Object) -> bool {
    !drift::is_subset_of(&desired.body["metadata"]["labels"], live.at("/metadata/labels"))
}
