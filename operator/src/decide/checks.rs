//! Checks that run as Jobs, before something depends on their outcome. Only the end of a Job is evidence: one that runs,
//! or is gone, says nothing.
//!
//! A check is judged by its own container. If another one in its pod runs on, the Job does not end: then what was found is
//! written on the Job, which is suspended and so loses its pod.

use jiff::{SignedDuration, Timestamp};

use super::{Case, Step, Write, delay::Delay, pods};
use crate::{
    conditions::{ConditionType, Finding},
    desired::{Check, Object},
    facts::{Conclusion, Ended, Facts, Job, Pod},
    kind::Kind,
};

/// What is known of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no Job, or it is being deleted.
    Absent,
    /// It has not ended; what delays its start, if something does.
    Running(Option<Delay>),
    /// The check has ended and another container in its pod has not.
    HeldOpen(Conclusion),
    /// It ended well.
    Passed {
        /// What the program warned of; `None` if its message is gone.
        warnings: Option<Vec<String>>,
    },
    /// It ended badly.
    Failed {
        /// The message of the program.
        message: String,
        /// When to try again.
        retry_at: Timestamp,
    },
}

impl Outcome {
    /// What the Job of a check found.
    fn of(job: Option<&Job>, retry_after: SignedDuration, now: Timestamp) -> Self {
        let Some(job) = job.filter(|job| !job.is_deleted) else { return Self::Absent };
        let ended = job.pod.as_ref().and_then(|pod| pod.container.ended());
        if let Some(conclusion) = job.conclusion.clone() {
            return match conclusion.passed {
                true => Self::Passed { warnings: Some(conclusion.warnings) },
                false => Self::failed(conclusion.message, later(conclusion.at.unwrap_or(now), retry_after)),
            };
        }
        if job.is_complete {
            return Self::Passed { warnings: ended.and_then(|ended| ended.warnings.clone()) };
        }
        if let Some(failure) = &job.failure {
            let message = ended.and_then(message).or_else(|| Some(failure.message.clone()));
            return Self::failed(message, later(failure.at.unwrap_or(now), retry_after));
        }
        match &job.pod {
            Some(pod) => conclusion(pod, now).map_or_else(|| Self::Running(Delay::of_pod(pod, now)), Self::HeldOpen),
            None => Self::Running(Delay::of("Job", &job.name, job.warning.as_ref(), now)),
        }
    }

    fn failed(message: Option<String>, retry_at: Timestamp) -> Self {
        Self::Failed { message: message.unwrap_or_default(), retry_at }
    }
}

