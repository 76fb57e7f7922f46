//! `kubectl progressdb`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use progressdb_e2e::{Namespace, plugin};
use serde_json::json;
use testing::http::{Connection, Request};

#[test]
fn it_tells_the_status_the_keys_and_everything_and_connects() {
    let namespace = Namespace::new("plugin");
    let database = namespace.database("chat", json!({}));
    database.ready();
    let about = |command: &str, name: &str| plugin(&[command, name, "-n", &namespace.name]);
    let status = about("status", "chat").unwrap();
    assert!(status.starts_with("chat: Running\n") && status.contains("chat-data-0"), "{status}");
    let keys = about("keys", "chat").unwrap();
    assert!(keys.contains(&database.key("backend")), "{keys}");
    let report = about("report", "chat").unwrap();
    assert!(report.contains("StatefulSet") && report.contains("server.ready"), "{report}");
    for role in ["admin", "backend", "frontend", "signing"] {
        assert!(!report.contains(&database.key(role)), "the report has the {role} key");
    }
    let missing = about("status", "nobody").unwrap_err();
    assert!(missing.contains("there is no ProgressDB nobody"), "{missing}");
    connects(&namespace.name);
}

fn connects(namespace: &str) {
    let mut command = Command::new("kubectl");
    command.args(["progressdb", "connect", "chat", "-n", namespace, "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.strip_prefix("http://").and_then(|rest| rest.split(' ').next()?.parse::<SocketAddr>().ok());
    let answer = Connection::open(address.unwrap_or_else(|| panic!("{line}"))).unwrap().send(&Request::get("/readyz"));
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(answer.unwrap().status, 200, "{line}");
}
