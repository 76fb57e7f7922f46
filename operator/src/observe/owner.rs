//! Whose an object is. Labels can be edited, so the owner reference counts too, and the field manager of an object that has
//! none: our objects stay ours when somebody edits their labels, and get the labels back.

use serde_json::Value;

use super::Live;
use crate::{
    MANAGER,
    crd::ProgressDB,
    kind::Kind,
    objects::{labels, names},
};

/// The kind of the resource, as owners name it.
const RESOURCE: &str = "ProgressDB";

/// A name that a resource needs and that an object of somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taken {
    /// Of which kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// Whose the object is, as the end of a sentence such as `the Service db belongs to the Helm release shop`.
    pub whose: String,
}

/// Namespace and name of the resource that an object belongs to: by its owner; without one by its own name, if it is of a
/// kind that outlives the resource; and only then by its label.
pub(super) fn instance(kind: Kind, object: &Value) -> Option<(String, String)> {
    let metadata = object.get("metadata")?;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str);
    let label = || metadata.get("labels")?.get(labels::INSTANCE)?.as_str();
    let instance = owner_name(kind, metadata).or_else(|| names::instance_of(kind, text("name")?)).or_else(label)?;
    Some((text("namespace")?.to_owned(), instance.to_owned()))
}

fn owner_name(kind: Kind, metadata: &Value) -> Option<&str> {
    let owners = metadata.get("ownerReferences")?.as_array()?;
    let wanted = if kind == Kind::Pod { Kind::StatefulSet.name() } else { RESOURCE };
    owners.iter().find(|owner| owner["kind"] == wanted)?["name"].as_str()
}

/// Whether an object under a name of this resource is its own; `set` is the StatefulSet of the resource.
pub(super) fn is_ours(kind: Kind, live: &Live, resource: &ProgressDB, set: Option<&Live>) -> bool {
    if kind == Kind::Pod {
        return set.is_some_and(|set| live.is_owned_by(set.uid()));
    }
    let name = resource.metadata.name.as_deref();
    let has_labels = live.label(labels::INSTANCE) == name && live.label(labels::MANAGED_BY) == Some(MANAGER);
    let is_owned = resource.metadata.uid.as_deref().is_some_and(|uid| live.is_owned_by(uid));
    has_labels || is_owned || (is_kept(kind) && live.managers().any(|manager| manager == MANAGER))
}

/// Kinds whose objects outlive the resource, and so have no owner.
fn is_kept(kind: Kind) -> bool {
    matches!(kind, Kind::Claim | Kind::Secret | Kind::VolumeSnapshot)
}

/// Whose an object is that is not ours, as far as can be seen.
pub(super) fn whose(kind: Kind, live: &Live) -> String {
    let metadata = live.at("/metadata");
    let controller = metadata["ownerReferences"].as_array().and_then(|owners| owners.first());
    if let Some(owner) = controller {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        return format!("belongs to the {} {}", text("kind"), text("name"));
    }
    if let (Some(instance), Some(MANAGER)) = (live.label(labels::INSTANCE), live.label(labels::MANAGED_BY)) {
        return format!("belongs to the ProgressDB {instance}");
    }
    if let Some(release) = live.annotation("meta.helm.sh/release-name") {
        return format!("belongs to the Helm release {release}");
    }
    if kind == Kind::Pod && live.annotation(labels::ROLL).is_some() {
        return "was the server's until its labels were edited, and may still use the volume".to_owned();
    }
    if is_of_kubernetes(kind, live.name()) {
        return "is made by Kubernetes itself".to_owned();
    }
    match live.managers().next() {
        Some(manager) => format!("was made by somebody else, with {manager}"),
        None => "was made by somebody else".to_owned(),
    }
}

fn is_of_kubernetes(kind: Kind, name: &str) -> bool {
    matches!((kind, name), (Kind::ServiceAccount, "default") | (Kind::Service, "kubernetes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edited_label_hides_no_object_from_its_resource() {
        let edited = |name: &str, owners: Value| {
            json!({ "metadata": {
                "name": name, "namespace": "ns", "labels": { labels::INSTANCE: "other" }, "ownerReferences": owners,
            } })
        };
        let owned = |kind: &str| edited("x", json!([{ "kind": kind, "name": "db", "uid": "1" }]));
        let of = |kind: Kind, object: &Value| instance(kind, object).map(|(_, name)| name);
        assert_eq!(of(Kind::Service, &owned("ProgressDB")), Some("db".into()));
        assert_eq!(of(Kind::Pod, &owned("StatefulSet")), Some("db".into()));
        assert_eq!(of(Kind::Claim, &edited("db-data-0", json!([]))), Some("db".into()));
        assert_eq!(of(Kind::Secret, &edited("db-api-keys", json!([]))), Some("db".into()));
        assert_eq!(of(Kind::Pod, &owned("Job")), Some("other".into()));
    }

    #[test]
    fn an_object_says_whose_it_is() {
        let whose = |kind: Kind, metadata: Value| whose(kind, &Live(json!({ "metadata": metadata })));
        let ours = json!({ labels::INSTANCE: "a-headless", labels::MANAGED_BY: MANAGER });
        let cases = [
            (json!({ "ownerReferences": [{ "kind": "ReplicaSet", "name": "web" }] }), "belongs to the ReplicaSet web"),
            (json!({ "labels": ours }), "belongs to the ProgressDB a-headless"),
            (json!({ "annotations": { "meta.helm.sh/release-name": "shop" } }), "belongs to the Helm release shop"),
            (json!({ "name": "kubernetes" }), "is made by Kubernetes itself"),
            (
                json!({ "managedFields": [{ "manager": "kubectl-create" }] }),
                "was made by somebody else, with kubectl-create",
            ),
            (json!({}), "was made by somebody else"),
        ];
        for (metadata, wanted) in cases {
            assert_eq!(whose(Kind::Service, metadata), wanted);
        }
    }
}
