//! Starting: with nothing, with flags, with a file of the earlier server; and what the log then says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testing::http::Request;
use testing::{BACKEND_KEY, Server, Setup, THREADS, finish, program, skip, wait_until};

use crate::{check_no_secrets, write};

/// A file in the style of the earlier server's sample: underscored integers, sizes, short durations, and keys that
/// nobody knows.
const SAMPLE: &str = r#"
server:
  address: 127.0.0.1
  port: 0
  db_path: ./database
  max_payload_size: 100KB
  cors:
    allowed_origins: ["http://localhost:3000"]
  rate_limit:
    rps: 100_000
    burst: 100_000
  ip_whitelist: ["127.0.0.1", "::1"]
  api_keys:
    backend: ["sk_example"]
    frontend: ["pk_example"]
    admin: ["admin_example"]
    signing: ["sign_example"]
ingest:
  intake:
    queue_capacity: 4_194_304
    shutdown_poll_interval: 250µs
    wal:
      enabled: true
      segment_size: 2GB
    recovery:
      enabled: true
      temp_idx_enabled: true
  compute:
    worker_multiplier: 4
    buffer_capacity: 1_000
  apply:
    batch_count: 10_000
    batch_timeout: 5ms
logging:
  level: "info"
telemetry:
  buffer_size: 60MB
  file_max_size: 40MB
  flush_interval: 2ms
  queue_capacity: 2_048
sensor:
  poll_interval: 500ms
  disk_high_pct: 80
  mem_high_pct: 80
  cpu_high_pct: 90
  recovery_window: 5s
retention:
  enabled: false
  cron: "0 2 * * *"
  mttl: 720h
  tttl: 720h
encryption:
  enabled: false
  fields: []
  kms:
    mode: embedded
    endpoint: 127.0.0.1:6820
    db_path: ./kms
    master_key_hex: 0011223344556677889900112233445566778899001122334455667788990011
nobody:
  knows: this
"#;

#[test]
fn a_configuration_of_the_earlier_server_starts_this_one() {
    let setup = Setup::new();
    write(setup.root(), "config.yaml", SAMPLE);
    // Without a word and without a flag, as it was started.
    let server = Server::spawn(program(&[], setup.root())).ready();
    server.user("user1").create_thread("kept");
    assert!(setup.root().join("database/PROGRESSDB").exists(), "db_path is relative to the working directory");
    assert!(server.log().contains("nobody.knows") || server.log().contains("nobody"), "{}", server.log());
    assert!(!server.log().contains("0011223344556677"), "a master key is in the log");
    check_no_secrets(&server.log());
    server.stop().check_code(0);
}

#[test]
fn flags_alone_start_it_with_keys_of_its_own() {
    let setup = Setup::new();
    let mut command = program(&["--addr", "127.0.0.1:0", "--db"], setup.root());
    command.arg(setup.db());
    check_development(Server::spawn(command), setup.db());
}

#[test]
fn without_any_configuration_it_starts_on_loopback_port_8080() {
    if std::net::TcpListener::bind("127.0.0.1:8080").is_err() {
        return skip("without_any_configuration_it_starts_on_loopback_port_8080", "somebody else has port 8080");
    }
    let setup = Setup::new();
    let server = Server::spawn(program(&[], setup.root()));
    assert_eq!(server.addr, "127.0.0.1:8080".parse().unwrap());
    check_development(server, &setup.root().join("database"));
}

/// Keys of every role in a private file, and a printed line that works as it stands.
fn check_development(server: Server, db: &Path) {
    let server = server.ready();
    wait_until("the welcome is printed", || server.printed().contains("/docs"));
    let file = db.join("dev-keys.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(db).unwrap().permissions().mode() & 0o777, 0o700);
    let keys: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let key = |role: &str| keys[role].as_str().unwrap_or_else(|| panic!("no {role} in {keys}")).to_owned();
    let create =
        |key: &str| Request::new("POST", THREADS).key(key).header("X-User-ID", "u").json(&json!({ "title": "x" }));
    let t = server.send(&create(&key("backend"))).written();
    server.send(&Request::get("/admin/stats").key(&key("admin"))).check_status(200);
    server.send(&create(&key("frontend"))).check_error(401, "signature required");
    server.send(&create(BACKEND_KEY)).check_error(401, "unauthorized");
    for role in ["backend", "frontend", "admin", "signing"] {
        assert!(!server.log().contains(&key(role)), "the {role} key is in the log");
    }

    let printed = server.printed();
    let line =
        printed.lines().find(|line| line.contains("curl ")).unwrap_or_else(|| panic!("no curl line:\n{printed}"));
    let mut shell = Command::new("sh");
    shell.args(["-c", line.trim()]);
    if finish(with_words(&["-c", "command -v curl"])).code == Some(0) {
        let finished = finish(shell);
        finished.check_code(0);
        let answer: Value =
            serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        assert!(answer["key"].as_str().is_some_and(|key| key.starts_with("t:")), "{finished:?}");
    } else {
        skip("the printed curl line", "curl is not installed");
    }
    let before = fs::read(&file).unwrap();
    server.stop().check_code(0);

    let mut command = program(&["serve", "--addr", "127.0.0.1:0", "--db"], db.parent().unwrap());
    command.arg(db);
    let server = Server::spawn(command).ready();
    assert_eq!(fs::read(&file).unwrap(), before, "the keys stay the same");
    let listed = Request::get(THREADS).key(&key("backend")).header("X-User-ID", "u");
    assert_eq!(server.send(&listed).keys("threads"), [t]);
}

fn with_words(words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(words);
    command
}

#[test]
fn keys_may_come_from_files() {
    let setup = Setup::new();
    let file = write(setup.root(), "backend.keys", "# of the mobile team\nfrom_file_1\n\n  from_file_2  \n");
    let setup = setup.set("server.api_keys.backend_file", file);
    let server = setup.start();
    for key in ["from_file_1", "from_file_2", BACKEND_KEY] {
        server.send(&Request::get(THREADS).key(key).header("X-User-ID", "u")).check_status(200);
    }
    server.send(&Request::get(THREADS).key("# of the mobile team").header("X-User-ID", "u")).check_status(401);
    let missing = Setup::new().set("server.api_keys.admin_file", "/nowhere/admin.keys");
    missing.refused_start().check_code(78).check_says(&["server.api_keys.admin_file", "/nowhere/admin.keys"]);
}

#[test]
fn logs_are_one_line_an_event_in_text_and_in_json() {
    let setup = Setup::new().set("logging.format", "json");
    let server = setup.start();
    server.user("user1").create_thread("a title\nof two lines");
    let finished = server.stop();
    let lines: Vec<Value> = finished.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<String> = lines.iter().map(|line| find(line, "event")).collect();
    assert!(events.iter().any(|event| event == "server.listening"), "{events:?}");
    check_no_secrets(&finished.said());
    assert!(!finished.said().contains("of two lines"), "a title is in the log");
}

/// A field of a log line, at the top or among its fields.
fn find(line: &Value, field: &str) -> String {
    let value = line.get(field).or_else(|| line["fields"].get(field));
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Setup::new().set("server.port", port).refused_start();
    refused.check_code(1).check_says(&[&port.to_string()]);
}

#[test]
fn a_start_and_a_stop_without_trouble_warn_of_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    server.user("user1").create_thread("kept");
    let first = server.stop();
    let again = setup.start().stop();
    for finished in [first, again] {
        let loud: Vec<&str> =
            finished.stderr.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
        assert!(loud.is_empty(), "{} lines:\n{}", loud.len(), loud[..loud.len().min(10)].join("\n"));
    }
}
