//! `rollback`: asks for the image that ran before, unless that would lose something.

use std::io::Write;

use kube::Client;

use super::{get_readable, set_image, short_image};
use crate::crd::{Outcome, ProgressDB, UpgradeStatus, UpgradeStep};

pub(super) async fn rollback(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let resource = get_readable(client, namespace, name).await?;
    let image = before(&resource).map_err(|why| anyhow::anyhow!("{name} does not go back: {why}"))?;
    set_image(client, namespace, name, &image).await?;
    let record = resource.status.as_ref().and_then(|status| status.upgrade.as_ref());
    let then = match record.filter(|record| record.outcome.is_none()) {
        Some(record) if record.step < UpgradeStep::Drain => "the upgrade is given up, and nothing was touched",
        Some(record) if record.has_canaries() => "its canaries are taken away, and nothing else was touched",
        Some(record) if record.is_of_fleet() => "its servers take it again, one after the other",
        Some(_) => "the upgrade goes back",
        None if record.is_some_and(|record| record.outcome != Some(Outcome::Succeeded)) => "it runs already",
        None => "that is an upgrade of its own, with the same gates",
    };
    writeln!(out, "{name} asks for {image} again: {then}. Change it in your manifest too, if there is one")?;
    writeln!(out, "kubectl progressdb -n {namespace} status {name}")?;
    Ok(())
}

/// The image that ran before the one that is asked for, or why there is no way back to it.
fn before(resource: &ProgressDB) -> Result<String, String> {
    let status = resource.status.clone().unwrap_or_default();
    let image = match &status.upgrade {
        Some(record) => of_record(record)?,
        None => {
            let led_here =
                |outcome: Option<Outcome>, to: &str| outcome == Some(Outcome::Succeeded) && to == resource.spec.image;
            let found = status.history.iter().find(|entry| led_here(entry.outcome, &entry.to));
            found.map(|entry| entry.from.clone()).ok_or("it is not known what ran before")?
        }
    };
    match image == resource.spec.image {
        true => Err(format!("it asks for {image} already")),
        false => Ok(image),
    }
}

fn of_record(record: &UpgradeStatus) -> Result<String, String> {
    use UpgradeStep::*;
    let (from, to) = (&record.from.image, short_image(&record.to.image));
    let is_under_way = record.outcome.is_none();
    if !record.changes_image {
        return Err(match is_under_way {
            true => "what changes is not the image: change the settings back, or abort the upgrade".to_owned(),
            false => "what changed last was not the image: change the settings back".to_owned(),
        });
    }
    match (record.step, record.outcome) {
        (RollbackStop | RollbackRestore | RollbackStart | RollbackGate, None) => {
            Err(format!("it is on its way to {from}"))
        }
        (FinalizeDrain | FinalizeSnapshot | FinalizeMigrate | FinalizeStart | FinalizeGate, None) => {
            Err(format!("the format of the data is being changed for {to}, and {from} cannot open that"))
        }
        (Soak, None) if record.data_mutation_started => Err(format!(
            "the data was changed for {to}, and what clients wrote since would be lost. To have it so: abort the upgrade, and \
             the operator says how much that is and waits for your approval"
        )),
        (_, Some(Outcome::Succeeded)) if record.data_mutation_started && record.is_of_fleet() => Err(format!(
            "the format of the data was, or may have been, changed for {to}, and then {from} does not read it; what was before \
             is in a backup of the engine, without what clients wrote since"
        )),
        (_, Some(Outcome::Succeeded)) if record.data_mutation_started => {
            let snapshots: Vec<&str> = record.snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
            Err(format!(
                "the data was changed for {to}, and {from} may not be able to open it. What was before is in a backup, and \
                 for a time in the snapshots {}, without what clients wrote since",
                snapshots.join(", ")
            ))
        }
        _ => Ok(from.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(image: &str, status: Value) -> ProgressDB {
        serde_json::from_value(json!({
            "apiVersion": "progressdb.io/v1alpha1", "kind": "ProgressDB", "metadata": { "name": "db" },
            "spec": { "image": image, "storage": { "embedded": { "size": "1Gi" } } }, "status": status,
        }))
        .unwrap()
    }

    fn upgrade(step: &str, more: Value) -> Value {
        let mut record = json!({
            "revision": 1, "id": "a", "from": { "image": "a:1" }, "to": { "image": "a:2" }, "changesImage": true, "step": step,
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "upgrade": record })
    }

    #[test]
    fn what_ran_before_is_asked_for_where_that_loses_nothing() {
        for status in [
            upgrade("Rehearse", json!({})),
            upgrade("Swap", json!({ "dataMutationStarted": true })),
            upgrade("Soak", json!({})),
            upgrade("Soak", json!({ "outcome": "Succeeded" })),
            upgrade("RollbackGate", json!({ "outcome": "RolledBack", "dataMutationStarted": true })),
            json!({ "history": [
                { "id": "c", "from": "a:2", "to": "a:3", "outcome": "RolledBack" },
                { "id": "b", "from": "a:1", "to": "a:2", "outcome": "Succeeded" },
            ] }),
        ] {
            assert_eq!(before(&resource("a:2", status.clone())), Ok("a:1".to_owned()), "{status}");
        }
    }

    #[test]
    fn what_would_lose_something_or_makes_no_sense_is_refused() {
        let changed = json!({ "dataMutationStarted": true });
        for (status, why) in [
            (upgrade("Soak", changed.clone()), "would be lost"),
            (
                upgrade("FinalizeGate", json!({ "dataMutationStarted": true, "outcome": "Succeeded" })),
                "may not be able",
            ),
            (upgrade("FinalizeMigrate", changed), "is being changed"),
            (upgrade("RollbackStart", json!({})), "on its way"),
            (upgrade("Soak", json!({ "changesImage": false })), "not the image"),
            (json!({}), "not known"),
            (json!({ "history": [{ "id": "b", "from": "a:0", "to": "a:1", "outcome": "Succeeded" }] }), "not known"),
        ] {
            let refused = before(&resource("a:2", status.clone())).unwrap_err();
            assert!(refused.contains(why), "{status}: {refused}");
        }
        let back = resource("a:1", upgrade("RollbackGate", json!({ "outcome": "RolledBack" })));
        assert!(before(&back).unwrap_err().contains("already"));
    }
}
