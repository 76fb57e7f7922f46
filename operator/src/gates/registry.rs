//! The gates of this process: which run, and what those found that ended.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep},
};

use super::{Gate, GateKey, GateResult, Target, counters, health, load, logs, prometheus, smoke, tail};

/// The gates of this process.
pub struct Gates {
    client: Client,
    state: Arc<State>,
}

struct State {
    known: Mutex<Known>,
    /// Told whenever a gate ended.
    ended: Notify,
    /// One load at a time: two would measure each other.
    loads: Semaphore,
}

#[derive(Default)]
struct Known {
    gates: HashMap<GateKey, Record>,
    /// How many were ever started.
    started: u64,
    /// The resources of which a gate ended, until somebody hears of it.
    untold: BTreeSet<String>,
}

/// One gate.
struct Record {
    /// Tells its task from that of another gate with the same key, before it or after it.
    number: u64,
    /// Its task ends when this is dropped; `None` when it has ended.
    running: Option<oneshot::Sender<()>>,
    result: Option<GateResult>,
    started: Instant,
    /// Whether it is one of many that are read once, and then are in the way.
    is_passing: bool,
}

impl Gates {
    /// Without any. Secrets and logs are read with this client.
    pub fn new(client: Client) -> Self {
        let state = State { known: Mutex::default(), ended: Notify::new(), loads: Semaphore::new(1) };
        Self { client, state: Arc::new(state) }
    }

    /// What a gate found; `None` if it was not started, or runs and found nothing yet. A health gate shows what it saw last as
    /// inconclusive while it runs.
    pub fn result(&self, key: &GateKey) -> Option<GateResult> {
        self.state.known().gates.get(key)?.result.clone()
    }

    /// What the gates of an upgrade have found.
    pub fn of_upgrade(&self, resource_uid: &str, upgrade: &str) -> Vec<(GateKey, GateResult)> {
        let known = self.state.known();
        let ours = known.gates.iter().filter(|(key, _)| key.resource_uid == resource_uid && key.upgrade == upgrade);
        ours.filter_map(|(key, record)| Some((key.clone(), record.result.clone()?))).collect()
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&self, key: &GateKey) -> bool {
        self.state.known().gates.get(key).is_some_and(|record| record.running.is_some())
    }

    /// Starts a gate; does nothing if it runs or has ended. Must be called within a runtime.
    pub fn start(&self, key: GateKey, gate: Gate, target: Target) {
        let (running, mut stopped) = oneshot::channel();
        let number = {
            let mut known = self.state.known();
            known.started += 1;
            let number = known.started;
            let is_passing = matches!(gate, Gate::Counters { .. });
            if is_passing && !known.gates.contains_key(&key) {
                known.drop_passed(&key);
            }
            let Entry::Vacant(entry) = known.gates.entry(key.clone()) else { return };
            entry.insert(Record { number, started: Instant::now(), running: Some(running), result: None, is_passing });
            number
        };
        let (client, state) = (self.client.clone(), Arc::clone(&self.state));
        tokio::spawn(async move {
            let shown = |result| state.keep(&key, number, result, false);
            if let Some(result) = Box::pin(run((&client, &state.loads), gate, &target, shown, &mut stopped)).await {
                state.keep(&key, number, result, true);
            }
        });
    }

    /// Drops what is known of a resource, but for one upgrade of it. What runs is ended, and removes what it made.
    pub fn forget(&self, resource_uid: &str, but_upgrade: Option<&str>) {
        let mut known = self.state.known();
        known.gates.retain(|key, _| key.resource_uid != resource_uid || but_upgrade == Some(key.upgrade.as_str()));
        if !known.gates.keys().any(|key| key.resource_uid == resource_uid) {
            known.untold.remove(resource_uid);
        }
    }

    /// Resolves with the uid of a resource of which a gate ended; of several that end meanwhile, one call tells.
    pub async fn changed(&self) -> String {
        loop {
            // Before the look, so that nothing is missed between it and the wait.
            let ended = self.state.ended.notified();
            if let Some(uid) = self.state.known().untold.pop_first() {
                return uid;
            }
            ended.await;
        }
    }
}

impl Known {
    /// Drops what was counted before: a comparison that waits for clients looks for hours.
    fn drop_passed(&mut self, next: &GateKey) {
        let is_of = |key: &GateKey| key.resource_uid == next.resource_uid && key.upgrade == next.upgrade;
        self.gates.retain(|key, record| !(is_of(key) && record.is_passing && record.running.is_none()));
    }
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding it")
    }

    /// Keeps what a gate found, if it was not forgotten.
    fn keep(&self, key: &GateKey, number: u64, result: GateResult, is_last: bool) {
        let mut known = self.known();
        let Some(record) = known.gates.get_mut(key).filter(|record| record.number == number) else { return };
        let took = record.started.elapsed().as_millis();
        let took_millis = is_last.then(|| i64::try_from(took).unwrap_or(i64::MAX));
        record.result = Some(GateResult { took_millis, ..result });
        if is_last {
            record.running = None;
            known.untold.insert(key.resource_uid.clone());
            self.ended.notify_one();
        }
    }
}

/// Runs a gate to its end; `None` if it was stopped.
async fn run(
    context: (&Client, &Semaphore),
    gate: Gate,
    target: &Target,
    shown: impl Fn(GateResult),
    stopped: &mut oneshot::Receiver<()>,
) -> Option<GateResult> {
    let (client, loads) = context;
    match gate {
        Gate::Health { successes, period, expect } => {
            unless(stopped, health::run(target.management, successes, period, &expect, shown)).await
        }
        Gate::Logs { pod } => unless(stopped, logs::run(client, &target.namespace, &pod)).await,
        Gate::Tail { pod, container } => unless(stopped, tail::run(client, target, &pod, &container)).await,
        Gate::Counters { pods } => unless(stopped, counters::run(&pods)).await,
        Gate::Prometheus { address, queries } => unless(stopped, prometheus::run(&address, &queries)).await,
        // These two remove what they made before they stop.
        Gate::Smoke { read_only } => smoke::run(client, target, read_only, stopped).await,
        Gate::Load { samples } => {
            let _turn = unless(stopped, loads.acquire()).await?;
            load::run(client, target, samples, stopped).await
        }
    }
}

/// The result of `work`; `None` if it was stopped before.
pub(super) async fn unless<T>(stopped: &mut oneshot::Receiver<()>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        _ = stopped => None,
    }
}

/// So often the API server is asked, and the time in between.
const TRIES: (u32, Duration) = (5, Duration::from_secs(1));

/// The answer of the API server, which is asked again if there is none: a gate runs once.
pub(super) async fn repeated<T, F>(mut ask: impl FnMut() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for _ in 1..TRIES.0 {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(_) => sleep(TRIES.1).await,
        }
    }
    ask().await
}
