//! A token bucket: so many tokens a second, and as many at once as it holds when it is full.
//!
//! It neither reads a clock nor waits: the caller says what time it is.

use std::time::{Duration, Instant};

/// Its state is the time at which it will be full again; the tokens that it holds follow from it.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, at least 1, that gains `rate` a second, above 0.
    pub(crate) fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
        Self { interval, burst, full_at: now }
    }

    /// Takes a token and says how long to wait before using it. If that is longer than `patience`, takes none and says
    /// in the error how long the wait would have been.
    pub(crate) fn take(&mut self, now: Instant, patience: Duration) -> Result<Duration, Duration> {
        let wait = (self.full_in(now) + self.interval).saturating_sub(self.depth());
        if wait > patience {
            return Err(wait);
        }
        self.full_at = self.full_at.max(now) + self.interval;
        Ok(wait)
    }

    /// Tokens that can be taken without waiting.
    pub(crate) fn tokens(&self, now: Instant) -> u32 {
        let taken = self.full_in(now).as_nanos().div_ceil(self.interval.as_nanos());
        self.burst.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// The time until the bucket is full, if nobody takes from it.
    pub(crate) fn full_in(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// The time that an empty bucket takes to fill.
    fn depth(&self) -> Duration {
        self.interval.saturating_mul(self.burst)
    }
}

/// Bounds of the time between two tokens: they keep the sums of times far from an overflow.
const SHORTEST: Duration = Duration::from_nanos(1);
const LONGEST: Duration = Duration::from_hours(24 * 365);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn a_full_bucket_gives_its_burst_at_once_and_then_one_token_each_interval() {
        let now = monotonic();
        let mut bucket = TokenBucket::new(10.0, 10, now);
        let waits: Vec<_> = (0..13).map(|_| bucket.take(now, Duration::from_secs(5))).collect();
        let expected: Vec<_> = (0..13u32).map(|taken| Ok(TENTH * taken.saturating_sub(9))).collect();
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_bucket_refills_to_full_and_no_further() {
        let now = monotonic();
        let mut bucket = TokenBucket::new(10.0, 10, now);
        for _ in 0..10 {
            bucket.take(now, Duration::ZERO).expect("a token");
        }
        let mut count =
            |later: Duration| (0..100).take_while(|_| bucket.take(now + later, Duration::ZERO).is_ok()).count();
        assert_eq!([count(TENTH * 3), count(Duration::from_mins(9)), count(Duration::from_mins(9))], [3, 10, 0]);
    }

    #[test]
    fn who_would_wait_too_long_takes_nothing() {
        let now = monotonic();
        let mut bucket = TokenBucket::new(1.0, 1, now);
        let patience = Duration::from_secs(1);
        let waits = [(); 4].map(|()| bucket.take(now, patience));
        assert_eq!(waits, [Ok(Duration::ZERO), Ok(patience), Err(2 * patience), Err(2 * patience)]);
        assert_eq!(bucket.take(now + patience, patience), Ok(patience));
    }

    #[test]
    fn it_tells_how_much_it_holds_and_when_it_is_full() {
        let now = monotonic();
        let mut bucket = TokenBucket::new(0.5, 3, now);
        let holds = |bucket: &TokenBucket, later: u64| {
            let now = now + Duration::from_secs(later);
            (bucket.tokens(now), bucket.full_in(now).as_secs())
        };
        assert_eq!(holds(&bucket, 0), (3, 0));
        for expected in [(2, 2), (1, 4), (0, 6)] {
            bucket.take(now, Duration::ZERO).expect("a token");
            assert_eq!(holds(&bucket, 0), expected);
        }
        assert_eq!(
            [1, 2, 3, 5, 6, 60].map(|later| holds(&bucket, later)),
            [(0, 5), (1, 4), (1, 3), (2, 1), (3, 0), (3, 0)]
        );
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_no_tokens() {
        let now = monotonic() + TENTH;
        let mut bucket = TokenBucket::new(1.0, 1, now);
        assert_eq!(bucket.take(now, Duration::ZERO), Ok(Duration::ZERO));
        assert_eq!(bucket.take(now - TENTH, Duration::ZERO), Err(Duration::from_secs(1) + TENTH));
        assert_eq!(bucket.tokens(now - TENTH), 0);
    }

    #[test]
    fn the_extremes_of_what_may_be_configured_hold() {
        let now = monotonic();
        for (rate, burst) in [(1e-9, u32::MAX), (f64::MIN_POSITIVE, 1), (1e12, u32::MAX), (1e12, 1)] {
            let mut bucket = TokenBucket::new(rate, burst, now);
            assert_eq!(bucket.take(now, Duration::ZERO), Ok(Duration::ZERO), "{rate} {burst}");
            assert_eq!(bucket.tokens(now), burst - 1, "{rate} {burst}");
        }
    }
}
