//! `progressdb smoke` against servers that are well: what passes, with whose keys, and what it leaves.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use testing::http::Request;
use testing::servers::proxy::Proxy;
use testing::servers::secret_file;
use testing::servers::tls::Authority;
use testing::{ADMIN_KEY, BACKEND_KEY, Finished, Server, Setup, finish, program};

/// The user of the test.
pub(crate) const PROBE: &str = "progressdb-probe-smoke";

/// The steps, in their order.
pub(crate) const STEPS: [&str; 11] = [
    "/healthz",
    "/readyz",
    "sign user",
    "create thread",
    "post message",
    "list messages",
    "read message",
    "edit message",
    "delete message",
    "delete thread",
    "/metrics",
];
const READING: [&str; 4] = ["/healthz", "/readyz", "list threads", "/metrics"];

pub(crate) fn url(server: &Server) -> String {
    format!("http://{}", server.addr)
}

/// Outcome and step of each line.
#[track_caller]
pub(crate) fn lines(finished: &Finished) -> Vec<(&str, &str)> {
    finished.stdout.lines().map(|line| line_of(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

fn line_of(line: &str) -> Option<(&str, &str)> {
    let (outcome, rest) = line.split_once("  ")?;
    let step = match outcome {
        "ok" => rest.split_once("  ")?.0,
        "FAIL" => rest.split_once(": ")?.0,
        _ => rest,
    };
    Some((outcome, step))
}

#[track_caller]
fn check_passes(finished: &Finished, steps: &[&str]) {
    finished.check_code(0);
    let passed: Vec<_> = steps.iter().map(|step| ("ok", *step)).collect();
    assert_eq!(lines(finished), passed, "{finished:?}");
    assert!(finished.stdout.lines().all(|line| line.ends_with(" ms")), "{finished:?}");
}

/// Nobody finds a thread of the test.
#[track_caller]
pub(crate) fn check_nothing_left(server: &Server) {
    assert_eq!(server.user(PROBE).thread_keys("limit=100"), [""; 0]);
}

/// What `verify --digest` says of a stopped database, except for the time it took.
fn digest(setup: &Setup) -> Value {
    let finished = setup.run(&["verify", "--digest", "--json"]);
    finished.check_code(0);
    let mut found: Value = serde_json::from_str(&finished.stdout).unwrap();
    found.as_object_mut().unwrap().remove("seconds");
    found
}

fn sequence(server: &Server) -> Value {
    server.send(&Request::get("/readyz")).check_status(200).json()["sequence"].clone()
}

fn sealed() -> Setup {
    let setup = Setup::new();
    let key = secret_file(setup.root(), "master.key", hex::encode([7; 32]));
    setup.set("encryption.enabled", true).set("encryption.kms.master_key_file", key)
}

#[test]
fn every_step_passes_and_leaves_nothing() {
    for setup in [Setup::new(), sealed()] {
        let server = setup.start();
        let user = server.user("ann");
        let thread = user.create_thread("of a client");
        user.append(&thread, "kept");
        server.stop().check_code(0);
        let before = digest(&setup);
        let server = setup.start();
        for _ in 0..2 {
            check_passes(&setup.run(&["smoke", "--url", &url(&server)]), &STEPS);
            check_nothing_left(&server);
        }
        let stats = server.admin("/admin/stats").json();
        assert_eq!(stats, json!({ "threads": 1, "messages": 3 }), "a message was made in each run");
        server.stop().check_code(0);
        assert_eq!(digest(&setup), before);
    }
}

#[test]
fn threads_of_a_probe_user_do_not_count_as_a_clients() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("ann").create_thread("of a client");
    server.stop().check_code(0);
    let before = digest(&setup);
    let server = setup.start();
    let probe = server.user("progressdb-probe-of-mine");
    let thread = probe.create_thread("left by a test that was killed");
    probe.append(&thread, 1);
    server.stop().check_code(0);
    assert_eq!(digest(&setup), before);
}

#[test]
fn nothing_is_written_where_nothing_may_be() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("ann").create_thread("of a client");
    let before = (sequence(&server), server.admin("/admin/users").json());
    check_passes(&setup.run(&["smoke", "--read-only", "--url", &url(&server)]), &READING);
    assert_eq!((sequence(&server), server.admin("/admin/users").json()), before);
}

#[test]
fn the_result_is_json_on_one_line() {
    let setup = Setup::new();
    let server = setup.start();
    let out = setup.root().join("report");
    let to_file = ["--out", out.to_str().unwrap()];
    let finished = setup.run(&[&["smoke", "--json", "--read-only", "--url", &url(&server)][..], &to_file].concat());
    finished.check_code(0);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), finished.stdout, "the file has the line of --json");
    let mut report: Value = serde_json::from_str(&finished.stdout).unwrap();
    for step in report["steps"].as_array_mut().unwrap() {
        assert!(step.as_object_mut().unwrap().remove("ms").is_some_and(|ms| ms.is_u64()), "{step}");
    }
    let steps = READING.map(|step| json!({ "step": step, "outcome": "ok" }));
    assert_eq!(report, json!({ "ok": true, "url": url(&server), "read_only": true, "steps": steps }));
    let gone = setup.run(&[&["smoke", "--url", "http://127.0.0.1:1"][..], &to_file].concat());
    gone.check_code(1).check_says(&["FAIL  /healthz: "]);
    let report: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&report["ok"], &report["steps"][0]["outcome"]), (&json!(false), &json!("failed")), "{report}");
    let unwritable = setup.run(&["smoke", "--read-only", "--url", &url(&server), "--out", "/nowhere/report"]);
    unwritable.check_code(1).check_says(&["/nowhere/report"]);
}

