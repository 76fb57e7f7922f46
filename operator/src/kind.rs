//! The kinds of objects that the operator makes or follows, and which object is meant.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The instance.
    StatefulSet,
    /// The instances of a fleet.
    Deployment,
    /// How many of them may be missing at once.
    DisruptionBudget,
    /// Its volume.
    Claim,
    /// How it is reached.
    Service,
    /// Its settings.
    ConfigMap,
    /// Its generated API keys; only metadata is watched.
    Secret,
    /// Who it is.
    ServiceAccount,
    /// Whom it may talk to.
    NetworkPolicy,
    /// Checks before something depends on their outcome.
    Job,
    /// What runs, of the instance and of Jobs.
    Pod,
    /// A copy of the volume.
    VolumeSnapshot,
    /// How Prometheus finds it.
    ServiceMonitor,
    /// When Prometheus raises an alarm.
    PrometheusRule,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::StatefulSet,
        Self::Deployment,
        Self::DisruptionBudget,
        Self::Claim,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::Job,
        Self::Pod,
        Self::VolumeSnapshot,
        Self::ServiceMonitor,
        Self::PrometheusRule,
    ];

    /// Whether a cluster may not know this kind.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::VolumeSnapshot | Self::ServiceMonitor | Self::PrometheusRule)
    }

    /// As `kind` names it.
    pub fn name(self) -> &'static str {
        self.parts().2
    }

    /// As paths of the API name it.
    pub fn plural(self) -> &'static str {
        self.parts().3
    }

    /// Where the API has it.
    pub fn api_resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.parts();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// The kind of an object, by `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            object["kind"] == kind.name() && object["apiVersion"] == kind.api_resource().api_version.as_str()
        })
    }

    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::DisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Claim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::VolumeSnapshot => ("snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots"),
            Self::ServiceMonitor => ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
            Self::PrometheusRule => ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
        }
    }
}

/// The name of an object.
pub fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The uid of an object; one that was not created yet has none.
pub fn uid_of(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_names_its_kind() {
        assert_eq!(Kind::of(&json!({ "apiVersion": "apps/v1", "kind": "StatefulSet" })), Some(Kind::StatefulSet));
        assert_eq!(Kind::of(&json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim" })), Some(Kind::Claim));
        assert_eq!(Kind::of(&json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet" })), None);
    }
}
