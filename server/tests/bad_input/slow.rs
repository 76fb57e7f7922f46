//! Clients that are slow, leave, or are too many.

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{GENEROUS, Setup, THREADS, messages, missing, timed, wait_until};

use crate::victim::Victim;

#[test]
fn a_client_that_sends_its_headers_too_slowly_is_cut_off() {
    let setup = Setup::new().set("server.timeouts.header", "300ms").set("server.timeouts.idle", "300ms");
    let victim = Victim::start(setup);
    let mut open: Vec<Connection> = (0..50).map(|_| victim.connect()).collect();
    for connection in &mut open {
        connection.write(b"GET /frontend/v1/threads HTTP/1.1\r\nHost: x\r\nX-A").unwrap();
    }
    let (_, took) = timed(|| {
        for connection in &mut open {
            if let Ok(answer) = connection.read_answer(false) {
                assert_eq!(answer.status, 408, "{answer}");
            }
            assert!(connection.closed());
        }
    });
    assert!(took < GENEROUS / 4, "cut off after {took:?}");
    let mut idle = victim.connect();
    let (_, took) = timed(|| assert!(idle.closed() || idle.read_answer(false).is_err()));
    assert!(took < GENEROUS / 4, "an idle connection lived {took:?}");
    victim.check_unharmed();
}

#[test]
fn a_client_that_sends_its_body_too_slowly_is_cut_off() {
    let victim = Victim::start(Setup::new().set("server.timeouts.body", "300ms"));
    let mut open: Vec<Connection> = (0..50).map(|_| victim.connect()).collect();
    let head = victim.user.request("POST", THREADS).header("Content-Length", "100").bytes();
    for connection in &mut open {
        connection.write(&head).unwrap();
        connection.write(br#"{"title":"#).unwrap();
    }
    let (_, took) = timed(|| {
        for connection in &mut open {
            if let Ok(answer) = connection.read_answer(false) {
                answer.check_refusal(408);
            }
            assert!(connection.closed());
        }
    });
    assert!(took < GENEROUS / 4, "cut off after {took:?}");
    victim.check_unharmed();
}

#[test]
fn a_client_that_trickles_its_body_is_cut_off_by_the_whole_time() {
    let victim = Victim::start(Setup::new().set("server.timeouts.body", "500ms"));
    let mut connection = victim.connect();
    connection.write(&victim.user.request("POST", THREADS).header("Content-Length", "90000").bytes()).unwrap();
    // One byte at each poll: never idle, never done.
    wait_until("the server gives up", || connection.write(b" ").is_err());
    victim.check_unharmed();
}

#[test]
fn a_client_that_leaves_in_mid_body_writes_nothing() {
    let victim = Victim::start(Setup::new());
    for request in victim.routes() {
        let whole = request.json(&json!({ "title": "half", "body": "half" })).bytes();
        for part in [whole.len() - 1, whole.len() - 10, whole.len() / 2, 10] {
            for _ in 0..5 {
                victim.connect().write(&whole[..part]).unwrap();
            }
        }
    }
    victim.check_unharmed();
}

#[test]
fn a_client_that_leaves_before_its_answer_harms_nobody() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let bytes = user.request("POST", &messages(&t)).json(&json!({ "body": "x".repeat(1000) })).bytes();
    for _ in 0..100 {
        Connection::open(server.addr).unwrap().write(&bytes).unwrap();
    }
    user.append(&t, "last");
    wait_until("what was accepted is settled", || {
        let stats = server.admin("/admin/stats").json()["messages"].as_u64().unwrap();
        user.get(&messages(&t)).json()["pagination"]["total"].as_u64().unwrap() == stats
    });
    server.stop().check_code(0);
}

/// While no connection is accepted, the system's queue holds as many as it may: as after a restart, when all come at once.
#[test]
fn a_burst_of_connections_waits_for_its_turn() {
    let allowed: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let victim = Victim::start(Setup::new().set("server.max_connections", 1));
    let filter = format!("sport = :{}", victim.server.addr.port());
    match std::process::Command::new("ss").args(["-Htln", &filter]).output() {
        Ok(listeners) => {
            // For a listener the third column is how many may wait; beyond it connections are dropped and try again.
            let line = String::from_utf8(listeners.stdout).unwrap();
            let waiting = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("no listener: {line}"));
            assert_eq!(waiting.parse(), Ok(allowed), "{line}");
        }
        Err(_) => missing("a_burst_of_connections_waits_for_its_turn", "there is no ss"),
    }
    let mut first = victim.connect();
    assert_eq!(first.send(&Request::get("/healthz")).unwrap().status, 200);
    let open: Vec<Connection> = (0..allowed.min(100)).map(|_| victim.connect()).collect();
    drop(first);
    for mut connection in open {
        connection.write(&Request::get("/healthz").header("Connection", "close").bytes()).unwrap();
        assert_eq!(connection.read_answer(false).unwrap().status, 200);
    }
    victim.check_unharmed();
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served() {
    let victim = Victim::start(Setup::new().set("server.max_connections", 20));
    let mut open: Vec<Connection> = (0..60).map(|_| victim.connect()).collect();
    for connection in &mut open {
        connection.write(&Request::get("/healthz").header("Connection", "close").bytes()).unwrap();
    }
    for connection in &mut open {
        assert_eq!(connection.read_answer(false).unwrap().status, 200);
    }
    drop(open);
    victim.check_unharmed();
}