#[test]
fn a_development_server_is_tried_with_the_keys_that_it_made() {
    let setup = Setup::new().set("server.api_keys", json!({}));
    let none = setup.run(&["smoke", "--url", "http://127.0.0.1:1"]);
    none.check_code(78).check_says(&["--key-file", setup.db().to_str().unwrap()]);
    assert!(!setup.db().exists(), "looking for keys made a data directory");
    let server = setup.start();
    check_passes(&setup.run(&["smoke", "--url", &url(&server)]), &STEPS);
    let at = server.addr.to_string();
    check_passes(&setup.run(&["smoke", "--addr", &at]), &STEPS);
}

#[test]
fn keys_come_from_files_where_there_is_no_configuration() {
    let setup = Setup::new();
    let server = setup.start();
    let file = |name: &str, key: &str| secret_file(setup.root(), name, format!("# a comment\n{key}\n"));
    let (backend, admin, wrong) =
        (file("backend", BACKEND_KEY), file("admin", ADMIN_KEY), file("wrong", "sk_of_another_server"));
    let elsewhere = testing::temporary_directory();
    let at = url(&server);
    let run = |words: &[&str]| finish(program(&[&["smoke", "--url", &at][..], words].concat(), elsewhere.path()));
    check_passes(&run(&["--key-file", &backend, "--admin-key-file", &admin]), &STEPS);

    let refused = run(&["--key-file", &wrong, "--admin-key-file", &admin]);
    refused.check_code(1).check_says(&["FAIL  sign user: ", "401", "--key-file"]);
    let refused = run(&["--key-file", &admin, "--admin-key-file", &admin]);
    refused.check_code(1).check_says(&["FAIL  sign user: ", "the key is of another role"]);
    let refused = run(&["--key-file", &backend, "--admin-key-file", &backend]);
    refused.check_code(1).check_says(&["ok  delete thread", "FAIL  /metrics: ", "the key is of another role"]);
    run(&["--key-file", &backend]).check_code(78).check_says(&["--admin-key-file", "--management-url"]);
    run(&["--key-file", "/nowhere/key"]).check_code(78).check_says(&["/nowhere/key"]);
    for said in [refused.said(), run(&[]).said()] {
        assert!(!said.contains(BACKEND_KEY) && !said.contains(ADMIN_KEY), "a key is shown: {said}");
    }
}

#[test]
fn the_management_listener_shows_metrics_without_a_key() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new().set("server.management_address", free.to_string()).set("server.api_keys.admin", json!([]));
    let server = setup.start();
    check_passes(&setup.run(&["smoke", "--addr", &server.addr.to_string()]), &STEPS);
    let management = format!("http://{free}/");
    check_passes(&setup.run(&["smoke", "--url", &url(&server), "--management-url", &management]), &STEPS);
    setup.run(&["smoke", "--url", &url(&server)]).check_code(78).check_says(&["--management-url"]);

    let other = Setup::new().start();
    let mixed = setup.run(&["smoke", "--url", &url(&other), "--management-url", &management]);
    mixed.check_code(1).check_says(&["FAIL  /metrics: ", "of another server"]);
}

#[test]
fn a_server_behind_tls_is_trusted_by_the_given_authority() {
    let setup = Setup::new();
    let server = setup.start();
    let authority = Authority::new();
    let proxy = Proxy::with_tls(server.addr, &authority);
    let at = format!("https://{}", proxy.addr);
    let ca = secret_file(setup.root(), "ca.pem", &authority.pem);
    check_passes(&setup.run(&["smoke", "--url", &at, "--ca", &ca]), &STEPS);
    let refused = setup.run(&["smoke", "--url", &at]);
    refused.check_code(1).check_says(&["FAIL  /healthz: ", "UnknownIssuer", "--ca"]);
    for (name, content) in [("empty.pem", ""), ("odd.pem", "-----BEGIN CERTIFICATE-----\n!\n")] {
        let file = secret_file(setup.root(), name, content);
        setup.run(&["smoke", "--url", &at, "--ca", &file]).check_code(78).check_says(&[&file]);
    }
}

#[test]
fn the_rate_limit_is_waited_for() {
    let setup = Setup::new().set("server.rate_limit.rps", 10).set("server.rate_limit.burst", 10);
    let server = setup.start();
    check_passes(&setup.run(&["smoke", "--url", &url(&server)]), &STEPS);
    let refused = server.metric("progressdb_http_rejections_total{limit=\"rate\"}");
    assert!(refused > 0.0, "the test was never refused");
}

#[test]
fn wrong_usage_and_an_address_that_is_not_known_are_told_apart() {
    let setup = Setup::new();
    for words in [
        &["--url", "127.0.0.1:8080"][..],
        &["--url", "ftp://host"],
        &["--url", "http://name:password@host"],
        &["--url", "http://host/?a=b"],
        &["--timeout", "0s"],
        &["--timeout", "soon"],
        &["--admin-key-file", "a", "--management-url", "http://host"],
        &["extra"],
    ] {
        setup.run(&[&["smoke"][..], words].concat()).check_code(2);
    }
    setup.run(&["smoke"]).check_code(78).check_says(&["server.port is 0", "--url"]);
    let broken = Setup::new().set("server.port", "none");
    broken.run(&["smoke", "--url", "http://127.0.0.1:1"]).check_code(78);
}
