//! What people type about upgrades: `kubectl progressdb upgrade`, `approve`, `override`, `abort`, `rollback`, `history` and
//! `report --upgrade`.

use std::time::Duration;

use progressdb_operator::{
    args::{PluginArgs, PluginCommand},
    plugin::{self, FAILED, NEEDS_SOMEBODY, WELL},
};
use serde_json::{Value, json};

use crate::{api::Key, cluster::Cluster};

const OLD: &str = "registry/progressdb:0.3.0";
const NEW: &str = "registry/progressdb:0.4.0";

/// What a command prints and its exit code, or why it failed.
pub async fn typed(cluster: &Cluster, line: &str) -> Result<(String, u8), String> {
    use clap::Parser;
    let words = ["kubectl-progressdb"].into_iter().chain(line.split(' '));
    let command: PluginCommand = PluginArgs::try_parse_from(words).unwrap().command;
    let mut out = Vec::new();
    match plugin::execute(&cluster.server.client(), "ns", &command, &mut out).await {
        Ok(code) => Ok((String::from_utf8(out).unwrap(), code)),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// A database that nobody looks after, so that its status is what a test writes.
fn database(upgrade: Value) -> Cluster {
    let cluster = Cluster::new();
    cluster.create("db", json!({ "upgrade": { "strategy": "Guarded" } }));
    write(&cluster, upgrade);
    cluster
}

fn key() -> Key {
    Key::new("ProgressDB", "ns", "db")
}

fn write(cluster: &Cluster, upgrade: Value) {
    cluster.server.with(|store| {
        store.edit(&key(), |object| {
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            object["status"]["upgrade"] = upgrade;
        });
    });
}

/// An upgrade from the old image to the new one, with more.
fn upgrade(step: &str, more: Value) -> Value {
    let mut record = json!({
        "revision": 1, "id": "0123abcd", "from": { "image": OLD }, "to": { "image": NEW }, "changesImage": true, "step": step,
        "steps": [{ "step": "Preflight", "at": "2030-01-01T00:00:00Z" }, { "step": step, "at": "2030-01-01T00:00:09Z" }],
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record
}

fn held(reason: &str, is_stuck: bool) -> Value {
    let command = "kubectl annotate prdb db --overwrite progressdb.io/approve=0123abcd";
    json!({ "hold": { "reason": reason, "message": "why", "nextCommand": command, "isStuck": is_stuck } })
}

fn annotation(cluster: &Cluster, name: &str) -> Value {
    cluster.get("ProgressDB", "db").unwrap()["metadata"]["annotations"][name].clone()
}

#[tokio::test]
async fn an_upgrade_changes_the_image_as_the_person_who_asked() {
    let cluster = database(Value::Null);
    let (said, code) = typed(&cluster, &format!("upgrade db --image {NEW}")).await.unwrap();
    assert!(said.contains("proved before clients meet it") && code == WELL, "{said}");
    assert_eq!(cluster.get("ProgressDB", "db").unwrap()["spec"]["image"], NEW);
    let managers = cluster.server.with(|store| store.managers(&key()).unwrap().keys().cloned().collect::<Vec<_>>());
    assert!(managers.iter().any(|manager| manager.starts_with("kubectl-progressdb")), "{managers:?}");
    let (said, _) = typed(&cluster, &format!("upgrade db --image {NEW}")).await.unwrap();
    assert!(said.contains("already"), "{said}");
    // One that did not pass is not asked for a second time as if nothing had been.
    write(&cluster, upgrade("RollbackGate", json!({ "outcome": "RolledBack", "message": "Smoke failed" })));
    let refused = typed(&cluster, &format!("upgrade db --image {NEW}")).await.unwrap_err();
    assert!(refused.contains("Smoke failed"), "{refused}");
}

/// What a release says of itself.
fn notes() -> Value {
    json!({
        "upgradesFrom": "0.3.0", "breaking": ["`GET /a` is gone."], "readsFrom": 1, "readsTo": 2, "writes": 2,
        "migrations": [
            { "name": "heads", "from": 1, "to": 2, "at": "finalize", "cost": "a minute", "undo": "a restore" },
        ],
    })
}

/// Follows an upgrade while the status becomes this, one every few seconds.
async fn watched(cluster: &Cluster, becomes: &[Value]) -> (String, u8) {
    let line = format!("upgrade db --image {NEW} --watch");
    let world = async {
        for upgrade in becomes {
            tokio::time::sleep(Duration::from_secs(5)).await;
            write(cluster, upgrade.clone());
        }
    };
    let (said, ()) = tokio::join!(typed(cluster, &line), world);
    said.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_each_step_gate_and_hold_once_and_how_it_ended() {
    // What was before is another upgrade, though it was to the same image.
    let before = upgrade("RollbackGate", json!({ "id": "00000000", "outcome": "RolledBack" }));
    let cluster = database(before);
    let mut gate = json!({ "gates": [{ "name": "Smoke", "verdict": "Passed", "value": "9 steps" }] });
    gate["notes"] = notes();
    let (said, code) = watched(
        &cluster,
        &[
            upgrade("Rehearse", json!({})),
            upgrade("Rehearse", json!({ "notes": notes() })),
            upgrade("Rehearse", held("WindowClosed", false)),
            upgrade("Rehearse", gate.clone()),
            upgrade("Rehearse", {
                let mut gate = gate;
                gate["outcome"] = json!("Succeeded");
                gate["message"] = json!("done");
                gate
            }),
        ],
    )
    .await;
    let lines: Vec<&str> = said.lines().skip(1).collect();
    let wanted = [
        "2030-01-01T00:00:00Z Preflight",
        "2030-01-01T00:00:09Z Rehearse",
        "  breaking: `GET /a` is gone.",
        "  formats: reads 1 to 2, writes 2",
        "  migration heads, format 1 to 2, at finalize; costs: a minute; undone by: a restore",
        "  upgrades from: 0.3.0 and newer",
        "  held: WindowClosed, why",
        "  gate Smoke: Passed, 9 steps",
        "db: Succeeded, done",
        "kubectl progressdb -n ns report db --upgrade 0123abcd",
    ];
    assert_eq!((lines, code), (wanted.to_vec(), WELL), "{said}");
}

#[tokio::test(start_paused = true)]
async fn the_exit_code_of_a_watch_says_what_became_of_the_upgrade() {
    for (outcome, wanted) in [("Succeeded", WELL), ("RolledBack", FAILED), ("Aborted", FAILED)] {
        let cluster = database(Value::Null);
        let (said, code) = watched(&cluster, &[upgrade("Swap", json!({ "outcome": outcome }))]).await;
        assert_eq!(code, wanted, "{said}");
    }
    for (reason, is_stuck, word) in [("ApprovalNeeded", false, "held"), ("RollbackStuck", true, "stuck")] {
        let cluster = database(Value::Null);
        let (said, code) = watched(&cluster, &[upgrade("Approval", held(reason, is_stuck))]).await;
        assert_eq!(code, NEEDS_SOMEBODY, "{said}");
        assert!(said.contains(&format!("db: {word}: {reason}, why")), "{said}");
        assert!(
            said.contains("type: kubectl -n ns annotate prdb db --overwrite progressdb.io/approve=0123abcd"),
            "{said}"
        );
    }
    // A hold that goes by itself within a moment is none.
    let cluster = database(Value::Null);
    let brief = async {
        for upgrade in [held("ApprovalNeeded", false), json!({}), json!({ "outcome": "Succeeded" })] {
            write(&cluster, self::upgrade("Approval", upgrade));
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    };
    let line = format!("upgrade db --image {NEW} --watch");
    let (said, ()) = tokio::join!(typed(&cluster, &line), brief);
    assert_eq!(said.unwrap().1, WELL);
}

#[tokio::test(start_paused = true)]
async fn a_watch_says_when_somebody_else_asks_for_something_else() {
    let cluster = database(Value::Null);
    let other = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.change("db", |spec| spec["image"] = json!("registry/progressdb:0.5.0"));
    };
    let line = format!("upgrade db --image {NEW} --watch");
    let (said, ()) = tokio::join!(typed(&cluster, &line), other);
    assert!(said.unwrap_err().contains("0.5.0 now"));
}

#[tokio::test]
async fn only_what_waits_for_approval_is_approved_and_a_loss_only_in_so_many_words() {
    for (status, line, refused) in [
        (Value::Null, "approve db", "no upgrade of db is under way"),
        (upgrade("Rehearse", json!({})), "approve db", "waits for no approval"),
        (upgrade("Approval", held("WindowClosed", false)), "approve db", "waits for no approval: WindowClosed"),
        (upgrade("Soak", held("RollbackRequiresApproval", false)), "approve db", "approve db --rollback"),
        (upgrade("Approval", held("ApprovalNeeded", false)), "approve db --rollback", "abort it"),
        (upgrade("Swap", json!({ "outcome": "Succeeded" })), "approve db", "no upgrade of db is under way"),
    ] {
        let cluster = database(status);
        let said = typed(&cluster, line).await.unwrap_err();
        assert!(said.contains(refused), "{line}: {said}");
        assert_eq!(annotation(&cluster, "progressdb.io/approve"), Value::Null);
    }
    let mut waiting = held("ApprovalNeeded", false);
    waiting["notes"] = notes();
    let cluster = database(upgrade("Approval", waiting));
    let (said, _) = typed(&cluster, "approve db").await.unwrap();
    assert!(said.starts_with("  breaking: `GET /a` is gone.\n") && said.contains("costs: a minute"), "{said}");
    let (report, _) = typed(&cluster, "report db --upgrade").await.unwrap();
    assert!(report.contains("upgradesFrom:") && report.contains("undo: a restore"), "{report}");
    assert_eq!(annotation(&cluster, "progressdb.io/approve"), "0123abcd");
    write(&cluster, upgrade("Soak", held("RollbackRequiresApproval", false)));
    typed(&cluster, "approve db --rollback").await.unwrap();
    assert_eq!(annotation(&cluster, "progressdb.io/approve"), "0123abcd/rollback");
}

#[tokio::test]
async fn an_upgrade_is_given_up_where_that_does_something() {
    for (step, said) in
        [("Rehearse", "nothing that serves was touched"), ("Swap", "started again"), ("Soak", "as it is")]
    {
        let cluster = database(upgrade(step, json!({})));
        assert!(typed(&cluster, "abort db").await.unwrap().0.contains(said), "{step}");
        assert_eq!(annotation(&cluster, "progressdb.io/abort"), "0123abcd");
    }
    for step in ["Promote", "FinalizeMigrate", "RollbackStart"] {
        let cluster = database(upgrade(step, json!({})));
        typed(&cluster, "abort db").await.unwrap_err();
        assert_eq!(annotation(&cluster, "progressdb.io/abort"), Value::Null, "{step}");
    }
    let cluster = database(upgrade("Soak", json!({})));
    cluster.change("db", |spec| spec["upgrade"]["rollback"] = json!({ "afterPromotion": "Never" }));
    assert!(typed(&cluster, "abort db").await.unwrap_err().contains("afterPromotion"));
}

#[tokio::test]
async fn an_override_keeps_those_that_still_count() {
    let cluster = database(upgrade("MetricGate", held("GateInconclusive", true)));
    let known =
        "0123abcd/Smoke@2999-01-01T00:00:00Z,0123abcd/Logs@2020-01-01T00:00:00Z,0123abcd/Metrics@2999-01-01T00:00:00Z";
    cluster.server.with(|store| {
        store.edit(&key(), |object| object["metadata"]["annotations"] = json!({ "progressdb.io/override": known }));
    });
    let (said, _) = typed(&cluster, "override db Metrics --for 30m").await.unwrap();
    let written = annotation(&cluster, "progressdb.io/override");
    let parts: Vec<&str> = written.as_str().unwrap().split(',').collect();
    assert_eq!(parts.len(), 2, "{parts:?}");
    assert_eq!(parts[0], "0123abcd/Smoke@2999-01-01T00:00:00Z");
    assert!(parts[1].starts_with("0123abcd/Metrics@20") && !parts[1].contains('.'), "{parts:?}");
    let until = parts[1].split_once('@').unwrap().1;
    assert_eq!(said, format!("Metrics does not stop the upgrade 0123abcd of db until {until}\n"));
    for wrong in ["a,b", "metrics", "Promote"] {
        let refused = typed(&cluster, &format!("override db {wrong}")).await.unwrap_err();
        assert!(refused.contains("there are Health, Smoke, Logs, Metrics, "), "{refused}");
    }
    for lasts in ["soon", "0s", "-1h"] {
        typed(&cluster, &format!("override db Metrics --for={lasts}")).await.unwrap_err();
    }
    assert_eq!(annotation(&cluster, "progressdb.io/override"), written);
}

#[tokio::test]
async fn a_rollback_asks_for_what_ran_before() {
    let cluster = database(upgrade("Soak", json!({})));
    cluster.change("db", |spec| spec["image"] = json!(NEW));
    typed(&cluster, "rollback db").await.unwrap();
    assert_eq!(cluster.get("ProgressDB", "db").unwrap()["spec"]["image"], OLD);
    let cluster = database(upgrade("Soak", json!({ "dataMutationStarted": true })));
    cluster.change("db", |spec| spec["image"] = json!(NEW));
    assert!(typed(&cluster, "rollback db").await.unwrap_err().contains("would be lost"));
    assert_eq!(cluster.get("ProgressDB", "db").unwrap()["spec"]["image"], NEW);
}

#[tokio::test]
async fn history_status_and_report_tell_of_upgrades() {
    let cluster = database(upgrade("Approval", held("ApprovalNeeded", false)));
    assert!(typed(&cluster, "history db").await.unwrap().0.contains("no upgrade of db has ended"));
    let entry = json!({
        "id": "00000001", "from": OLD, "to": NEW, "outcome": "RolledBack", "message": "Smoke failed", "downtimeMillis": 5_250,
        "startedAt": "2030-01-01T00:00:00Z", "endedAt": "2030-01-01T00:01:05Z",
    });
    cluster.server.with(|store| store.edit(&key(), |object| object["status"]["history"] = json!([entry])));
    let (history, _) = typed(&cluster, "history db").await.unwrap();
    let row =
        "00000001  progressdb:0.3.0  progressdb:0.4.0  RolledBack  2030-01-01T00:00:00Z  1m 5s  5.2 s     Smoke failed";
    assert!(history.lines().any(|line| line == row), "{history}");
    assert!(history.starts_with("under way: 0123abcd: progressdb:0.3.0 → progressdb:0.4.0, in Approval"), "{history}");

    let (status, _) = typed(&cluster, "status db").await.unwrap();
    assert!(status.contains("ApprovalNeeded: why\n"), "{status}");
    assert!(status.contains("type: kubectl -n ns annotate prdb db"), "{status}");

    let (report, _) = typed(&cluster, "report db --upgrade").await.unwrap();
    assert!(report.starts_with("resource: ns/db\n") && report.contains("reason: ApprovalNeeded"), "{report}");
    let missing = typed(&cluster, "report db --upgrade 00000001").await.unwrap_err();
    assert!(missing.contains("those known are 00000001"), "{missing}");
    let map = json!({ "data": { "report.yaml": "upgrade: \"00000001\"\n", "log.txt": "a\nb\n" } });
    let written = Key::new("ConfigMap", "ns", "db-00000001-report");
    cluster.server.with(|store| store.create(&written, map, Default::default()).unwrap());
    let (report, _) = typed(&cluster, "report db --upgrade 00000001").await.unwrap();
    assert_eq!(report, "upgrade: \"00000001\"\nlog: |\n  a\n  b\n");
}
