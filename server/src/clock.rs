//! Where time enters: Unix nanoseconds that never repeat and never go back within a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A source of unique, growing timestamps.
///
/// The wall clock rules as long as it grows. When it steps back, timestamps go on from the highest one used; when it
/// jumps ahead by more than `max_jump` while the machine measures that less time has passed, [`Clock::next`] refuses,
/// because one timestamp from a wild clock would stand above all later ones for ever.
#[derive(Debug)]
pub struct Clock {
    source: Source,
    highest: AtomicU64,
    max_jump: Duration,
}

#[derive(Debug)]
enum Source {
    /// The machine's clocks, and what both showed at the start.
    System { wall_at_start: u64, boot_at_start: u64 },
    #[cfg(test)]
    Manual(std::sync::Arc<AtomicU64>),
}

/// The wall clock jumped ahead by this many nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jumped(pub u64);

impl Clock {
    /// The machine's clock. `highest` is the highest timestamp ever used in the store.
    pub fn system(highest: u64, max_jump: Duration) -> Self {
        let source = Source::System { wall_at_start: wall_ns(), boot_at_start: boot_ns() };
        Self { source, highest: AtomicU64::new(highest), max_jump }
    }

    /// A clock that shows what `now` holds.
    #[cfg(test)]
    pub(crate) fn manual(now: std::sync::Arc<AtomicU64>) -> Self {
        Self { source: Source::Manual(now), highest: AtomicU64::new(0), max_jump: Duration::from_hours(24) }
    }

    /// The machine's wall clock in Unix nanoseconds, where no database is open yet.
    pub fn wall() -> u64 {
        wall_ns()
    }

    /// The time now, for comparisons; not unique.
    pub fn now(&self) -> u64 {
        match &self.source {
            Source::System { .. } => wall_ns(),
            #[cfg(test)]
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// A timestamp above every one given out before.
    pub fn next(&self) -> Result<u64, Jumped> {
        let now = self.now();
        check_jump(now, self.expected(now), self.max_jump)?;
        let previous = self
            .highest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |highest| Some(now.max(highest + 1)))
            .expect("the update never declines");
        Ok(now.max(previous + 1))
    }

    /// What the wall clock should show, by the time that has passed since the start.
    fn expected(&self, _now: u64) -> u64 {
        match &self.source {
            Source::System { wall_at_start, boot_at_start } => wall_at_start + (boot_ns() - boot_at_start),
            #[cfg(test)]
            Source::Manual(_) => _now,
        }
    }

    /// The highest timestamp given out.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }
}

/// A reading of the monotonic clock, for durations.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

fn check_jump(now: u64, expected: u64, max_jump: Duration) -> Result<(), Jumped> {
    let ahead = now.saturating_sub(expected);
    if u128::from(ahead) > max_jump.as_nanos() { Err(Jumped(ahead)) } else { Ok(()) }
}

#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_epoch.as_nanos()).expect("64 bits of nanoseconds reach to the year 2554")
}

/// Nanoseconds since the machine started, sleep included: a laptop's night is no jump.
fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn timestamps_grow_when_the_clock_stands_or_steps_back() {
        let now = Arc::new(AtomicU64::new(100));
        let clock = Clock::manual(now.clone());
        let first = [clock.next(), clock.next()];
        now.store(50, Ordering::Relaxed);
        let back = clock.next();
        now.store(200, Ordering::Relaxed);
        assert_eq!((first, back, clock.next()), ([Ok(100), Ok(101)], Ok(102), Ok(200)));
    }

    #[test]
    fn timestamps_go_on_above_the_store_s_highest() {
        let ahead = wall_ns() + 3_600_000_000_000;
        assert_eq!(Clock::system(ahead, Duration::from_hours(24)).next(), Ok(ahead + 1));
    }

    #[test]
    fn a_jump_beyond_the_limit_is_refused_and_one_within_is_not() {
        let limit = Duration::from_nanos(10);
        assert_eq!([check_jump(110, 100, limit), check_jump(111, 100, limit)], [Ok(()), Err(Jumped(11))]);
    }
}
