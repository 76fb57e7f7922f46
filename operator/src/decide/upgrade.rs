//! A guarded upgrade: a machine whose steps each leave evidence, and from whose steps a way leads back.
//!
//! ```text
//! Preflight → SnapshotOnline → Rehearse → Approval → Drain → SnapshotFinal → Swap → HealthGate → SmokeGate → MetricGate
//!           → Promote → Soak → Succeeded, or → FinalizeDrain → … → FinalizeGate → Succeeded
//! ```
//!
//! Until Drain nothing that serves is touched, so whatever fails there holds the upgrade or gives it up. From Drain until
//! Promote a failure leads back by RollbackStop → RollbackRestore → RollbackStart → RollbackGate. Clients reach no server
//! in between, so going back loses nothing.
//!
//! The state of the machine is `status.upgrade`. It is written before what follows from it is done: a decision on what was
//! not written yet makes no difference, and an operator that starts anew goes on from what was written. One decision takes
//! at most one step.

mod approval;
mod at;
mod baseline;
mod begin;
mod cleanup;
mod drain;
mod evidence;
mod finalize;
mod fleet;
mod gates;
mod jobs;
mod notes;
mod own_job;
mod preflight;
mod promote;
mod rehearse;
mod rollback;
mod snapshots;
mod swap;

use jiff::{SignedDuration, Timestamp};

use self::at::{At, Turn};
pub(super) use self::begin::{Plan, is_decided, kept, plan};
pub(super) use self::cleanup::tidy;
pub(super) use self::evidence::report;
use super::{Case, Step, Write};
use crate::{
    crd::{Announcement, GateStatus, HistoryEntry, Hold, Outcome, StepStatus, UpgradeStatus, UpgradeStep},
    facts,
    status::Progress,
};

/// After a step.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(20);
/// While clients wait.
const VERY_SOON: std::time::Duration = std::time::Duration::from_millis(250);
/// While they do not.
const SOON: std::time::Duration = std::time::Duration::from_secs(2);

/// How many upgrades that have ended are told.
const HISTORY: usize = 10;
/// How many steps of one upgrade are.
const STEPS: usize = 32;

/// What a step leads to.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// It goes on.
    Stay,
    /// The next step.
    To(UpgradeStep),
    /// It waits for somebody.
    Hold(Hold),
    /// What was stopped for it is started again.
    GoBack(String),
    /// It has ended.
    End(Outcome, String),
}

impl Next {
    /// It waits for somebody, who is told what to type.
    fn hold(reason: &str, message: impl Into<String>, next_command: Option<String>) -> Self {
        Self::Hold(Hold { reason: reason.to_owned(), message: message.into(), next_command, is_stuck: false })
    }

    /// It waits for somebody, and meanwhile no server serves.
    fn stuck(reason: &str, message: impl Into<String>, next_command: Option<String>) -> Self {
        Self::Hold(Hold { reason: reason.to_owned(), message: message.into(), next_command, is_stuck: true })
    }
}

/// Text of a policy as a duration. The API server lets nobody write what is none.
fn duration(text: &str) -> SignedDuration {
    text.parse().unwrap_or_default()
}

/// Puts a gate in the place of the one of the same name.
fn with_gate(record: &mut UpgradeStatus, gate: GateStatus) {
    record.gates.retain(|other| other.name != gate.name);
    record.gates.push(gate);
}

/// When to look again while an upgrade is under way: gates and time tell of themselves by no watch.
pub(super) fn requeue_after(progress: &Progress, facts: &facts::Facts) -> std::time::Duration {
    let Some(record) = &progress.record else { return super::SOON };
    let before = facts.upgrade.record.as_ref();
    let reason = |record: &UpgradeStatus| record.hold.as_ref().map(|hold| hold.reason.clone());
    let has_moved = before.is_none_or(|before| {
        before.step != record.step || before.rehearsal != record.rehearsal || reason(before) != reason(record)
    });
    match record.step {
        _ if has_moved => AT_ONCE,
        _ if record.hold.is_some() => super::VERY_SOON,
        UpgradeStep::Soak => super::VERY_SOON,
        UpgradeStep::SnapshotOnline | UpgradeStep::Rehearse | UpgradeStep::Preflight => SOON,
        // Its users have servers at any time.
        _ if record.is_of_fleet() => SOON,
        _ => VERY_SOON,
    }
}

/// The step of an upgrade, if what it needs was planned.
fn at<'a>(case: Case<'a>, record: &'a UpgradeStatus) -> Option<At<'a>> {
    let planned = case.desired.upgrade.as_ref().filter(|planned| planned.id == record.id)?;
    Some(At { case, record, planned, facts: &case.facts.upgrade })
}

