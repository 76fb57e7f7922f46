//! What servers have counted, as the comparison of a fleet's tracks reads it: by their own pages of metrics.

use std::net::{SocketAddr, TcpListener};

use progressdb_operator::{
    crd::{MetricGate, PodCounters, Verdict},
    gate::{Gate, GateResult, MetricLimits, TrackedPod, compare_tracks},
};
use testing::{
    Server,
    http::Request,
    servers::{listen::Reply, proxy::Proxy},
};

use crate::{Place, server_with};

/// An address that nobody has at the moment.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn pod(name: &str, management: SocketAddr, canary: bool) -> TrackedPod {
    TrackedPod { name: name.into(), uid: name.into(), management: management.to_string(), canary }
}

async fn look(place: &Place, pods: &[TrackedPod]) -> GateResult {
    // No server is called but those that are named.
    place.run(Gate::Counters { pods: pods.to_vec() }, ([127, 0, 0, 1], 1).into()).await
}

fn lists(server: &Server, times: usize) {
    let user = server.user("ann");
    (0..times).for_each(|_| drop(user.thread_keys("")));
}

#[tokio::test]
async fn what_users_asked_of_each_server_is_counted_and_compared() {
    let (stable_at, canary_at) = (free_address(), free_address());
    let at =
        |address: SocketAddr| move |setup: testing::Setup| setup.set("server.management_address", address.to_string());
    let Some((_stable_setup, stable)) = server_with("counters", at(stable_at)) else { return };
    let Some((_canary_setup, canary)) = server_with("counters", at(canary_at)) else { return };
    let pods = [pod("s", stable_at, false), pod("c", canary_at, true)];
    let place = Place::new();
    lists(&stable, 3);
    let before = look(&place, &pods).await.counters.expect("both tell");
    lists(&stable, 20);
    lists(&canary, 10);
    // Neither what the cluster asks nor what nobody knows is a request of a user.
    (0..50).for_each(|_| {
        canary.send(&Request::get("/readyz")).check_status(200);
    });
    let after = look(&place, &pods).await.counters.expect("both tell");
    let grown = |of: usize| after[of].requests - before[of].requests;
    assert_eq!((before[0].requests, grown(0), grown(1)), (3, 20, 10));
    let slowest = |pod: &PodCounters| pod.buckets["10"];
    assert_eq!((slowest(&after[0]), slowest(&after[1]), after[1].errors), (23, 10, 0));
    assert!(after[0].started_at > 1_600_000_000 && after[0].started_at == before[0].started_at);
    let limits = MetricLimits { minimum_samples: 10, ..MetricLimits::of(&MetricGate::default()) };
    let found = compare_tracks(&before, &after, &limits);
    assert_eq!((found.verdict, found.samples), (Verdict::Passed, 10), "{found:?}");
}

#[tokio::test]
async fn a_server_that_does_not_tell_what_it_counted_leaves_no_picture() {
    let address = free_address();
    let setup = |setup: testing::Setup| setup.set("server.management_address", address.to_string());
    let Some((_setup, _server)) = server_with("counters", setup) else { return };
    let proxy = Proxy::before(address);
    let place = Place::new();
    let pods = [pod("s", address, false), pod("c", proxy.addr, true)];
    assert_eq!(look(&place, &pods).await.counters.map(|all| all.len()), Some(2));
    proxy.when(|call| call.target == "/metrics", Reply::text(500, "no"));
    let silent = look(&place, &pods).await;
    assert_eq!((silent.counters, silent.verdict), (None, Verdict::Inconclusive));
    assert!(silent.why.contains("the pod c cannot be read: status 500"), "{}", silent.why);
}
