//! A circuit breaker: after some failures in a row no call is made for a while, then one is let through as a trial.

use std::time::{Duration, Instant};

use super::Error;

/// Closed while there are fewer failures in a row than `limit`.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    open_for: Duration,
    failures: u32,
    /// From when on one call may try, if the breaker is open.
    trial: Option<Instant>,
    last: String,
}

impl Breaker {
    pub(crate) fn new(limit: u32, open_for: Duration) -> Self {
        Self { limit, open_for, failures: 0, trial: None, last: String::new() }
    }

    /// Whether a call may be made now. An open breaker lets one through each `open_for`, even if that one never reports.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Error> {
        match self.trial {
            Some(trial) if now < trial => {
                let left = trial.saturating_duration_since(now).as_secs() + 1;
                let message =
                    format!("not called for the next {left} s, after {} failures: {}", self.failures, self.last);
                Err(Error::unavailable(message))
            }
            Some(_) => {
                self.trial = Some(now + self.open_for);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes how a call ended; whether the breaker is open now.
    pub(crate) fn record(&mut self, failure: Option<&Error>, now: Instant) -> bool {
        match failure {
            None => (self.failures, self.trial) = (0, None),
            Some(error) => {
                self.failures = self.failures.saturating_add(1);
                self.last = error.to_string();
                if self.failures >= self.limit {
                    self.trial = Some(now + self.open_for);
                }
            }
        }
        self.trial.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    /// Open since the returned instant.
    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = (Breaker::new(3, OPEN_FOR), monotonic());
        let refused = Error::unavailable("connection refused");
        let states = [(); 3].map(|()| breaker.record(Some(&refused), now));
        assert_eq!(states, [false, false, true]);
        (breaker, now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_it_says_why() {
        let (mut breaker, now) = opened();
        let message = "not called for the next 10 s, after 3 failures: the KMS is not available: connection refused";
        assert_eq!(breaker.admit(now + Duration::from_millis(1)), Err(Error::unavailable(message)));
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let (mut breaker, now) = (Breaker::new(3, OPEN_FOR), monotonic());
        let refused = Error::unavailable("connection refused");
        let failures = [Some(&refused), Some(&refused), None, Some(&refused), Some(&refused)];
        assert_eq!(failures.map(|failure| breaker.record(failure, now)), [false; 5]);
    }

    #[test]
    fn after_a_while_one_call_tries_and_decides() {
        let (mut breaker, now) = opened();
        let later = now + OPEN_FOR;
        let admitted = [(); 3].map(|()| breaker.admit(later).is_ok());
        assert_eq!(admitted, [true, false, false]);
        assert!(breaker.record(Some(&Error::unavailable("again")), later));
        assert!(breaker.admit(later).is_err());
        assert!(breaker.admit(later + OPEN_FOR).is_ok());
        assert!(!breaker.record(None, later + OPEN_FOR));
        assert!(breaker.admit(later + OPEN_FOR).is_ok());
    }

    #[test]
    fn a_trial_that_never_reports_holds_it_open_no_longer_than_a_failure() {
        let (mut breaker, now) = opened();
        let trials = [1, 2, 3].map(|times| breaker.admit(now + OPEN_FOR * times).is_ok());
        assert_eq!(trials, [true; 3]);
    }
}
