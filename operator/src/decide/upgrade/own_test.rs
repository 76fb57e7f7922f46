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
    let Some(found) = complete.or(found) else { return Err(create) };
    let threshold = format!("exit code 0 within {}", policy.deadline);
    let ended = |verdict: Verdict, value: &str, why: &str| {
        let samples = i64::try_from(found.ended.len()).unwrap_or(i64::MAX);
        Ok(Ran::Ended(GateResult::new(verdict, value, &threshold, samples, why)))
    };
    if found.job.is_complete {
        return ended(Verdict::Passed, "exit code 0", "");
    }
    if let Some(failure) = &found.job.failure {
        let (value, said) = of_failure(found);
        let why = if said.is_empty() { failure.message.clone() } else { format!("{}: {said}", failure.message) };
        return ended(Verdict::Failed, &value, &why);
    }
    let delay = delay(at, found);
    let is_hopeless = delay.as_ref().is_some_and(|delay| delay.lasts) && at.elapsed() > PATIENCE;
    let why = || delay.map_or_else(|| "it did not end in time".to_owned(), |delay| delay.message);
    match () {
        () if at.is_overridden("Job") => ended(Verdict::Inconclusive, "no exit code", "it was not waited for"),
        () if is_hopeless => ended(Verdict::Failed, "it was not started", &why()),
        () if at.elapsed() > duration(&policy.deadline) => ended(Verdict::Failed, "no exit code", &why()),
        () => Err(None),
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
