//! The Job of the resource's owner: its exit code is the verdict. Clients wait meanwhile, so what cannot run fails.

use jiff::SignedDuration;

use super::{At, duration, gates::Ran};
use crate::{
    crd::{GateJob, Verdict},
    decide::{Write, delay::Delay},
    facts::UpgradeJobFacts,
    gate::GateResult,
    objects::UpgradeJob,
};

/// How long its pod may be kept from starting by something that does not pass.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// How far it is, or what has to be written meanwhile.
pub(super) fn run(at: At<'_>, policy: &GateJob) -> Result<Ran, Option<Write>> {
    // That it has ended well is enough, though its pod may be gone.
    let complete = at.facts.jobs.get(&UpgradeJob::Gate).filter(|found| found.job.is_complete && !found.job.is_deleted);
    let (found, create) = at.job(UpgradeJob::Gate);
    let found = complete.or(found);
    let Some((verdict, value, why)) = found.and_then(of_end).or_else(|| without_end(at, policy, found)) else {
        return Err(create.filter(|_| found.is_none()));
    };
    let samples = found.map_or(0, |found| i64::try_from(found.ended.len()).unwrap_or(i64::MAX));
    let threshold = format!("exit code 0 within {}", policy.deadline);
    Ok(Ran::Ended(GateResult::new(verdict, &value, &threshold, samples, &why)))
}

/// A verdict, what was found, and why.
type Judged = (Verdict, String, String);

/// What a Job that has ended says.
fn of_end(found: &UpgradeJobFacts) -> Option<Judged> {
    if found.job.is_complete {
        return Some((Verdict::Passed, "exit code 0".to_owned(), String::new()));
    }
    let failure = found.job.failure.as_ref()?;
    let (value, said) = of_failure(found);
    let why = if said.is_empty() { failure.message.clone() } else { format!("{}: {said}", failure.message) };
    Some((Verdict::Failed, value, why))
}

/// What follows where there is no end; `None` as long as it is waited for.
fn without_end(at: At<'_>, policy: &GateJob, found: Option<&UpgradeJobFacts>) -> Option<Judged> {
    let judged = |verdict, value: &str, why: String| Some((verdict, value.to_owned(), why));
    let is_late = at.elapsed() > duration(&policy.deadline);
    let refusal = at.case.facts.refusal.as_ref().filter(|_| found.is_none());
    let delay = found.and_then(|found| delay(at, found));
    let is_hopeless = refusal.is_some() || delay.as_ref().is_some_and(|delay| delay.lasts);
    let why = refusal.cloned().or(delay.map(|delay| delay.message));
    let why = why.unwrap_or_else(|| "it did not end in time".to_owned());
    match () {
        () if at.is_overridden("Job") => judged(Verdict::Inconclusive, "no exit code", "it was not waited for".into()),
        () if is_hopeless && at.elapsed() > PATIENCE => judged(Verdict::Failed, "it was not started", why),
        () if is_late => judged(Verdict::Failed, "no exit code", why),
        () => None,
    }
}

/// The exit code of its container that failed, and what that said.
fn of_failure(found: &UpgradeJobFacts) -> (String, &str) {
    let failed = found.ended.iter().find(|(_, ended)| !ended.passed);
    match failed.and_then(|(name, ended)| Some((name, ended.exit_code?, ended.message.as_str()))) {
        Some((name, code, message)) => (format!("exit code {code} of {name}"), message),
        None => ("no exit code".to_owned(), ""),
    }
}

/// Why it does not run.
fn delay(at: At<'_>, found: &UpgradeJobFacts) -> Option<Delay> {
    match &found.job.pod {
        Some(pod) => Delay::of_pod(pod, at.case.now),
        None => Delay::of("Job", &found.job.name, found.job.warning.as_ref(), at.case.now),
    }
}
