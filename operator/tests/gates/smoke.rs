//! The smoke gate: servers that are well, servers that are not, and what is left behind.

use progressdb_operator::{
    crd::Verdict,
    gate::{Gate, GateResult},
};
use serde_json::json;
use testing::servers::{
    listen::{Call, Reply},
    proxy::Proxy,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
};

use crate::{Place, UID, server, server_with, threads, until};

const USER: &str = "progressdb-probe-gate";
const WHOLE: Gate = Gate::Smoke { read_only: false };

/// Whether this is a request of that kind.
fn asks(what: &str, call: &Call) -> bool {
    let target = call.target.as_str();
    let of_message = target.contains("/messages/");
    match (what, call.method.as_str()) {
        ("sign user", "POST") => target == "/backend/v1/sign",
        ("call as browser", "GET") => target == "/frontend/v1/threads?limit=1",
        ("create thread", "POST") => target == "/frontend/v1/threads",
        ("list threads", "GET") => target == "/frontend/v1/threads?limit=100",
        ("read thread", "GET") => target.contains("/threads/") && !target.contains("/messages"),
        ("post message", "POST") | ("list messages", "GET") => target.ends_with("/messages"),
        ("read message", "GET") | ("edit message", "PUT") | ("delete message", "DELETE") => of_message,
        ("delete thread", "DELETE") => !of_message,
        _ => false,
    }
}

/// The gate failed at this step for this reason, and nothing is left.
#[track_caller]
fn check_failed(result: &GateResult, step: &str, why: &str) {
    assert_eq!(result.verdict, Verdict::Failed, "{step}: {result:?}");
    let said = &result.why;
    assert!(said.starts_with(&format!("{step}: ")) && said.contains(why), "{said:?} does not say {step}: {why}");
    assert!(!said.contains("may be left"), "{said}");
}

fn altered(reply: Reply, from: &str, to: &str) -> Reply {
    let Reply::Answer { status, headers, body } = reply else { return reply };
    let body = String::from_utf8(body).unwrap().replace(from, to).into_bytes();
    Reply::Answer { status, headers, body }
}

#[tokio::test]
async fn a_server_that_is_well_passes_and_keeps_nothing() {
    let Some((_setup, server)) = server("smoke") else { return };
    let place = Place::new();
    server.user("ann").create_thread("hers");
    // A gate of a process that died has left these.
    server.user(USER).create_thread("left");
    server.user(USER).create_thread("left too");
    let result = place.run(WHOLE, server.addr).await;
    let passed = GateResult::new(Verdict::Passed, "8 of 8 steps", "8 steps", 8, "");
    assert!(result.has_ended());
    assert_eq!(result, GateResult { took_millis: result.took_millis, ..passed });
    assert_eq!(threads(&server), json!(1));
}

#[tokio::test]
async fn a_wrong_answer_fails_its_step() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    for (at, step) in [
        "sign user",
        "create thread",
        "post message",
        "list messages",
        "read message",
        "edit message",
        "delete message",
        "delete thread",
    ]
    .into_iter()
    .enumerate()
    {
        let error = json!({ "error": "it broke", "code": "internal" });
        for (reply, why) in [
            (Reply::json(500, &error), "got 500: it broke (internal)"),
            (Reply::text(200, "<html>a page</html>"), "<html>a page</html>"),
            (Reply::text(202, "<html>a page</html>"), "<html>a page</html>"),
            (Reply::json(401, &json!({ "error": "unauthorized", "code": "unauthorized" })), "got 401: unauthorized"),
            (Reply::Cut, "no whole answer"),
        ] {
            proxy.times_when(1, move |call| asks(step, call), reply);
            let result = place.run(WHOLE, proxy.addr).await;
            check_failed(&result, step, why);
            assert_eq!((result.samples, result.value), (at as i64, format!("{at} of 8 steps")));
            proxy.clear();
        }
        // Done, and only half of the answer arrives: a thread whose key is not known is removed all the same.
        let halved = |reply| match reply {
            Reply::Answer { status, headers, body } => Reply::CutBody { status, headers, sent: body.len() / 2, body },
            other => other,
        };
        proxy.alter(Some(1), move |call| asks(step, call), halved);
        check_failed(&place.run(WHOLE, proxy.addr).await, step, "no whole answer");
        proxy.clear();
        assert_eq!(threads(&server), json!(0), "after {step}");
    }
}

