//! Operating a server: what its log says to whom and when nobody listens, what signals do, and what changes without a
//! restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod events;
mod key_files;
mod rehearsal;
mod signals;
mod smoke;
mod smoke_faults;
mod stalled;

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{Server, Setup, THREADS, User};

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

/// A list of threads with this key; 200 or 401.
fn status_with(server: &Server, key: &str) -> u16 {
    server.send(&Request::get(THREADS).key(key).header("X-User-ID", "ann")).status
}

/// A write and a read by somebody who is served.
#[track_caller]
fn check_serves(user: &User) {
    let thread = user.create_thread("kept");
    let message = user.append(&thread, json!("kept"));
    assert_eq!(user.message_keys(&thread, ""), [message]);
}

/// A named pipe.
fn make_pipe(path: &std::path::Path) {
    let mut command = std::process::Command::new("mkfifo");
    command.arg(path);
    testing::finish(command).check_code(0);
}
