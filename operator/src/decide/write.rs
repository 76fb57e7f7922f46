//! What can be written, one request each.

use serde_json::Value;

use crate::{
    facts::{self, Deployment, StatefulSet},
    kind::{Kind, name_of},
    objects::hash,
};

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Give the resource these finalizers, and no others.
    SetFinalizers(Vec<String>),
    /// Apply an object, which contains its own hash: with a uid only to the object that has it, without one only if nobody
    /// else has the name.
    Apply(Value),
    /// Take an edit back that applying would leave: a part of the object is replaced as a whole.
    Correct {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
        /// Its version, as it was seen.
        version: String,
        /// What is replaced.
        patch: Value,
    },
    /// Create an object that is never changed.
    Create(Value),
    /// Create the Secret of the API keys. Each empty entry gets a random key when it is written.
    CreateKeys(Value),
    /// Write on a Job what its own container found, and end the others in its pod, which would run on.
    Conclude {
        /// The Job.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
        /// What was found.
        verdict: String,
    },
    /// Scale what makes the servers to 0.
    Stop {
        /// A StatefulSet or a Deployment.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
        /// Its version, as it was seen.
        version: String,
    },
    /// Delete an object that can be made again.
    Delete {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
    },
    /// Delete data for ever, after the resource was read once more.
    Destroy {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
    },
    /// Remove the operator's finalizer from a claim.
    ReleaseClaim {
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
        /// Its version, as it was seen.
        version: String,
        /// Who still keeps it.
        finalizers: Vec<String>,
    },
    /// Set labels of an object, and leave all else as it is.
    Label {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid: another object of this name is not meant.
        uid: String,
        /// Names and values.
        labels: Vec<(String, String)>,
    },
    /// Say whether the copy of a volume outlives its VolumeSnapshot.
    SetContentPolicy {
        /// The VolumeSnapshotContent.
        name: String,
        /// Whether it does.
        retain: bool,
    },
    /// Let a volume outlive its claim.
    RetainVolume {
        /// The PersistentVolume.
        name: String,
    },
}

impl Write {
    /// Deletes an object that can be made again.
    pub(super) fn delete(kind: Kind, name: &str, object: &facts::Object) -> Self {
        Self::Delete { kind, name: name.to_owned(), uid: object.uid.clone() }
    }

    /// Scales the instance to 0.
    pub(super) fn stop(set: &StatefulSet) -> Self {
        Self::Stop {
            kind: Kind::StatefulSet,
            name: set.name.clone(),
            uid: set.uid.clone(),
            version: set.version.clone(),
        }
    }

    /// Scales a part of a fleet to 0.
    pub(super) fn stop_all(deployment: &Deployment) -> Self {
        let Deployment { name, uid, version, .. } = deployment;
        Self::Stop { kind: Kind::Deployment, name: name.clone(), uid: uid.clone(), version: version.clone() }
    }

    /// Whether it is made only when those before it in a decision were: their order matters. To release a claim that is
    /// being deleted needs nothing else.
    pub fn follows_others(&self) -> bool {
        !matches!(self, Self::ReleaseClaim { .. })
    }

    /// One word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetFinalizers(_) => "set_finalizers",
            Self::Apply(_) => "apply",
            Self::Correct { .. } => "correct",
            Self::Create(_) | Self::CreateKeys(_) => "create",
            Self::Conclude { .. } => "conclude",
            Self::Stop { .. } => "stop",
            Self::Delete { .. } => "delete",
            Self::Destroy { .. } => "destroy",
            Self::ReleaseClaim { .. } => "release_claim",
            Self::RetainVolume { .. } => "retain_volume",
            Self::Label { .. } => "label",
            Self::SetContentPolicy { .. } => "set_content_policy",
        }
    }

    /// The same for the same write, whatever version of the object it was decided on.
    pub fn identity(&self) -> String {
        match self {
            Self::Apply(object) | Self::Create(object) | Self::CreateKeys(object) => {
                format!("{} {} {}", self.name(), self.about(), hash(object.to_string().as_bytes()))
            }
            Self::Conclude { uid, .. }
            | Self::Stop { uid, .. }
            | Self::Delete { uid, .. }
            | Self::Destroy { uid, .. }
            | Self::ReleaseClaim { uid, .. } => {
                format!("{} {} {uid}", self.name(), self.about())
            }
            Self::Correct { uid, patch, .. } => {
                format!("{} {} {uid} {}", self.name(), self.about(), hash(patch.to_string().as_bytes()))
            }
            Self::Label { uid, labels, .. } => format!("{} {} {uid} {labels:?}", self.name(), self.about()),
            Self::SetContentPolicy { retain, .. } => format!("{} {} {retain}", self.name(), self.about()),
            Self::SetFinalizers(_) | Self::RetainVolume { .. } => format!("{} {}", self.name(), self.about()),
        }
    }

    /// What it is done to.
    pub fn about(&self) -> String {
        let of = |object: &Value| {
            let kind = object["kind"].as_str().unwrap_or_default();
            format!("{kind} {}", name_of(object))
        };
        match self {
            Self::SetFinalizers(finalizers) => finalizers.join(", "),
            Self::Apply(object) | Self::Create(object) | Self::CreateKeys(object) => of(object),
            Self::Conclude { name, .. } => format!("{} {name}", Kind::Job.name()),
            Self::SetContentPolicy { name, .. } => format!("VolumeSnapshotContent {name}"),
            Self::Stop { kind, name, .. }
            | Self::Delete { kind, name, .. }
            | Self::Destroy { kind, name, .. }
            | Self::Label { kind, name, .. }
            | Self::Correct { kind, name, .. } => {
                format!("{} {name}", kind.name())
            }
            Self::ReleaseClaim { name, .. } => format!("{} {name}", Kind::Claim.name()),
            Self::RetainVolume { name } => format!("PersistentVolume {name}"),
        }
    }
}
