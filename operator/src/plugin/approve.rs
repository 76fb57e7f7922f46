//! `approve`: lets an upgrade go on that waits for a person.

use std::io::Write;

use kube::Client;
use serde_json::json;

use super::{annotate, get, notes, under_way};
use crate::{crd::UpgradeStep, objects::labels::APPROVE};

/// Approves the upgrade, or, if asked for that, going back from it with a loss. The one is never taken for the other.
pub(super) async fn approve(
    client: &Client,
    namespace: &str,
    name: &str,
    rollback: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let record = under_way(&get(client, namespace, name).await?)?;
    let (id, step) = (&record.id, record.step);
    let hold = record.hold.clone().unwrap_or_default();
    let value = match (hold.reason.as_str(), rollback) {
        ("ApprovalNeeded", false) => id.clone(),
        // Whoever let it go back may have been told that nothing would be lost.
        ("RollbackRequiresApproval", true) if step == UpgradeStep::RollbackRestore => format!("{id}/loss"),
        ("RollbackRequiresApproval", true) => format!("{id}/rollback"),
        ("ApprovalNeeded", true) => {
            anyhow::bail!(
                "the upgrade {id} waits to be approved itself, and going back needs no approval now: abort it"
            )
        }
        ("RollbackRequiresApproval", false) => anyhow::bail!(
            "going back is what waits to be approved: {}; if that is better than going on, type \
             kubectl progressdb -n {namespace} approve {name} --rollback",
            hold.message
        ),
        ("", _) => anyhow::bail!("the upgrade {id} is in {step:?} and waits for no approval"),
        (reason, _) => anyhow::bail!("the upgrade {id} waits for no approval: {reason}, {}", hold.message),
    };
    if !rollback {
        for line in notes::lines(record.notes.as_ref()) {
            writeln!(out, "{line}")?;
        }
    }
    annotate(client, namespace, name, json!({ APPROVE: value })).await?;
    match rollback {
        true => writeln!(out, "{name} goes back to {}", record.from.image)?,
        false => writeln!(out, "the upgrade {id} of {name} to {} is approved", record.to.image)?,
    }
    Ok(())
}
