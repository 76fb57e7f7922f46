//! What happens to a database that serves: pods die, settings and images change, volumes grow. Clients write all along.

use progressdb_e2e::{Namespace, Writers, image, wait_until};
use serde_json::json;

#[test]
fn a_pod_that_is_killed_loses_nothing_that_was_acknowledged() {
    let namespace = Namespace::new("killed");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 8);
    for _ in 0..2 {
        let uid = database.pod_uid();
        namespace.kill(&database.pod());
        database.wait_for_other_pod(&uid);
        writers.wait_for_more(50);
    }
    writers.check();
}

#[test]
fn a_change_of_settings_restarts_once_and_loses_nothing() {
    let namespace = Namespace::new("settings");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    let uid = database.pod_uid();
    database.change(json!({ "settings": { "logging": { "level": "debug" } } }));
    let second = database.wait_for_other_pod(&uid).ready().pod_uid();
    let settings = database.config_map()["data"]["config.yaml"].as_str().unwrap().to_owned();
    assert!(settings.contains("debug"), "{settings}");
    // What is the operator's alone restarts nothing.
    database.change(json!({ "service": { "annotations": { "example.com/a": "b" } } }));
    let annotations = || namespace.get("Service", "chat")["metadata"]["annotations"].clone();
    wait_until("the Service has the annotation", annotations, |now| now["example.com/a"] == "b");
    database.ready();
    assert_eq!(database.pod_uid(), second);
    writers.wait_for_more(50);
    writers.check();
}

#[test]
fn another_image_stops_the_server_and_starts_on_the_same_data() {
    let namespace = Namespace::new("image");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 4);
    let claim = || namespace.get("PersistentVolumeClaim", &database.claim())["metadata"]["uid"].clone();
    let (uid, claim_uid) = (database.pod_uid(), claim());
    database.change(json!({ "image": image("progressdb:dev-next") }));
    database.wait_for_other_pod(&uid).ready();
    assert_eq!(database.get()["status"]["image"], image("progressdb:dev-next"));
    assert_eq!(claim(), claim_uid);
    writers.wait_for_more(50);
    writers.check();
}

#[test]
fn a_volume_grows_while_the_server_serves() {
    let namespace = Namespace::new("grows");
    let database = namespace.database("chat", json!({}));
    let writers = Writers::start(database.ready(), 2);
    let (uid, volume) = (database.pod_uid(), database.volume());
    database.change(json!({ "storage": { "embedded": { "size": "2Gi" } } }));
    wait_until("the volume has grown", || volume.find().unwrap(), |now| now["spec"]["capacity"]["storage"] == "2Gi");
    writers.wait_for_more(50);
    assert_eq!(database.pod_uid(), uid);
    writers.check();
}

#[test]
fn a_database_that_is_suspended_keeps_its_data_and_comes_back() {
    let namespace = Namespace::new("suspend");
    let database = namespace.database("chat", json!({}));
    let client = database.ready().client("ann");
    let thread = client.create_thread("kept");
    client.append(&thread, json!("kept"));
    database.change(json!({ "suspend": true }));
    database.wait_for("Suspended", "True", "Requested", &[]);
    wait_until("the pod has gone", || namespace.find("Pod", &database.pod()), Option::is_none);
    database.wait_for("Ready", "False", "Suspended", &[]);
    database.change(json!({ "suspend": false }));
    database.ready();
    assert_eq!(client.bodies(&thread), [json!("kept")]);
}
