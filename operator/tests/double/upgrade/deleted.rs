//! What people delete or change by hand of what an upgrade works with: it is made again or goes back, and in the end clients
//! are served with everything that they wrote.

use serde_json::json;

use super::{NEW, OLD, Upgrading, migrating, release};
use crate::world::Image;

/// Steps with and without a server, before and after clients reach the new one.
const STEPS: [&str; 8] = ["Preflight", "Rehearse", "Drain", "SnapshotFinal", "Swap", "SmokeGate", "Promote", "Soak"];

/// Somebody does this at a step. What is stopped by it is not said to be stopped by the upgrade.
async fn after(step: &str, new: Image, act: impl Fn(&mut Upgrading)) -> Upgrading {
    let mut upgrading = Upgrading::to(new, json!({ "soak": "20s" })).await;
    upgrading.reaches(step).await;
    act(&mut upgrading);
    for _ in 0..super::upgrading::LONGEST {
        if !upgrading.record()["outcome"].is_null() || upgrading.is_waiting() {
            break;
        }
        upgrading.cluster.round().await;
    }
    assert_eq!(upgrading.cluster.world.broken, Vec::<String>::new(), "{step}");
    upgrading
}

/// It has ended, and one of the releases serves all that clients wrote.
async fn has_ended(what: &str, step: &str, mut upgrading: Upgrading, outcomes: &[&str]) {
    let outcome = upgrading.text("/outcome");
    assert!(outcomes.contains(&&*outcome), "{what} in {step}: {:#}", upgrading.record());
    upgrading.rests().await;
    let claim = upgrading.claim();
    upgrading.runs(if outcome == "Succeeded" { NEW } else { OLD }, &claim).await;
    let left = upgrading.left();
    assert!(
        left.iter().all(|name| !name.contains("Retain") && !name.contains("staging")),
        "{what} in {step}: {left:?}"
    );
}

#[tokio::test]
async fn a_service_that_somebody_deletes_or_opens_leads_nobody_to_a_server_that_was_not_promoted() {
    for step in STEPS {
        let mut upgrading = Upgrading::to(migrating(), json!({ "soak": "20s" })).await;
        upgrading.reaches(step).await;
        upgrading.delete("Service", "db");
        upgrading.seconds(2).await;
        upgrading.edit("Service", "db", |service| {
            service["spec"]["selector"].as_object_mut().unwrap().remove("progressdb.io/closed-for");
        });
        upgrading.delete("Service", "db-headless");
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
    }
}

#[tokio::test]
async fn a_server_that_somebody_stops_or_deletes_comes_back() {
    for step in STEPS.into_iter().chain(["HealthGate", "MetricGate"]) {
        for (what, act) in [
            (
                "a stop",
                (|upgrading: &mut Upgrading| {
                    upgrading.edit("StatefulSet", "db", |set| set["spec"]["replicas"] = json!(0))
                }) as fn(&mut Upgrading),
            ),
            ("the end of the StatefulSet", |upgrading| upgrading.delete("StatefulSet", "db")),
            ("the end of the pod", |upgrading| {
                if upgrading.cluster.get("Pod", "db-0").is_some() {
                    upgrading.delete("Pod", "db-0");
                }
            }),
        ] {
            let upgrading = after(step, release("0.4.0"), act).await;
            has_ended(what, step, upgrading, &["Succeeded", "RolledBack", "Aborted"]).await;
        }
    }
}

#[tokio::test]
async fn the_settings_of_a_release_that_somebody_deletes_are_made_again_or_stop_nothing() {
    for step in STEPS {
        let config = |upgrading: &Upgrading, which: &str| upgrading.text(&format!("/{which}/config"));
        let upgrading = after(step, release("0.4.0"), |upgrading| {
            let name = config(upgrading, "to");
            upgrading.delete("ConfigMap", &name);
        })
        .await;
        has_ended("settings of the new release", step, upgrading, &["Succeeded", "RolledBack"]).await;
        let upgrading = after(step, release("0.4.0"), |upgrading| {
            let name = config(upgrading, "from");
            upgrading.delete("ConfigMap", &name);
        })
        .await;
        if ["Preflight", "Rehearse"].contains(&step) {
            assert_eq!(upgrading.text("/hold/reason"), "ReleaseGone", "{step}");
            assert_eq!(upgrading.cluster.times_made("Pod", "db-0"), 1, "{step}");
            continue;
        }
        has_ended("settings of the old release", step, upgrading, &["Succeeded"]).await;
    }
}

#[tokio::test]
async fn an_upgrade_goes_on_once_the_settings_of_the_old_release_are_put_back() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.reaches("Rehearse").await;
    let name = upgrading.text("/from/config");
    let map = upgrading.cluster.get("ConfigMap", &name).unwrap();
    upgrading.delete("ConfigMap", &name);
    upgrading.is_held("ReleaseGone").await;
    upgrading.runs(OLD, "db-data-0").await;
    let back = json!({ "metadata": { "labels": map["metadata"]["labels"], "ownerReferences": map["metadata"]["ownerReferences"] },
        "data": map["data"], "immutable": true });
    crate::successor::make(&upgrading.cluster, "ConfigMap", "ns", &name, back);
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
}
