//! A token bucket: so many calls a second, and as many at once.

use std::time::{Duration, Instant};

/// Keeps only when the next token that nobody has taken is there; a full bucket is one that far behind.
#[derive(Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    depth: Duration,
    next: Instant,
}

impl Bucket {
    /// Full: `rate` tokens a second, above 0, and as many at once.
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate;
        let depth = interval * (rate - 1);
        Self { interval, depth, next: now.checked_sub(depth).unwrap_or(now) }
    }

    /// Takes a token and says how long to wait before using it; takes none if that is longer than `patience`.
    pub(crate) fn take(&mut self, now: Instant, patience: Duration) -> Option<Duration> {
        let fullest = now.checked_sub(self.depth).unwrap_or(now);
        let token = self.next.max(fullest);
        let wait = token.saturating_duration_since(now);
        if wait > patience {
            return None;
        }
        self.next = token + self.interval;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn a_full_bucket_gives_a_second_s_worth_at_once_and_then_one_each_interval() {
        let now = monotonic() + Duration::from_hours(1);
        let mut bucket = Bucket::new(10, now);
        let waits: Vec<_> = (0..13).map(|_| bucket.take(now, Duration::from_secs(5))).collect();
        let wanted: Vec<_> = (0..13u32).map(|taken| Some(TENTH * taken.saturating_sub(9))).collect();
        assert_eq!(waits, wanted);
    }

    #[test]
    fn a_bucket_refills_to_full_and_no_further() {
        let now = monotonic() + Duration::from_hours(1);
        let mut bucket = Bucket::new(10, now);
        while bucket.take(now, Duration::ZERO).is_some() {}
        let mut count =
            |later: Duration| (0..).take_while(|_| bucket.take(now + later, Duration::ZERO).is_some()).count();
        assert_eq!([count(TENTH * 3), count(Duration::from_mins(9)), count(Duration::from_mins(9))], [3, 10, 0]);
    }

    #[test]
    fn who_would_wait_too_long_takes_nothing() {
        let now = monotonic() + Duration::from_hours(1);
        let mut bucket = Bucket::new(1, now);
        let patience = Duration::from_secs(1);
        let waits = [(); 4].map(|()| bucket.take(now, patience));
        assert_eq!(waits, [Some(Duration::ZERO), Some(patience), None, None]);
        assert_eq!(bucket.take(now + patience, patience), Some(patience));
    }
}
