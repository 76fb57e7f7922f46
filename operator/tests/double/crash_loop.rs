//! A server that ends again and again, phase by phase as its node tells it: one condition, until it runs well.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::running::Running;

/// The node with a server that ends again and again.
struct Node {
    running: Running,
    restarts: u32,
    /// How the server ended last.
    last: Value,
    /// What was told, each time it was something else.
    told: Vec<Value>,
}

impl Node {
    fn now(&self) -> Timestamp {
        self.running.cluster.server.with(|store| store.now())
    }

    /// The server is in this state for so many seconds.
    async fn phase(&mut self, state: Value, ready_since: Option<Timestamp>, seconds: i64) {
        let ready = json!({
            "type": "Ready", "status": if ready_since.is_some() { "True" } else { "False" },
            "lastTransitionTime": ready_since.unwrap_or_else(|| self.now()).to_string(),
        });
        let server = json!({
            "name": "server", "ready": ready_since.is_some(), "restartCount": self.restarts, "state": state,
            "lastState": self.last, "imageID": self.running.status("db")["imageId"],
        });
        let status = json!({
            "phase": "Running", "podIP": "10.1.0.1", "conditions": [ready], "containerStatuses": [server],
        });
        self.running.cluster.world.server_status = Some(status);
        for _ in 0..seconds {
            self.running.step().await;
            let conditions = self.running.status("db")["conditions"].clone();
            let told = |name: &str| {
                let found = conditions.as_array().and_then(|all| all.iter().find(|one| one["type"] == name)).cloned();
                found.unwrap_or_default()
            };
            self.told.push(json!([told("Ready"), told("Available"), told("Stalled")]));
            self.told.dedup();
        }
    }

    /// The server runs for ten seconds, is ready in the last of them if it comes so far, and ends; then it waits.
    async fn crash(&mut self, becomes_ready: bool, back_off: i64) {
        let started = self.now();
        let runs = json!({ "running": { "startedAt": started.to_string() } });
        self.phase(runs.clone(), None, 7).await;
        let ready = becomes_ready.then(|| self.now());
        self.phase(runs, ready, 3).await;
        let ended = json!({ "terminated": {
            "exitCode": 1, "message": "cannot open the store", "startedAt": started.to_string(),
            "finishedAt": self.now().to_string(),
        } });
        self.phase(ended.clone(), None, 2).await;
        self.last = ended;
        if back_off > 0 {
            self.phase(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), None, back_off).await;
        }
        self.restarts += 1;
    }

    fn reasons(&self) -> Vec<String> {
        self.told.iter().map(|told| told[2]["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_one_condition_until_the_server_runs_well() {
    let running = Running::installed(json!({})).await;
    let mut node = Node { running, restarts: 0, last: json!({}), told: Vec::new() };
    // The first restart comes at once.
    node.crash(false, 0).await;
    node.crash(false, 10).await;
    assert_eq!(node.reasons().last().map(String::as_str), Some("Crashing"), "{:#?}", node.told);
    let crashing = node.told.pop().unwrap();
    assert_eq!([&crashing[0]["status"], &crashing[2]["status"]], ["False", "True"]);
    let message = crashing[2]["message"].as_str().unwrap();
    assert!(message.ends_with("exit code 1: cannot open the store"), "{message}");
    node.told.clear();
    node.running.cluster.server.take_calls();
    for (becomes_ready, back_off) in [(false, 20), (true, 40), (false, 80), (true, 160), (false, 300), (true, 300)] {
        node.crash(becomes_ready, back_off).await;
    }
    assert_eq!(node.told, [crashing], "it flaps");
    let calls = node.running.cluster.server.take_calls();
    let writes: Vec<&String> = calls.iter().filter(|call| !call.starts_with("GET ")).collect();
    assert!(writes.is_empty(), "{writes:#?}");

    // It runs, and what it could not do before it now does.
    node.told.clear();
    let started = node.now();
    let runs = json!({ "running": { "startedAt": started.to_string() } });
    node.phase(runs.clone(), None, 5).await;
    let ready = node.now();
    node.phase(runs, Some(ready), 180).await;
    assert_eq!(node.reasons(), ["Crashing", "NothingInTheWay"]);
    let serves_since: Timestamp = node.told[1][0]["lastTransitionTime"].as_str().unwrap().parse().unwrap();
    assert!(serves_since.duration_since(ready) >= SignedDuration::from_secs(60), "{:#?}", node.told);
    assert_eq!(node.running.cluster.condition("db", "Ready").1, "Serving");
    node.running.comes_to_rest("a server that runs well", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stumbles_once_and_serves_is_in_no_crash_loop() {
    let running = Running::installed(json!({})).await;
    let mut node = Node { running, restarts: 0, last: json!({}), told: Vec::new() };
    node.crash(false, 0).await;
    let started = node.now();
    node.phase(json!({ "running": { "startedAt": started.to_string() } }), Some(started), 10).await;
    assert_eq!(node.running.cluster.condition("db", "Ready").1, "Serving");
    assert!(node.reasons().iter().all(|reason| reason == "NothingInTheWay"), "{:#?}", node.told);
}
