//! Signals: SIGHUP reads again, the others mean what is documented, and none kills without a word.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use testing::http::Request;
use testing::{BACKEND_KEY, Server, Setup, wait_until};

use crate::{check_serves, make_pipe, status_with};

#[test]
fn sighup_reads_the_level_again_and_says_what_needs_a_restart() {
    let setup = Setup::new();
    let server = setup.start();
    let setup = setup.set("logging.level", "debug").set("storage.memory", "32MiB").set("drain.timeout", "5s");
    setup.config_file();
    server.send(&Request::get("/healthz")).check_status(200);
    server.signal(Signal::HUP);
    let line = server.wait_for_line("config.reloaded");
    let said = "taken=\"logging.level\" needs_restart=\"drain.timeout, storage.memory\"";
    assert!(line.contains(said), "{line}");
    assert!(!server.log().contains("http.request"), "{}", server.log());
    server.send(&Request::get("/healthz")).check_status(200);
    server.wait_for_line("http.request");
    assert_eq!(server.metric("progressdb_config_reloads_total{outcome=\"taken\"}"), 1.0);

    // What came of it is said whatever the level is.
    let setup = setup.set("logging.level", "error");
    setup.config_file();
    server.signal(Signal::HUP);
    wait_until("it is said", || server.log().matches("config.reloaded").count() == 2);
    server.send(&Request::get("/healthz").header("X-Request-ID", "not-an-error")).check_status(200);
    let log = server.stop().stderr;
    assert!(!log.contains("not-an-error") && !log.contains("server.draining"), "{log}");
}

#[test]
fn sighup_takes_keys_of_the_configuration() {
    let setup = Setup::new();
    let server = setup.start();
    let setup = setup.set("server.api_keys.backend", json!(["sk_new", "sk_other"]));
    setup.config_file();
    server.signal(Signal::HUP);
    let line = server.wait_for_line("keys.changed");
    assert!(line.contains("lists=\"backend\" added=2 removed=1 backend=2 frontend=1 admin=1 signing=1"), "{line}");
    wait_until("the new key is taken", || status_with(&server, "sk_new") == 200);
    assert_eq!(status_with(&server, BACKEND_KEY), 401);
    server.wait_for_line("taken=\"server.api_keys.backend\" needs_restart=\"\"");
    assert!(!server.log().contains("sk_"), "a key is in the log");
}

#[test]
fn a_bad_configuration_is_refused_on_sighup_and_everything_stays() {
    let bad = [
        (r#"{"server": {"port": "eighty"}}"#, "server.port"),
        ("server: [", "is not valid YAML"),
        (r#"{"server": {"address": "127.0.0.1", "port": 0}}"#, "server.api_keys: none are set any more"),
    ];
    for (text, why) in bad {
        let setup = Setup::new();
        let server = setup.start();
        fs::write(setup.root().join("config.yaml"), text).unwrap();
        server.signal(Signal::HUP);
        let line = server.wait_for_line("config.reload_refused");
        assert!(line.contains("ERROR") && line.contains(why), "{line}");
        assert_eq!(server.metric("progressdb_config_reloads_total{outcome=\"refused\"}"), 1.0);
        check_serves(&server.user("ann"));

        setup.config_file();
        server.signal(Signal::HUP);
        server.wait_for_line("config.reloaded");
        check_serves(&server.user("ann"));
    }
}

#[test]
fn sighup_before_the_store_is_open_is_heard() {
    // A KMS that nobody is: the store stays closed.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new()
        .set("encryption.enabled", true)
        .set("encryption.kms.provider", "http")
        .set("encryption.kms.endpoint", format!("http://{nobody}"));
    let mut server = setup.start_listening();
    let setup = setup.set("server.api_keys.admin", json!(["admin_other"]));
    setup.config_file();
    server.signal(Signal::HUP);
    server.wait_for_line("config.reloaded");
    server.send(&Request::get("/readyz")).check_status(503);
    server.send(&Request::get("/metrics").key("admin_other")).check_status(200);
    assert!(server.runs());
    server.stop().check_code(0);
}

#[test]
fn signals_are_handled_before_anything_that_takes_time() {
    let setup = Setup::new();
    let command = setup.command(&["serve"]);
    // The configuration comes through a pipe that nobody writes to yet.
    let pipe = setup.root().join("config.yaml");
    let text = fs::read(&pipe).unwrap();
    fs::remove_file(&pipe).unwrap();
    make_pipe(&pipe);
    let server = Server::begin(command);
    wait_until("SIGHUP is handled", || server.handles(Signal::HUP));
    server.signal(Signal::HUP);
    fs::write(&pipe, text).unwrap();
    let server = server.listening().ready();
    check_serves(&server.user("ann"));
}

#[test]
fn other_signals_are_survived_and_sigquit_stops() {
    let setup = Setup::new();
    let mut server = setup.start();
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2"), (Signal::XFSZ, "SIGXFSZ")] {
        server.signal(signal);
        let line = server.wait_for_line(&format!("signal=\"{name}\""));
        assert!(line.contains("signal.ignored"), "{line}");
    }
    server.signal(Signal::PIPE);
    check_serves(&server.user("ann"));
    assert!(server.runs());
    server.signal(Signal::QUIT);
    server.wait().check_code(0).check_says(&["server.stopped"]);
}

#[test]
fn sighup_while_it_stops_changes_nothing() {
    let setup = Setup::new().set("drain.hold", "2s");
    let server = setup.start();
    server.signal(Signal::TERM);
    wait_until("the first is heard", || server.send(&Request::get("/readyz")).status == 503);
    server.signal(Signal::HUP);
    server.wait().check_code(0).check_says(&["config.reloaded", "server.stopped"]);
}
