//! What a decision may rest on of what was written.

use progressdb_operator::crd::{
    CanaryStatus, CanaryWindow, GateStatus, HistoryEntry, Hold, Outcome, Rehearsal, UpgradeStatus,
};

use crate::operator::start;

/// What a decision may rest on of what is written: without texts for people, and every time as the same one, because how
/// much has passed since is said by the clock.
pub fn essence(record: &UpgradeStatus) -> UpgradeStatus {
    UpgradeStatus {
        revision: record.revision,
        id: record.id.clone(),
        from: record.from.clone(),
        to: record.to.clone(),
        changes_image: record.changes_image,
        step: record.step,
        started_at: Some(start()),
        step_started_at: Some(start()),
        outcome: record.outcome,
        // One that was given up because the resource was suspended is begun again.
        message: record.message.clone().filter(|_| record.outcome == Some(Outcome::Aborted)),
        hold: record.hold.as_ref().map(|hold| Hold {
            next_command: hold.next_command.as_deref().map(|command| what_to_type(&record.id, command)),
            message: String::new(),
            ..hold.clone()
        }),
        backing: record.backing,
        start_migrations: record.start_migrations.clone(),
        finalize_migrations: record.finalize_migrations.clone(),
        rehearsal: record.rehearsal.as_ref().map(|rehearsal| Rehearsal {
            message: None,
            messages: None,
            migrate_millis: None,
            start_millis: None,
            ..rehearsal.clone()
        }),
        gates: record
            .gates
            .iter()
            .map(|gate| GateStatus {
                name: gate.name.clone(),
                verdict: gate.verdict,
                overridden: gate.overridden,
                ..GateStatus::default()
            })
            .collect(),
        canary: record.canary.as_ref().map(essence_of_canary),
        baseline: record.baseline.clone(),
        drained_at: record.drained_at.map(|_| start()),
        database: record.database.clone(),
        claim: record.claim.clone(),
        restored_claim: record.restored_claim.clone(),
        finalizing: record.finalizing,
        data_mutation_started: record.data_mutation_started,
        promoted: record.promoted,
        loss_bound: record.loss_bound,
        ..UpgradeStatus::default()
    }
}

fn essence_of_canary(canary: &CanaryStatus) -> CanaryStatus {
    let of = |window: &CanaryWindow| CanaryWindow { since: Some(start()), pods: window.pods.clone() };
    CanaryStatus {
        failing_since: canary.failing_since.map(|_| start()),
        window: canary.window.as_ref().map(of),
        ..canary.clone()
    }
}

/// The annotation that a command sets, without the time.
fn what_to_type(id: &str, command: &str) -> String {
    if let Some(gate) = command.strip_prefix("kubectl progressdb override db ") {
        let gate = gate.split(' ').next().unwrap_or(gate);
        return format!("progressdb.io/override={id}/{gate}");
    }
    let annotation = command.find("progressdb.io/").map(|at| &command[at..]);
    let annotation = annotation.and_then(|rest| rest.split(' ').next());
    annotation.unwrap_or(command).to_owned()
}

pub fn told(history: &[HistoryEntry]) -> Vec<HistoryEntry> {
    let of = |entry: &HistoryEntry| HistoryEntry {
        id: entry.id.clone(),
        outcome: entry.outcome,
        ended_at: Some(start()),
        ..HistoryEntry::default()
    };
    history.iter().map(of).collect()
}

/// Whether an outcome is one of an upgrade that did not come to serve.
pub fn is_undone(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::RolledBack | Outcome::Aborted))
}
