//! Two installations of the operator that look after the same namespace, each with a Lease of its own.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    api::{Key, faults::Faults},
    cluster::Cluster,
};

fn lease() -> Key {
    Key::new("Lease", "theirs", "operator")
}

/// A resource whose status says that another installation looks after it, which renewed its Lease a moment ago.
fn looked_after_by_another() -> Cluster {
    let cluster = Cluster::new();
    cluster.create("db", json!({}));
    cluster.server.with(|store| {
        store.edit(&Key::new("ProgressDB", "ns", "db"), |object| {
            object["status"] = json!({ "operator": "theirs/operator" })
        });
        let renewed = store.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
        let spec = json!({ "holderIdentity": "they", "renewTime": renewed });
        store.create(&lease(), json!({ "spec": spec }), BTreeMap::new()).unwrap();
    });
    cluster
}

#[tokio::test]
async fn a_resource_of_an_installation_that_works_is_left_alone_and_that_is_said_once() {
    let mut cluster = looked_after_by_another();
    for _ in 0..5 {
        assert!(cluster.pass().await.is_empty());
    }
    let calls = cluster.server.take_calls();
    let writes: Vec<&String> = calls.iter().filter(|call| !call.starts_with("GET ")).collect();
    assert_eq!(writes, ["POST events"]);
    let event = cluster.server.with(|store| store.all("Event").first().cloned()).unwrap();
    assert_eq!((&event["reason"], &event["type"]), (&json!("OperatorsOverlap"), &json!("Warning")));
    assert!(event["message"].as_str().unwrap().contains("theirs/operator"), "{event}");
}

#[tokio::test]
async fn that_another_installation_works_is_said_even_if_that_could_not_be_said_at_first() {
    let mut cluster = looked_after_by_another();
    cluster.server.set_faults(Faults::default().refuse("POST events", 500, 2));
    for _ in 0..5 {
        cluster.pass().await;
    }
    assert_eq!(cluster.server.with(|store| store.all("Event").len()), 1);
}

#[tokio::test]
async fn when_the_other_installation_goes_its_resources_are_taken_over() {
    // It gave its Lease back, it was removed with it, or it has been silent for long.
    for how in 0..3 {
        let mut cluster = looked_after_by_another();
        assert!(cluster.pass().await.is_empty());
        cluster.server.with(|store| match how {
            0 => store.edit(&lease(), |lease| drop(lease["spec"].as_object_mut().unwrap().remove("holderIdentity"))),
            1 => drop(store.delete(&lease(), &json!({})).unwrap()),
            _ => store.advance(31),
        });
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").1, "Serving", "{how}");
        assert_eq!(cluster.get("ProgressDB", "db").unwrap()["status"]["operator"], "system/ours", "{how}");
    }
}
