//! Whether the watches hear anything. A watch that fails is begun anew for ever; when that lasts, the operator is not ready
//! and says why, because it then acts on a picture that grows old.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

/// A failure that is over sooner is nothing to tell.
const PATIENCE: Duration = Duration::from_secs(60);
/// A watch that fails is tried again at least this often, so that no news for longer is good news.
const SILENCE: Duration = Duration::from_secs(90);

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
        if now.duration_since(failure.last) > SILENCE {
            failure.since = now;
        }
        (failure.last, failure.why) = (now, why);
    }

    /// A watch hears something, or is no longer needed.
    pub fn heard(&self, kind: &'static str) {
        self.lock().remove(kind);
    }

    /// What is wrong with the watches, if it has been for long.
    pub fn complaint(&self) -> Option<String> {
        let now = Instant::now();
        let failures = self.lock();
        let (kind, failure) = failures.iter().find(|(_, failure)| {
            let lasts = failure.last.duration_since(failure.since) >= PATIENCE;
            lasts && now.duration_since(failure.last) <= SILENCE
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
        assert_eq!(health.complaint(), None);
        fail_for(&health, 30).await;
        assert_eq!(health.complaint(), Some("the watch of Pod fails: forbidden".into()));
        health.heard("Pod");
        assert_eq!(health.complaint(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_no_longer_fails_is_not_told() {
        let health = Health::default();
        fail_for(&health, 90).await;
        tokio::time::advance(SILENCE).await;
        assert_eq!(health.complaint(), None);
        fail_for(&health, 30).await;
        assert_eq!(health.complaint(), None);
    }
}
