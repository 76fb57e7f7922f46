//! `progressdb smoke` against servers that are not well: the step is named, with a reason, and what it made is removed.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;
use serde_json::json;
use testing::servers::listen::{Call, Reply};
use testing::servers::proxy::Proxy;
use testing::{Finished, Server, Setup, wait_until};

use crate::smoke::{STEPS, check_nothing_left, lines};

/// The first requests of each step.
fn asks(step: &str, call: &Call) -> bool {
    let target = call.target.as_str();
    let of_message = target.contains("/messages/");
    match (step, call.method.as_str()) {
        ("/healthz" | "/readyz" | "/metrics", "GET") => target == step,
        ("sign user", "POST") => target == "/backend/v1/sign",
        ("create thread", "POST") => target == "/frontend/v1/threads",
        ("read thread", "GET") => target.contains("/threads/") && !target.contains("/messages"),
        ("post message", "POST") => target.ends_with("/messages"),
        ("list messages", "GET") => target.ends_with("/messages"),
        ("list threads", "GET") => target == "/frontend/v1/threads",
        ("read message", "GET") => of_message,
        ("edit message", "PUT") => of_message,
        ("delete message", "DELETE") => of_message,
        ("delete thread", "DELETE") => !of_message,
        _ => false,
    }
}

/// `step` failed and the log says why; all before it passed, none behind it was taken, and nothing is left.
#[track_caller]
fn check_fails(finished: &Finished, server: &Server, step: &str, why: &str) {
    finished.check_code(1);
    let at = STEPS.iter().position(|name| *name == step).unwrap();
    let outcome = |place: usize| match place.cmp(&at) {
        std::cmp::Ordering::Less => "ok",
        std::cmp::Ordering::Equal => "FAIL",
        std::cmp::Ordering::Greater => "skip",
    };
    let steps: Vec<_> = STEPS.iter().enumerate().map(|(place, step)| (outcome(place), *step)).collect();
    let told = lines(finished);
    assert_eq!(told[..told.len().min(STEPS.len())], steps, "{finished:?}");
    assert!(told[STEPS.len()..].iter().all(|line| *line == ("ok", "clean up")), "{finished:?}");
    let line = finished.stdout.lines().nth(at).unwrap();
    assert!(line.contains(why), "{line:?} does not say {why:?}");
    assert!(finished.stderr.contains(&format!("error: {step}: ")), "{finished:?}");
    check_nothing_left(server);
}

/// The answer with `from` replaced in its body.
fn altered(reply: Reply, from: &str, to: &str) -> Reply {
    let Reply::Answer { status, headers, body } = reply else { return reply };
    let body = String::from_utf8(body).unwrap().replace(from, to).into_bytes();
    Reply::Answer { status, headers, body }
}

fn halved(reply: Reply) -> Reply {
    let Reply::Answer { status, headers, body } = reply else { return reply };
    let sent = body.len() / 2;
    Reply::CutBody { status, headers, body, sent }
}

fn smoke(setup: &Setup, proxy: &Proxy, words: &[&str]) -> Finished {
    setup.run(&[&["smoke", "--url", &proxy.url()][..], words].concat())
}

#[test]
fn an_answer_that_is_wrong_at_a_step_fails_it() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    for step in STEPS {
        let error = json!({ "error": "it broke", "code": "internal" });
        let faults = [
            (Reply::json(500, &error), "500 Internal Server Error, it broke (internal): see"),
            (Reply::text(200, "<html>a page</html>"), "<html>a page</html>"),
            (Reply::text(202, "<html>a page</html>"), "<html>a page</html>"),
            (Reply::text(301, "").header("location", "https://elsewhere/"), "to https://elsewhere/: redirects"),
            (Reply::Cut, "no whole HTTP response"),
        ];
        for (reply, why) in faults {
            proxy.times_when(1, move |call| asks(step, call), reply);
            check_fails(&smoke(&setup, &proxy, &[]), &server, step, why);
            proxy.clear();
        }
    }
}

/// The server has done what it was asked to, and only half of the response arrives. So a thread is made whose key is not
/// known, and is removed all the same.
#[test]
fn half_a_response_fails_its_step() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    for step in STEPS {
        proxy.alter(Some(1), move |call| asks(step, call), halved);
        check_fails(&smoke(&setup, &proxy, &[]), &server, step, "no whole HTTP response");
        proxy.clear();
    }
}