/// Whether this decision rests on the copies behind the snapshots. They are read for it alone, because an upgrade that
/// waits or soaks makes no calls.
pub(super) fn looks_at_copies(case: Case<'_>) -> bool {
    let under_way = case.facts.upgrade.record.as_ref().filter(|record| record.outcome.is_none());
    under_way.and_then(|record| at(case, record)).is_some_and(|at| {
        let is_given_up = || matches!(interruption(at), Some(Next::End(..)));
        let has_soaked = || at.record.step == UpgradeStep::Soak && promote::has_soaked(at);
        snapshots::are_looked_at(at) || is_given_up() || has_soaked()
    })
}

/// Takes at most one step.
pub(super) fn advance(case: Case<'_>, record: &UpgradeStatus) -> Step<Progress> {
    let history = case.facts.upgrade.history.clone();
    let Some(at) = at(case, record) else { return Step::found(Progress::of(record.clone(), history)) };
    let released = snapshots::release(at);
    let turn = match interruption(at) {
        // What was kept for it goes with its snapshots again, before nobody looks any more.
        Some(Next::End(..)) if !released.is_empty() => at.stay().writing(released),
        Some(next) => {
            let loss_bound = if record.step == UpgradeStep::Soak { promote::loss_bound(at) } else { record.loss_bound };
            at.recording(UpgradeStatus { loss_bound, ..record.clone() }, next)
        }
        None if at.is_of_fleet() => fleet::step(at),
        None => step(at),
    };
    let turn = turn.map(|(record, next)| Progress::of(after(case, record, next), history.clone())).map_history(case);
    let turn = turn.writing(untouched(at)).writing(jobs::former(at));
    let log = turn.found.record.as_ref().and_then(|record| evidence::log_of_failure(case, record));
    turn.trying(log)
}

/// Starts what serves again if somebody stopped it, until the upgrade itself stops it.
fn untouched(at: At<'_>) -> Vec<Write> {
    let is_untouched = at.record.step < UpgradeStep::Drain && !at.is_of_fleet();
    let from = at.planned.from.as_ref().filter(|_| is_untouched);
    from.and_then(|from| swap::runs(at, from).err()).unwrap_or_default()
}

impl Step<Progress> {
    /// An upgrade that has just ended is told among those that have.
    fn map_history(self, case: Case<'_>) -> Self {
        self.map(|mut progress| {
            let ended = progress.record.as_ref().filter(|record| record.outcome.is_some());
            if let Some(record) = ended.filter(|record| progress.history.iter().all(|entry| entry.id != record.id)) {
                progress.history.insert(0, entry(record, case.now));
                progress.history.truncate(HISTORY);
            }
            progress
        })
    }
}

fn entry(record: &UpgradeStatus, now: Timestamp) -> HistoryEntry {
    HistoryEntry {
        id: record.id.clone(),
        from: record.from.image.clone(),
        to: record.to.image.clone(),
        outcome: record.outcome,
        message: record.message.clone(),
        started_at: record.started_at,
        ended_at: Some(now),
        downtime_millis: record.downtime_millis,
    }
}

/// What the record says once the step has led there.
fn after(case: Case<'_>, mut record: UpgradeStatus, next: Next) -> UpgradeStatus {
    if record.steps.is_empty() {
        record.steps.push(StepStatus { step: record.step, at: record.step_started_at });
    }
    match next {
        Next::Stay => record.hold = None,
        Next::To(step) => enter(case, &mut record, step),
        Next::Hold(hold) => record.hold = Some(hold),
        Next::GoBack(why) => {
            if record.step == UpgradeStep::Soak && !record.is_of_fleet() {
                record.drained_at = Some(case.now);
            }
            record.message = Some(short(&why));
            enter(case, &mut record, UpgradeStep::RollbackStop);
        }
        Next::End(outcome, message) => {
            record.outcome = Some(outcome);
            record.message = Some(short(&message));
            record.hold = None;
        }
    }
    record.odd_override = case.facts.upgrade.odd_override.clone().filter(|_| record.outcome.is_none());
    if case.spec.upgrade.notify.is_some() {
        let news = news(&record).filter(|news| !record.announced.contains(news));
        record.announced.extend(news);
    }
    record
}

fn enter(case: Case<'_>, record: &mut UpgradeStatus, step: UpgradeStep) {
    if record.step != step {
        record.steps.push(StepStatus { step, at: Some(case.now) });
        let surplus = record.steps.len().saturating_sub(STEPS);
        record.steps.drain(..surplus);
    }
    record.step = step;
    record.step_started_at = Some(case.now);
    record.hold = None;
    record.promoted |= step == UpgradeStep::Promote;
}

