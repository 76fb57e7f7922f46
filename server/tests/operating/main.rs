//! Operating a server: what its log says to whom, and when nobody listens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../harness/mod.rs"]
mod harness;

mod audit;
mod stalled;

use harness::http::{Connection, Request};
use harness::{Server, Setup, User};
use serde_json::json;

/// A row that every store has, opened, which is audited.
const OPENED_ROW: &str = "/admin/keys/s:format?open=true";

/// A server that logs every request.
fn talkative() -> Setup {
    Setup::new().environment("RUST_LOG", "debug")
}

/// Makes `server` log `lines` lines of `http.request`, hundreds of requests at a time.
fn talk(server: &Server, lines: usize) {
    const AT_A_TIME: usize = 200;
    let request = Request::get("/nothing").header("X-Request-ID", "x".repeat(120)).bytes();
    let mut connection = Connection::open(server.addr).unwrap();
    for _ in 0..lines.div_ceil(AT_A_TIME) {
        connection.write(&request.repeat(AT_A_TIME)).unwrap();
        for _ in 0..AT_A_TIME {
            connection.read_answer(false).unwrap().check_status(401);
        }
    }
}

/// Makes the reader of the log stand still until the pipe is full and `lines` more wait.
fn fill_log(server: &Server, lines: usize) {
    const MORE_THAN_A_PIPE_HOLDS: usize = 1_000;
    server.hold_log();
    talk(server, MORE_THAN_A_PIPE_HOLDS + lines);
}

/// A write and a read by somebody who is served.
#[track_caller]
fn check_serves(user: &User) {
    let thread = user.create_thread("kept");
    let message = user.append(&thread, json!("kept"));
    assert_eq!(user.message_keys(&thread, ""), [message]);
}