/// The moment so much later; a verdict of which somebody wrote that it is from the end of time is never repeated.
fn later(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// What the check found, if it has ended and another container runs on.
fn conclusion(pod: &Pod, now: Timestamp) -> Option<Conclusion> {
    let ended = pod.container.ended()?;
    let conclusion = Conclusion {
        passed: ended.exit_code? == 0,
        message: message(ended),
        warnings: ended.warnings.clone().unwrap_or_default(),
        at: Some(now),
    };
    pod.others_run.then_some(conclusion)
}

/// The message of the program: the errors of its JSON line if there is one, else its last line.
fn message(ended: &Ended) -> Option<String> {
    pods::out_of_memory(ended).or_else(|| ended.errors.clone()).or_else(|| ended.last_line.clone())
}

/// Sees to it that a check is made once, and again after a failure, and that former ones go.
pub(super) fn run(case: Case<'_>, check: &Check, job: Option<&Job>, retry_after: SignedDuration) -> Step<Outcome> {
    let outcome = Outcome::of(job, retry_after, case.now);
    let write = match (&outcome, job) {
        (Outcome::HeldOpen(conclusion), Some(job)) => {
            Some(Write::Conclude { name: job.name.clone(), uid: job.uid.clone(), verdict: conclusion.to_text() })
        }
        (Outcome::Absent, None) => Some(Write::Create(check.job.body.clone())),
        (Outcome::Failed { retry_at, .. }, Some(job)) if *retry_at <= case.now => {
            Some(Write::Delete { kind: Kind::Job, name: job.name.clone(), uid: job.uid.clone() })
        }
        _ => None,
    };
    Step::found(outcome).writing(delete_former(case, check)).writing(write)
}

/// Deletes checks that tried something else than this one: what they found is not about what is there now.
pub(super) fn delete_former(case: Case<'_>, check: &Check) -> Vec<Write> {
    let stem = |name: &str| name.rsplit_once('-').map(|(stem, _)| stem.to_owned());
    let ours = stem(&check.job.name);
    let former = case.facts.living(Kind::Job).filter(|(name, _)| *name != check.job.name && stem(name) == ours);
    former.map(|(name, live)| Write::delete(Kind::Job, name, live)).collect()
}

/// Creates the ConfigMap with the settings that checks read, and deletes it once no check needs it.
pub(super) fn settings(case: Case<'_>) -> Vec<Write> {
    let Case { desired, facts, .. } = case;
    let Object { kind, name, body } = &desired.check_settings;
    let is_open =
        |job: Option<&Job>| !matches!(Outcome::of(job, SignedDuration::ZERO, case.now), Outcome::Passed { .. });
    let fleet = || facts.fleet.clone().unwrap_or_default();
    let is_needed = is_open(facts.config_check.as_ref())
        || desired.kms_check.is_some() && is_open(facts.kms_check.as_ref())
        || desired.fleet.is_some() && is_open(fleet().schema.as_ref())
        || case.image_without_upgrade().is_some()
            && (is_open(fleet().asked_schema.as_ref()) || is_open(fleet().asked_data.as_ref()));
    let there = facts.living(Kind::ConfigMap).filter(|(_, live)| live.is_of_check && live.upgrade.is_none());
    let unneeded = there.filter(|(other, _)| !is_needed || other != name);
    let mut writes: Vec<Write> = unneeded.map(|(other, live)| Write::delete(*kind, other, live)).collect();
    if is_needed && facts.object(*kind, name).is_none() {
        writes.push(Write::Create(body.clone()));
    }
    writes
}

/// The failure that the status tells of this generation: it is told until the same check has another outcome.
pub(super) fn told_before(facts: &Facts, kind: ConditionType, reason: &'static str) -> Option<Finding> {
    let told = facts.before.told(kind, reason)?;
    (told.generation == facts.before.generation).then(|| Finding::no(reason, told.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Container, Failure, State};

    const MINUTE: SignedDuration = SignedDuration::from_secs(60);

    fn ended(exit_code: i64, last_line: &str) -> Ended {
        Ended { exit_code: Some(exit_code), last_line: Some(last_line.into()), ..Ended::default() }
    }

    fn pod(ended: Ended, others_run: bool) -> Pod {
        let container = Container { state: State::Ended(ended), ..Container::default() };
        Pod { container, others_run, ..Pod::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_container_that_runs_on_does_not_hide_what_the_check_found() {
        let found = |others_run: bool| {
            let job = Job { pod: Some(pod(ended(1, "error: no"), others_run)), ..Job::default() };
            Outcome::of(Some(&job), MINUTE, at(0))
        };
        assert_eq!(found(false), Outcome::Running(None), "the Job will say so itself");
        let Outcome::HeldOpen(conclusion) = found(true) else { panic!("{:?}", found(true)) };
        let concluded = Job { conclusion: Some(conclusion), ..Job::default() };
        let failed = Outcome::Failed { message: "error: no".into(), retry_at: at(60) };
        assert_eq!(Outcome::of(Some(&concluded), MINUTE, at(1_000)), failed);
    }

    #[test]
    fn the_message_of_a_failure_is_that_of_the_program_if_it_is_there() {
        let failure = Failure { at: Some(at(10)), message: "backoff limit".into() };
        let failed = |pod: Option<Pod>| {
            let job = Job { failure: Some(failure.clone()), pod, ..Job::default() };
            Outcome::of(Some(&job), MINUTE, at(20))
        };
        let of = |message: &str| Outcome::Failed { message: message.into(), retry_at: at(70) };
        assert_eq!(failed(None), of("backoff limit"));
        assert_eq!(failed(Some(pod(ended(1, "no"), false))), of("no"));
        let report = Ended { errors: Some("server.port: too large".into()), ..ended(1, "no") };
        assert_eq!(failed(Some(pod(report, false))), of("server.port: too large"));
    }

    #[test]
    fn a_verdict_from_the_end_of_time_is_one_that_is_not_repeated() {
        let conclusion = Conclusion { at: Some(Timestamp::MAX), ..Conclusion::default() };
        let job = Job { conclusion: Some(conclusion), ..Job::default() };
        let failed = Outcome::Failed { message: String::new(), retry_at: Timestamp::MAX };
        assert_eq!(Outcome::of(Some(&job), MINUTE, at(0)), failed);
        let failure = Failure { at: Some(Timestamp::MAX), message: String::new() };
        let job = Job { failure: Some(failure), ..Job::default() };
        assert_eq!(Outcome::of(Some(&job), MINUTE, at(0)), failed);
    }

    #[test]
    fn a_job_that_is_being_deleted_is_evidence_of_nothing() {
        let job = Job { is_deleted: true, is_complete: true, ..Job::default() };
        assert_eq!(Outcome::of(Some(&job), MINUTE, at(0)), Outcome::Absent);
    }
}
