//! Waiting for a condition, never for an amount of time.

use std::time::{Duration, Instant};

/// How long anything may take that normally takes milliseconds.
pub const GENEROUS: Duration = Duration::from_secs(60);

/// How long to wait between two looks at something on this machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Polls until `condition` holds; fails the test when it does not within [`GENEROUS`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(poll(GENEROUS, || condition().then_some(())).is_some(), "waited in vain until {what}");
}

/// Looks again until there is something; `None` when there is nothing within `limit`.
pub fn poll<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(PAUSE, limit, look)
}

/// [`poll`] with another pause between two looks, for what is not on this machine.
pub fn poll_every<T>(pause: Duration, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
    }
}

/// The result of `work`, and how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
