//! What people and the cluster do in the middle of a rollout.

use serde_json::json;

use super::*;
use crate::{api::Key, upgrade::upgrading::LONGEST};

const THIRD: &str = "registry/progressdb:0.5.0";

async fn comparing() -> Upgrading {
    let mut upgrading = to(release("0.4.0"), json!({})).await;
    upgrading.reaches("MetricGate").await;
    upgrading.seconds(3).await;
    upgrading
}

#[tokio::test]
async fn who_gives_it_up_keeps_what_runs() {
    for step in ["Preflight", "HealthGate", "MetricGate"] {
        let mut upgrading = to(release("0.4.0"), json!({})).await;
        let before = uids(&upgrading);
        upgrading.reaches(step).await;
        upgrading.annotate("progressdb.io/abort", "ID");
        upgrading.ends(if step == "Preflight" { "Aborted" } else { "RolledBack" }).await;
        runs(&upgrading, OLD, 3);
        assert_eq!(uids(&upgrading), before);
    }
}

#[tokio::test]
async fn who_asks_for_the_old_image_again_gets_it() {
    for step in ["MetricGate", "Promote", "Soak"] {
        let mut upgrading = to(release("0.4.0"), json!({ "soak": "60s" })).await;
        upgrading.reaches(step).await;
        upgrading.ask(OLD);
        upgrading.ends("RolledBack").await;
        runs(&upgrading, OLD, 3);
        upgrading.rests().await;
    }
}

#[tokio::test]
async fn who_asks_for_another_image_gets_that_and_the_canary_of_the_first_goes() {
    let mut upgrading = comparing().await;
    let first = upgrading.text("/id");
    upgrading.ask(THIRD);
    upgrading
        .until("another upgrade", |upgrading| ![first.clone(), String::new()].contains(&upgrading.text("/id")))
        .await;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, THIRD, 3);
    let outcomes = upgrading.resource()["status"]["history"].clone();
    assert_eq!([&outcomes[0]["outcome"], &outcomes[1]["outcome"]], ["Succeeded", "RolledBack"]);
}

#[tokio::test]
async fn a_stop_takes_the_canary_away_and_a_start_tries_it_again() {
    let mut upgrading = comparing().await;
    upgrading.least = 0;
    upgrading.cluster.change("db", |spec| spec["suspend"] = json!(true));
    upgrading.until("the stop", |upgrading| fleet::servers(&upgrading.cluster).is_empty()).await;
    upgrading.rests().await;
    assert_eq!(image_of(&upgrading, "db").as_deref(), Some(OLD));
    upgrading.cluster.change("db", |spec| spec["suspend"] = json!(false));
    upgrading.until("another try", |upgrading| canaries(upgrading) == 1).await;
    upgrading.least = 3;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn both_tracks_follow_the_number_of_servers() {
    let policy = json!({ "canary": { "steps": ["50%"], "stepDuration": "20s" } });
    let mut upgrading = to(release("0.4.0"), policy).await;
    upgrading.reaches("MetricGate").await;
    assert_eq!(canaries(&upgrading), 2);
    upgrading.cluster.change("db", |spec| spec["replicas"] = json!(6));
    upgrading.until("more servers", |upgrading| uids(upgrading).len() == 6).await;
    assert_eq!(upgrading.text("/step"), "MetricGate");
    upgrading.until("eight", |upgrading| ready(&upgrading.cluster) == 8).await;
    assert_eq!(canaries(&upgrading), 2, "more of them only at the next step");
    upgrading.least = 2;
    upgrading.cluster.change("db", |spec| spec["replicas"] = json!(2));
    upgrading.until("fewer of both", |upgrading| canaries(upgrading) == 1 && uids(upgrading).len() == 2).await;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 2);
}

#[tokio::test]
async fn an_autoscaler_that_swings_faster_than_a_step_does_not_hold_it_up() {
    let policy = json!({ "canary": { "steps": ["25%"], "stepDuration": "20s" } });
    let mut upgrading = installed(policy, json!({ "replicas": 5 })).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.least = 3;
    upgrading.ask(NEW);
    upgrading.reaches("MetricGate").await;
    let swings = (0..40).map(|second| if second % 2 == 0 { 4 } else { 5 });
    for replicas in swings {
        upgrading.cluster.change("db", |spec| spec["replicas"] = json!(replicas));
        upgrading.seconds(5).await;
        if upgrading.text("/step") != "MetricGate" {
            break;
        }
    }
    assert!(
        upgrading.record()["promoted"] == true,
        "the load swings, and nothing comes of it: {:#}",
        upgrading.record()
    );
    upgrading.ends("Succeeded").await;
}

#[tokio::test]
async fn a_canary_whose_node_is_drained_is_made_again_and_compared_anew() {
    let mut upgrading = comparing().await;
    let canary = |upgrading: &Upgrading| {
        let all = fleet::servers(&upgrading.cluster);
        let pod = all.into_iter().find(|pod| pod["metadata"]["labels"]["progressdb.io/track"] == "canary");
        pod.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
    };
    let window = |upgrading: &Upgrading| upgrading.record()["canary"]["window"]["pods"].to_string();
    let first = canary(&upgrading).unwrap();
    upgrading.until("a comparison", |upgrading| window(upgrading).contains(&first)).await;
    upgrading.delete("Pod", &first);
    upgrading.until("another canary", |upgrading| canary(upgrading).is_some_and(|pod| pod != first)).await;
    let second = canary(&upgrading).unwrap();
    upgrading.until("a comparison of it", |upgrading| window(upgrading).contains(&second)).await;
    assert!(!window(&upgrading).contains(&first));
    assert_eq!(upgrading.gate("Probes"), "", "it was waited for");
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn a_stable_server_that_is_replaced_meanwhile_is_no_harm() {
    let mut upgrading = comparing().await;
    let pod = fleet::servers(&upgrading.cluster)
        .into_iter()
        .find(|pod| pod["metadata"]["labels"]["progressdb.io/track"] == "stable");
    upgrading.delete("Pod", pod.unwrap()["metadata"]["name"].as_str().unwrap());
    // The canary makes up for it.
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn what_somebody_changes_by_hand_is_set_right() {
    let mut upgrading = comparing().await;
    upgrading.delete("Deployment", "db-canary");
    upgrading.until("a canary", |upgrading| canaries(upgrading) == 1).await;
    upgrading.edit("Deployment", "db", |stable| stable["spec"]["replicas"] = json!(7));
    upgrading
        .until("three", |upgrading| upgrading.cluster.get("Deployment", "db").unwrap()["spec"]["replicas"] == 3)
        .await;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn an_approval_is_asked_for_before_any_user_meets_it() {
    let mut upgrading = to(release("0.4.0"), json!({ "approval": "Manual" })).await;
    upgrading.is_held("ApprovalNeeded").await;
    assert_eq!(canaries(&upgrading), 0);
    upgrading.annotate("progressdb.io/approve", "ID");
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn a_fleet_that_is_deleted_in_the_middle_goes_with_its_canary() {
    let mut upgrading = comparing().await;
    upgrading.least = 0;
    upgrading.cluster.delete("db");
    for _ in 0..LONGEST {
        upgrading.cluster.round().await;
    }
    let key = Key::new("ProgressDB", "ns", "db");
    assert!(upgrading.cluster.server.with(|store| store.get(&key).is_none()));
    for name in ["db", "db-canary"] {
        assert_eq!(upgrading.cluster.get("Deployment", name), None);
    }
    assert_eq!(fleet::servers(&upgrading.cluster), Vec::<Value>::new());
}
