//! A reader of standard error who stands still, or is gone, holds up nobody; what is lost is counted and said.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testing::http::Request;
use testing::{Setup, timed, wait_until};

use crate::{check_serves, fill_log, talk, talkative};

const FULL: &str = "progressdb_log_lines_dropped_total{buffer=\"events\",reason=\"full\"}";
const UNWRITABLE: &str = "progressdb_log_lines_dropped_total{buffer=\"events\",reason=\"unwritable\"}";
/// More than the buffer takes.
const TOO_MANY: usize = 9_000;

#[test]
fn a_reader_that_stands_still_holds_up_no_request_and_is_told_what_he_missed() {
    let setup = talkative();
    let server = setup.start();
    assert_eq!(server.metric(FULL), 0.0);
    fill_log(&server, TOO_MANY);
    server.send(&Request::get("/healthz")).check_json(200, &json!({ "status": "ok" }));
    server.send(&Request::get("/readyz")).check_status(200);
    check_serves(&server.user("ann"));
    let dropped = server.metric(FULL);
    assert!(dropped > 0.0 && dropped < TOO_MANY as f64, "{dropped}");
    assert!(server.metric("progressdb_log_lines_waiting{buffer=\"events\"}") > 1_000.0);

    server.release_log();
    let said = server.wait_for_line("log.lines_dropped");
    let lines: f64 = said.split("lines=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(lines >= dropped && lines <= server.metric(FULL), "{said}: {dropped} were dropped");
    let told = server.log().matches("log.lines_dropped").count();
    talk(&server, 10);
    server.wait_for_line("http.request");
    let finished = server.stop();
    finished.check_code(0).check_says(&["server.stopped"]);
    assert_eq!(finished.stderr.matches("log.lines_dropped").count(), told, "it is said once");
}

#[test]
fn a_stop_does_not_wait_for_a_reader_that_stands_still() {
    for (is_impatient, code) in [(false, 0), (true, 130)] {
        let setup = talkative().set("drain.hold", if is_impatient { "1h" } else { "0s" });
        let mut server = setup.start();
        fill_log(&server, 100);
        let ((), took) = timed(|| {
            server.signal(Signal::TERM);
            if is_impatient {
                wait_until("the first is heard", || server.send(&Request::get("/readyz")).status == 503);
                server.signal(Signal::TERM);
            }
            wait_until("it has ended", || !server.runs());
        });
        assert!(took < Duration::from_secs(15), "{took:?}");
        server.wait().check_code(code);
    }
}

#[test]
fn the_last_lines_reach_a_reader_who_comes_back_in_time() {
    let setup = talkative();
    let server = setup.start();
    fill_log(&server, TOO_MANY);
    server.signal(Signal::TERM);
    server.release_log();
    server.wait().check_code(0).check_says(&["log.lines_dropped", "server.draining", "server.stopped"]);
}

#[test]
fn a_closed_standard_error_kills_nothing() {
    let setup = talkative();
    let mut server = setup.start();
    server.close_log();
    talk(&server, 1_000);
    check_serves(&server.user("ann"));
    assert!(server.metric(UNWRITABLE) > 0.0);
    assert!(server.runs());
    server.stop().check_code(0);
    check_serves(&setup.start().user("ann"));
}

#[test]
fn a_refused_start_says_why_before_it_ends() {
    let setup = Setup::new().set("storage.memory", "1KB");
    let refused = setup.refused_start();
    refused.check_code(78).check_says(&["startup.config_invalid", "error: storage.memory"]);
}
