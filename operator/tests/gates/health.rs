//! The health gate: so often in a row, and what it shows meanwhile.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use progressdb_operator::{
    crd::Verdict,
    gate::{Expectation, Gate},
};
use serde_json::json;
use testing::{
    http::Request,
    servers::{listen::Reply, proxy::Proxy},
};

use crate::{Place, UID, server, within};

fn health(successes: u32, expect: Expectation) -> Gate {
    Gate::Health { successes, period: Duration::from_millis(50), expect }
}

#[tokio::test]
async fn a_server_that_is_what_is_expected_passes() {
    let Some((_setup, server)) = server("health") else { return };
    server.user("ann").create_thread("one");
    let ready = server.send(&Request::get("/readyz")).check_status(200).json();
    let expect = Expectation {
        version: ready["version"].as_str().map(str::to_owned),
        format: ready["format"]["data"].as_i64().map(|format| i32::try_from(format).unwrap()),
        sequence_at_least: ready["sequence"].as_i64(),
    };
    assert!(expect.version.is_some() && expect.format.is_some() && expect.sequence_at_least > Some(0), "{ready}");
    let result = Place::new().run(health(3, expect), server.addr).await;
    assert_eq!((result.verdict, result.samples, result.value.as_str()), (Verdict::Passed, 3, "3 in a row"));
}

#[tokio::test]
async fn one_bad_look_begins_the_row_anew() {
    let Some((_setup, server)) = server("health") else { return };
    for (path, status) in [("/healthz", 500), ("/readyz", 503)] {
        let proxy = Proxy::before(server.addr);
        let looks = AtomicU64::new(0);
        let third = move |call: &testing::servers::listen::Call| {
            call.target == path && looks.fetch_add(1, Ordering::Relaxed) == 2
        };
        proxy.when(third, Reply::json(status, &json!({ "reason": "draining" })));
        let result = Place::new().run(health(4, Expectation::default()), proxy.addr).await;
        assert_eq!((result.verdict, result.samples), (Verdict::Passed, 7), "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_shown_for_as_long_as_it_is() {
    let Some((_setup, server)) = server("health") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    proxy.when(|call| call.target == "/readyz", Reply::json(503, &json!({ "reason": "migrating" })));
    let key = place.start("health", health(2, Expectation::default()), proxy.addr);
    let shown = place.shown(&key, |result| result.samples >= 3).await;
    assert_eq!(
        (shown.verdict, shown.value.as_str(), shown.threshold.as_str()),
        (Verdict::Inconclusive, "0 in a row", "2 in a row")
    );
    assert_eq!(shown.why, "/readyz: 503: migrating");
    assert!(place.gates.is_running(&key));
    proxy.clear();
    assert_eq!(within(place.gates.changed()).await, UID);
    assert_eq!(place.gates.result(&key).unwrap().verdict, Verdict::Passed);
}

#[tokio::test]
async fn another_server_than_the_expected_one_does_not_pass() {
    let Some((_setup, server)) = server("health") else { return };
    let place = Place::new();
    let expectations = [
        (Expectation { version: Some("9.9.9".into()), ..Expectation::default() }, "and not 9.9.9"),
        (Expectation { format: Some(99), ..Expectation::default() }, "and not 99"),
        (Expectation { sequence_at_least: Some(1), ..Expectation::default() }, "it has 0 writes and not at least 1"),
    ];
    for (expect, why) in expectations {
        let key = place.start(why, health(1, expect), server.addr);
        let shown = place.shown(&key, |result| result.samples >= 2).await;
        assert!(shown.verdict == Verdict::Inconclusive && shown.why.contains(why), "{shown:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_does_not_pass() {
    let Some((_setup, server)) = server("health") else { return };
    let (place, address) = (Place::new(), server.addr);
    server.stop();
    let key = place.start("health", health(1, Expectation::default()), address);
    let shown = place.shown(&key, |result| result.samples >= 2).await;
    assert_eq!(shown.verdict, Verdict::Inconclusive);
    assert!(shown.why.starts_with("/healthz: Connection refused"), "{}", shown.why);
}
