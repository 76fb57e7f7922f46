//! Traces, as a collector receives them: one for each request, continued from the caller and to the KMS.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod collector;
mod variables;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use testing::http::Request;
use testing::servers::Provider;
use testing::servers::listen::Reply;
use testing::{ADMIN_KEY, Setup, THREADS, messages, wait_until};

use collector::{Collector, Span};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traced(request: Request) -> Request {
    request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
}

/// A server that sends its spans at once.
fn tracing_to(url: &str) -> Setup {
    Setup::new().environment("OTEL_EXPORTER_OTLP_ENDPOINT", url).environment("OTEL_BSP_SCHEDULE_DELAY", "20")
}

fn map(object: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_request_is_a_span_in_the_trace_of_its_caller() {
    let collector = Collector::start();
    let setup = tracing_to(&collector.url());
    let server = setup.start();
    let ann = server.user("ann-71d0b6");
    let create = ann.request("POST", THREADS).header("X-Request-Id", "r-1").json(&json!({ "title": "canary-71d0b6" }));
    let thread = ann.send(&traced(create)).written();

    let request = collector.wait_for("POST /frontend/v1/threads", TRACE);
    assert_eq!((request.kind, request.parent.as_str(), request.failed), (SpanKind::Server, CALLER, false));
    let attributes = json!({
        "http.request.method": "POST",
        "http.response.status_code": 202,
        "http.route": "/frontend/v1/threads",
        "progressdb.request_id": "r-1",
        "url.scheme": "http",
    });
    assert_eq!(request.attributes, map(attributes));
    assert_eq!(request.resource["service.name"], "progressdb");
    let commit = collector.wait_for("commit", TRACE);
    assert_eq!((commit.kind, commit.parent), (SpanKind::Internal, request.id));
    assert!(commit.attributes["progressdb.rows"].as_i64().unwrap() >= 2, "{:?}", commit.attributes);

    // A failure of the caller is none of the server; a path says what it is about, and is not sent.
    let missing = ann.send(&traced(ann.request("GET", &messages("no-such-thread-71d0b6"))));
    assert!(missing.status >= 400, "{missing}");
    let refused = |span: &Span| span.attributes.get("http.response.status_code") == Some(&json!(missing.status));
    let refused = collector.wait_for_one("of the refusal", refused);
    assert!(!refused.failed && refused.name.starts_with("GET /frontend/v1/threads/{"), "{refused:?}");

    let log = server.log();
    server.stop().check_code(0);
    for secret in ["71d0b6", thread.as_str()] {
        assert!(!collector.has_seen(secret), "{secret} was sent");
    }
    assert!(!log.contains("request{") && !log.contains("commit{"), "{log}");
}

#[test]
fn a_request_without_a_trace_begins_one_and_probes_have_none() {
    let collector = Collector::start();
    let setup = Setup::new().set("telemetry.otlp_endpoint", collector.url()).environment("OTEL_SERVICE_NAME", "chat");
    let server = setup.start();
    server.send(&Request::get("/healthz")).check_status(200);
    server.send(&Request::get("/readyz")).check_status(200);
    server.user("ann").get(THREADS).check_status(200);
    // What waits is sent when the server stops.
    server.stop().check_code(0);
    let spans = collector.spans();
    let names: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.parent.as_str())).collect();
    assert_eq!(names, [("GET /frontend/v1/threads", "")]);
    assert_eq!(spans[0].resource["service.name"], "chat");
}

#[test]
fn a_call_of_the_kms_is_a_span_and_names_the_trace_to_it() {
    let (collector, provider) = (Collector::start(), Provider::http());
    let setup = tracing_to(&collector.url()).set("encryption.enabled", true);
    let settings = provider.settings();
    let setup = settings.iter().fold(setup, |setup, (name, value)| setup.environment(name, value));
    let server = setup.start();
    let rotate = Request::new("POST", "/admin/encryption/rotate").key(ADMIN_KEY);
    server.send(&traced(rotate.clone())).check_status(202);

    let span = collector.wait_for("kms wrap", TRACE);
    assert_eq!((span.kind, span.failed), (SpanKind::Client, false));
    assert_eq!(span.attributes, map(json!({ "progressdb.kms.provider": "http" })));
    let request = collector.wait_for("POST /admin/encryption/rotate", TRACE);
    assert_eq!(span.parent, request.id);
    let named = format!("00-{TRACE}-{}-01", span.id);
    let calls = provider.proxy().calls();
    assert!(calls.iter().any(|call| call.header("traceparent") == Some(&named)), "{named} is in none of {calls:?}");

    provider.go_away();
    let answer = server.send(&traced(rotate));
    assert_eq!(answer.status, 503, "{answer}");
    let failed = collector.wait_for_one("of the failed call", |span| span.failed && span.name == "kms wrap");
    assert_eq!(failed.attributes, map(json!({ "progressdb.kms.provider": "http", "error.type": "unavailable" })));
    collector
        .wait_for_one("of its request", |span| span.failed && span.attributes.get("error.type") == Some(&json!("503")));
}

#[test]
fn a_collector_that_refuses_is_told_of_once_and_costs_no_request() {
    let collector = Collector::refusing(3, Reply::text(400, "no spans today"));
    let setup = tracing_to(&collector.url());
    let server = setup.start();
    let ann = server.user("ann");
    let thread = ann.create_thread("t");
    wait_until("the collector takes spans", || {
        ann.append(&thread, 1);
        server.log().contains("traces.resumed")
    });
    let log = server.log();
    assert!(collector.calls() > 3);
    assert_eq!((log.matches("traces.lost").count(), log.matches("traces.resumed").count()), (1, 1), "{log}");
    server.stop().check_code(0);
}

#[test]
fn a_collector_that_hangs_does_not_hold_up_the_end() {
    let collector = Collector::refusing(usize::MAX, Reply::Stall);
    let setup = tracing_to(&collector.url()).environment("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");
    let server = setup.start();
    server.user("ann").create_thread("t");
    wait_until("spans are on their way", || collector.calls() > 0);
    server.stop().check_code(0);
}
