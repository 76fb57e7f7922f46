//! The load gate: what it measures, and what follows from that.

use std::time::Duration;

use progressdb_operator::{
    crd::{Measured, MetricGate, Verdict},
    gate::{Gate, GateResult, MetricLimits, compare},
};
use serde_json::json;
use testing::servers::{
    listen::{Call, Reply},
    proxy::Proxy,
};

use crate::{Place, UID, server, server_with, threads, until};

fn limits(minimum_samples: i64) -> MetricLimits {
    MetricLimits { minimum_samples, ..MetricLimits::of(&MetricGate::default()) }
}

fn lists(call: &Call) -> bool {
    call.method == "GET" && call.target.contains("/messages?")
}

async fn measure(place: &Place, samples: u32, server: std::net::SocketAddr) -> (GateResult, Measured) {
    let result = place.run(Gate::Load { samples }, server).await;
    let figures = result.load.clone().expect("it was measured");
    (result, figures)
}

#[tokio::test]
async fn a_load_is_measured_and_nothing_is_left() {
    let Some((_setup, server)) = server("load") else { return };
    let place = Place::new();
    server.user("ann").create_thread("hers");
    server.user("progressdb-probe-load-0").create_thread("left");
    let (result, figures) = measure(&place, 500, server.addr).await;
    assert_eq!((result.verdict, result.samples, result.why.as_str()), (Verdict::Passed, 500, ""), "{result:?}");
    assert_eq!((figures.requests, figures.errors), (500, 0));
    assert!(figures.p50_micros > 0 && figures.p99_micros >= figures.p50_micros, "{figures}");
    assert_eq!(result.threshold, "500 requests within 30 s");
    assert_eq!(threads(&server), json!(1));
}

/// As a release that is slow would be.
#[expect(clippy::disallowed_methods, reason = "a slow server takes time")]
fn slowed(reply: Reply) -> Reply {
    std::thread::sleep(Duration::from_millis(250));
    reply
}

#[tokio::test]
async fn a_slow_server_fails_against_its_baseline() {
    let Some((_setup, server)) = server("load") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    let (_, baseline) = measure(&place, 100, proxy.addr).await;
    proxy.alter(None, |call| call.target.contains("/messages"), slowed);
    let (result, slow) = measure(&place, 100, proxy.addr).await;
    assert_eq!((result.verdict, slow.errors), (Verdict::Passed, 0), "it was measured");
    assert!(slow.p50_micros > 250_000, "{slow}");
    let compared = compare(&slow, Some(&baseline), &limits(100));
    assert_eq!(compared.verdict, Verdict::Failed, "{baseline} {compared:?}");
    assert_eq!(compare(&baseline, Some(&baseline), &limits(100)).verdict, Verdict::Passed);
}

#[tokio::test]
async fn what_fails_is_counted_and_told() {
    let Some((_setup, server)) = server("load") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    let (_, baseline) = measure(&place, 100, proxy.addr).await;
    // Behind the pairs that are not measured.
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let fails = move |call: &Call| lists(call) && calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 60;
    proxy.when(fails, Reply::json(500, &json!({ "error": "it broke", "code": "internal" })));
    let (result, figures) = measure(&place, 100, proxy.addr).await;
    assert_eq!((result.verdict, figures.requests), (Verdict::Passed, 100));
    assert!((25..=35).contains(&figures.errors), "{figures}");
    assert!(result.why.contains("limit=20: 500: it broke (internal)"), "{}", result.why);
    let compared = compare(&figures, Some(&baseline), &limits(100));
    assert!(
        compared.verdict == Verdict::Failed && compared.why.starts_with("too many requests fail: "),
        "{compared:?}"
    );
    assert_eq!(threads(&server), json!(0));
}

#[tokio::test]
async fn what_the_rate_limit_refuses_is_no_error() {
    let change = |setup: testing::Setup| setup.set("server.rate_limit.rps", 20).set("server.rate_limit.burst", 20);
    let Some((_setup, server)) = server_with("load", change) else { return };
    let (result, figures) = measure(&Place::new(), 100, server.addr).await;
    assert_eq!((result.verdict, figures.requests, figures.errors), (Verdict::Passed, 100, 0), "{result:?}");
    assert_eq!(threads(&server), json!(0));
}

#[tokio::test]
async fn a_server_that_is_stopped_is_measured_as_errors() {
    let Some((_setup, server)) = server("load") else { return };
    let address = server.addr;
    server.stop();
    let (result, figures) = measure(&Place::new(), 40, address).await;
    assert_eq!((result.verdict, figures.requests, figures.errors), (Verdict::Inconclusive, 40, 40));
    assert!(result.why.contains("cannot connect to 127.0.0.1:"), "{}", result.why);
    assert_eq!(compare(&figures, None, &limits(1_000)).verdict, Verdict::Failed);
}

#[tokio::test]
async fn a_load_that_is_forgotten_removes_what_it_made() {
    let Some((_setup, server)) = server("load") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    proxy.when(lists, Reply::Stall);
    let key = place.start("load", Gate::Load { samples: 1_000 }, proxy.addr);
    until(|| threads(&server) == json!(4)).await;
    place.gates.forget(UID, None);
    assert!(place.gates.result(&key).is_none());
    until(|| threads(&server) == json!(0)).await;
}
