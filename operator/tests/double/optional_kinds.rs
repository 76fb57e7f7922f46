//! Optional kinds that come and go while the operator runs: everything else goes on, and they are found again.

use serde_json::json;

use crate::{cluster::Cluster, running::Running};

const MONITORS: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

async fn with_monitors() -> Running {
    let cluster = Cluster::new();
    cluster.server.with(|store| MONITORS.into_iter().chain(["VolumeSnapshot"]).for_each(|kind| store.serve(kind)));
    let mut running = Running::start(cluster);
    running.cluster.create("db", json!({}));
    running.until("monitors", |cluster| MONITORS.iter().all(|kind| cluster.get(kind, "db").is_some())).await;
    running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
    running.comes_to_rest("an installation", 10).await;
    running
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_goes_stops_nothing_and_is_found_when_it_returns() {
    let mut running = with_monitors().await;
    for gone in [&MONITORS[..], &MONITORS[..1], &MONITORS[1..]] {
        running.cluster.server.with(|store| gone.iter().for_each(|kind| store.unserve(kind)));
        running.comes_to_rest("the end of a kind", 8).await;
        running.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
        running
            .until("a change", |cluster| {
                let config = cluster.config_map("db");
                config["data"]["config.yaml"].as_str().unwrap().contains("debug")
            })
            .await;
        running.cluster.create("other", json!({}));
        running.until("another database", |cluster| cluster.condition("other", "Ready").0 == "True").await;
        running.cluster.server.with(|store| gone.iter().for_each(|kind| store.serve(kind)));
        running.until("monitors again", |cluster| MONITORS.iter().all(|kind| cluster.get(kind, "db").is_some())).await;
        running.cluster.change("db", |spec| spec["settings"] = json!({}));
        running.cluster.delete("other");
        running.comes_to_rest("the return of a kind", 40).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_comes_is_used() {
    let mut running = Running::installed(json!({})).await;
    assert_eq!(running.cluster.get("ServiceMonitor", "db"), None);
    running.cluster.server.with(|store| MONITORS.iter().for_each(|kind| store.serve(kind)));
    running.until("monitors", |cluster| MONITORS.iter().all(|kind| cluster.get(kind, "db").is_some())).await;
    running.comes_to_rest("a new kind", 8).await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_go_are_told_when_one_is_needed() {
    let mut running = with_monitors().await;
    running.cluster.change("db", |spec| spec["deletionPolicy"] = json!("Snapshot"));
    running.comes_to_rest("another policy", 10).await;
    running.cluster.server.with(|store| store.unserve("VolumeSnapshot"));
    running.comes_to_rest("the end of snapshots", 8).await;
    running.cluster.delete("db");
    running.until("a condition", |cluster| cluster.condition("db", "Stalled").1 == "NoSnapshots").await;
    running.cluster.server.with(|store| store.serve("VolumeSnapshot"));
    running.until("the end", |cluster| cluster.get("ProgressDB", "db").is_none()).await;
    assert_eq!(running.cluster.get("PersistentVolumeClaim", "db-data-0"), None);
    let snapshots = running.cluster.server.with(|store| store.all("VolumeSnapshot").len());
    assert_eq!(snapshots, 1);
}
