//! Upgrades that succeed, and what they leave.

use serde_json::{Value, json};

use super::{NEW, OLD, THIRD, Upgrading, finalizing, migrating, release};

#[tokio::test]
async fn a_good_upgrade_serves_all_that_was_written_and_leaves_its_snapshots_for_a_while() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
    assert_eq!(
        upgrading.left(),
        ["db-data-0 current", "db-ID-last", "db-ID-online", "content-db-ID-last Delete", "content-db-ID-online Delete"]
    );
    assert_eq!((upgrading.releases(), upgrading.cluster.times_made("Pod", "db-0")), (1, 2));
    assert_eq!(upgrading.cluster.condition("db", "Upgraded").1, "Succeeded");
    let record = upgrading.record();
    assert_eq!((&record["backing"], &record["rehearsal"]["passed"]), (&json!("Snapshots"), &json!(true)));
    for gate in ["Health", "Smoke", "Logs", "Metrics", "Rehearsal-old-Health", "Rehearsal-new-Smoke"] {
        assert_eq!(upgrading.gate(gate), "Passed", "{gate}: {record:#}");
    }
    // Three days later nobody needs the snapshots any more.
    upgrading.cluster.server.with(|store| store.advance(71 * 3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left().len(), 5);
    upgrading.cluster.server.with(|store| store.advance(3_600));
    upgrading.rests().await;
    assert_eq!(upgrading.left(), ["db-data-0 current"]);
}

#[tokio::test]
async fn a_change_of_settings_takes_no_snapshot_and_passes_its_gates() {
    let mut upgrading = Upgrading::installed(json!({}), json!({})).await;
    upgrading.cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "debug" } }));
    upgrading.ends("Succeeded").await;
    upgrading.runs(OLD, "db-data-0").await;
    assert_eq!(upgrading.left(), ["db-data-0 current"]);
    assert_eq!((upgrading.gate("Smoke"), upgrading.gate("Logs")), ("Passed".into(), "Passed".into()));
    assert_eq!((upgrading.record()["rehearsal"].clone(), upgrading.releases()), (Value::Null, 1));
}

#[tokio::test]
async fn migrations_run_at_the_start_and_at_the_end_each_with_a_snapshot_before() {
    for new in [migrating(), finalizing()] {
        let starts = new.start_migration;
        let mut upgrading = Upgrading::to(new, json!({})).await;
        upgrading.reaches("Soak").await;
        let data = |upgrading: &Upgrading| upgrading.cluster.world.data("ns", "db-data-0").unwrap();
        assert_eq!((data(&upgrading).format, data(&upgrading).prepared), (1, if starts { 2 } else { 1 }));
        assert_eq!(upgrading.record()["dataMutationStarted"], starts);
        upgrading.ends("Succeeded").await;
        upgrading.runs(NEW, "db-data-0").await;
        assert_eq!((data(&upgrading).format, data(&upgrading).checksum), (2, 0));
        let left = upgrading.left();
        let snapshots = ["db-ID-before-finalize", "db-ID-last", "db-ID-online"];
        assert!(left[0] == "db-data-0 current" && left[1..4] == snapshots && left.len() == 7, "{left:?}");
        let record = upgrading.record();
        let digests = ["oldDigest", "newDigest", "finalDigest"].map(|name| record["rehearsal"][name].as_str());
        assert!(digests.iter().all(|digest| digest.is_some() && *digest == digests[0]), "{digests:?}");
    }
}

/// They do not compare, and a good release must not be refused for it.
#[tokio::test]
async fn a_release_that_computes_digests_otherwise_is_compared_by_what_it_counts() {
    let mut upgrading = Upgrading::installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.get_mut(OLD).unwrap().digest_version = 1;
    upgrading.cluster.world.images.insert(NEW.into(), finalizing());
    upgrading.ask(NEW);
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
    let rehearsal = upgrading.record()["rehearsal"].clone();
    assert_eq!((&rehearsal["passed"], &rehearsal["oldDigestVersion"]), (&json!(true), &json!(1)));
    assert_ne!(rehearsal["oldDigest"], rehearsal["newDigest"]);
    assert_eq!(rehearsal["finalDigest"], rehearsal["newDigest"]);
    let said = rehearsal["message"].as_str().unwrap();
    let expected = "digests of version 1 and 2 do not compare; what both images count is the same: ";
    assert!(said.starts_with(expected) && said.contains("1 threads"), "{rehearsal}");
}

#[tokio::test]
async fn an_upgrade_after_an_upgrade_has_names_of_its_own() {
    let mut upgrading = Upgrading::to(release("0.4.0"), json!({})).await;
    upgrading.ends("Succeeded").await;
    let first = upgrading.text("/id");
    upgrading.ask(THIRD);
    upgrading.until("another upgrade", |upgrading| upgrading.text("/id") != first).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(THIRD, "db-data-0").await;
    // There and back again is another upgrade as well, though it leads between the same releases.
    upgrading.ask(NEW);
    upgrading.until("the third upgrade", |upgrading| upgrading.text("/to/image") == NEW).await;
    upgrading.ends("Succeeded").await;
    upgrading.runs(NEW, "db-data-0").await;
    let history = upgrading.resource()["status"]["history"].clone();
    let ids: std::collections::BTreeSet<&str> =
        history.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), upgrading.left().len()), (3, 13), "{:?}", upgrading.left());
}

#[tokio::test]
async fn a_change_that_no_pod_notices_is_no_upgrade() {
    let mut upgrading = Upgrading::installed(json!({}), json!({})).await;
    upgrading.cluster.change("db", |spec| spec["storage"]["embedded"]["size"] = json!("2Gi"));
    upgrading.rests().await;
    assert_eq!((upgrading.record(), upgrading.cluster.times_made("Pod", "db-0")), (Value::Null, 1));
}

#[tokio::test]
async fn the_walls_around_a_rehearsal_stand_also_where_servers_have_none() {
    let more = json!({ "networkPolicy": { "enabled": false } });
    let mut upgrading = Upgrading::installed(json!({}), more).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.ask(NEW);
    upgrading.ends("Succeeded").await;
    let wall = upgrading.named("rehearsal");
    assert_eq!((upgrading.cluster.times_made("NetworkPolicy", &wall), upgrading.left().len()), (1, 5));
}

#[tokio::test]
async fn a_test_of_ones_own_has_the_last_word() {
    let template = json!({ "spec": { "containers": [{ "name": "mine", "image": "tool:1" }] } });
    for (fails, outcome, image) in [(false, "Succeeded", NEW), (true, "RolledBack", OLD)] {
        let policy = json!({ "gates": { "job": { "template": template, "deadline": "20s" } } });
        let mut upgrading = Upgrading::to(release("0.4.0"), policy).await;
        if fails {
            upgrading.cluster.world.failing_jobs.insert("-gate-".into(), "no".into());
        }
        upgrading.ends(outcome).await;
        upgrading.runs(image, "db-data-0").await;
        assert_eq!(upgrading.gate("Job"), if fails { "Failed" } else { "Passed" });
        assert_eq!(upgrading.left().len(), 5, "{:?}", upgrading.left());
    }
}
