//! Another image without an upgrade, as the strategy `Direct` says: no server of it starts that could not, and one that does not
//! get ready is told.

use serde_json::{Value, json};

use super::*;
use crate::world::Image;

const OLD: &str = "registry/progressdb:0.3.0";
const NEW: &str = "registry/progressdb:0.4.0";

/// A fleet of three that is asked for another image, which is this.
async fn asks_for(new: Image) -> Running {
    let mut running = installed(json!({})).await;
    running.cluster.world.images.insert(NEW.into(), new);
    ask(&running, NEW);
    running
}

fn ask(running: &Running, image: &str) {
    running.cluster.change("db", |spec| spec["image"] = json!(image));
}

fn images(cluster: &Cluster) -> BTreeSet<String> {
    servers(cluster).iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

/// Waits for this reason of `StorageReady`, and holds that nothing but that happened.
async fn is_kept_back(running: &mut Running, reason: &str, said: &str) {
    running.until(reason, |cluster| cluster.condition("db", "StorageReady").1 == reason).await;
    never_fewer(running, 3, 200, reason).await;
    let (status, found, message) = running.cluster.condition("db", "StorageReady");
    assert_eq!((&*status, &*found), ("False", reason), "{message}");
    assert!(message.contains(NEW) && message.contains("what runs goes on") && message.ends_with(said), "{message}");
    assert_eq!(images(&running.cluster), [OLD.to_owned()].into());
    assert_eq!(running.cluster.condition("db", "Stalled").1, reason);
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
}

#[tokio::test(start_paused = true)]
async fn tables_that_another_image_needs_are_added_before_a_server_of_it_starts() {
    let mut running = asks_for(Image { version: "0.4.0".into(), tables: 2, ..Image::default() }).await;
    for second in 0..90 {
        running.step().await;
        assert!(ready(&running.cluster) >= 3, "after {second} s");
        for pod in servers(&running.cluster) {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            assert!(restarts.is_null() || *restarts == 0, "a server found no tables after {second} s");
        }
    }
    assert_eq!(images(&running.cluster), [NEW.to_owned()].into());
    running.comes_to_rest("another image", 40).await;
    // Once for each image.
    assert_eq!(running.cluster.checks_made("-schema-"), 2);
    assert_eq!(running.cluster.checks_made("-data-check-"), 1);
}

#[tokio::test(start_paused = true)]
async fn another_image_whose_tables_cannot_be_added_is_run_by_no_server() {
    let mut running = installed(json!({})).await;
    running.cluster.world.failing_jobs.insert("-schema-".into(), "no rights on keyspace chat".into());
    ask(&running, NEW);
    is_kept_back(&mut running, "SchemaFailed", "no rights on keyspace chat").await;
    running.cluster.world.failing_jobs.clear();
    running.until("the new image", |cluster| images(cluster) == [NEW.to_owned()].into()).await;
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
}

#[tokio::test(start_paused = true)]
async fn another_image_that_does_not_read_the_data_is_run_by_no_server() {
    let mut running = asks_for(Image { reads: (2, 2), writes: 2, ..Image::default() }).await;
    is_kept_back(&mut running, "DataNotReadable", "").await;
    // Whatever becomes of the servers meanwhile.
    let names: Vec<Value> = servers(&running.cluster).iter().map(|pod| pod["metadata"]["name"].clone()).collect();
    running.cluster.world.crashing.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
    for _ in 0..200 {
        running.step().await;
        assert_eq!(images(&running.cluster), [OLD.to_owned()].into());
    }
    running.cluster.world.crashing.clear();
    running.until("three servers", |cluster| ready(cluster) == 3).await;
    ask(&running, OLD);
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
    running.comes_to_rest("the old image again", 12).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_first_server_never_gets_ready_is_told_and_taken_back() {
    let mut running = asks_for(Image { never_ready: true, ..Image::default() }).await;
    never_fewer(&mut running, 3, 500, "before the deadline").await;
    assert_eq!(running.cluster.condition("db", "Stalled").0, "False");
    never_fewer(&mut running, 3, 200, "behind the deadline").await;
    for condition in ["Ready", "Stalled"] {
        let (_, reason, message) = running.cluster.condition("db", condition);
        assert_eq!(reason, "RolloutSlow", "{condition}: {message}");
        assert!(message.contains("the server runs and does not take requests"), "{message}");
    }
    assert_eq!(running.cluster.condition("db", "Available").0, "True");
    let events = running.cluster.server.with(|store| store.all("Event"));
    assert!(events.iter().any(|event| event["reason"] == "RolloutSlow" && event["type"] == "Warning"));
    assert_eq!(running.writes_in(1_200).await, Vec::<String>::new(), "it does not rest");
    ask(&running, OLD);
    running.until("serving", |cluster| cluster.condition("db", "Ready").1 == "Serving").await;
    assert_eq!((images(&running.cluster), ready(&running.cluster)), ([OLD.to_owned()].into(), 3));
    assert_eq!(running.cluster.condition("db", "Stalled").0, "False");
}
