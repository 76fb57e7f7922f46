//! The guard of every call: a rate limit, a circuit breaker, a timeout, and few tries where an error may pass by
//! itself.

mod breaker;

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use tracing::Instrument as _;

use self::breaker::Breaker;
use super::{Error, ProviderKind};
use crate::{clock::monotonic, token_bucket::TokenBucket};

/// The operations of a KMS, as metrics and spans name them.
const OPERATIONS: [&str; 4] = ["describe", "probe", "unwrap", "wrap"];

/// The numbers of a guard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// For one try.
    pub(crate) timeout: Duration,
    /// Tries of one call, at least 1.
    pub(crate) tries: u32,
    /// The longest wait before the second try; it doubles with each further one.
    pub(crate) back_off: Duration,
    /// Calls a second, and at once.
    pub(crate) rate: u32,
    /// Failures in a row that open the breaker.
    pub(crate) failures: u32,
    /// How long the breaker is open before one call may try again.
    pub(crate) open_for: Duration,
}

impl Policy {
    /// The policy for every provider.
    pub(crate) fn new(timeout: Duration) -> Self {
        let (back_off, open_for) = (Duration::from_millis(200), Duration::from_secs(10));
        Self { timeout, tries: 3, back_off, rate: 20, failures: 5, open_for }
    }
}

/// One for each KMS.
#[derive(Debug)]
pub(crate) struct Guard {
    provider: ProviderKind,
    policy: Policy,
    bucket: Mutex<TokenBucket>,
    breaker: Mutex<Breaker>,
}

impl Guard {
    pub(crate) fn new(provider: ProviderKind, policy: Policy) -> Self {
        let bucket = Mutex::new(TokenBucket::new(f64::from(policy.rate), policy.rate, monotonic()));
        let breaker = Mutex::new(Breaker::new(policy.failures, policy.open_for));
        let guard = Self { provider, policy, bucket, breaker };
        guard.show_breaker(false);
        guard.register_counters();
        guard
    }

    /// Runs `attempt` until it succeeds, fails for good or has been tried often enough.
    pub(crate) async fn call<T, F>(&self, operation: &'static str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut tried, mut last) = (0, None);
        loop {
            if let Err(refused) = self.admit().await {
                return Err(last.unwrap_or(refused));
            }
            let error = match self.try_once(operation, attempt()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tried += 1;
            if !error.is_transient() || tried >= self.policy.tries {
                return Err(error);
            }
            match self.wait_before(tried, &error) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
            last = Some(error);
        }
    }

    /// Once, whatever breaker and rate limit say; a success closes the breaker.
    pub(crate) async fn probe<T>(&self, attempt: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = self.measure("probe", attempt).await;
        if result.is_ok() {
            self.record(None);
        }
        result
    }

    async fn admit(&self) -> Result<(), Error> {
        let now = monotonic();
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).admit(now)?;
        let wait = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now, self.policy.timeout);
        match wait {
            Ok(Duration::ZERO) => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(_) => {
                let message = format!("more than {} calls a second are waiting here", self.policy.rate);
                return Err(Error::throttled(message, None));
            }
        }
        Ok(())
    }

    async fn try_once<T>(
        &self,
        operation: &'static str,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = self.measure(operation, attempt).await;
        self.record(result.as_ref().err().filter(|error| error.is_transient()));
        result
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (provider, start) = (self.provider.as_str(), monotonic());
        let span = tracing::info_span!(
            "kms",
            otel.name = format_args!("kms {operation}"),
            otel.kind = "client",
            progressdb.kms.provider = provider,
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let result = match tokio::time::timeout(self.policy.timeout, attempt).instrument(span.clone()).await {
            Ok(result) => result,
            Err(_) => Err(Error::unavailable(format!("no response within {:?}", self.policy.timeout))),
        };
        let outcome = result.as_ref().err().map_or("ok", Error::code);
        if result.is_err() {
            span.record("error.type", outcome).record("otel.status_code", "ERROR");
        }
        metrics::counter!("progressdb_kms_calls_total", "provider" => provider, "operation" => operation,
            "outcome" => outcome)
        .increment(1);
        metrics::histogram!("progressdb_kms_call_seconds", "provider" => provider, "operation" => operation)
            .record(start.elapsed());
        if matches!(result, Err(Error::Throttled { .. })) {
            metrics::counter!("progressdb_kms_throttled_total", "provider" => provider).increment(1);
        }
        result
    }

    /// Registers the counters at 0, so that `increase()` sees the first failure too.
    fn register_counters(&self) {
        let provider = self.provider.as_str();
        for operation in OPERATIONS {
            for outcome in Error::CODES.into_iter().chain(["ok"]) {
                metrics::counter!("progressdb_kms_calls_total", "provider" => provider, "operation" => operation,
                    "outcome" => outcome)
                .increment(0);
            }
        }
        metrics::counter!("progressdb_kms_throttled_total", "provider" => provider).increment(0);
    }

    /// Tells the breaker how a call ended. Any response shows that the KMS is up; a `failure` is an error that may pass
    /// by itself.
    fn record(&self, failure: Option<&Error>) {
        let open = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).record(failure, monotonic());
        self.show_breaker(open);
    }

    fn show_breaker(&self, open: bool) {
        metrics::gauge!("progressdb_kms_breaker_open", "provider" => self.provider.as_str()).set(f64::from(open));
    }

    /// None if the KMS wants a longer wait than the timeout.
    fn wait_before(&self, tried: u32, error: &Error) -> Option<Duration> {
        let mut random = [0; 4];
        rand::fill(&mut random).ok()?;
        let wait = back_off(self.policy.back_off, tried, u32::from_le_bytes(random));
        match error {
            Error::Throttled { retry_after: Some(after), .. } if *after > self.policy.timeout => None,
            Error::Throttled { retry_after: Some(after), .. } => Some(wait.max(*after)),
            _ => Some(wait),
        }
    }
}

/// Full jitter: anything from nothing to `base` doubled with every try after the first.
fn back_off(base: Duration, tried: u32, random: u32) -> Duration {
    let longest = base * 2u32.saturating_pow(tried.saturating_sub(1));
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