#[test]
fn wrong_content_fails_the_step_that_reads_it() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    for (step, request, from, to, why) in [
        ("/healthz", "/healthz", "ok", "no", r#"want {"status":"ok"}"#),
        ("/readyz", "/readyz", "incarnation", "incarnatiom", "missing field `incarnation`"),
        ("/readyz", "/readyz", r#""status":"ok""#, r#""status":"no""#, "want status ok"),
        ("/readyz", "/readyz", "{", r#"{"writes":"refused","reason":"disk almost full","#, "disk almost full"),
        ("sign user", "sign user", "progressdb-probe-smoke", "ann", "the signature is for user \"ann\""),
        ("sign user", "sign user", r#""signature":""#, r#""signature":"0"#, "64 hexadecimal digits"),
        ("create thread", "create thread", "t:", "x:", "is not the key of a thread"),
        ("create thread", "read thread", "smoke test", "smoke  test", "want thread"),
        ("post message", "post message", ":m:", ":n:", "is not the key of a message"),
        ("list messages", "list messages", r"\u00e9", "é", "byte for byte"),
        ("list messages", "list messages", r#""messages":["#, r#""messages":[],"before":["#, "want one message, got 0"),
        ("list messages", "list threads", r#""key":"t:"#, r#""key":"t:1"#, "is not in the list"),
        ("list messages", "list threads", "progressdb-probe-smoke", "ann", "holds a thread of ann"),
        ("read message", "read message", "890.10", "890.1", "byte for byte"),
        ("read message", "read message", "progressdb-probe-smoke", "ann", "want message"),
        ("edit message", "edit message", r#""key":"t:"#, r#""key":"t:1"#, "was changed"),
        ("edit message", "read message", "edited", "posted", "byte for byte"),
        ("delete thread", "delete thread", "receipt", "invoice", "want a receipt"),
        (
            "/metrics",
            "/metrics",
            "progressdb_http_requests_total",
            "other_total",
            "progressdb_http_requests_total is missing",
        ),
        ("/metrics", "/metrics", "progressdb_instance_info", "other_info", "progressdb_instance_info is missing"),
        ("/metrics", "/metrics", "incarnation=\"", "incarnation=\"0", "of another server"),
        ("/metrics", "/metrics", "} 1", "} one", "is not a line of Prometheus text"),
    ] {
        // The clean-up asks for the key again, and must learn it.
        let times = (request == "create thread").then_some(1);
        proxy.alter(times, move |call| asks(request, call), move |reply| altered(reply, from, to));
        let finished = smoke(&setup, &proxy, &[]);
        proxy.clear();
        check_fails(&finished, &server, step, why);
    }
}

#[test]
fn what_is_deleted_and_still_shown_fails_the_step() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    let shown = |reply: Reply| match reply {
        Reply::Answer { status: 403 | 404, .. } => Reply::json(200, &json!({})),
        other => other,
    };
    proxy.alter(None, |call| asks("read message", call), shown);
    check_fails(&smoke(&setup, &proxy, &[]), &server, "delete message", "want status [404], got 200");
    proxy.clear();
    let empty = |reply| altered(reply, r#""messages":[]"#, r#""messages":[{"key":"k","author":"a","body":1}]"#);
    proxy.alter(None, |call| asks("list messages", call), empty);
    check_fails(&smoke(&setup, &proxy, &[]), &server, "delete message", "still listed");
    proxy.clear();
    // Twice: when the thread is made it may be read.
    proxy.alter(Some(2), |call| asks("read thread", call), shown);
    check_fails(&smoke(&setup, &proxy, &[]), &server, "delete thread", "want status [403, 404], got 200");
}

#[test]
fn a_server_that_refuses_writes_passes_where_nothing_is_written() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    let refusing = |reply| altered(reply, "{\"status\"", "{\"writes\":\"refused\",\"reason\":\"x\",\"status\"");
    proxy.alter(None, |call| asks("/readyz", call), refusing);
    check_fails(&smoke(&setup, &proxy, &[]), &server, "/readyz", "--read-only");
    smoke(&setup, &proxy, &["--read-only"]).check_code(0);
}

#[test]
fn a_server_that_hangs_fails_the_step_in_time() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    for step in ["/healthz", "create thread", "delete thread", "/metrics"] {
        proxy.times_when(1, move |call| asks(step, call), Reply::Stall);
        let finished = smoke(&setup, &proxy, &["--timeout", "3s"]);
        check_fails(&finished, &server, step, "no response within 3s");
        proxy.clear();
    }
}

#[test]
fn what_is_no_server_is_told_as_such() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let smoke = || setup.run(&["smoke", "--url", &at]);
    let other = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").unwrap();
    });
    smoke().check_code(1).check_says(&["FAIL  /healthz: ", "no whole HTTP response", "skip  /metrics"]);
    other.join().unwrap();
    let refused = smoke();
    refused.check_code(1).check_says(&["FAIL  /healthz: ", "cannot connect", &at, "--url", "skip  /metrics"]);
    let nowhere = setup.run(&["smoke", "--url", "http://no-such-host.invalid"]);
    nowhere.check_code(1).check_says(&["FAIL  /healthz: ", "cannot connect"]);
}

#[test]
fn a_signal_ends_it_and_what_it_made_is_removed() {
    let setup = Setup::new();
    let server = setup.start();
    for (step, signal) in [("create thread", Signal::INT), ("post message", Signal::TERM)] {
        let proxy = Proxy::before(server.addr);
        proxy.times_when(1, move |call| asks(step, call), Reply::Stall);
        let smoke = Server::begin(setup.command(&["smoke", "--url", &proxy.url()]));
        wait_until("the step is taken", || proxy.calls().iter().any(|call| asks(step, call)));
        smoke.signal(signal);
        let finished = smoke.wait();
        finished.check_code(130).check_says(&["ok  clean up", "stopped by a signal"]);
        check_nothing_left(&server);
    }
}

#[test]
fn what_cannot_be_removed_is_named() {
    let setup = Setup::new();
    let server = setup.start();
    let proxy = Proxy::before(server.addr);
    proxy.when(|call| asks("delete thread", call), Reply::text(502, "bad gateway"));
    let finished = smoke(&setup, &proxy, &[]);
    let user = server.user(crate::smoke::PROBE);
    let [left] = <[String; 1]>::try_from(user.thread_keys("")).unwrap();
    let named = format!("thread {left} of user {} may still be there", crate::smoke::PROBE);
    finished.check_code(1).check_says(&["FAIL  delete thread: ", "FAIL  clean up: ", &named]);
}
