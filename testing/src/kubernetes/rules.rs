//! What the operator relies on in an API server: each rule is a function, and [`test_rules`](crate::test_rules) makes a
//! test of each.
#![allow(missing_docs, reason = "the name of a rule is what it says")]

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

/// Makes a test of every rule. It is given an async function without parameters that returns a [`Place`].
#[macro_export]
macro_rules! test_rules {
    ($place:path) => {
        $crate::test_rules! { $place:
            what_a_manager_no_longer_applies_goes_and_what_others_have_stays
            a_value_of_another_manager_is_a_conflict_until_force
            applying_the_same_again_makes_no_version
            an_update_of_an_old_version_is_a_conflict
            a_write_meant_for_another_object_is_refused
            the_items_of_a_list_do_not_say_their_kind
            a_dry_run_is_judged_and_keeps_nothing
            a_name_is_given_once
            a_finalizer_holds_and_the_owner_s_end_takes_what_it_owns
            a_claim_keeps_what_it_is_made_from
            a_claim_without_a_volume_keeps_its_size }
    };
    ($place:path: $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::kubernetes::rules::$rule($place().await).await;
            }
        )*
    };
}

/// Where the rules are tried: a namespace without ConfigMaps and claims of these names.
pub struct Place {
    pub objects: Api<ConfigMap>,
    pub claims: Api<PersistentVolumeClaim>,
    /// Has the server do its background work, such as garbage collection.
    pub settle: Box<dyn Fn() + Send + Sync>,
}

impl Place {
    async fn apply(&self, manager: &str, data: Value, force: bool) -> Result<Value, u16> {
        let params = PatchParams::apply(manager);
        let params = if force { params.force() } else { params };
        let patch = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data });
        match self.objects.patch("a", &params, &Patch::Apply(&patch)).await {
            Ok(object) => Ok(json!(object.data.unwrap_or_default())),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(other) => panic!("{other}"),
        }
    }

    async fn version(&self) -> Option<String> {
        self.objects.get("a").await.unwrap().resource_version()
    }

    async fn create(&self, object: Value) -> ConfigMap {
        let object = serde_json::from_value(object).unwrap();
        self.objects.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Waits until the object has gone.
    async fn wait_for_the_end_of(&self, name: &str) {
        for _ in 0..600 {
            (self.settle)();
            if self.objects.get_opt(name).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} is still there");
    }
}

fn is_conflict<T>(result: Result<T, kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.is_conflict())
}

/// The code of a refusal, and the field that is to blame.
fn blamed<T>(result: Result<T, kube::Error>) -> Option<(u16, String)> {
    let Err(kube::Error::Api(status)) = result else { return None };
    let field = status.details.as_ref()?.causes.first()?.field.clone();
    Some((status.code, field))
}

pub async fn what_a_manager_no_longer_applies_goes_and_what_others_have_stays(place: Place) {
    place.apply("a", json!({ "x": "1", "y": "1" }), false).await.unwrap();
    place.apply("b", json!({ "y": "1", "z": "1" }), false).await.unwrap();
    assert_eq!(place.apply("a", json!({ "w": "1" }), false).await, Ok(json!({ "w": "1", "y": "1", "z": "1" })));
}

pub async fn a_value_of_another_manager_is_a_conflict_until_force(place: Place) {
    place.apply("a", json!({ "x": "1" }), false).await.unwrap();
    assert_eq!(place.apply("b", json!({ "x": "2" }), false).await, Err(409));
    assert_eq!(place.apply("b", json!({ "x": "2" }), true).await, Ok(json!({ "x": "2" })));
    // The field has belonged to b since.
    assert_eq!(place.apply("a", json!({}), false).await, Ok(json!({ "x": "2" })));
}

pub async fn applying_the_same_again_makes_no_version(place: Place) {
    place.apply("a", json!({ "x": "1" }), false).await.unwrap();
    let before = place.version().await;
    place.apply("a", json!({ "x": "1" }), false).await.unwrap();
    assert_eq!(place.version().await, before);
}

pub async fn an_update_of_an_old_version_is_a_conflict(place: Place) {
    place.apply("a", json!({ "x": "1" }), false).await.unwrap();
    let old = place.objects.get("a").await.unwrap();
    place.apply("a", json!({ "x": "2" }), false).await.unwrap();
    assert!(is_conflict(place.objects.replace("a", &PostParams::default(), &old).await));
}

