//! `abort`: gives an upgrade up.

use std::io::Write;

use kube::Client;
use serde_json::json;

use super::{annotate, get_readable, under_way_of};
use crate::{
    crd::{AfterPromotion, UpgradeStep},
    objects::labels::ABORT,
};

pub(super) async fn abort(client: &Client, namespace: &str, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    use UpgradeStep::*;
    let resource = get_readable(client, namespace, name).await?;
    let record = under_way_of(name, resource.status.as_ref())?;
    let (id, from, step) = (&record.id, &record.from.image, record.step);
    let then = match step {
        Preflight | SnapshotOnline | Rehearse | Approval => {
            format!("nothing that serves was touched, and {from} runs on")
        }
        Canary | HealthGate | SmokeGate | MetricGate if record.has_canaries() => {
            format!("its canaries are taken away, and {from} runs on")
        }
        Drain | SnapshotFinal | Swap | Canary | HealthGate | SmokeGate | MetricGate => {
            format!("{from} is started again, with all that clients wrote")
        }
        Promote if !record.is_of_fleet() => {
            anyhow::bail!("the upgrade {id} is about to reach clients: wait for Soak, then try again")
        }
        // Of a fleet not all servers were replaced: that can be undone whatever the policy says.
        Promote | Soak
            if !(record.is_of_fleet() && step == Promote)
                && resource.spec.upgrade.rollback.after_promotion == AfterPromotion::Never =>
        {
            anyhow::bail!(
                "clients use {} already, and spec.upgrade.rollback.afterPromotion is Never: change that first",
                record.to.image
            )
        }
        Promote | Soak if record.data_mutation_started => {
            "going back would lose what clients wrote since: the operator says how much and waits for your approval"
                .into()
        }
        Promote | Soak if record.is_of_fleet() => format!("its servers take {from} again, one after the other"),
        Promote | Soak => format!("{from} is started again on the data as it is"),
        FinalizeSnapshot if record.is_of_fleet() => {
            format!("all servers run {} by now, and the format of the data stays as it is", record.to.image)
        }
        FinalizeMigrate if record.is_of_fleet() => format!(
            "all servers run {} by now, and the format of the data stays as it is, unless the Job that changes it ends well",
            record.to.image
        ),
        FinalizeGate if record.is_of_fleet() => anyhow::bail!(
            "the format of the data was changed, {from} does not read it any more, and {} serves on: wait",
            record.to.image
        ),
        FinalizeDrain | FinalizeSnapshot | FinalizeMigrate | FinalizeStart | FinalizeGate
            if !record.has_snapshots() =>
        {
            anyhow::bail!("the format of the data is being changed, and there is no snapshot to go back to: wait")
        }
        FinalizeDrain | FinalizeSnapshot | FinalizeMigrate | FinalizeStart | FinalizeGate => {
            format!("{} is started again on the format of before", record.to.image)
        }
        RollbackStop | RollbackRestore | RollbackStart | RollbackGate => {
            anyhow::bail!("the upgrade {id} goes back to {from} already")
        }
    };
    annotate(client, namespace, name, json!({ ABORT: id })).await?;
    writeln!(out, "the upgrade {id} of {name} is given up: {then}")?;
    Ok(())
}
