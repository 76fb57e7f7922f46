//! A Job of the resource's owner: a test of the new server, or a backup of the engine. Its exit code is the verdict, and what
//! cannot run fails, because something waits for it: clients, or the upgrade.

use jiff::SignedDuration;

use super::{At, duration, gates::Ran};
use crate::{
    crd::Verdict,
    decide::{Write, delay::Delay},
    facts::UpgradeJobFacts,
    gate::GateResult,
    objects::UpgradeJob,
};

/// How long its pod may be kept from starting by something that does not pass.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// A Job of the resource's owner.
pub(super) struct OwnJob<'a> {
    /// Which.
    pub(super) job: UpgradeJob,
    /// As a person lets it pass.
    pub(super) name: &'a str,
    /// How long it may take.
    pub(super) deadline: &'a str,
}

/// A verdict, what was found, and why.
type Judged = (Verdict, String, String);

impl OwnJob<'_> {
    /// How far it is, or what has to be written meanwhile.
    pub(super) fn run(&self, at: At<'_>) -> Result<Ran, Option<Write>> {
        // That it has ended well is enough, though its pod may be gone.
        let complete = at.facts.jobs.get(&self.job).filter(|found| found.job.is_complete && !found.job.is_deleted);
        let (found, create) = at.job(self.job);
        let found = complete.or(found);
        let Some((verdict, value, why)) = found.and_then(of_end).or_else(|| self.without_end(at, found)) else {
            return Err(create.filter(|_| found.is_none()));
        };
        let samples = found.map_or(0, |found| i64::try_from(found.ended.len()).unwrap_or(i64::MAX));
        let threshold = format!("exit code 0 within {}", self.deadline);
        Ok(Ran::Ended(GateResult::new(verdict, &value, &threshold, samples, &why)))
    }

    /// What follows where there is no end; `None` as long as it is waited for.
    fn without_end(&self, at: At<'_>, found: Option<&UpgradeJobFacts>) -> Option<Judged> {
        let judged = |verdict, value: &str, why: String| Some((verdict, value.to_owned(), why));
        // One that somebody deleted to have it tried again has its time from then on.
        let since_made = found.and_then(|found| found.made_at).map(|made_at| at.case.now.duration_since(made_at));
        let elapsed = since_made.map_or(at.elapsed(), |since| since.min(at.elapsed()));
        let refusal = at.case.facts.refusal.as_ref().filter(|_| found.is_none());
        let delay = found.and_then(|found| delay(at, found));
        let is_hopeless = refusal.is_some() || delay.as_ref().is_some_and(|delay| delay.lasts);
        let why = refusal.cloned().or(delay.map(|delay| delay.message));
        let why = why.unwrap_or_else(|| "it did not end in time".to_owned());
        match () {
            () if at.is_overridden(self.name) => {
                judged(Verdict::Inconclusive, "no exit code", "it was not waited for".into())
            }
            () if is_hopeless && elapsed > PATIENCE => judged(Verdict::Failed, "it was not started", why),
            () if elapsed > duration(self.deadline) => judged(Verdict::Failed, "no exit code", why),
            () => None,
        }
    }
}

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
