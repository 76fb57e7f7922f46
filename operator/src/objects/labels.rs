//! Labels and annotations, by which everything is found again when status is lost.

use std::collections::BTreeMap;

/// What it is: always `progressdb`.
pub const NAME: &str = "app.kubernetes.io/name";
/// The resource that it belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Who made it: always the operator.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `server` or `job`; Services select the former.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Annotation of the pod template: a server runs as it should if its pod has the same value.
pub const ROLL: &str = "progressdb.io/roll";
/// Annotation of the pod template: the ConfigMap with the settings of its release.
pub const RELEASE: &str = "progressdb.io/release";
/// Label of a claim: what its data is to the database, a [`Role`].
pub const ROLE: &str = "progressdb.io/role";
/// Label of the pods of a fleet: a [`Track`].
pub const TRACK: &str = "progressdb.io/track";
/// Label of everything that is made for an upgrade: its id.
pub const UPGRADE: &str = "progressdb.io/upgrade";
/// Label of a pod that rehearses on a copy of the data: no Service selects it.
pub const REHEARSAL: &str = "progressdb.io/rehearsal";
/// In the selector of the client Service while no server may be reached: no pod has this label.
pub const CLOSED: &str = "progressdb.io/closed-for";
/// Annotation of a claim that the upgrade left behind: when it may go.
pub const KEEP_UNTIL: &str = "progressdb.io/keep-until";
/// Annotation of a resource by which a person approves an upgrade, by its id; or going back from one with a loss, by
/// `<id>/rollback`.
pub const APPROVE: &str = "progressdb.io/approve";
/// By which a person gives an upgrade up, by its id.
pub const ABORT: &str = "progressdb.io/abort";
/// By which a person lets an upgrade pass a gate or a hold: `<id>/<name>@<time until which this is meant>`, several with commas.
pub const OVERRIDE: &str = "progressdb.io/override";
/// Label of a check's pod, and of nothing else: by it the server's anti-affinity leaves checks alone.
pub const CHECK: &str = "progressdb.io/check";
/// The label by which Kubernetes names the pod of a StatefulSet.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Annotation of the ConfigMap with what ran before: the annotation [`ROLL`] of the successor that is being started.
pub const TRIED: &str = "progressdb.io/tried";
/// And since when.
pub const TRIED_AT: &str = "progressdb.io/tried-at";
/// And why it could not be started, once it was given up.
pub const FAILED: &str = "progressdb.io/failed";
/// And that a server has run since, or may have: then what ran before is never started again on its data.
pub const RAN: &str = "progressdb.io/ran";
/// Annotation of a Job whose own container has ended while another one runs on: what was found.
pub const VERDICT: &str = "progressdb.io/verdict";

/// Annotation of a Job's pod, which finds the wrapped keys of the store there.
pub const WRAPPED_KEYS: &str = "progressdb.io/wrapped-keys";
/// Annotation by which `kubectl rollout restart` asks for a restart: of a pod template, or of the resource.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation of the pod template: the last restart that was asked for on the resource.
pub const RESTART: &str = "progressdb.io/restarted-at";

/// Finalizer of a resource and of its claim: they stay until the operator has dealt with the data.
pub const FINALIZER: &str = "progressdb.io/data";
/// Annotations of what holds data or keys: Argo CD neither prunes it nor reports it as extra, and Helm leaves it.
pub const KEEP: [(&str, &str); 3] = [
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("helm.sh/resource-policy", "keep"),
];

/// What the data of a claim is to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The data.
    Current,
    /// The data before the last upgrade was rolled back or restored.
    Previous,
    /// A copy that is tried, or that is to become the data.
    Staging,
    /// What an upgrade left that failed.
    Failed,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Current, Self::Previous, Self::Staging, Self::Failed];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Staging => "staging",
            Self::Failed => "failed",
        }
    }

    /// The role that a label names.
    pub fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == label)
    }
}

/// Which of the Deployments of a fleet a pod is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Track {
    /// As many as the resource asks for.
    Stable,
    /// Those that try a new image on requests of users.
    Canary,
}

impl Track {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Canary];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }

    /// The track that a label names.
    pub fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|track| track.as_str() == label)
    }
}

/// What an object does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The server, or something that the server needs.
    Server,
    /// A check, or something that a check needs.
    Job,
}

impl Component {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Job => "job",
        }
    }
}

/// The labels of an object of this instance.
pub fn of(instance: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(instance, component);
    labels.insert(MANAGED_BY.into(), crate::MANAGER.into());
    labels
}

/// The labels by which pods are selected; they never change.
pub fn selector(instance: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = everything(instance);
    labels.insert(COMPONENT.into(), component.as_str().into());
    labels
}

/// The same as one text, by which the API server is asked for pods of the server.
pub fn query(instance: &str) -> String {
    let labels = selector(instance, Component::Server);
    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
}

/// The labels that servers and Jobs of an instance share.
pub fn everything(instance: &str) -> BTreeMap<String, String> {
    [(NAME, "progressdb"), (INSTANCE, instance)].map(|(label, value)| (label.into(), value.into())).into()
}
