//! The health of a KMS as its last calls show it, and what may still be done with keys in memory.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::Error;

/// What may be done with keys in memory while the KMS fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Values may be sealed.
    pub may_seal: bool,
    /// Values may be opened.
    pub may_open: bool,
    /// Time since the last successful call; none if there was none.
    pub since_success: Option<Duration>,
    /// The last error, if no call has succeeded since.
    pub failure: Option<String>,
}

/// The last success and the last failure.
#[derive(Debug)]
pub(crate) struct Monitor {
    grace: Duration,
    seal_grace: Duration,
    start: Instant,
    /// Nanoseconds after `start`, and one more; 0 if there was none.
    success: AtomicU64,
    failing: AtomicBool,
    failure: Mutex<String>,
}

impl Monitor {
    pub(crate) fn new(grace: Duration, seal_grace: Duration, start: Instant) -> Self {
        let (success, failing, failure) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        Self { grace, seal_grace, start, success, failing, failure }
    }

    /// Records a call that shows whether the KMS as a whole works.
    pub(crate) fn note<T>(&self, result: &Result<T, Error>, now: Instant) {
        match result {
            Ok(_) => {
                let since_start = now.saturating_duration_since(self.start).as_nanos();
                let stamp = u64::try_from(since_start).unwrap_or(u64::MAX - 1) + 1;
                self.success.fetch_max(stamp, Ordering::AcqRel);
                self.failing.store(false, Ordering::Release);
            }
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                self.failing.store(true, Ordering::Release);
            }
        }
    }

    /// Records a call about one wrapped key: if this one does not open, others still may.
    pub(crate) fn note_one<T>(&self, result: &Result<T, Error>, now: Instant) {
        let about_the_blob =
            matches!(result, Err(Error::Invalid { .. } | Error::WrongKey { .. } | Error::KeyUnusable { .. }));
        if !about_the_blob {
            self.note(result, now);
        }
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        let since_success = match self.success.load(Ordering::Acquire) {
            0 => None,
            stamp => Some(now.saturating_duration_since(self.start + Duration::from_nanos(stamp - 1))),
        };
        if !self.failing.load(Ordering::Acquire) {
            return Health { may_seal: true, may_open: true, since_success, failure: None };
        }
        let within = |grace| since_success.is_some_and(|since| since < grace);
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Health {
            may_seal: within(self.seal_grace),
            may_open: within(self.grace),
            since_success,
            failure: Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    fn failed() -> Result<(), Error> {
        Err(Error::unavailable("connection refused"))
    }

    #[test]
    fn sealing_ends_before_opening_and_a_success_restores_both() {
        let start = monotonic();
        let monitor = Monitor::new(minutes(60), minutes(3), start);
        let check = |now: Duration, may_seal: bool, may_open: bool, since: Option<Duration>, failing: bool| {
            let failure = failing.then(|| "the KMS is not available: connection refused".to_owned());
            let wanted = Health { may_seal, may_open, since_success: since, failure };
            assert_eq!(monitor.health(start + now), wanted, "after {now:?}");
        };
        check(minutes(500), true, true, None, false);
        monitor.note(&Ok(()), start + minutes(1));
        check(minutes(500), true, true, Some(minutes(499)), false);
        monitor.note(&failed(), start + minutes(2));
        check(minutes(3), true, true, Some(minutes(2)), true);
        check(minutes(4), false, true, Some(minutes(3)), true);
        check(minutes(60), false, true, Some(minutes(59)), true);
        check(minutes(61), false, false, Some(minutes(60)), true);
        monitor.note(&Ok(()), start + minutes(70));
        check(minutes(70), true, true, Some(minutes(0)), false);
    }

    #[test]
    fn without_any_success_the_first_failure_ends_both() {
        let start = monotonic();
        let monitor = Monitor::new(minutes(60), minutes(3), start);
        monitor.note(&failed(), start);
        let health = monitor.health(start);
        assert_eq!((health.may_seal, health.may_open, health.since_success), (false, false, None));
    }

    #[test]
    fn one_key_that_does_not_open_is_no_outage() {
        let start = monotonic();
        let monitor = Monitor::new(minutes(60), minutes(3), start);
        let before = monitor.health(start);
        let wrong_key = Error::WrongKey { wanted: "a".to_owned(), have: "b".to_owned() };
        for error in [Error::invalid("x"), Error::key_unusable("x"), wrong_key] {
            monitor.note_one(&Err::<(), _>(error), start);
            assert_eq!(monitor.health(start), before);
        }
        monitor.note_one(&failed(), start);
        assert_ne!(monitor.health(start), before);
    }
}