pub async fn a_write_meant_for_another_object_is_refused(place: Place) {
    place.apply("a", json!({}), false).await.unwrap();
    let preconditions = Preconditions { uid: Some("another".into()), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    assert!(is_conflict(place.objects.delete("a", &params).await));
    let patch =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "uid": "another" }, "data": {} });
    let params = PatchParams::apply("a").force();
    let applied = place.objects.patch("a", &params, &Patch::Apply(&patch)).await;
    assert_eq!(blamed(applied), Some((422, "metadata.uid".to_owned())));
    let patch = json!({ "metadata": { "uid": "another" } });
    let merged = place.objects.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(blamed(merged), Some((422, "metadata.uid".to_owned())));
}

pub async fn the_items_of_a_list_do_not_say_their_kind(place: Place) {
    place.apply("a", json!({ "x": "1" }), false).await.unwrap();
    let kind = ApiResource::erase::<ConfigMap>(&());
    let namespace = place.objects.get("a").await.unwrap().namespace().unwrap();
    let objects: Api<DynamicObject> = Api::namespaced_with(place.objects.clone().into_client(), &namespace, &kind);
    let listed = objects.list(&ListParams::default()).await.unwrap();
    assert!(!listed.items.is_empty());
    assert!(listed.iter().all(|item| item.types.is_none()), "{:?}", listed.items);
    assert!(objects.get("a").await.unwrap().types.is_some());
}

pub async fn a_dry_run_is_judged_and_keeps_nothing(place: Place) {
    let patch = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "x": "1" } });
    let params = PatchParams::apply("a").dry_run();
    let tried = place.objects.patch("a", &params, &Patch::Apply(&patch)).await.unwrap();
    assert_eq!(json!(tried.data), json!({ "x": "1" }));
    assert_eq!(place.objects.get_opt("a").await.unwrap(), None);
    place.create(json!({ "metadata": { "name": "a" }, "data": { "x": "2" } })).await;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let object = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
    let again = place.objects.create(&params, &object).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.is_already_exists()));
    assert_eq!(json!(place.objects.get("a").await.unwrap().data), json!({ "x": "2" }));
}

pub async fn a_name_is_given_once(place: Place) {
    let object = json!({ "metadata": { "name": "a" } });
    place.create(object.clone()).await;
    let again = place.objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.is_already_exists()));
}

pub async fn a_finalizer_holds_and_the_owner_s_end_takes_what_it_owns(place: Place) {
    let owner = place.create(json!({ "metadata": { "name": "owner", "finalizers": ["example.com/f"] } })).await;
    let reference = OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: "owner".into(),
        uid: owner.uid().unwrap(),
        ..OwnerReference::default()
    };
    place.create(json!({ "metadata": { "name": "owned", "ownerReferences": [reference] } })).await;
    place.objects.delete("owner", &DeleteParams::background()).await.unwrap();
    (place.settle)();
    assert!(place.objects.get("owner").await.unwrap().metadata.deletion_timestamp.is_some());
    place.objects.get("owned").await.unwrap();
    let patch = json!({ "metadata": { "finalizers": null } });
    place.objects.patch("owner", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    place.wait_for_the_end_of("owner").await;
    place.wait_for_the_end_of("owned").await;
}

/// Makes a claim from a snapshot that is not there, which is never bound.
async fn restored_claim(place: &Place) -> PersistentVolumeClaim {
    let claim = claim_from("first");
    place.claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap()
}

fn claim_from(snapshot: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "a" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot },
        },
    })
}

pub async fn a_claim_keeps_what_it_is_made_from(place: Place) {
    let spec = json!(restored_claim(&place).await.spec);
    assert_eq!((&spec["dataSource"]["name"], &spec["dataSourceRef"]["name"]), (&json!("first"), &json!("first")));
    let patch = json!({ "spec": { "dataSource": { "name": "second" }, "dataSourceRef": { "name": "second" } } });
    let merged = place.claims.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(blamed(merged), Some((422, "spec".to_owned())));
    let params = PatchParams::apply("a").force();
    let applied = place.claims.patch("a", &params, &Patch::Apply(&claim_from("second"))).await;
    assert_eq!(blamed(applied), Some((422, "spec".to_owned())));
    let same = place.claims.patch("a", &params, &Patch::Apply(&claim_from("first"))).await;
    assert_eq!(json!(same.unwrap().spec), spec);
}

pub async fn a_claim_without_a_volume_keeps_its_size(place: Place) {
    restored_claim(&place).await;
    let patch = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    let grown = place.claims.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(blamed(grown), Some((422, "spec".to_owned())));
}
