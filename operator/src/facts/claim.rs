//! The claim with the data, its volume, and the last snapshot of it.

use serde_json::Value;

use super::{Warning, text, warning};
use crate::{
    drift,
    kind::Kind,
    objects::labels::FINALIZER,
    observe::{Live, Observed, final_snapshot},
};

/// The claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Whether somebody deleted it.
    pub is_deleted: bool,
    /// Whether the operator's finalizer holds it.
    pub is_held: bool,
    /// Its other finalizers.
    pub other_finalizers: Vec<String>,
    /// Whether it has a volume.
    pub phase: ClaimPhase,
    /// The size that it asks for.
    pub size: Option<String>,
    /// Whether the resource asks for more.
    pub wants_to_grow: bool,
    /// Whether its volume is smaller than it asks for.
    pub is_smaller: bool,
    /// Whether its file system grows when it is mounted the next time.
    pub grows_at_restart: bool,
    /// The last warning about it.
    pub warning: Option<Warning>,
}

/// Whether a claim has a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClaimPhase {
    /// Not yet.
    #[default]
    Pending,
    /// It has.
    Bound,
    /// It had, and the volume is gone.
    Lost,
}

/// The last snapshot, which is made when the resource is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Why the driver cannot make it.
    pub error: Option<String>,
    /// Whether it can be restored: it is ready, and its content is there and names it.
    pub is_proof: bool,
}

/// The volume of the claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Volume {
    /// The name of the PersistentVolume.
    pub name: String,
    /// Whether it outlives its claim.
    pub is_retained: bool,
}

impl Claim {
    pub(super) fn of(seen: &Observed, claim: &Live) -> Self {
        let size = |pointer: &str| drift::quantity(claim.at(pointer)).unwrap_or(0.0);
        let (ours, other_finalizers): (Vec<_>, Vec<_>) =
            claim.finalizers().into_iter().partition(|name| name == FINALIZER);
        Self {
            name: claim.name().to_owned(),
            uid: claim.uid().to_owned(),
            version: claim.version().to_owned(),
            is_deleted: claim.is_deleted(),
            is_held: !ours.is_empty(),
            other_finalizers,
            phase: match claim.at("/status/phase").as_str() {
                Some("Bound") => ClaimPhase::Bound,
                Some("Lost") => ClaimPhase::Lost,
                _ => ClaimPhase::Pending,
            },
            size: text(claim.at("/spec/resources/requests/storage")),
            wants_to_grow: seen.wants_to_grow(),
            is_smaller: size("/status/capacity/storage") < size("/spec/resources/requests/storage"),
            grows_at_restart: grows_at_restart(claim.at("/status/conditions")),
            warning: warning(seen, claim),
        }
    }
}

fn grows_at_restart(conditions: &Value) -> bool {
    let mut conditions = conditions.as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "FileSystemResizePending")
}

impl Snapshot {
    pub(super) fn of(seen: &Observed) -> Option<Self> {
        let snapshot = seen.objects.get(&(Kind::VolumeSnapshot, final_snapshot(&seen.resource)))?;
        let content = seen.snapshot_content.as_ref();
        let is_bound = content.is_some_and(|content| content.at("/spec/volumeSnapshotRef/uid") == snapshot.uid());
        Some(Self {
            error: text(snapshot.at("/status/error/message")),
            // One that somebody deletes stays ready while finalizers hold it, and then goes.
            is_proof: is_bound
                && snapshot.at("/status/readyToUse").as_bool() == Some(true)
                && !snapshot.is_deleted()
                && content.is_some_and(|content| !content.is_deleted()),
        })
    }
}

impl Volume {
    pub(super) fn of(volume: &Live) -> Self {
        let is_retained = volume.at("/spec/persistentVolumeReclaimPolicy") == "Retain";
        Self { name: volume.name().to_owned(), is_retained }
    }
}
