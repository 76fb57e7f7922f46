//! How many requests a second a client may make: a token bucket for each API key and user.
//!
//! At most [`MAX_BUCKETS`] buckets are remembered; the least recently used ones go first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::http::error::Error;
use crate::http::settings::RateLimit;
use crate::token_bucket::TokenBucket;

const MAX_BUCKETS: u64 = 100_000;
const BUCKET_IDLE: Duration = Duration::from_secs(600);

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Token buckets, one for each API key and user.
pub(in crate::http) struct RateLimiter {
    rate: RateLimit,
    buckets: Cache<(u32, Box<str>), Arc<Mutex<TokenBucket>>>,
}

/// What the bucket holds after a request, for the headers of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Allowance {
    limit: u32,
    remaining: u32,
    /// Seconds until the bucket is full again.
    reset_s: u64,
    /// Seconds until the next token, if there was none.
    retry_after_s: Option<u64>,
}

impl RateLimiter {
    pub(in crate::http) fn new(rate: RateLimit) -> Self {
        let buckets = Cache::builder()
            .max_capacity(MAX_BUCKETS)
            .time_to_idle(BUCKET_IDLE)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { rate, buckets }
    }

    /// Takes a token for `user` of `key` at `now`.
    pub(in crate::http) fn take(&self, key: u32, user: &str, now: Instant) -> Allowance {
        let (RateLimit { rps, burst }, now) = (self.rate, now.into_std());
        let new = || Arc::new(Mutex::new(TokenBucket::new(rps, burst, now)));
        let bucket = self.buckets.get_with((key, user.into()), new);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = bucket.take(now, Duration::ZERO);
        Allowance {
            limit: burst,
            remaining: bucket.tokens(now),
            reset_s: whole_seconds(bucket.full_in(now)),
            retry_after_s: taken.err().map(whole_seconds),
        }
    }
}

/// Whole seconds, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Allowance {
    pub(in crate::http) fn check(self) -> Result<(), Error> {
        match self.retry_after_s {
            Some(retry_after_s) => Err(Error::RateLimited { retry_after_s }),
            None => Ok(()),
        }
    }

    pub(in crate::http) fn write(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, self.reset_s.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limiter = RateLimiter::new(RateLimit { rps: 2.0, burst: 2 });
        let start = Instant::now();
        let take = |ms| limiter.take(0, "u", start + Duration::from_millis(ms));
        let fine = |remaining, reset_s| Allowance { limit: 2, remaining, reset_s, retry_after_s: None };
        assert_eq!(take(0), fine(1, 1));
        assert_eq!(take(0), fine(0, 1));
        assert_eq!(take(0), Allowance { limit: 2, remaining: 0, reset_s: 1, retry_after_s: Some(1) });
        assert_eq!(take(499).retry_after_s, Some(1));
        assert_eq!(take(500), fine(0, 1));
        assert_eq!(take(60_000), fine(1, 1));
    }

    #[test]
    fn users_and_keys_have_buckets_of_their_own() {
        let limiter = RateLimiter::new(RateLimit { rps: 1.0, burst: 1 });
        let now = Instant::now();
        for (key, user) in [(0, "a"), (0, "b"), (1, "a"), (1, "")] {
            assert_eq!(limiter.take(key, user, now).retry_after_s, None);
            assert_eq!(limiter.take(key, user, now).retry_after_s, Some(1));
        }
    }

    #[test]
    fn buckets_are_bounded_however_many_users_are_named() {
        let limiter = RateLimiter::new(RateLimit { rps: 1.0, burst: 1 });
        let now = Instant::now();
        for n in 0..2 * MAX_BUCKETS {
            limiter.take(0, &n.to_string(), now);
        }
        limiter.buckets.run_pending_tasks();
        assert!(limiter.buckets.entry_count() <= MAX_BUCKETS, "{} buckets", limiter.buckets.entry_count());
        let newest = (2 * MAX_BUCKETS - 1).to_string();
        assert_eq!(limiter.take(0, &newest, now).retry_after_s, Some(1), "the newest are remembered");
    }
}
