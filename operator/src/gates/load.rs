//! The synthetic load: pairs of a post and a list, by some probe users at once, each in a thread of its own. The same is
//! measured on the old pod, as the baseline, and on the new one.
//!
//! The first pairs of each user are not measured: caches are cold then. What the rate limit refuses is waited for and not
//! measured either; each user has a limit of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::future::join_all;
use hyper::Method;
use kube::Client as Cluster;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    GateResult, Target, Verdict,
    client::{Answer, Client},
    keys::Keys,
    registry::unless,
    user::{PREFIX, THREADS, Trouble, User, message},
};
use crate::crd::Measured;

/// How many users call at once, each on its own connection.
const USERS: usize = 4;
/// So many pairs of each are not measured.
const WARM_UP: usize = 10;
/// The longest that is measured.
const TIME: Duration = Duration::from_secs(30);
/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// After a request that failed, and where a server refuses without saying for how long.
const PAUSE: Duration = Duration::from_millis(100);
/// More samples than any percentile needs.
const MAX_SAMPLES: u32 = 100_000;

/// Measures, and removes what it made; `None` if it was stopped.
pub(super) async fn run(
    cluster: &Cluster,
    target: &Target,
    samples: u32,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<GateResult> {
    let wanted = u64::from(samples.clamp(1, MAX_SAMPLES));
    let threshold = format!("{wanted} requests within {} s", TIME.as_secs());
    let mut lanes = match unless(stopped, lanes(cluster, target)).await? {
        Ok(lanes) => lanes,
        Err(why) => return Some(GateResult::nothing(&threshold, &why)),
    };
    let left = AtomicU64::new(wanted);
    let until = Instant::now() + TIME;
    let measured = unless(stopped, join_all(lanes.iter_mut().map(|lane| lane.work(&left, until)))).await;
    let removed = join_all(lanes.iter_mut().map(Lane::remove)).await;
    measured?;
    let figures = figures(&lanes);
    let mut troubles: Vec<String> = lanes.into_iter().filter_map(|lane| lane.trouble).take(1).collect();
    let left_over = removed.into_iter().find_map(Result::err);
    troubles.extend(left_over.map(|trouble| format!("a thread may be left: {trouble}")));
    Some(result(figures, wanted, &threshold, &troubles.join("; ")))
}

fn result(figures: Measured, wanted: u64, threshold: &str, trouble: &str) -> GateResult {
    let Measured { requests, errors, .. } = figures;
    let verdict =
        if requests.unsigned_abs() >= wanted && errors < requests { Verdict::Passed } else { Verdict::Inconclusive };
    let why = match (verdict, trouble) {
        (Verdict::Inconclusive, "") => "too few requests in this time: the server is slow, or its rate limit is low",
        (_, trouble) => trouble,
    };
    let result = GateResult::new(verdict, &figures.to_string(), threshold, requests, why);
    GateResult { load: Some(figures), ..result }
}

/// One user and what it measured.
struct Lane {
    user: User,
    thread: Option<String>,
    /// Of each request that worked, in microseconds.
    times: Vec<u32>,
    errors: i64,
    /// Why a request failed, the first time.
    trouble: Option<String>,
}

async fn lanes(cluster: &Cluster, target: &Target) -> Result<Vec<Lane>, String> {
    let keys = Keys::read(cluster, target).await?;
    let lane = |number| {
        let id = format!("{PREFIX}load-{number}");
        let headers = keys.writing(&id, target)?;
        let user = User::new(Client::new(target.api.to_string(), LIMIT), id, headers);
        Ok(Lane { user, thread: None, times: Vec::new(), errors: 0, trouble: None })
    };
    (0..USERS).map(lane).collect()
}

impl Lane {
    /// Makes requests until none is left or the time is over; what then is under way is not measured.
    async fn work(&mut self, left: &AtomicU64, until: Instant) {
        let work = async {
            while let Err(trouble) = self.begin().await {
                if !take(left) {
                    return;
                }
                // It was waited for once: from here on each try is one more error.
                self.user.patience = Duration::ZERO;
                self.fail(trouble.to_string()).await;
            }
            while self.pair(left).await {}
        };
        // What it measured so far stands.
        let _ = timeout_at(until, work).await;
    }

    /// Makes the thread, and the pairs that are not measured.
    async fn begin(&mut self) -> Result<(), Trouble> {
        self.user.remove_left_overs().await?;
        let (_, key) = self.user.create_thread("load").await?;
        self.thread = Some(key);
        for number in 0..WARM_UP {
            let [(post, path, body), (get, page, _)] = self.requests(number);
            self.user.ask(post, &path, body).await?.expect(&[202])?;
            self.user.ask(get, &page, "").await?.expect(&[200])?;
        }
        Ok(())
    }

    /// Posts and lists; false if no request was left.
    async fn pair(&mut self, left: &AtomicU64) -> bool {
        for (method, path, body) in self.requests(self.times.len()) {
            if !take(left) {
                return false;
            }
            self.measure(method, &path, &body).await;
        }
        true
    }

    async fn measure(&mut self, method: Method, path: &str, body: &str) {
        let wanted = if method == Method::POST { 202 } else { 200 };
        loop {
            let started = Instant::now();
            match self.user.ask_once(method.clone(), path, body.to_owned()).await {
                Ok(Answer { status: 429, retry_after, .. }) => sleep(retry_after.unwrap_or(PAUSE)).await,
                Ok(answer) if answer.status == wanted => {
                    let micros = started.elapsed().as_micros();
                    return self.times.push(u32::try_from(micros).unwrap_or(u32::MAX));
                }
                Ok(Answer { status, body, .. }) => {
                    return self.fail(format!("{method} {path}: {status}: {}", message(&body))).await;
                }
                Err(lost) => return self.fail(format!("{method} {path}: {lost}")).await,
            }
        }
    }

    async fn fail(&mut self, trouble: String) {
        self.errors += 1;
        self.trouble.get_or_insert(trouble);
        sleep(PAUSE).await;
    }

    fn requests(&self, number: usize) -> [(Method, String, String); 2] {
        let messages = format!("{THREADS}/{}/messages", self.thread.as_deref().unwrap_or_default());
        let body =
            json!({ "body": { "text": format!("message {number} of a load: {}", "as long as most are ".repeat(8)) } });
        [
            (Method::POST, messages.clone(), body.to_string()),
            (Method::GET, format!("{messages}?limit=20"), String::new()),
        ]
    }

    async fn remove(&mut self) -> Result<(), Trouble> {
        self.user.clean_up(self.thread.as_deref()).await
    }
}

/// Takes one of the requests that are left.
fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn figures(lanes: &[Lane]) -> Measured {
    let mut times: Vec<u32> = lanes.iter().flat_map(|lane| lane.times.iter().copied()).collect();
    times.sort_unstable();
    let errors: i64 = lanes.iter().map(|lane| lane.errors).sum();
    Measured {
        requests: times.len() as i64 + errors,
        errors,
        p50_micros: percentile(&times, 50),
        p99_micros: percentile(&times, 99),
    }
}

/// The time that so many of a hundred do not exceed; 0 without any.
fn percentile(sorted: &[u32], percent: usize) -> i64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().map_or(0, i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 99)), (7, 7, 0));
        assert_eq!(percentile(&[1, 2, 3], 99), 3);
    }

    #[test]
    fn a_load_is_measured_if_all_requests_were_made_and_some_worked() {
        let verdict = |requests, errors| {
            let figures = Measured { requests, errors, ..Measured::default() };
            result(figures, 100, "", "").verdict
        };
        assert_eq!(verdict(100, 0), Verdict::Passed);
        assert_eq!(verdict(100, 99), Verdict::Passed);
        assert_eq!((verdict(100, 100), verdict(99, 0)), (Verdict::Inconclusive, Verdict::Inconclusive));
    }
}
