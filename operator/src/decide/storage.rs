//! The claim with the data: made once, grown, and never made again in place of one that was lost.

use super::{Case, Step, Write, delay::Delay, deletion};
use crate::{
    conditions::{Finding, RESTART_TO_GROW},
    crd::{DeletionPolicy, UpgradeStep},
    desired::Object,
    facts::{Claim, ClaimPhase, Class, Facts},
};

/// Whether a server that starts would find its data.
pub(super) fn is_there(facts: &Facts) -> bool {
    facts.claim.as_ref().is_some_and(|claim| !claim.is_deleted)
}

/// The claim as it should be.
fn wanted(case: Case<'_>) -> &Object {
    case.desired.claim.as_ref().expect("only a fleet has none, and its storage is its schema")
}

/// How the claim is, and what is to be done about it.
pub(super) fn assess(case: Case<'_>) -> Step<Finding> {
    if let [first, second, ..] = &*case.facts.claims_in_conflict {
        let message = format!(
            "the claims {first} and {second} are both labelled as the one with the data (progressdb.io/role=current), and \
             none is taken by guessing: see which is right, and label the other progressdb.io/role=previous"
        );
        return Step::found(Finding::no("ClaimAmbiguous", message));
    }
    match &case.facts.claim {
        None if is_being_replaced(case) => {
            Step::found(Finding::unknown("Restoring", "the data of before is put in place"))
        }
        None => missing(case),
        Some(claim) if claim.is_deleted => deleted(case, claim),
        Some(claim) => match claim.phase {
            ClaimPhase::Bound => bound(case, claim),
            ClaimPhase::Lost => {
                let message = format!("the volume of the claim {} is gone: restore it", claim.name);
                Step::found(Finding::no("VolumeLost", message))
            }
            ClaimPhase::Pending => pending(case, claim),
        },
    }
}

/// Whether an upgrade that goes back has just taken the label from one claim, to give it to another.
fn is_being_replaced(case: Case<'_>) -> bool {
    let record = case.facts.upgrade.record.as_ref().filter(|record| record.outcome.is_none());
    record.is_some_and(|record| record.step == UpgradeStep::RollbackRestore && record.restored_claim.is_some())
}

fn missing(case: Case<'_>) -> Step<Finding> {
    let (had, others) = (case.facts.before.claim.as_ref(), &case.facts.upgrade.other_claims);
    let other = match had {
        Some(had) => others.get_key_value(had),
        None => others.first_key_value(),
    };
    if let Some((other, _)) = other {
        let message = format!(
            "no claim is labelled as the one with the data, and there is {other}: an empty one could hide that data, so none \
             is made: label the claim with the data progressdb.io/role=current"
        );
        return Step::found(Finding::no("ClaimUnknown", message));
    }
    let Some(had) = had else {
        let create = Write::Apply(wanted(case).applied_to(None));
        return Step::found(Finding::unknown("Creating", "the claim is being made")).writing([create]);
    };
    let name = &wanted(case).name;
    if had != name {
        let message = format!(
            "there is no claim {name}, and status.claim says {had} of where the data is, which this operator cannot follow: \
             an empty claim could hide that data, so none is made: give the claim with the data that name, or make a \
             ProgressDB under another name to begin with an empty database"
        );
        return Step::found(Finding::no("ClaimUnknown", message));
    }
    let message = format!(
        "the claim {had} with the data is gone, and an empty one would hide that: restore it under this name, or make a \
         ProgressDB under another name to begin with an empty database"
    );
    Step::found(Finding::no("ClaimLost", message))
}

/// Nothing is in the way of a deletion, but under the policy Snapshot, which keeps the volume.
fn deleted(case: Case<'_>, claim: &Claim) -> Step<Finding> {
    let is_kept = case.spec.deletion_policy == DeletionPolicy::Snapshot && claim.is_held;
    let what_next = match is_kept {
        true => "delete this ProgressDB, and its volume is kept",
        false => "save the data now, which goes when its pod stops",
    };
    let message =
        format!("somebody deleted the claim {}, and Kubernetes cannot take a deletion back: {what_next}", claim.name);
    let release = deletion::release_claim(case.facts).filter(|_| !is_kept);
    Step::found(Finding::no("ClaimDeleted", message)).ending_with(release)
}

fn pending(case: Case<'_>, claim: &Claim) -> Step<Finding> {
    let found = match &case.facts.storage_class {
        Some(Class::Missing(class)) => Finding::no(
            "StorageClassMissing",
            format!("there is no storage class {class}: make it; the class of a claim cannot be changed"),
        ),
        _ => Delay::of("claim", &claim.name, claim.warning.as_ref(), case.now).map_or_else(
            || Finding::unknown("Binding", "the volume is made when its pod is scheduled"),
            Delay::finding,
        ),
    };
    Step::found(found).writing(case.restore_labels(wanted(case)))
}

fn bound(case: Case<'_>, claim: &Claim) -> Step<Finding> {
    if let Some(Class::Found { name, grows: false }) = case.facts.storage_class.as_ref().filter(|_| claim.wants_to_grow)
    {
        let message = format!(
            "volumes of the storage class {name} cannot grow: set allowVolumeExpansion: true in it if its driver can, or \
             set spec.storage.embedded.size back to {}",
            claim.size.as_deref().unwrap_or_default()
        );
        return Step::found(Finding::no("CannotGrow", message));
    }
    let differences = &case.desired.claim_differences;
    let found = match () {
        () if claim.wants_to_grow => Finding::unknown("Growing", "the volume is asked to grow"),
        () if claim.is_smaller && claim.grows_at_restart => Finding::unknown(
            RESTART_TO_GROW,
            "the volume has grown, its file system grows when the server is restarted, when that suits you: kubectl progressdb restart",
        ),
        () if claim.is_smaller => Finding::unknown("Growing", "the volume grows"),
        () if differences.is_empty() => Finding::yes("Bound", "the volume is there"),
        () => Finding::yes("Bound", format!("the volume is there; {}", differences.join("; "))),
    };
    Step::found(found).writing(case.apply_if_needed(wanted(case)))
}
