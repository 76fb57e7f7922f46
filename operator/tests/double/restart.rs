//! Restarts that people ask for in the ways that they know.

use serde_json::{Value, json};

use crate::{
    api::{
        Key,
        faults::{Death, Faults},
    },
    cluster::Cluster,
};

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

async fn installed() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create("db", json!({}));
    cluster.settle().await;
    cluster
}

/// As `kubectl rollout restart statefulset/db` does.
fn by_rollout(cluster: &Cluster, at: &str) {
    annotate(cluster, "StatefulSet", "/spec/template/metadata", at);
}

/// As `kubectl annotate progressdb/db` and the plugin do.
fn by_annotation(cluster: &Cluster, at: &str) {
    annotate(cluster, "ProgressDB", "/metadata", at);
}

fn annotate(cluster: &Cluster, kind: &str, place: &str, at: &str) {
    cluster.server.with(|store| {
        store.edit(&Key::new(kind, "ns", "db"), |object| {
            object.pointer_mut(place).unwrap()["annotations"][RESTARTED_AT] = json!(at);
        });
    });
}

#[tokio::test]
async fn a_restart_happens_once_for_each_time_that_it_is_asked_for() {
    for ask in [by_rollout, by_annotation] {
        let mut cluster = installed().await;
        for (times, at) in [(1, "2030-01-01T00:00:00Z"), (2, "2030-01-02T00:00:00Z")] {
            ask(&cluster, at);
            cluster.settle().await;
            assert_eq!(cluster.times_made("Pod", "db-0"), 1 + times);
            assert_eq!(cluster.condition("db", "Ready").1, "Serving");
        }
        // It was asked for the same, and a pod that is made anew has what was asked for.
        ask(&cluster, "2030-01-02T00:00:00Z");
        cluster.restart_operator();
        cluster.settle().await;
        cluster.server.with(|store| store.end(&Key::new("Pod", "ns", "db-0")));
        cluster.settle().await;
        assert_eq!(cluster.times_made("Pod", "db-0"), 4);
        assert_eq!(cluster.world.broken, Vec::<String>::new());
    }
}

#[tokio::test]
async fn both_ways_may_follow_each_other() {
    let mut cluster = installed().await;
    for (times, ask) in [by_rollout, by_annotation, by_rollout, by_annotation].into_iter().enumerate() {
        ask(&cluster, &format!("2030-01-0{}T00:00:00Z", times + 1));
        cluster.settle().await;
        assert_eq!(cluster.times_made("Pod", "db-0"), times + 2);
    }
}

#[tokio::test]
async fn a_restart_waits_until_the_server_could_start() {
    let mut cluster = installed().await;
    cluster.world.failing_jobs.insert("config-check".into(), r#"{"errors":[{"message":"no"}]}"#.into());
    cluster.change("db", |spec| spec["settings"] = json!({ "logging": { "level": "loud" } }));
    cluster.settle().await;
    by_rollout(&cluster, "2030-01-01T00:00:00Z");
    cluster.settle().await;
    assert_eq!(cluster.times_made("Pod", "db-0"), 1);
    assert_eq!(cluster.condition("db", "Available").0, "True");
    cluster.world.failing_jobs.clear();
    cluster.change("db", |spec| spec["settings"] = json!({}));
    cluster.settle().await;
    assert_eq!(cluster.times_made("Pod", "db-0"), 2);
}

#[tokio::test]
async fn what_is_stopped_on_purpose_stays_stopped() {
    let mut cluster = installed().await;
    cluster.change("db", |spec| spec["suspend"] = json!(true));
    cluster.settle().await;
    by_annotation(&cluster, "2030-01-01T00:00:00Z");
    cluster.settle().await;
    assert_eq!(cluster.get("Pod", "db-0"), None::<Value>);
    cluster.change("db", |spec| spec["suspend"] = json!(false));
    cluster.settle().await;
    assert_eq!(cluster.times_made("Pod", "db-0"), 2);
}

#[tokio::test]
async fn a_restart_happens_once_wherever_the_operator_dies() {
    for ask in [by_rollout, by_annotation] {
        for lag in [0, 3] {
            let mut before = Cluster::new();
            before.lag = lag;
            before.create("db", json!({}));
            before.settle().await;
            let run = async |faults: Faults| {
                let mut cluster = before.fork();
                cluster.server.take_calls();
                ask(&cluster, "2030-01-01T00:00:00Z");
                cluster.server.set_faults(faults);
                cluster.settle().await;
                assert_eq!(cluster.times_made("Pod", "db-0"), 2, "lag {lag}");
                assert_eq!(cluster.condition("db", "Ready").1, "Serving");
                assert_eq!(cluster.world.broken, Vec::<String>::new());
                cluster.server.take_calls().len()
            };
            let calls = run(Faults::default()).await;
            for call in 0..calls {
                run(Faults::death(Death::Before(call))).await;
                run(Faults::death(Death::After(call))).await;
                run(Faults::default().lose_reply(call)).await;
            }
        }
    }
}
