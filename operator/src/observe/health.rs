//! Whether the watches work. A watch that fails is retried for ever. When failures last, the operator is not ready and says
//! why, because what it knows of the cluster is out of date.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

/// Failures that last less long are not reported.
const GRACE: Duration = Duration::from_secs(60);
/// A failing watch is retried at least this often: one that has reported no failure for longer works.
const RETRIED: Duration = Duration::from_secs(90);

#[derive(Debug)]
struct Failure {
    since: Instant,
    last: Instant,
    why: String,
}

/// Which watches fail, by the name of their kind.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<&'static str, Failure>>);

impl Health {
    /// A watch failed.
    pub fn failed(&self, kind: &'static str, why: String) {
        tracing::warn!(event = "watch.failed", kind, error = why, "trying again");
        let now = Instant::now();
        let mut failures = self.lock();
        let failure = failures.entry(kind).or_insert_with(|| Failure { since: now, last: now, why: String::new() });
        if now.duration_since(failure.last) > RETRIED {
            failure.since = now;
        }
        (failure.last, failure.why) = (now, why);
    }

    /// A watch works again, or is no longer needed.
    pub fn heard(&self, kind: &'static str) {
        self.lock().remove(kind);
    }

    /// A failure that lasts.
    pub fn problem(&self) -> Option<String> {
        let now = Instant::now();
        let failures = self.lock();
        let (kind, failure) = failures.iter().find(|(_, failure)| {
            let lasts = failure.last.duration_since(failure.since) >= GRACE;
            lasts && now.duration_since(failure.last) <= RETRIED
        })?;
        Some(format!("the watch of {kind} fails: {}", failure.why))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Failure>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fail_for(health: &Health, seconds: u64) {
        for _ in 0..=seconds / 30 {
            health.failed("Pod", "forbidden".into());
            tokio::time::advance(Duration::from_secs(30)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_for_long_is_told_until_it_hears_something() {
        let health = Health::default();
        fail_for(&health, 30).await;
        assert_eq!(health.problem(), None);
        fail_for(&health, 30).await;
        assert_eq!(health.problem(), Some("the watch of Pod fails: forbidden".into()));
        health.heard("Pod");
        assert_eq!(health.problem(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_no_longer_fails_is_not_told() {
        let health = Health::default();
        fail_for(&health, 90).await;
        tokio::time::advance(RETRIED).await;
        assert_eq!(health.problem(), None);
        fail_for(&health, 30).await;
        assert_eq!(health.problem(), None);
    }
}
