//! Audit lines: whatever the level, never lost without a word, and never in the way of other requests.

use std::time::Duration;

use serde_json::json;
use testing::http::Request;
use testing::{ADMIN_KEY, Answer, Server, Setup, THREADS, thread, timed, wait_until};

use crate::{OPENED_ROW, check_serves, fill_log, talkative};

/// Nothing but where the server listens, which the tests must know.
const QUIET: &str = "error,progressdb_server::serve=info";

#[test]
fn audit_lines_survive_every_level_and_rust_log() {
    for directives in ["off", "error", "audit=off", "audit=error,progressdb_server=off"] {
        let rust_log = format!("{directives},progressdb_server::serve=info");
        let setup = Setup::new().environment("RUST_LOG", &rust_log).set("logging.level", "error");
        let server = setup.start();
        server.admin(OPENED_ROW).check_status(200);
        let line = server.wait_for_line("admin.row_opened");
        assert!(line.contains(" audit: ") && line.contains("s:format"), "{line}");
        server.stop().check_code(0);
    }
}

#[test]
fn a_directive_that_means_nothing_is_named_and_the_rest_holds() {
    let setup = Setup::new().environment("RUST_LOG", "=is=no=directive,debug");
    let server = setup.start();
    server.wait_for_line("\"=is=no=directive\" is not a directive and is ignored");
    server.send(&Request::get("/healthz")).check_status(200);
    server.wait_for_line("http.request");
}

#[test]
fn a_purge_by_an_administrator_is_audited() {
    let setup = Setup::new().set("retention.enabled", true).environment("RUST_LOG", QUIET);
    let server = setup.start();
    let purge = |body| server.send(&Request::new("POST", "/admin/jobs/purge").key(ADMIN_KEY).json(&body));
    purge(json!({ "dry_run": true })).check_status(200);
    purge(json!({})).check_status(200);
    server.wait_for_line("event=\"admin.purge\" dry_run=true");
    server.wait_for_line("event=\"admin.purge\" dry_run=false");
}

#[test]
fn what_is_audited_is_refused_while_nobody_reads_and_nobody_else_waits() {
    let setup = talkative().set("retention.enabled", true);
    let server = setup.start();
    let user = server.user("ann");
    let key = user.create_thread("kept");
    fill_log(&server, 100);
    let post = |path: &str, body| server.send(&Request::new("POST", path).key(ADMIN_KEY).json(&body));
    check_unavailable(&server.admin(OPENED_ROW));
    check_unavailable(&user.delete(&format!("{}?purge=true", thread(&key))));
    check_unavailable(&post("/admin/jobs/purge", json!({})));
    check_unavailable(&post("/admin/encryption/rotate", json!({})));
    check_unavailable(&post("/admin/encryption/compact", json!({})));
    assert!(server.metric("progressdb_http_rejections_total{limit=\"audit\"}") >= 5.0);
    // What is not audited goes on.
    server.admin("/admin/keys/s:format").check_status(200);
    post("/admin/jobs/purge", json!({ "dry_run": true })).check_status(200);
    assert_eq!(user.thread_keys(""), [key.as_str()]);
    check_no_one_waits(&server);

    server.release_log();
    wait_until("the log is read", || server.metric("progressdb_log_lines_waiting{buffer=\"events\"}") < 10.0);
    server.admin(OPENED_ROW).check_status(200);
    user.delete(&format!("{}?purge=true", thread(&key))).check_status(202);
    let finished = server.stop();
    finished.check_code(0);
    for event in ["admin.row_opened", "thread.erased"] {
        assert_eq!(finished.stderr.matches(event).count(), 1, "{event}: what was refused was not done");
    }
}

/// Dozens of administrators who wait, and a user who does not.
fn check_no_one_waits(server: &Server) {
    std::thread::scope(|scope| {
        let administrators: Vec<_> = (0..40).map(|_| scope.spawn(|| server.admin(OPENED_ROW))).collect();
        for _ in 0..20 {
            let (answer, took) = timed(|| server.send(&Request::get("/healthz")));
            answer.check_status(200);
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        check_serves(&server.user("bob"));
        for administrator in administrators {
            check_unavailable(&administrator.join().unwrap());
        }
    });
}

#[track_caller]
fn check_unavailable(answer: &Answer) {
    answer.check_error(503, "not done: the server's audit log cannot be written");
    assert_eq!(answer.json()["code"], json!("audit_unavailable"));
    assert_eq!(answer.header("retry-after"), Some("10"));
}

#[test]
fn what_is_audited_is_refused_when_the_reader_is_gone() {
    let setup = talkative();
    let server = setup.start();
    server.close_log();
    crate::talk(&server, 10);
    let refused = || server.admin(OPENED_ROW).status == 503;
    wait_until("nobody reads the log", refused);
    check_unavailable(&server.admin(OPENED_ROW));
    server.send(&Request::get(THREADS).key("sk_example").header("X-User-ID", "ann")).check_status(200);
    server.stop().check_code(0);
}
