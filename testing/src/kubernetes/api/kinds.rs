//! The kinds that the double serves, and how they differ.

/// One kind of object.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Its API group; empty for the core.
    pub group: &'static str,
    /// Its version in the group.
    pub version: &'static str,
    /// As `kind` names it.
    pub kind: &'static str,
    /// As paths name it.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether `status` can be written only through its own subresource.
    pub status: bool,
    /// Whether `metadata.generation` counts the changes of `spec`.
    pub generation: bool,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespaced: true, status: false, generation: false }
}

const fn with_status(mut kind: Kind) -> Kind {
    kind.status = true;
    kind
}

const fn with_generation(mut kind: Kind) -> Kind {
    kind.generation = true;
    kind
}

const fn of_the_cluster(mut kind: Kind) -> Kind {
    kind.namespaced = false;
    kind
}

static KINDS: [Kind; 30] = [
    with_generation(with_status(kind("progressdb.io", "v1alpha1", "ProgressDB", "progressdbs"))),
    with_generation(with_status(kind("apps", "v1", "StatefulSet", "statefulsets"))),
    with_generation(with_status(kind("apps", "v1", "Deployment", "deployments"))),
    with_generation(with_status(kind("apps", "v1", "ReplicaSet", "replicasets"))),
    with_generation(with_status(kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"))),
    with_generation(with_status(kind("batch", "v1", "Job", "jobs"))),
    with_generation(kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")),
    with_status(kind("", "v1", "Pod", "pods")),
    with_status(kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")),
    with_status(kind("", "v1", "Service", "services")),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("", "v1", "Secret", "secrets"),
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
    kind("", "v1", "ResourceQuota", "resourcequotas"),
    kind("", "v1", "Event", "events"),
    kind("events.k8s.io", "v1", "Event", "events"),
    kind("coordination.k8s.io", "v1", "Lease", "leases"),
    kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    with_generation(kind("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors")),
    with_generation(kind("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules")),
    with_generation(with_status(kind("snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots"))),
    of_the_cluster(with_status(kind(
        "snapshot.storage.k8s.io",
        "v1",
        "VolumeSnapshotContent",
        "volumesnapshotcontents",
    ))),
    of_the_cluster(with_status(kind("", "v1", "Namespace", "namespaces"))),
    of_the_cluster(with_status(kind("", "v1", "Node", "nodes"))),
    of_the_cluster(with_status(kind("", "v1", "PersistentVolume", "persistentvolumes"))),
    of_the_cluster(kind("storage.k8s.io", "v1", "StorageClass", "storageclasses")),
    of_the_cluster(with_status(kind("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments"))),
    of_the_cluster(kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")),
    of_the_cluster(kind("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass", "volumesnapshotclasses")),
    of_the_cluster(with_generation(with_status(kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )))),
];

/// The kinds of a group.
pub fn of_group(group: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.group == group)
}

/// The kind with this plural in this group.
pub fn by_plural(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
}

/// The kind that an owner reference names.
pub fn of_reference(api_version: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == name && kind.api_version() == api_version)
}

/// The kind of this name; of the two kinds `Event`, that of the core group.
///
/// # Panics
/// If the double does not know it.
pub fn named(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.kind == name).unwrap_or_else(|| panic!("the double knows no {name}"))
}

impl Kind {
    /// Whether the API server has it without a definition.
    pub fn is_built_in(&self) -> bool {
        !["progressdb.io", "monitoring.coreos.com", "snapshot.storage.k8s.io"].contains(&self.group)
    }

    /// As `apiVersion` names it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}
