//! The whole operator with its watches in a cluster whose time is the test's: a second passes when nothing is left to be
//! done in the one before.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use progressdb_operator::{
    clock::Clock,
    controller::{self, Context},
    lease::Leadership,
    observe::Cache,
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{cluster::Cluster, gating::Gates};

/// An operator at work. Tests that have one run with time paused.
pub struct Running {
    pub cluster: Cluster,
    pub cache: Arc<Cache>,
    operator: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Running {
    /// Starts an operator in a cluster.
    pub fn start(cluster: Cluster) -> Self {
        let mut running = Self { cluster, cache: Arc::default(), operator: None };
        running.start_operator();
        running
    }

    fn start_operator(&mut self) {
        let client = self.cluster.server.client();
        self.cache = Arc::new(Cache::default());
        let clock = Clock::Set(Arc::clone(&self.cluster.seconds));
        let context = Context::new(
            client.clone(),
            Arc::clone(&self.cache),
            Leadership::alone(),
            clock,
            self.cluster.probe.clone(),
        )
        .with_gates(Arc::new(Gates::new(&self.cluster.server, self.cluster.world.servers())));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // Whoever drops the sender stops it as well.
            let _ = stopped.await;
        };
        let passes = async move { controller::run(client, None, Arc::new(context), stopped).await };
        self.operator = Some((stop, tokio::spawn(passes)));
    }

    /// Stops the operator and starts another that knows nothing.
    pub async fn restart(&mut self) {
        if let Some((stop, operator)) = self.operator.take() {
            drop(stop);
            operator.await.unwrap();
        }
        self.start_operator();
    }

    /// One second passes.
    pub async fn step(&mut self) {
        self.cluster.world.step();
        let now = self.cluster.server.with(|store| store.now().as_second());
        self.cluster.seconds.store(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// So many seconds pass; returns the calls that were made in them. Watches are none.
    pub async fn calls_in(&mut self, seconds: usize) -> Vec<String> {
        self.cluster.server.take_calls();
        for _ in 0..seconds {
            self.step().await;
        }
        self.cluster.server.take_calls()
    }

    /// So many seconds pass; returns what was written in them.
    pub async fn writes_in(&mut self, seconds: usize) -> Vec<String> {
        self.calls_in(seconds).await.into_iter().filter(|call| !call.starts_with("GET ")).collect()
    }

    /// Goes on until this is so.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) {
        for _ in 0..600 {
            if done(&self.cluster) {
                return;
            }
            self.step().await;
        }
        panic!("{what} does not happen: {:#}", self.status("db"));
    }

    /// Makes `db` with more in its spec than the least, and has it serve and rest.
    pub async fn installed(more: Value) -> Self {
        let mut running = Self::start(Cluster::new());
        running.cluster.create("db", more);
        running.until("serving", |cluster| cluster.condition("db", "Ready").0 == "True").await;
        running.until("rest", |cluster| cluster.condition("db", "Reconciling").0 == "False").await;
        running
    }

    pub fn status(&self, name: &str) -> Value {
        self.cluster.get("ProgressDB", name).unwrap_or_default()["status"].clone()
    }

    /// Holds that what happened costs at most so many writes in five minutes and none in twenty more, and that the
    /// resource then says that it rests.
    pub async fn comes_to_rest(&mut self, what: &str, most: usize) {
        let writes = self.writes_in(300).await;
        assert!(writes.len() <= most, "{what}: {} writes: {writes:#?}", writes.len());
        assert_eq!(self.writes_in(1_200).await, Vec::<String>::new(), "{what}: it does not come to rest");
        let (status, reason, message) = self.cluster.condition("db", "Reconciling");
        assert_eq!(status, "False", "{what}: {reason}: {message}");
    }
}
