//! Stopping under load: nothing acknowledged is lost, and who asks is told in time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testing::http::{Connection, Request};
use testing::load::{Book, run, shared_threads};
use testing::{Random, Setup, messages, timed, wait_until};

#[test]
fn sigterm_under_load_drains_and_loses_nothing() {
    let mut random = Random::seeded();
    let setup = Setup::new();
    let (mut threads, mut all) = (0, 0);
    for turn in 0..3 {
        let server = setup.start();
        let mut book = Book::default();
        let shared = shared_threads(&server, &mut book, &format!("turn{turn}"), 4);
        let moment = 100 + random.below(400);
        let written = run(&server, &format!("turn{turn}"), 8, &shared, &mut random, |control| {
            wait_until("enough is written", || control.acknowledged.load(Ordering::Relaxed) >= moment);
            server.signal(Signal::TERM);
        });
        server.wait().check_code(0);
        book.absorb(written);

        let server = setup.start();
        book.settle(&server);
        book.check(&server);
        threads += book.counts().0;
        all += book.appends();
        assert_eq!(server.admin("/admin/stats").json(), json!({ "threads": threads, "messages": all }));
        server.stop().check_code(0);
    }
}

#[test]
fn readiness_goes_before_the_listener() {
    let setup = Setup::new().set("drain.hold", "2s");
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    server.signal(Signal::TERM);
    let ready = || server.send(&Request::get("/readyz"));
    wait_until("the server says that it is not ready", || ready().status == 503);
    let answer = ready();
    let body = answer.check_status(503).json();
    assert_eq!(body["error"], json!("not ready"), "{answer}");
    assert!(body["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
    server.send(&Request::get("/healthz")).check_status(200);
    let written = user.append(&t, "during the hold");
    server.wait().check_code(0);

    let server = setup.start();
    assert_eq!(server.user("user1").message_keys(&t, ""), [written]);
}

#[test]
fn without_a_hold_an_idle_server_stops_at_once() {
    let setup = Setup::new();
    let server = setup.start();
    let mut idle = Connection::open(server.addr).unwrap();
    idle.send(&Request::get("/healthz")).unwrap().check_status(200);
    let (finished, took) = timed(|| server.stop());
    finished.check_code(0);
    assert!(took < Duration::from_secs(10), "an idle connection held up the stop for {took:?}");
    assert!(idle.closed());
}

#[test]
fn a_request_in_flight_is_finished() {
    let setup = Setup::new().set("drain.timeout", "30s");
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let bytes = user.request("POST", &messages(&t)).json(&json!({ "body": "last words" })).bytes();
    let (first, rest) = bytes.split_at(bytes.len() - 5);
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(first).unwrap();
    // Another connection's answer: the first bytes of this one have been read by then.
    wait_until("the request has begun", || server.send(&Request::get("/healthz")).status == 200);
    server.signal(Signal::TERM);
    wait_until("the listener is closed", || Connection::open(server.addr).is_err());
    connection.write(rest).unwrap();
    let written = connection.read_answer(false).unwrap().written();
    server.wait().check_code(0);
    let server = setup.start();
    assert_eq!(server.user("user1").message_keys(&t, ""), [written]);
}

#[test]
fn a_client_that_never_finishes_does_not_hold_up_the_stop_for_ever() {
    let setup = Setup::new().set("drain.timeout", "500ms").set("server.timeouts.body", "1h");
    let server = setup.start();
    let user = server.user("user1");
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(&user.request("POST", "/frontend/v1/threads").header("Content-Length", "100").bytes()).unwrap();
    let (finished, took) = timed(|| server.stop());
    finished.check_code(0);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once_with_130() {
    for second in [Signal::TERM, Signal::INT] {
        let setup = Setup::new().set("drain.hold", "1h");
        let server = setup.start();
        let written = server.user("user1").create_thread("kept");
        server.signal(Signal::TERM);
        wait_until("the first is heard", || server.send(&Request::get("/readyz")).status == 503);
        server.signal(second);
        server.wait().check_code(130);
        assert_eq!(setup.start().user("user1").thread_keys(""), [written]);
    }
}

#[test]
fn sigint_stops_like_sigterm_and_sigpipe_is_survived() {
    let setup = Setup::new();
    let server = setup.start();
    server.signal(Signal::PIPE);
    server.user("user1").create_thread("after SIGPIPE");
    server.signal(Signal::INT);
    server.wait().check_code(0);
}
