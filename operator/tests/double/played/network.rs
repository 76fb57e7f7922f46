//! Addresses, images as nodes name them, and what Services select.

use serde_json::{Value, json};

use super::{NEW, OLD, Stage};
use crate::world::Image;

fn endpoints(stage: &Stage, service: &str) -> Value {
    stage.get("EndpointSlice", &format!("{service}-endpoints"))["endpoints"].clone()
}

#[test]
fn a_slice_lists_what_its_service_selects_and_whether_it_is_ready() {
    let mut stage = Stage::new();
    stage.world.other_images.ready_after = 3;
    stage.claim("data");
    stage.serve("db", "data", OLD);
    stage.service("db", "server");
    stage.service("other", "none");
    stage.make("Service", "names", json!({ "spec": { "publishNotReadyAddresses": true, "ports": [] } }));
    stage.edit("Service", "names", |service| service["spec"]["selector"] = json!({ "component": "server" }));
    stage.steps(1);
    let pod = stage.get("Pod", "db-0");
    let ready = |stage: &Stage, service: &str| endpoints(stage, service)[0]["conditions"]["ready"].clone();
    assert_eq!((ready(&stage, "db"), ready(&stage, "names")), (json!(false), json!(true)));
    assert_eq!(endpoints(&stage, "other"), json!([]));
    stage.steps(3);
    let listed = endpoints(&stage, "db");
    assert_eq!(listed[0]["targetRef"]["uid"], pod["metadata"]["uid"]);
    assert_eq!((&listed[0]["addresses"][0], ready(&stage, "db")), (&pod["status"]["podIP"], json!(true)));
    stage.edit("Service", "db", |service| service["spec"]["selector"] = json!({ "component": "none" }));
    stage.steps(1);
    assert_eq!(endpoints(&stage, "db"), json!([]));
    stage.delete("Service", "db");
    stage.steps(1);
    assert_eq!(stage.get("EndpointSlice", "db-endpoints"), Value::Null);
}

#[test]
fn no_two_pods_have_had_the_same_address() {
    let mut stage = Stage::new();
    stage.claim("data");
    stage.serve("db", "data", OLD);
    let address = |stage: &Stage| stage.get("Pod", "db-0")["status"]["podIP"].as_str().unwrap().to_owned();
    stage.steps(1);
    let first = address(&stage);
    stage.scale("db", 0);
    stage.steps(2);
    assert_eq!(stage.world.servers().get(&first, "/readyz"), None);
    stage.scale("db", 1);
    stage.steps(1);
    assert_ne!(address(&stage), first);
    assert_eq!(stage.world.servers().get(&first, "/readyz"), None);
    assert!(stage.world.servers().get(&address(&stage), "/readyz").is_some());
}

#[test]
fn an_image_is_the_same_by_its_tag_and_by_the_digest_that_the_node_reports() {
    let mut stage = Stage::new();
    stage.world.images.insert(NEW.into(), Image { version: "0.4.0".into(), ..Image::default() });
    stage.claim("data");
    stage.serve("db", "data", NEW);
    stage.steps(1);
    let told = |stage: &Stage| {
        let status = stage.get("Pod", "db-0")["status"].clone();
        let (_, body) = stage.world.servers().get(status["podIP"].as_str().unwrap(), "/readyz").unwrap();
        (status["containerStatuses"][0]["imageID"].as_str().unwrap().to_owned(), body["version"].clone())
    };
    let (id, version) = told(&stage);
    assert!(id.starts_with("registry/progressdb@sha256:"), "{id}");
    let node = stage.server.with(|store| store.get(&crate::api::Key::new("Node", "", "node")).cloned().unwrap());
    assert_eq!(node["status"]["images"], json!([{ "names": [id, NEW] }]));
    stage.replace("db", &id);
    assert_eq!(told(&stage), (id.clone(), version));
    stage.replace("db", OLD);
    assert_eq!((told(&stage).0 == id, told(&stage).1), (false, json!("0.3.0")));
}
