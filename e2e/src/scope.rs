//! The objects of a namespace or of the whole cluster, as JSON and by their kinds.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::{ask, ask_once, client};
use crate::command::{kubectl, try_kubectl};

/// Where objects are: in a namespace, or in none.
pub struct Scope {
    /// The name of the namespace; empty for objects of the cluster.
    pub name: Cow<'static, str>,
}

/// The objects that are in no namespace.
pub static CLUSTER: Scope = Scope { name: Cow::Borrowed("") };

/// The namespace of the operator.
pub static SYSTEM: Scope = Scope { name: Cow::Borrowed("progressdb-system") };

/// What carries this label belongs to a database.
const OURS: &str = "app.kubernetes.io/name=progressdb";

impl Scope {
    /// An object, or nothing.
    #[track_caller]
    pub fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let api = self.api(kind);
        let found = ask(async || api.get_opt(name).await).unwrap_or_else(|said| panic!("{kind} {name}: {said}"));
        found.map(|object| json!(object))
    }

    /// An object that is there.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let Some(object) = self.find(kind, name) else { panic!("there is no {kind} {name}") };
        object
    }

    /// The objects of a kind that have these labels, or all.
    #[track_caller]
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let (api, params) = (self.api(kind), ListParams::default().labels(selector));
        let list = ask(async || api.list(&params).await).unwrap_or_else(|said| panic!("{kind}: {said}"));
        list.items.iter().map(|object| json!(object)).collect()
    }

    /// The names of the objects of a kind that belong to databases.
    #[track_caller]
    pub fn names(&self, kind: &str) -> Vec<String> {
        self.list(kind, OURS).iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Makes an object, or makes what was applied before into this.
    #[track_caller]
    pub fn apply(&self, kind: &str, name: &str, object: Value) {
        let (api, object) = (self.api(kind), with_identity(kind, name, object));
        let params = PatchParams::apply("e2e").force().validation_strict();
        ask(async || api.patch(name, &params, &Patch::Apply(&object)).await)
            .unwrap_or_else(|said| panic!("{said}: {object}"));
    }

    /// Merges into an object; null removes.
    #[track_caller]
    pub fn change(&self, kind: &str, name: &str, patch: &Value) {
        let api = self.api(kind);
        ask(async || api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
            .unwrap_or_else(|said| panic!("{kind} {name}: {said}: {patch}"));
    }

    /// Asks for an object's deletion, and does not wait for it.
    #[track_caller]
    pub fn delete(&self, kind: &str, name: &str) {
        self.delete_with(kind, name, &DeleteParams::default());
    }

    /// Kills a pod and forgets it at once, as after the loss of a node.
    #[track_caller]
    pub fn kill(&self, pod: &str) {
        self.delete_with("Pod", pod, &DeleteParams::default().grace_period(0));
    }

    #[track_caller]
    fn delete_with(&self, kind: &str, name: &str, params: &DeleteParams) {
        let api = self.api(kind);
        // When the answer to the first request was lost, the second one finds nothing to delete.
        let gone = |said: &String| said.contains("not found");
        if let Err(said) = ask(async || api.delete(name, params).await.map(drop))
            && !gone(&said)
        {
            panic!("{kind} {name}: {said}");
        }
    }

    /// Asks once for an object's deletion and reports nothing, for a test that ends.
    pub fn give_up(&self, kind: &str, name: &str) {
        let (api, params) = (self.api(kind), DeleteParams::default());
        let _ = ask_once(api.delete(name, &params));
    }

    /// What a pod logged, or why there is nothing.
    #[track_caller]
    pub fn log(&self, pod: &str) -> Result<String, String> {
        let api: Api<Pod> = Api::namespaced(client(), &self.name);
        ask(async || api.logs(pod, &LogParams::default()).await)
    }

    /// `kubectl -n NAMESPACE`, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// `kubectl -n NAMESPACE`, and what it said when it failed.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        try_kubectl(&[&["-n", &self.name], arguments].concat(), input)
    }

    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version(kind).split_once('/').unwrap_or(("", api_version(kind)));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match &*self.name {
            "" => Api::all_with(client(), &resource),
            namespace => Api::namespaced_with(client(), namespace, &resource),
        }
    }
}

/// An object that says what it is and how it is called.
pub(crate) fn with_identity(kind: &str, name: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!(api_version(kind));
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    object
}

/// The API that has a kind.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "ConfigMap"
        | "Event"
        | "LimitRange"
        | "Namespace"
        | "Node"
        | "PersistentVolume"
        | "PersistentVolumeClaim"
        | "Pod"
        | "ResourceQuota"
        | "Secret"
        | "Service"
        | "ServiceAccount" => "v1",
        "ClusterRoleBinding" | "RoleBinding" => "rbac.authorization.k8s.io/v1",
        "CustomResourceDefinition" => "apiextensions.k8s.io/v1",
        "Deployment" | "ReplicaSet" | "StatefulSet" => "apps/v1",
        "Job" => "batch/v1",
        "Lease" => "coordination.k8s.io/v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "PodDisruptionBudget" => "policy/v1",
        "PriorityClass" => "scheduling.k8s.io/v1",
        "ProgressDB" => "progressdb.io/v1alpha1",
        "StorageClass" => "storage.k8s.io/v1",
        "VolumeSnapshot" | "VolumeSnapshotClass" | "VolumeSnapshotContent" => "snapshot.storage.k8s.io/v1",
        other => panic!("which API has the kind {other}?"),
    }
}
