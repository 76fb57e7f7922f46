//! Objects that are as they should be or are made so, and those that nobody asks for any more.

use super::{Case, Write, deletion};
use crate::{
    conditions::Finding,
    crd::{DeletionPolicy, ProgressDBSpec, Storage},
    desired::Object,
    facts::{Facts, Fit},
    kind::Kind,
    objects::labels::FINALIZER,
};

impl Case<'_> {
    /// Applies an object if it is not there or not as it should be.
    pub(super) fn apply_if_needed(self, desired: &Object) -> Option<Write> {
        let Object { kind, name, .. } = desired;
        let Some(live) = self.facts.object(*kind, name) else { return Some(Write::Apply(desired.applied_to(None))) };
        match &live.fit {
            Fit::AsDesired | Fit::NotDesired => None,
            Fit::Differs => Some(Write::Apply(desired.applied_to(Some(&live.uid)))),
            Fit::NeedsPatch(patch) => Some(Write::Correct {
                kind: *kind,
                name: name.clone(),
                uid: live.uid.clone(),
                version: live.version.clone(),
                patch: patch.clone(),
            }),
        }
    }

    /// Gives an object, of which nothing else is ever changed, its labels back.
    pub(super) fn restore_labels(self, desired: &Object) -> Option<Write> {
        let live = self.facts.object(desired.kind, &desired.name);
        let live = live.filter(|live| !live.is_deleted && live.lacks_labels)?;
        Some(Write::Apply(desired.labels_for(&live.uid)))
    }
}

/// Deletes what the resource no longer asks for, of kinds that hold no data. What belongs to an upgrade goes with that.
pub(super) fn unwanted(case: Case<'_>) -> Vec<Write> {
    const KINDS: [Kind; 3] = [Kind::NetworkPolicy, Kind::ServiceMonitor, Kind::PrometheusRule];
    let is_desired = |kind: Kind| case.desired.always.iter().any(|object| object.kind == kind);
    let former = KINDS.into_iter().filter(|kind| !is_desired(*kind));
    let living = former.flat_map(|kind| case.facts.living(kind).map(move |(name, live)| (kind, name, live)));
    living
        .filter(|(.., live)| live.upgrade.is_none())
        .map(|(kind, name, live)| Write::delete(kind, name, live))
        .collect()
}

/// Sets or removes the finalizer of the resource, which is there exactly as long as its deletion has something to do:
/// with the data, or to release the claim.
pub(super) fn finalizers(spec: &ProgressDBSpec, facts: &Facts) -> Option<Write> {
    let has = &facts.finalizers;
    let mut wants: Vec<String> = has.iter().filter(|name| *name != FINALIZER).cloned().collect();
    let has_work = match spec.storage {
        Storage::Embedded(_) => spec.deletion_policy != DeletionPolicy::Retain,
        Storage::Cassandra(_) => spec.deletion_policy == DeletionPolicy::Delete,
    };
    if has_work || deletion::release_claim(facts).is_some() {
        wants.push(FINALIZER.to_owned());
    }
    let same = has.len() == wants.len() && has.iter().all(|name| wants.contains(name));
    (!same).then_some(Write::SetFinalizers(wants))
}

/// Who keeps changing what the operator makes.
pub(super) fn contest(facts: &Facts) -> Option<Finding> {
    let contested =
        facts.objects.iter().find_map(|((kind, name), object)| Some((kind, name, object.contest.as_ref()?)));
    let (kind, name, by) = contested?;
    let who = by.as_deref().unwrap_or("somebody changes it");
    let message = format!(
        "the {} {name} does not stay as the operator makes it: {who}. Take that away, or set what it wants in this \
         resource; until then the operator sets it back now and then",
        kind.name()
    );
    Some(Finding::no("FieldConflict", message))
}
