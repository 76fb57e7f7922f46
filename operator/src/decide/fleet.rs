//! A fleet: its servers are brought to what the resource asks for, a Deployment doing the steps of it.
//!
//! Other settings, other Secrets and restarts are rolling updates: a server goes only when its successor takes requests. They
//! are made after the same checks as a change of a single server. What another image, or other settings, have to prove before,
//! `upgrade/fleet.rs` says.
//!
//! What runs is set right at any time, from what was kept of it: an edit by hand is taken back also while what the resource
//! asks for does not pass its checks. How many servers there are is no part of a release: scaling needs no check.

mod servers;

use super::{Case, Step, Write};
use crate::{
    conditions::Finding,
    desired::{Fleet, Object, Server},
    drift,
    facts::{self, Deployment},
    kind::Kind,
    status::Findings,
};

pub(super) use self::servers::assess;

/// Brings the servers to what the resource asks for, as far as the checks allow.
pub(super) fn run(case: Case<'_>, planned: &Fleet, storage: &Finding) -> Step<Findings> {
    let mut step = Step::default();
    let (configuration, keys) = step.take(case.prove());
    let may_start = configuration.holds() && keys.as_ref().is_none_or(Finding::holds) && storage.holds();
    let is_behind = step.take(bring(case, planned, may_start));
    step = step.writing(remove_canary(case));
    let api_keys = super::api_keys::refused(case).map(|finding| {
        let is_overdue = super::api_keys::is_overdue(case.facts, case.now);
        (finding, is_overdue)
    });
    step.map(|()| {
        let found = super::unchecked(case.spec, case.facts, case.now);
        Findings { configuration, keys, api_keys, is_behind, ..found }
    })
}

/// Has the stable Deployment nearer to what it should be; finds whether it is not yet.
fn bring(case: Case<'_>, planned: &Fleet, may_change: bool) -> Step<bool> {
    let asked = &case.desired.server;
    let Some(stable) = stable(case) else {
        let starts = may_change && !case.spec.suspend;
        return Step::found(!case.spec.suspend).writing(if starts { replace(case, asked) } else { Vec::new() });
    };
    if stable.is_deleted {
        return Step::found(true);
    }
    let restarts = case.facts.restart.is_some() && stable.restart != case.facts.restart;
    let is_current = stable.roll.as_ref() == Some(&asked.roll) && !restarts;
    if case.spec.suspend || is_current || !may_change {
        let runs = planned.running.as_ref().unwrap_or(asked);
        // Without what it was made of, nothing else is known to be what runs.
        let is_known = planned.running.is_some() || is_current;
        let is_behind = !case.spec.suspend && (!is_current || stable.is_replacing());
        return Step::found(is_behind).writing(if is_known { keep(case, runs) } else { Vec::new() });
    }
    let must_stop = planned.stops_first && case.facts.fleet.as_ref().is_some_and(|fleet| !fleet.has_stopped());
    let writes = match must_stop {
        true if stable.replicas > 0 => vec![Write::stop_all(stable)],
        true => Vec::new(),
        false => replace(case, asked),
    };
    Step::found(true).writing(writes)
}

/// Leaves what runs as it is, on as many servers as are asked for, and takes away what is tried beside it.
pub(super) fn stay(case: Case<'_>) -> Vec<Write> {
    let is_readable = !case.facts.upgrade.is_unreadable;
    let running = case.desired.fleet.as_ref().filter(|_| is_readable).and_then(|fleet| fleet.running.as_ref());
    let mut writes = running.map(|running| keep(case, running)).unwrap_or_default();
    writes.extend(remove_canary(case).filter(|_| is_readable));
    writes
}

/// The stable Deployment.
fn stable(case: Case<'_>) -> Option<&Deployment> {
    case.facts.fleet.as_ref()?.stable.as_ref()
}

/// Sets a release right that runs, with as many servers as are asked for.
pub(super) fn keep(case: Case<'_>, server: &Server) -> Vec<Write> {
    [&server.config_map, &server.workload].into_iter().filter_map(|object| case.apply_if_needed(object)).collect()
}

/// Puts a release in the place of the one that runs: the settings first, then what reads them.
pub(super) fn replace(case: Case<'_>, server: &Server) -> Vec<Write> {
    let settings = case.apply_if_needed(&server.config_map);
    settings.into_iter().chain(apply(case, &server.workload)).collect()
}

/// Applies an object that is known to be another one, unless that would be in vain.
fn apply(case: Case<'_>, object: &Object) -> Option<Write> {
    let live = case.facts.object(object.kind, &object.name);
    let applied = object.applied_to(live.map(|live| &*live.uid));
    let in_vain = live.and_then(|live| live.in_vain.as_ref());
    (in_vain.map(String::as_str) != Some(drift::applied_hash(&applied))).then_some(Write::Apply(applied))
}

/// Deletes a canary that nothing is tried with.
fn remove_canary(case: Case<'_>) -> Option<Write> {
    let canary = case.facts.fleet.as_ref()?.canary.as_ref().filter(|canary| !canary.is_deleted)?;
    let live: &facts::Object = case.facts.object(Kind::Deployment, &canary.name)?;
    Some(Write::delete(Kind::Deployment, &canary.name, live))
}
