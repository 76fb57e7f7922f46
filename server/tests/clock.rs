//! A running server whose clock is set: what is refused, what is said, and how it ends.
//!
//! Where there is no C compiler these tests are skipped by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::{Value, json};
use testing::clock::Clock;
use testing::http::{Answer, Request};
use testing::{ADMIN_KEY, Server, Setup, message, messages, thread, wait_until};

const YEARS_70: i64 = 70 * 365 * 86_400;
const DAY: i64 = 86_400;

/// A setup whose clock can be set.
struct Wild {
    setup: Setup,
    clock: Clock,
}

impl Wild {
    /// None if this machine has no C compiler; then the test was skipped.
    fn new(test: &str) -> Option<Self> {
        let setup = Setup::new().set("retention.enabled", true).set("retention.tttl", "48h");
        let clock = Clock::make(test, setup.root())?;
        Some(Self { setup: clock.of(setup), clock })
    }

    fn set(&self, ahead: i64) {
        self.clock.set(ahead);
    }
}

fn clock(server: &Server) -> Value {
    server.admin("/admin/clock").check_status(200).json()
}

fn accept(server: &Server) -> Answer {
    server.send(&Request::new("POST", "/admin/clock").key(ADMIN_KEY))
}

#[track_caller]
fn check_held(answer: &Answer) {
    answer.check_status(503);
    answer.check_error_shape();
    assert_eq!(answer.json()["code"], json!("clock_jumped"), "{answer}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{answer}");
}

#[test]
fn a_step_is_held_said_everywhere_and_accepted_by_an_administrator() {
    let Some(wild) = Wild::new("a_step_is_held_said_everywhere_and_accepted_by_an_administrator") else { return };
    let server = wild.setup.start();
    let user = server.user("ann");
    let t = user.create_thread("t");
    let m = user.append(&t, 1);
    assert_eq!(clock(&server)["state"], json!("followed"));

    wild.set(YEARS_70);
    check_held(&user.post(&messages(&t), &json!({ "body": 2 })));
    check_held(&user.delete(&format!("{}?purge=true", thread(&t))));
    user.get(&message(&t, &m)).check_status(200);
    let ready = server.send(&Request::get("/readyz")).check_status(200).json();
    assert_eq!((&ready["writes"], &ready["reason"]), (&json!("refused"), &json!("the clock jumped ahead")));
    let held = clock(&server);
    assert_eq!(held["state"], json!("held"));
    assert!(held["ahead_seconds"].as_i64().unwrap() > YEARS_70 - DAY, "{held}");
    wait_until("the metric and the log say so", || {
        let metrics = server.admin("/metrics").text();
        metrics.contains("progressdb_clock_held 1") && server.log().contains("clock.held")
    });
    let purge = Request::new("POST", "/admin/jobs/purge").key(ADMIN_KEY);
    check_held(&server.send(&purge));
    server.send(&Request::new("POST", "/admin/clock").key(testing::BACKEND_KEY)).check_status(403);
    check_held(&user.post(&messages(&t), &json!({ "body": 2 })));

    let accepted = accept(&server).check_status(200).json();
    assert_eq!(accepted["state"], json!("followed"), "{accepted}");
    wait_until("the audit log says so", || {
        server.log().lines().any(|line| line.contains("clock.accepted") && line.contains("audit"))
    });
    user.append(&t, 2);
    let ready = server.send(&Request::get("/readyz")).check_status(200).json();
    assert_eq!(ready.get("writes"), None, "{ready}");
    wait_until("the metric says so", || server.admin("/metrics").text().contains("progressdb_clock_held 0"));
}

#[test]
fn a_clock_that_comes_back_is_followed_without_a_restart_and_dated_nothing() {
    let Some(wild) = Wild::new("a_clock_that_comes_back_is_followed_without_a_restart_and_dated_nothing") else {
        return;
    };
    let server = wild.setup.start();
    let user = server.user("ann");
    let t = user.create_thread("t");
    for ahead in [2 * DAY, 500 * DAY, YEARS_70] {
        wild.set(ahead);
        check_held(&user.post(&messages(&t), &json!({ "body": 1 })));
        wild.set(0);
        user.append(&t, 1);
    }
    let page = user.get(&messages(&t)).check_status(200).json();
    let dated = page["messages"].as_array().unwrap().iter().map(|m| m["created_ts"].as_u64().unwrap());
    let now = clock(&server)["machine_ts"].as_u64().unwrap();
    assert!(dated.clone().count() == 3 && dated.clone().all(|ts| ts <= now), "{page}");
    wait_until("the log says so", || server.log().contains("clock.returned"));
}

#[test]
fn a_start_70_years_ahead_refuses_writes_until_the_flag_accepts_it() {
    let Some(mut wild) = Wild::new("a_start_70_years_ahead_refuses_writes_until_the_flag_accepts_it") else { return };
    wild.set(YEARS_70);
    let server = wild.setup.start();
    check_held(&server.user("ann").post(testing::THREADS, &json!({ "title": "t" })));
    wild.set(0);
    let t = server.user("ann").create_thread("t");
    server.stop().check_code(0);

    wild.set(YEARS_70);
    let server = wild.setup.start();
    check_held(&server.user("ann").post(&messages(&t), &json!({ "body": 1 })));
    server.user("ann").get(&thread(&t)).check_status(200);
    server.stop().check_code(0);

    wild.setup = wild.setup.argument("--accept-clock");
    let server = wild.setup.start();
    server.user("ann").append(&t, 1);
    wait_until("the audit log says so", || {
        server.log().lines().any(|line| line.contains("clock.accepted") && line.contains("--accept-clock"))
    });
}

#[test]
fn a_board_that_boots_in_2016_serves_and_follows_its_clock_when_that_is_set() {
    let Some(wild) = Wild::new("a_board_that_boots_in_2016_serves_and_follows_its_clock_when_that_is_set") else {
        return;
    };
    let ten_years = -10 * 365 * DAY;
    wild.set(ten_years);
    let server = wild.setup.start();
    let user = server.user("ann");
    let t = user.create_thread("t");
    user.append(&t, 1);
    assert_eq!(clock(&server)["state"], json!("impossible"));
    wild.set(0);
    let key = user.append(&t, 2);
    let after = clock(&server);
    let dated: u64 = key.split(':').nth(3).unwrap().parse().unwrap();
    assert!(dated <= after["machine_ts"].as_u64().unwrap(), "{key} {after}");
    assert_ne!(after["state"], json!("impossible"));
    assert_eq!(user.message_keys(&t, "").len(), 2);
}
