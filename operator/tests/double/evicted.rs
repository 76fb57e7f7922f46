//! What has run may have changed its data, so what ran before is not started on it: not when the pod that ran is gone, not
//! when the operator did not look at it, and not when it was another one that ran.

use serde_json::{Value, json};

use crate::{
    api::Key,
    cluster::Cluster,
    successor::{destroy, image, installed, make},
};

const OLD: &str = "registry/progressdb:0.3.0";
const NEW: &str = "registry/progressdb:0.3.1";
const NEWEST: &str = "registry/progressdb:0.3.2";

/// What the operator does while a successor runs and is evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Looks,
    IsBusy,
    Dies,
}

const OPERATORS: [Operator; 3] = [Operator::Looks, Operator::IsBusy, Operator::Dies];

/// A server that opens its data and does not take requests.
fn opening() -> Value {
    let server =
        json!({ "name": "server", "state": { "running": {} }, "ready": false, "restartCount": 0, "image": NEW });
    let conditions = json!([{ "type": "Ready", "status": "False" }]);
    json!({ "phase": "Running", "conditions": conditions, "containerStatuses": [server] })
}

fn pod() -> Key {
    Key::new("Pod", "ns", "db-0")
}

/// Asks for a successor, which starts and opens its data for a while.
async fn opens(cluster: &mut Cluster, operator: Operator, change: impl FnOnce(&mut Value)) {
    cluster.world.server_status = Some(opening());
    cluster.change("db", change);
    let is_started = |cluster: &Cluster| {
        let set = cluster.get("StatefulSet", "db").unwrap();
        let template = set.pointer("/spec/template/spec/containers/0/image").cloned();
        set["spec"]["replicas"] == 1 && template == Some(json!(NEW))
    };
    cluster.until("the start of the successor", is_started).await;
    for _ in 0..20 {
        cluster.world.step();
        if operator == Operator::Looks {
            cluster.pass().await;
        }
    }
    assert_eq!((image(cluster), cluster.get("Pod", "db-0").unwrap()["status"].clone()), (json!(NEW), opening()));
}

/// Its node loses the pod, and the StatefulSet asks for another one.
async fn is_evicted(cluster: &mut Cluster, operator: Operator) {
    cluster.server.with(|store| store.end(&pod()));
    cluster.world.step();
    if operator == Operator::Dies {
        cluster.restart_operator();
    }
}

/// Holds that, however much time passes, this image is what is asked for, and nobody says that another one runs again.
async fn is_not_given_up(cluster: &mut Cluster, wanted: &str, what: &str) {
    for _ in 0..4 {
        cluster.settle().await;
        cluster.server.with(|store| store.advance(120));
    }
    let set = cluster.get("StatefulSet", "db").unwrap();
    let asked = set.pointer("/spec/template/spec/containers/0/image").cloned();
    assert_eq!((asked, &set["spec"]["replicas"]), (Some(json!(wanted)), &json!(1)), "{what}");
    let (status, reason, message) = cluster.condition("db", "Stalled");
    assert_eq!(status, "True", "{what}");
    assert_ne!(reason, "RolledBack", "{what}: {message}");
    assert_eq!(cluster.world.broken, Vec::<String>::new(), "{what}");
}

#[tokio::test]
async fn a_successor_that_ran_and_has_no_place_any_more_is_not_given_up() {
    for operator in OPERATORS {
        let mut cluster = installed(json!({})).await;
        opens(&mut cluster, operator, |spec| spec["image"] = json!(NEW)).await;
        cluster.world.unplaceable_images.push(NEW.into());
        is_evicted(&mut cluster, operator).await;
        is_not_given_up(&mut cluster, NEW, &format!("{operator:?}")).await;
        assert_eq!(cluster.condition("db", "Stalled").1, "Unschedulable", "{operator:?}");
        // With a place again it takes up its data.
        cluster.world.unplaceable_images.clear();
        cluster.world.server_status = None;
        cluster.settle().await;
        assert_eq!((image(&cluster), cluster.condition("db", "Ready").1), (json!(NEW), "Serving".into()));
        assert_eq!(cluster.get("ConfigMap", "db-former"), None);
    }
}

#[tokio::test]
async fn a_successor_that_ran_and_is_not_admitted_any_more_is_not_given_up() {
    for operator in OPERATORS {
        let mut cluster = installed(json!({})).await;
        make(&cluster, "PriorityClass", "", "high", json!({ "value": 1000 }));
        let change = |spec: &mut Value| {
            spec["image"] = json!(NEW);
            spec["priorityClassName"] = json!("high");
        };
        opens(&mut cluster, operator, change).await;
        destroy(&cluster, "PriorityClass", "", "high");
        is_evicted(&mut cluster, operator).await;
        is_not_given_up(&mut cluster, NEW, &format!("{operator:?}")).await;
        assert_eq!(cluster.get("Pod", "db-0"), None);
    }
}

#[tokio::test]
async fn what_ran_before_a_successor_that_ran_is_not_started_for_another_successor() {
    for operator in OPERATORS {
        let mut cluster = installed(json!({})).await;
        opens(&mut cluster, operator, |spec| spec["image"] = json!(NEW)).await;
        cluster.world.unplaceable_images = vec![NEW.into(), NEWEST.into()];
        is_evicted(&mut cluster, operator).await;
        cluster.change("db", |spec| spec["image"] = json!(NEWEST));
        is_not_given_up(&mut cluster, NEWEST, &format!("{operator:?}")).await;
        // What its owner asks for is done.
        cluster.world.server_status = None;
        cluster.change("db", |spec| spec["image"] = json!(OLD));
        cluster.settle().await;
        assert_eq!((image(&cluster), cluster.condition("db", "Ready").1), (json!(OLD), "Serving".into()));
    }
}

#[tokio::test]
async fn a_stop_in_between_makes_no_successor_that_ran_one_that_did_not() {
    for operator in OPERATORS {
        let mut cluster = installed(json!({})).await;
        opens(&mut cluster, operator, |spec| spec["image"] = json!(NEW)).await;
        cluster.world.unplaceable_images.push(NEW.into());
        is_evicted(&mut cluster, operator).await;
        for suspend in [true, false] {
            cluster.change("db", |spec| spec["suspend"] = json!(suspend));
            cluster.settle().await;
        }
        is_not_given_up(&mut cluster, NEW, &format!("{operator:?}")).await;
    }
}
