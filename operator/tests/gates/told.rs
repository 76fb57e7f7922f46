//! The gates that rest on what others tell: the log of a server, and a Prometheus.

use progressdb_operator::{
    crd::{PrometheusQuery as Query, Verdict},
    gate::{Gate, GateResult},
};
use serde_json::json;
use testing::{
    BACKEND_KEY,
    servers::listen::{Call, Listener, Reply},
};

use crate::{Place, server_with};

async fn judge(place: &Place, now: Option<String>, before: Option<String>) -> GateResult {
    *place.logs.lock().unwrap() = [now, before];
    let gate = Gate::Logs { pod: "db-0".into() };
    place.run(gate, ([127, 0, 0, 1], 1).into()).await
}

#[tokio::test]
async fn the_log_of_a_server_that_is_well_passes_and_one_line_fails_it() {
    for format in ["json", "text"] {
        let Some((_setup, server)) = server_with("logs", |setup| setup.set("logging.format", format)) else { return };
        server.user("ann").create_thread("one");
        let place = Place::new();
        let log = server.log();
        let result = judge(&place, Some(log.clone()), None).await;
        assert_eq!((result.verdict, result.samples), (Verdict::Passed, log.lines().count() as i64), "{result:?}");
        // Another event in the shape that this server gives it.
        for event in ["panic", "store.stopped", "kms.failing"] {
            let line = log.lines().find(|line| line.contains("server.ready")).unwrap().replace("server.ready", event);
            let bad = Some(format!("{log}{line}\n"));
            let result = judge(&place, bad.clone(), None).await;
            assert_eq!(
                (result.verdict, result.value.as_str(), result.why.contains(event)),
                (Verdict::Failed, event, true)
            );
            let result = judge(&place, Some(log.clone()), bad).await;
            assert_eq!((result.verdict, result.value.as_str()), (Verdict::Failed, event), "of the container before");
        }
    }
}

#[tokio::test]
async fn an_empty_log_tells_of_no_fault_and_one_that_cannot_be_read_proves_nothing() {
    let place = Place::new();
    let empty = judge(&place, Some(String::new()), None).await;
    assert_eq!((empty.verdict, empty.samples, empty.value.as_str()), (Verdict::Passed, 0, "an empty log"));
    assert!(empty.why.starts_with("the server has logged nothing"), "{}", empty.why);
    let none = judge(&place, None, None).await;
    assert_eq!(none.verdict, Verdict::Inconclusive);
    assert!(none.why.starts_with("reading the log of db-0: "), "{}", none.why);
}

#[tokio::test]
async fn the_end_of_a_log_is_its_last_lines_without_anything_secret() {
    let place = Place::new();
    let before: String = (0..100).map(|number| format!("before {number}\n")).collect();
    *place.logs.lock().unwrap() = [Some(format!("now\nkey={BACKEND_KEY};\nlast")), Some(before)];
    let tail = || Gate::Tail { pod: "db-0".into(), container: "server".into() };
    let result = place.run(tail(), ([127, 0, 0, 1], 1).into()).await;
    let log = result.log.unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (50, "before 53"));
    assert_eq!(lines[47..], ["now", "key=***;", "last"]);
    // Of which it is not known what is secret, nothing is kept.
    *place.logs.lock().unwrap() = [None, None];
    let none = place.run(tail(), ([127, 0, 0, 1], 1).into()).await;
    assert_eq!((none.verdict, none.log), (Verdict::Inconclusive, None));
}

fn query(name: &str, text: &str, max: &str) -> Query {
    Query { name: name.into(), query: text.into(), max: Some(max.into()), min: None }
}

#[tokio::test]
async fn a_prometheus_is_asked_and_its_values_are_judged() {
    let prometheus = Listener::start(None, |call: Call| {
        let data = match call.target.strip_prefix("/some/path/api/v1/query?query=") {
            Some("rate%28errors%5B5m%5D%29") => json!({ "resultType": "scalar", "result": [1, "0.02"] }),
            Some("latency") => json!({ "resultType": "vector", "result": [{ "metric": {}, "value": [1, "0.5"] }] }),
            Some("absent") => json!({ "resultType": "vector", "result": [] }),
            Some("undefined") => json!({ "resultType": "scalar", "result": [1, "NaN"] }),
            Some("several") => {
                json!({ "resultType": "vector", "result": [{ "value": [1, "1"] }, { "value": [1, "2"] }] })
            }
            _ => return Reply::json(400, &json!({ "status": "error", "error": format!("what is {}?", call.target) })),
        };
        Reply::json(200, &json!({ "status": "success", "data": data }))
    });
    let place = Place::new();
    let run = async |queries: &[Query]| {
        let address = format!("http://{}/some/path/", prometheus.addr);
        let gate = Gate::Prometheus { address, queries: queries.to_vec() };
        let result = place.run(gate, ([127, 0, 0, 1], 1).into()).await;
        let limits: Vec<String> =
            queries.iter().map(|query| format!("{} at most {}", query.name, query.max.as_ref().unwrap())).collect();
        let missing = result.value.matches("nothing").count();
        assert_eq!((result.threshold, result.samples), (limits.join("; "), (queries.len() - missing) as i64));
        (result.verdict, result.value, result.why)
    };
    let told = |verdict, value: &str, why: &str| (verdict, value.to_owned(), why.to_owned());
    let (errors, latency) = (query("errors", "rate(errors[5m])", "0.02"), query("p99", "latency", "0.4"));
    assert_eq!(run(std::slice::from_ref(&errors)).await, told(Verdict::Passed, "errors 0.02", ""));
    let both = run(&[errors.clone(), latency]).await;
    assert_eq!(both, told(Verdict::Failed, "errors 0.02; p99 0.5", "p99: 0.5 is more than 0.4"));
    for (text, why) in [
        ("absent", "other: no data"),
        ("undefined", "other: no number"),
        ("several", "other: 2 elements: aggregate them into one"),
    ] {
        let missing = run(&[errors.clone(), query("other", text, "1")]).await;
        assert_eq!(missing, told(Verdict::Inconclusive, "errors 0.02; other nothing", why));
    }
    let (verdict, _, why) = run(&[query("odd", "}", "1")]).await;
    assert!(verdict == Verdict::Inconclusive && why.starts_with("odd: 400: what is /some/path/"), "{why}");
}

#[tokio::test]
async fn a_prometheus_that_is_not_there_proves_nothing() {
    let address = {
        let gone = Listener::start(None, |_| Reply::Cut);
        format!("http://{}", gone.addr)
    };
    let gate = Gate::Prometheus { address, queries: vec![query("errors", "errors", "1")] };
    let result = Place::new().run(gate, ([127, 0, 0, 1], 1).into()).await;
    assert_eq!((result.verdict, result.samples), (Verdict::Inconclusive, 0), "{result:?}");
    assert_eq!((result.value.as_str(), result.threshold.as_str()), ("errors nothing", "errors at most 1"));
    assert!(result.why.starts_with("errors: cannot connect to 127.0.0.1:"), "{}", result.why);
}