/// What others should hear of, if they have not.
fn news(record: &UpgradeStatus) -> Option<Announcement> {
    match (record.outcome, &record.hold) {
        (Some(Outcome::Succeeded), _) => Some(Announcement::Succeeded),
        (Some(Outcome::RolledBack), _) => Some(Announcement::RolledBack),
        (Some(Outcome::Aborted), _) | (None, None) => None,
        (None, Some(hold)) => Some(if hold.is_stuck { Announcement::Stuck } else { Announcement::Held }),
    }
}

/// What fits into the status.
fn short(message: &str) -> String {
    message.chars().take(1_000).collect()
}

/// What a person, or a change of the resource, asks of an upgrade that is under way.
fn interruption(at: At<'_>) -> Option<Next> {
    use UpgradeStep::*;
    let step = at.record.step;
    let asked = &at.case.desired.server.roll;
    let is_aborted = at.is_aborted();
    let is_reverted = *asked == at.record.from.roll;
    let is_replaced = *asked != at.record.to.roll && !is_reverted;
    if step < Drain {
        return match () {
            () if is_aborted => Some(Next::End(Outcome::Aborted, "a person gave it up".into())),
            () if is_reverted => Some(Next::End(Outcome::Aborted, "the resource asks for what runs".into())),
            () if is_replaced => Some(Next::End(Outcome::Aborted, "the resource asks for something else".into())),
            () if at.case.spec.suspend => Some(Next::End(Outcome::Aborted, begin::SUSPENDED.into())),
            () => approval::way_back(at),
        };
    }
    // Whatever else has changed since.
    let asks_for_old = at.record.changes_image && at.case.desired.server.image() == at.record.from.image;
    let why = match () {
        () if is_aborted => Some("a person gave it up"),
        () if is_reverted || asks_for_old => Some("the resource asks for what ran before"),
        () => None,
    };
    if at.is_of_fleet() {
        let for_another = is_replaced.then_some("the resource asks for something else");
        return fleet::interruption(at, fleet::Asks { for_old: why, for_another });
    }
    let why = why?;
    match step {
        Drain | SnapshotFinal | Swap | HealthGate | SmokeGate | MetricGate => Some(Next::GoBack(why.to_owned())),
        Promote | Soak => promote::go_back(at, why),
        // To the new image on the old format.
        FinalizeDrain | FinalizeSnapshot | FinalizeMigrate | FinalizeStart | FinalizeGate
            if at.record.has_snapshots() =>
        {
            Some(Next::GoBack(why.to_owned()))
        }
        _ => None,
    }
}

fn step(at: At<'_>) -> Turn {
    use UpgradeStep::*;
    match at.record.step {
        Preflight => preflight::check(at),
        SnapshotOnline => snapshots::online(at),
        Rehearse => rehearse::rehearse(at),
        Approval => approval::wait(at),
        Drain => drain::drain(at),
        SnapshotFinal => snapshots::at_rest(at),
        Swap => swap::start(at),
        // A single server has none.
        Canary => at.turn(Next::To(HealthGate)),
        HealthGate => gates::health(at),
        SmokeGate => gates::smoke(at),
        MetricGate => gates::metrics(at),
        Promote => promote::promote(at),
        Soak => promote::soak(at),
        FinalizeDrain => finalize::drain(at),
        FinalizeSnapshot => finalize::snapshot(at),
        FinalizeMigrate => finalize::migrate(at),
        FinalizeStart => finalize::start(at),
        FinalizeGate => finalize::gate(at),
        RollbackStop => rollback::stop(at),
        RollbackRestore => rollback::restore(at),
        RollbackStart => rollback::start(at),
        RollbackGate => rollback::gate(at),
    }
}

#[cfg(test)]
mod test_scene;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// Whoever is woken by a hold has to find it in the documentation.
    #[test]
    fn every_reason_to_hold_is_documented() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = fs::read_to_string(root.join("../docs/upgrades.md")).unwrap();
        let folders = ["src/decide/upgrade", "src/decide/upgrade/fleet"].map(|folder| root.join(folder));
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        let sources = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let code: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
        let after = |call: &str| -> BTreeSet<String> {
            let parts = code.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            parts.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
        };
        let reasons: BTreeSet<String> = after("Next::hold(").union(&after("Next::stuck(")).cloned().collect();
        assert!(
            ["RehearsalFailed", "RollbackStuck", "SchemaFailed"].iter().all(|reason| reasons.contains(*reason)),
            "{reasons:?}"
        );
        let missing: Vec<&String> =
            reasons.iter().filter(|reason| !page.contains(&format!("| `{reason}` |"))).collect();
        assert_eq!(missing, Vec::<&String>::new(), "not in docs/upgrades.md");
    }
}
