//! What `kubectl progressdb` says of a fleet: in each state of a rollout, and where there is none.

use serde_json::json;

use super::*;
use crate::{cluster::Cluster, upgrade_commands::typed};

const THIRD: &str = "registry/progressdb:0.5.0";

/// What a command says in this state, which stays as it is.
async fn said(upgrading: &Upgrading, line: &str) -> String {
    answer(&upgrading.cluster.fork(), line).await
}

async fn answer(cluster: &Cluster, line: &str) -> String {
    match typed(cluster, line).await {
        Ok((said, _)) => said,
        Err(refused) => refused,
    }
}

/// What each of these commands says has this in it.
async fn says(upgrading: &Upgrading, commands: &[(&str, &str)]) {
    for (line, wanted) in commands {
        let said = said(upgrading, line).await;
        assert!(said.contains(wanted), "{line}, in {}: {said}", upgrading.text("/step"));
    }
}

#[tokio::test]
async fn each_step_of_a_rollout_is_told_in_words_of_a_fleet() {
    let mut upgrading = installed(json!({ "approval": "Manual", "soak": "60s" }), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    says(
        &upgrading,
        &[
            ("status db", "servers      3 of 3 take requests\n"),
            ("restart db", "one server after the other"),
            ("history db", "no upgrade of db has ended"),
            ("abort db", "no upgrade of db is under way"),
        ],
    )
    .await;
    let shown = said(&upgrading, "status db").await;
    assert!(!shown.contains("claim "), "a fleet has none: {shown}");
    let asked = answer(&upgrading.cluster, &format!("upgrade db --image {NEW}")).await;
    assert!(asked.contains("canaries with it serve some of the users before all servers take it"), "{asked}");

    upgrading.is_held("ApprovalNeeded").await;
    says(&upgrading, &[("abort db", "nothing that serves was touched"), ("rollback db", "nothing was touched")]).await;
    let approved = answer(&upgrading.cluster, "approve db").await;
    assert!(approved.ends_with(&format!("of db to {NEW} is approved\n")), "{approved}");

    upgrading.reaches("MetricGate").await;
    says(
        &upgrading,
        &[
            ("status db", "servers      4 of 4 take requests; 1 of them to be canaries, step 1\n"),
            ("abort db", "its canaries are taken away"),
            ("rollback db", "its canaries are taken away, and nothing else was touched"),
            (&format!("upgrade db --image {THIRD}"), "is given up for it"),
            ("override db Metrics", "Metrics does not stop the upgrade"),
            ("report db --upgrade", "step: Canary"),
        ],
    )
    .await;

    upgrading.reaches("Soak").await;
    says(
        &upgrading,
        &[
            ("abort db", "its servers take registry/progressdb:0.3.0 again, one after the other"),
            ("rollback db", "its servers take it again, one after the other"),
            (&format!("upgrade db --image {THIRD}"), "it waits until the upgrade"),
        ],
    )
    .await;

    upgrading.ends("Succeeded").await;
    says(
        &upgrading,
        &[
            ("history db", "Succeeded"),
            ("rollback db", "that is an upgrade of its own"),
            ("report db --upgrade", "backing: NotApplicable"),
            ("status db", "servers      3 of 3 take requests\n"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_format_that_changes_leads_nowhere_back_and_says_so() {
    let finalizing = json!({
        "revision": 1, "id": "0123abcd", "from": { "image": OLD }, "to": { "image": NEW }, "changesImage": true,
        "canary": { "step": 1, "replicas": 1 }, "promoted": true, "dataMutationStarted": true,
    });
    for (step, line, wanted) in [
        ("FinalizeSnapshot", "abort db", "the format of the data stays as it is"),
        ("FinalizeMigrate", "abort db", "unless the Job that changes it ends well"),
        ("FinalizeGate", "abort db", "serves on: wait"),
        ("FinalizeGate", "rollback db", "cannot open that"),
        ("ended", "rollback db", "is in a backup of the engine"),
    ] {
        let upgrading = installed(json!({}), json!({ "image": NEW })).await;
        upgrading.edit("ProgressDB", "db", |resource| {
            resource["status"]["upgrade"] = finalizing.clone();
            match step {
                "ended" => {
                    resource["status"]["upgrade"]["step"] = json!("FinalizeGate");
                    resource["status"]["upgrade"]["outcome"] = json!("Succeeded");
                }
                step => resource["status"]["upgrade"]["step"] = json!(step),
            }
        });
        says(&upgrading, &[(line, wanted)]).await;
    }
}

#[tokio::test]
async fn an_image_that_is_taken_without_a_rollout_is_told_to_be_untried() {
    let mut cluster = Cluster::new();
    cluster.create("db", fleet::spec(json!({})));
    cluster.settle().await;
    let said = answer(&cluster, &format!("upgrade db --image {NEW}")).await;
    assert!(said.contains("its servers take it one after the other and untried"), "{said}");
}
