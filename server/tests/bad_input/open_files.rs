//! A limit of open files below what the configuration asks for: no client can use up what the store needs.

use std::fs;
use std::process::Command;

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{Server, Setup, finish, messages, timed};

/// `serve` under a hard limit of open files.
fn limited(setup: &Setup, limit: u64) -> Command {
    let serve = setup.command(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(serve.get_program());
    command.args(serve.get_args()).current_dir(setup.root()).env_clear();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.admin("/metrics").check_status(200).text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn idle_clients_leave_the_store_its_open_files() {
    let limit = 256;
    let setup = Setup::new().set("server.management_address", "127.0.0.1:0");
    let setup = setup.set("storage.memory", "16MiB").set("server.max_payload_size", "1MiB");
    let mut server = Server::spawn(limited(&setup, limit)).ready();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    assert!(server.log().contains("server.limits") && server.log().contains("server.connections_reduced"));

    // More than the process may have files, and they ask for nothing.
    let mut idle: Vec<Connection> = (0..limit + 50).map(|_| Connection::open(server.addr).unwrap()).collect();
    let body = json!({ "body": "x".repeat(100_000) });
    let (_, took) = timed(|| user.post(&messages(&t), &body).written());
    assert!(took.as_secs() < 30, "a client among idle ones waited for {took:?}");
    // Flushes and compactions, with the connections taken all the while.
    for n in 0..400 {
        if n % 40 == 0 {
            idle.extend((0..50).map(|_| Connection::open(server.addr).unwrap()));
        }
        user.post(&messages(&t), &body).written();
    }
    let allowed = metric(&server, "progressdb_http_connections_limit{listener=\"main\"}");
    assert!((100.0..200.0).contains(&allowed), "{allowed}");
    assert!(metric(&server, "progressdb_http_connections{listener=\"main\"}") <= allowed);
    assert!(metric(&server, "process_open_fds") <= 256.0);
    assert!(server.runs());
    let options = fs::read_dir(setup.db().join("store-1")).unwrap().map(|entry| entry.unwrap().path());
    let options = options.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("OPTIONS-")).max();
    let options = fs::read_to_string(options.unwrap()).unwrap();
    assert!(options.contains("max_open_files=58\n"), "{options}");
    drop(idle);
    server.stop().check_code(0);
    let server = setup.start();
    assert_eq!(server.user("user1").get(&messages(&t)).json()["pagination"]["total"], json!(401));
}

/// Clients that use their connections keep them; the others give way.
#[test]
fn connections_in_use_are_kept_when_others_wait() {
    let setup = Setup::new().set("server.max_connections", 10);
    let server = setup.start();
    let mut busy = Connection::open(server.addr).unwrap();
    busy.send(&Request::get("/healthz")).unwrap().check_status(200);
    let idle: Vec<Connection> = (0..30).map(|_| Connection::open(server.addr).unwrap()).collect();
    std::thread::scope(|scope| {
        let late = scope.spawn(|| Connection::open(server.addr).unwrap().send(&Request::get("/healthz")));
        while !late.is_finished() {
            busy.send(&Request::get("/healthz")).unwrap().check_status(200);
        }
        late.join().unwrap().unwrap().check_status(200);
    });
    busy.send(&Request::get("/healthz")).unwrap().check_status(200);
    drop(idle);
    server.stop().check_code(0);
}

#[test]
fn too_few_open_files_are_refused_with_78_and_a_way_out() {
    let setup = Setup::new();
    let refused = finish(limited(&setup, 100));
    refused.check_code(78).check_says(&["open files", "100", "LimitNOFILE", "ulimit"]);
    assert!(!setup.db().exists(), "a refused start made a data directory");
}
