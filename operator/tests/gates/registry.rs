//! What runs, what has ended, and what is forgotten.

use std::time::Duration;

use progressdb_operator::{
    crd::Verdict,
    gate::{Expectation, Gate},
    gates::{GateKey, Gates, Target},
};
use serde_json::json;
use testing::servers::{
    listen::{Listener, Reply},
    proxy::Proxy,
};

use crate::{Place, UID, key, until, within};

fn ready() -> Listener {
    Listener::start(None, |_| Reply::json(200, &json!({ "status": "ok" })))
}

fn health(successes: u32) -> Gate {
    Gate::Health { successes, period: Duration::from_millis(50), expect: Expectation::default() }
}

fn of(uid: &str, upgrade: &str) -> GateKey {
    GateKey { resource_uid: uid.into(), upgrade: upgrade.into(), ..key("health") }
}

fn start(gates: &Gates, key: &GateKey, gate: Gate, server: &Listener) {
    let (namespace, secret) = ("ns".to_owned(), "keys".to_owned());
    let (api, management) = (server.addr, server.addr);
    gates.start(key.clone(), gate, Target { api, management, namespace, secret, secrets: Vec::new() });
}

#[tokio::test]
async fn a_gate_runs_once() {
    let server = ready();
    let proxy = Proxy::before(server.addr);
    let place = Place::new();
    let key = place.start("health", health(2), proxy.addr);
    place.start("health", health(2), proxy.addr);
    assert!(place.gates.is_running(&key));
    assert_eq!(within(place.gates.changed()).await, UID);
    let result = place.gates.result(&key);
    place.start("health", health(5), proxy.addr);
    assert!(!place.gates.is_running(&key));
    assert_eq!((place.gates.result(&key), proxy.count()), (result, 4));
    let other = place.start("another", health(1), proxy.addr);
    assert_eq!(within(place.gates.changed()).await, UID);
    assert_eq!(place.gates.result(&other).unwrap().verdict, Verdict::Passed);
}

#[tokio::test]
async fn each_resource_is_told_of_once_however_many_of_its_gates_ended() {
    let (server, place) = (ready(), Place::new());
    let keys = [of("a", "1"), of("b", "1"), of("a", "2")];
    keys.iter().for_each(|key| start(&place.gates, key, health(1), &server));
    until(|| !keys.iter().any(|key| place.gates.is_running(key))).await;
    assert_eq!((within(place.gates.changed()).await, within(place.gates.changed()).await), ("a".into(), "b".into()));
    let more = tokio::time::timeout(Duration::from_millis(100), place.gates.changed()).await;
    assert!(more.is_err(), "{more:?}");
    // Who waits already is woken.
    let (gates, waiting) = (&place.gates, place.gates.changed());
    let (told, ()) = tokio::join!(within(waiting), async { start(gates, &of("c", "1"), health(1), &server) });
    assert_eq!(told, "c");
}

#[tokio::test]
async fn a_resource_is_forgotten_but_for_one_upgrade() {
    let (server, place) = (ready(), Place::new());
    let gates = &place.gates;
    let keys = [of("a", "1"), of("a", "2"), of("b", "1")];
    keys.iter().for_each(|key| start(gates, key, health(1), &server));
    until(|| !keys.iter().any(|key| gates.is_running(key))).await;
    let known = || keys.each_ref().map(|key| gates.result(key).is_some());
    assert_eq!(known(), [true; 3]);
    gates.forget("a", Some("2"));
    assert_eq!(known(), [false, true, true]);
    gates.forget("a", None);
    assert_eq!(known(), [false, false, true]);
}

#[tokio::test]
async fn a_gate_that_was_forgotten_ends_and_says_nothing_to_its_successor() {
    let (server, place) = (ready(), Place::new());
    let proxy = Proxy::before(server.addr);
    proxy.always(Reply::json(503, &json!({ "reason": "draining" })));
    let key = place.start("health", health(1), proxy.addr);
    place.shown(&key, |result| result.samples >= 2).await;
    place.gates.forget(UID, None);
    assert!(place.gates.result(&key).is_none() && !place.gates.is_running(&key));
    place.start("health", health(1), server.addr);
    assert_eq!(within(place.gates.changed()).await, UID);
    let (looks, asked) = (place.gates.result(&key).unwrap().samples, proxy.count());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((looks, proxy.count()), (1, asked), "the first one goes on");
}
