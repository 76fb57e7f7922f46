//! The double itself: each rule that the operator relies on is one that the API server has.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use crate::api::{Key, Server};

fn api(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "ns")
}

async fn apply(server: &Server, manager: &str, data: Value, force: bool) -> Result<Value, u16> {
    let params = PatchParams::apply(manager);
    let params = if force { params.force() } else { params };
    let patch = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data });
    match api(&server.client()).patch("a", &params, &Patch::Apply(&patch)).await {
        Ok(object) => Ok(json!(object.data.unwrap_or_default())),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_a_manager_no_longer_applies_goes_and_what_others_have_stays() {
    let server = Server::new();
    apply(&server, "a", json!({ "x": "1", "y": "1" }), false).await.unwrap();
    apply(&server, "b", json!({ "y": "1", "z": "1" }), false).await.unwrap();
    assert_eq!(apply(&server, "a", json!({ "w": "1" }), false).await, Ok(json!({ "w": "1", "y": "1", "z": "1" })));
}

#[tokio::test]
async fn a_value_of_another_manager_is_a_conflict_until_force() {
    let server = Server::new();
    apply(&server, "a", json!({ "x": "1" }), false).await.unwrap();
    assert_eq!(apply(&server, "b", json!({ "x": "2" }), false).await, Err(409));
    assert_eq!(apply(&server, "b", json!({ "x": "2" }), true).await, Ok(json!({ "x": "2" })));
    // It was b's from then on.
    assert_eq!(apply(&server, "a", json!({}), false).await, Ok(json!({ "x": "2" })));
}

#[tokio::test]
async fn applying_the_same_again_makes_no_version() {
    let server = Server::new();
    apply(&server, "a", json!({ "x": "1" }), false).await.unwrap();
    let before = server.with(|store| store.version());
    apply(&server, "a", json!({ "x": "1" }), false).await.unwrap();
    assert_eq!(server.with(|store| store.version()), before);
}

#[tokio::test]
async fn an_update_of_an_old_version_is_a_conflict() {
    let server = Server::new();
    apply(&server, "a", json!({ "x": "1" }), false).await.unwrap();
    let old = api(&server.client()).get("a").await.unwrap();
    apply(&server, "a", json!({ "x": "2" }), false).await.unwrap();
    let error = api(&server.client()).replace("a", &PostParams::default(), &old).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.is_conflict()));
}

#[tokio::test]
async fn a_deletion_meant_for_another_object_is_refused() {
    let server = Server::new();
    apply(&server, "a", json!({}), false).await.unwrap();
    let preconditions = Preconditions { uid: Some("another".into()), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    let error = api(&server.client()).delete("a", &params).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.is_conflict()));
}

#[tokio::test]
async fn a_finalizer_holds_and_the_owner_s_end_takes_what_it_owns() {
    let server = Server::new();
    let owner = Key::new("ConfigMap", "ns", "owner");
    let owned = Key::new("ConfigMap", "ns", "owned");
    server.with(|store| {
        let made = store.create(&owner, json!({ "metadata": { "finalizers": ["f"] } }), Default::default()).unwrap();
        let reference =
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": made["metadata"]["uid"] }]);
        store.create(&owned, json!({ "metadata": { "ownerReferences": reference } }), Default::default()).unwrap();
        store.delete(&owner, &Value::Null).unwrap();
        store.collect_garbage();
        assert!(store.get(&owner).is_some() && store.get(&owned).is_some());
        store.edit(&owner, |owner| owner["metadata"]["finalizers"] = json!([]));
        store.collect_garbage();
        assert!(store.get(&owner).is_none() && store.get(&owned).is_none());
    });
}
