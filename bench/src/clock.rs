//! The generator's only clock.

use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic instant of this call.
#[expect(clippy::disallowed_methods, reason = "the one place where the generator reads the time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since 1970, for the rows of peers that get their times from the client.
#[expect(clippy::disallowed_methods, reason = "the one place where the generator reads the time")]
pub(crate) fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Has the kernel wake this thread when it asked for it, and not up to 0.05 ms later together with others.
pub(crate) fn sleep_precisely() {
    // Refused or not: how late the generator is, is measured.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Puts this thread to sleep until `instant`; the timers of the runtime round up to whole milliseconds.
#[expect(clippy::disallowed_methods, reason = "for a dedicated pacing thread, never for a runtime worker")]
pub(crate) fn sleep_thread_until(instant: Instant) {
    let left = instant.saturating_duration_since(now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}

/// Waits without holding a thread, to the millisecond.
pub(crate) async fn sleep_until(instant: Instant) {
    tokio::time::sleep_until(instant.into()).await;
}