#[tokio::test]
async fn wrong_content_fails_the_step_that_reads_it() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    for (step, request, from, to, why) in [
        ("sign user", "sign user", USER, "ann", "the signature is for user \"ann\""),
        ("sign user", "sign user", r#""signature":""#, r#""signature":"0"#, "no signing key of the Secret"),
        ("create thread", "create thread", "t:", "x:", "is not the key of a thread"),
        ("create thread", "read thread", "smoke test", "smoke  test", "want thread"),
        ("create thread", "read thread", USER, "ann", "of ann"),
        ("post message", "post message", ":m:", ":n:", "is not the key of a message"),
        ("list messages", "list messages", r"\u00e9", "é", "byte for byte"),
        ("list messages", "list messages", r#""messages":["#, r#""messages":[],"before":["#, "want one message, got 0"),
        ("list messages", "list threads", r#""key":"t:"#, r#""key":"t:1"#, "is not in the list"),
        ("list messages", "list threads", USER, "ann", "holds a thread of ann"),
        ("read message", "read message", "890.10", "890.1", "byte for byte"),
        ("read message", "read message", USER, "ann", "want message"),
        ("edit message", "edit message", r#""key":"t:"#, r#""key":"t:1"#, "to be changed, got t:1"),
        ("edit message", "read message", "edited", "posted", "byte for byte"),
        ("delete message", "delete message", r#""key":"t:"#, r#""key":"t:1"#, "to be changed, got t:1"),
        ("delete thread", "delete thread", "receipt", "invoice", "want a receipt"),
    ] {
        // What is removed at the end is listed again, and must then be shown as it is.
        let times = (request == "list threads").then_some(2);
        proxy.alter(times, move |call| asks(request, call), move |reply| altered(reply, from, to));
        let result = place.run(WHOLE, proxy.addr).await;
        proxy.clear();
        check_failed(&result, step, why);
        assert_eq!(threads(&server), json!(0), "{step}, {from}");
    }
}

#[tokio::test]
async fn what_is_deleted_and_still_shown_fails_the_step() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    let shown = |reply: Reply| match reply {
        Reply::Answer { status: 403 | 404, .. } => Reply::json(200, &json!({})),
        other => other,
    };
    proxy.alter(None, |call| asks("read message", call), shown);
    check_failed(&place.run(WHOLE, proxy.addr).await, "delete message", "want 404, got 200");
    proxy.clear();
    let message = r#""messages":[{"key":"k","author":"a","body":1}]"#;
    proxy.alter(None, |call| asks("list messages", call), move |reply| altered(reply, r#""messages":[]"#, message));
    check_failed(&place.run(WHOLE, proxy.addr).await, "delete message", "still listed");
    proxy.clear();
    proxy.alter(Some(2), |call| asks("read thread", call), shown);
    check_failed(&place.run(WHOLE, proxy.addr).await, "delete thread", "want 403 or 404, got 200");
    assert_eq!(threads(&server), json!(0));
}

#[tokio::test]
async fn a_signature_that_no_browser_may_use_fails_the_step() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    proxy.when(
        |call| asks("call as browser", call),
        Reply::json(401, &json!({ "error": "x", "code": "invalid_signature" })),
    );
    check_failed(&place.run(WHOLE, proxy.addr).await, "sign user", "got 401: x (invalid_signature)");
}

#[tokio::test]
async fn a_read_only_test_writes_nothing() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    let kept = server.user(USER).create_thread("of another gate");
    let result = place.run(Gate::Smoke { read_only: true }, proxy.addr).await;
    assert_eq!((result.verdict, result.samples), (Verdict::Passed, 2), "{result:?}");
    let calls: Vec<String> = proxy.calls().iter().map(|call| format!("{} {}", call.method, call.target)).collect();
    let lists = ["GET /frontend/v1/threads?limit=1", "GET /frontend/v1/threads?limit=100"];
    assert_eq!(calls, [&["POST /backend/v1/sign"][..], &lists].concat());
    assert_eq!(server.user(USER).thread_keys("limit=10"), [kept]);
    proxy.when(|call| asks("list threads", call), Reply::text(503, ""));
    check_failed(&place.run(Gate::Smoke { read_only: true }, proxy.addr).await, "list threads", "503: an empty body");
}

#[tokio::test]
async fn a_gate_calls_with_the_keys_that_there_are() {
    let Some((_setup, server)) = server("smoke") else { return };
    let place = Place::new();
    let run = async |gate: Gate, entries: &[(&'static str, &'static str)]| {
        *place.entries.lock().unwrap() = entries.to_vec();
        place.run(gate, server.addr).await
    };
    let unsigned = run(WHOLE, &[("backend", testing::BACKEND_KEY)]).await;
    assert_eq!((unsigned.verdict, unsigned.value.as_str()), (Verdict::Passed, "7 of 7 steps"), "{unsigned:?}");
    let browser = [("frontend", testing::FRONTEND_KEY), ("signing", testing::SIGNING_KEY)];
    let read = run(Gate::Smoke { read_only: true }, &browser).await;
    assert_eq!((read.verdict, read.value.as_str()), (Verdict::Passed, "1 of 1 steps"), "{read:?}");
    // Nobody but a backend may remove a thread for good.
    for gate in [WHOLE, Gate::Load { samples: 10 }] {
        let refused = run(gate, &browser).await;
        assert_eq!(refused.verdict, Verdict::Inconclusive);
        assert!(refused.why.contains("the Secret keys has no backend key"), "{}", refused.why);
    }
    let none = run(Gate::Smoke { read_only: true }, &[("admin", testing::ADMIN_KEY)]).await;
    assert_eq!(none.verdict, Verdict::Inconclusive);
    assert!(none.why.contains("the Secret keys has no backend key"), "{}", none.why);
    assert_eq!(threads(&server), json!(0));
    check_failed(&run(WHOLE, &[("backend", "another")]).await, "create thread", "got 401: unauthorized");
}

#[tokio::test]
async fn a_server_with_a_rate_limit_is_waited_for() {
    let change = |setup: testing::Setup| setup.set("server.rate_limit.rps", 10).set("server.rate_limit.burst", 10);
    let Some((_setup, server)) = server_with("smoke", change) else { return };
    let result = Place::new().run(WHOLE, server.addr).await;
    assert_eq!(result.verdict, Verdict::Passed, "{result:?}");
}

#[tokio::test]
async fn a_server_that_refuses_connections_at_first_is_waited_for() {
    let Some((_setup, server)) = server("smoke") else { return };
    let place = Place::new();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let key = place.start("smoke", WHOLE, address);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(place.gates.is_running(&key) && place.gates.result(&key).is_none());
    let (listener, server) = (socket.listen(8).unwrap(), server.addr);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut to = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut to).await });
        }
    });
    let result = place.shown(&key, |_| true).await;
    assert_eq!(result.verdict, Verdict::Passed, "{result:?}");
}

#[tokio::test]
async fn a_server_that_is_stopped_fails() {
    let Some((_setup, server)) = server("smoke") else { return };
    let address = server.addr;
    server.stop();
    let result = Place::new().run(WHOLE, address).await;
    assert_eq!((result.verdict, result.samples), (Verdict::Failed, 0));
    assert!(result.why.starts_with("sign user: POST /backend/v1/sign: cannot connect to 127.0.0.1:"), "{}", result.why);
    assert!(!result.why.contains("may be left"), "{}", result.why);
}

#[tokio::test]
async fn a_gate_that_is_forgotten_removes_what_it_made() {
    let Some((_setup, server)) = server("smoke") else { return };
    let (place, proxy) = (Place::new(), Proxy::before(server.addr));
    proxy.times_when(1, |call| asks("read message", call), Reply::Stall);
    let key = place.start("smoke", WHOLE, proxy.addr);
    until(|| proxy.calls().iter().any(|call| asks("read message", call))).await;
    assert_eq!(threads(&server), json!(1));
    place.gates.forget(UID, Some("another"));
    assert!(!place.gates.is_running(&key) && place.gates.result(&key).is_none());
    until(|| threads(&server) == json!(0)).await;
}
