//! The whole operator with its watches, as it runs in a cluster.

use std::{sync::Arc, time::Duration};

use progressdb_operator::{
    clock::Clock,
    controller::{self, Context},
    lease::Leadership,
    metrics::Metrics,
    observe::Cache,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{api::Key, cluster::Cluster};

/// Lets the operator and the world work until `done`, however long that takes within a minute.
async fn until(cluster: &mut Cluster, what: &str, mut done: impl FnMut(&Cluster) -> bool) {
    for _ in 0..6_000 {
        cluster.world.step();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if done(cluster) {
            return;
        }
    }
    panic!("{what} does not happen");
}

/// Passes that ended, by what the operator counts.
fn passes(metrics: &Metrics) -> u64 {
    let text = metrics.render();
    let counts = text.lines().filter(|line| line.starts_with("progressdb_operator_reconciles_total{"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

fn is_settled(cluster: &Cluster) -> bool {
    let resource = cluster.get("ProgressDB", "db").unwrap_or_default();
    let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let rests = |condition: &Value| condition["type"] == "Reconciling" && condition["status"] == "False";
    resource["status"]["version"] == "0.3.0" && conditions.iter().any(rests)
}

#[tokio::test]
async fn watches_wake_the_operator_and_a_pass_without_news_makes_no_call() {
    let metrics = Metrics::default();
    // The operator's tasks run in this thread.
    let _here = metrics::set_default_local_recorder(&metrics);
    let mut cluster = Cluster::new();
    let client = cluster.server.client();
    let cache = Arc::new(Cache::default());
    let context = Context::new(client.clone(), cache, Leadership::alone(), Clock::System, cluster.probe.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let operator = tokio::spawn(async move {
        let stopped = async move {
            let _ = stopped.await;
        };
        controller::run(client, None, Arc::new(context), stopped).await;
    });
    cluster.create("db", json!({}));
    until(&mut cluster, "serving", is_settled).await;
    cluster.server.take_calls();
    let kinds = [("Service", "db"), ("StatefulSet", "db"), ("Pod", "db-0"), ("ProgressDB", "db")];
    for (kind, name) in kinds {
        let before = passes(&metrics);
        cluster.server.with(|store| {
            store
                .edit(&Key::new(kind, "ns", name), |object| object["metadata"]["annotations"]["somebody"] = json!("a"));
        });
        until(&mut cluster, &format!("a pass after a change of the {kind}"), |_| passes(&metrics) > before).await;
        assert_eq!(cluster.server.take_calls(), Vec::<String>::new(), "{kind}");
    }
    // A history that was compacted makes the watches list again; that wakes the operator, and it finds what it knows.
    let before = passes(&metrics);
    cluster.server.with(|store| {
        store.edit(&Key::new("Service", "ns", "db"), |object| {
            object["metadata"]["annotations"]["somebody"] = json!("b")
        });
        store.compact(0);
    });
    until(&mut cluster, "a pass after a new list", |_| passes(&metrics) > before).await;
    let calls = cluster.server.take_calls();
    assert!(calls.iter().all(|call| call.starts_with("GET ") && !call.contains('/')), "only lists: {calls:?}");
    stop.send(()).unwrap();
    operator.await.unwrap();
}
