//! `kubectl progressdb`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use progressdb_e2e::{Namespace, plugin};
use serde_json::json;
use testing::http::{Connection, Request};

#[test]
fn it_tells_the_status_the_keys_and_everything_and_connects() {
    let namespace = Namespace::new("plugin");
    let database = namespace.database("chat", json!({}));
    database.ready();
    let plugin =
        |command: &str| plugin(&[command, "chat", "-n", &namespace.name]).unwrap_or_else(|said| panic!("{said}"));
    let status = plugin("status");
    assert!(status.starts_with("chat: Running\n") && status.contains("chat-data-0"), "{status}");
    let keys = plugin("keys");
    assert!(keys.contains(&database.key("backend")), "{keys}");
    let report = plugin("report");
    assert!(report.contains("StatefulSet") && report.contains("server.ready"), "{report}");
    for role in ["admin", "backend", "frontend", "signing"] {
        assert!(!report.contains(&database.key(role)), "the report has the {role} key");
    }
    let missing = progressdb_e2e::plugin(&["status", "nobody", "-n", &namespace.name]).unwrap_err();
    assert!(missing.contains("there is no ProgressDB nobody"), "{missing}");
    connects(&namespace.name);
}

fn connects(namespace: &str) {
    let mut command = Command::new("kubectl");
    command.args(["progressdb", "connect", "chat", "-n", namespace, "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words = line.split(|letter: char| letter.is_whitespace() || letter == '/');
    let address = words.filter_map(|word| word.trim_end_matches(['.', ',']).parse().ok()).next();
    let answer = Connection::open(address.unwrap_or_else(|| panic!("{line}"))).unwrap().send(&Request::get("/readyz"));
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(answer.unwrap().status, 200, "{line}");
}
