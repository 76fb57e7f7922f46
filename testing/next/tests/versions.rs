//! The versions of `testing/next` that the tests of upgrades upgrade to: what each does, and that this version, on the same
//! data, does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use testing::http::Request;
use testing::user::send;
use testing::{Server, Setup, timed};

const THREADS: usize = 3;
const MESSAGES: usize = 10;

/// A data directory with a few threads, as this version left it, and what it says of its rows.
fn old_data() -> (Setup, Value) {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("ann");
    for number in 0..THREADS {
        let thread = user.create_thread(&format!("thread {number}"));
        (0..MESSAGES).for_each(|number| drop(user.append(&thread, json!({ "text": format!("message {number}") }))));
    }
    server.stop().check_code(0);
    let digest = digest(&setup);
    (setup, digest)
}

/// That version on this data.
fn next(setup: &Setup, name: &str) -> Setup {
    Setup::with_db(setup.db()).next_version(name)
}

fn json_of(setup: &Setup, words: &[&str]) -> Value {
    serde_json::from_str(&setup.run(words).check_code(0).stdout).unwrap()
}

fn digest(setup: &Setup) -> Value {
    let mut digest = json_of(setup, &["verify", "--digest", "--json"]);
    digest.as_object_mut().unwrap().remove("seconds");
    digest
}

fn readyz(server: &Server) -> Value {
    server.send(&Request::get("/readyz")).check_status(200).json()
}

fn smoke(setup: &Setup, server: &Server) -> testing::Finished {
    setup.run(&["smoke", "--url", &format!("http://{}", server.addr)])
}

#[test]
fn every_version_tells_its_own_number_wherever_it_is_told() {
    let (setup, before) = old_data();
    let ours = json_of(&setup, &["version", "--json"]);
    for name in ["next", "next-plain", "next-slow", "next-smoke", "next-corrupt", "next-unready"] {
        let next = next(&setup, name);
        let told = json_of(&next, &["version", "--json"]);
        let version = format!("0.4.0-{name}");
        assert_eq!(told["version"], json!(version));
        assert!(told["version"].as_str() > ours["version"].as_str(), "{version} is not after {ours}");
        next.run(&["version"]).check_says(&[&version]);
        let flag = testing::finish(next.command(&["--version"]));
        assert_eq!(flag.check_code(0).stdout, format!("progressdb {version}\n"));
    }
    let next = next(&setup, "next-plain");
    let told = json_of(&next, &["version", "--json"]);
    assert_eq!((&told["formats"], &told["migrations"]), (&ours["formats"], &json!([])), "nothing else is new");
    for (setup, version) in [(&next, &told["version"]), (&setup, &ours["version"])] {
        let server = setup.start();
        assert_eq!(&readyz(&server)["version"], version);
        let metrics = server.admin("/metrics").check_status(200).text();
        let info = metrics.lines().find(|line| line.starts_with("progressdb_instance_info{")).unwrap();
        assert!(info.contains(&format!("version={version}")), "{info}");
        smoke(setup, &server).check_code(0);
        server.stop().check_code(0);
    }
    assert_eq!(digest(&setup), before);
}

#[test]
fn a_version_that_is_not_there_starts_nothing() {
    let refused = Setup::new().next_version("next-best").refused_start();
    refused.check_code(2).check_says(&["NEXT_VERSION", "next-best"]);
}

#[test]
fn an_unready_version_lives_and_never_gets_ready() {
    let (setup, _) = old_data();
    let management = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let status = |addr: SocketAddr, path: &str| send(addr, &Request::get(path)).status;
    for (setup, ready) in [(next(&setup, "next-unready"), 503), (setup, 200)] {
        let setup = setup.set("server.management_address", management.to_string());
        let server = setup.start_listening();
        server.wait_for_line("server.ready");
        for addr in [server.addr, management] {
            assert_eq!((status(addr, "/healthz"), status(addr, "/readyz")), (200, ready), "{addr}");
        }
        assert_eq!(server.user("ann").thread_keys("limit=100").len(), THREADS);
        let finished = smoke(&setup, &server);
        assert_eq!(
            (finished.code == Some(0), finished.stdout.contains("FAIL  /readyz: ")),
            (ready == 200, ready == 503)
        );
        server.stop().check_code(0);
    }
}

/// The shortest of many, so that nothing else on the machine counts. What the server counts is as long as what a client sees.
#[test]
fn a_slow_version_is_well_and_takes_longer_to_write() {
    const DELAY: Duration = Duration::from_millis(600);
    let (setup, _) = old_data();
    let fastest = |setup: &Setup| {
        let server = setup.start();
        smoke(setup, &server).check_code(0);
        let user = server.user("ann");
        let thread = user.create_thread("of writes");
        let fastest = (0..20).map(|_| timed(|| user.append(&thread, "hello")).1).min().unwrap();
        let metrics = server.admin("/metrics").check_status(200).text();
        let within = |line: &&str| line.contains("method=\"POST\"") && line.contains("le=\"0.1\"");
        let of_messages = |line: &&str| line.contains("duration_seconds_bucket") && line.contains("/messages\"");
        let found =
            metrics.lines().find(|line| of_messages(line) && within(line)).unwrap_or_else(|| panic!("{metrics}"));
        server.stop().check_code(0);
        (fastest, found.ends_with(" 0"))
    };
    let (slow, ours) = (fastest(&next(&setup, "next-slow")), fastest(&setup));
    assert!(slow.0 >= DELAY && ours.0 < DELAY, "{slow:?}, {ours:?}");
    assert_eq!((slow.1, ours.1), (true, false), "none within 100 ms, by the server's own figures");
}

#[test]
fn the_version_that_loses_edits_does_so_on_old_data_only() {
    let fresh = Setup::new().next_version("next-smoke");
    let server = fresh.start();
    for _ in 0..2 {
        smoke(&fresh, &server).check_code(0);
    }
    server.stop().check_code(0);

    let (setup, before) = old_data();
    let wrong = next(&setup, "next-smoke");
    let server = wrong.start();
    let failed = smoke(&wrong, &server);
    failed.check_code(1).check_says(&["ok  read message", "FAIL  edit message: GET "]);
    server.stop().check_code(0);
    let server = setup.start();
    smoke(&setup, &server).check_code(0);
    server.stop().check_code(0);
    assert_eq!(digest(&setup), before);
}

/// Counts, checks and a smoke test find nothing.
#[test]
fn one_character_that_a_migration_corrupts_is_only_in_the_digest() {
    let (setup, before) = old_data();
    let good = Setup::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(setup.db()).arg(good.db()).status().unwrap();
    assert!(copied.success());
    let migrate = |setup: &Setup| json_of(setup, &["migrate", "--json"])["ran"].clone();
    migrate(&next(&good, "next"));
    assert_eq!(digest(&good), before, "a good version only adds what the older one does not read");

    let bad = next(&setup, "next-corrupt");
    let ran = migrate(&bad);
    let changed = ran.as_array().unwrap().iter().map(|migration| migration["changed"].as_u64().unwrap());
    assert_eq!(changed.collect::<Vec<_>>(), [0, 1], "{ran}");
    let after = digest(&bad);
    assert_ne!(after["root"], before["root"]);
    let without_root = |mut digest: Value| (digest.as_object_mut().unwrap().remove("root"), digest).1;
    assert_eq!(without_root(after.clone()), without_root(before));
    assert_eq!(digest(&setup), after, "both versions read the same");
    bad.run(&["verify"]).check_code(0);
    let server = bad.set("format.finalize", "manual").start();
    assert_eq!(readyz(&server)["format"]["data"], json!(1));
    server.stop().check_code(0);
}
