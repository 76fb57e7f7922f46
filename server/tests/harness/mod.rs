//! Starts the real `progressdb` on loopback with a directory of its own, and talks to it over sockets.
//!
//! [`Setup`] owns the data directory and the configuration, [`Server`] one running process on it, [`User`] one person
//! who calls it. A server is killed when it is dropped; a panic line in its log fails the test that owned it.
//! Directories live under cargo's test directory, because the server refuses a file system in memory.
#![allow(dead_code, unused_imports, reason = "each suite uses its part")]
#![allow(unreachable_pub, reason = "a module of each suite, not a crate")]
#![allow(clippy::print_stdout, reason = "captured by the test runner, shown when the test fails")]
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]
#![allow(clippy::disallowed_methods, reason = "the one place where tests wait, read the clock and the environment")]

pub mod disk;
mod environment;
pub mod http;
mod pump;
mod random;
mod user;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

pub use environment::{missing, python, skip, variable};
pub use http::Answer;
use http::Request;
use pump::{Pump, pump};
pub use random::Random;
pub use user::{THREADS, User, message, messages, thread};

/// How long anything may take that normally takes milliseconds.
pub const GENEROUS: Duration = Duration::from_secs(60);

pub const FRONTEND_KEY: &str = "pk_example";
pub const BACKEND_KEY: &str = "sk_example";
pub const ADMIN_KEY: &str = "admin_example";
pub const SIGNING_KEY: &str = "sign_example";

/// A data directory and the configuration that finds it. Outlives the servers started on it.
pub struct Setup {
    root: tempfile::TempDir,
    db: PathBuf,
    config: Value,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// The example keys, loopback, a free port, an empty directory.
    pub fn new() -> Self {
        let root = temporary_directory();
        let db = root.path().join("database");
        Self::at(root, db)
    }

    /// The same with the data directory somewhere else.
    pub fn with_db(db: &Path) -> Self {
        Self::at(temporary_directory(), db.to_owned())
    }

    fn at(root: tempfile::TempDir, db: PathBuf) -> Self {
        let config = json!({
            "server": {
                "address": "127.0.0.1",
                "port": 0,
                "db_path": db,
                "api_keys": {
                    "frontend": [FRONTEND_KEY],
                    "backend": [BACKEND_KEY],
                    "admin": [ADMIN_KEY],
                    "signing": [SIGNING_KEY],
                },
            },
        });
        Self { root, db, config, arguments: Vec::new(), environment: Vec::new() }
    }

    /// Sets a configuration key, such as `server.max_payload_size`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let pointer = format!("/{}", key.replace('.', "/"));
        let mut at = &mut self.config;
        for part in pointer[1..].split('/') {
            at = at.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
        }
        *at = value.into();
        self
    }

    /// Adds a command line argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable of the server.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The data directory.
    pub fn db(&self) -> &Path {
        &self.db
    }

    /// A directory for the test's own files, removed with the setup.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes the configuration file and returns its path. JSON is YAML.
    pub fn config_file(&self) -> PathBuf {
        let path = self.root.path().join("config.yaml");
        std::fs::write(&path, serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        path
    }

    /// The program with this setup's configuration: `progressdb <words> --config <file>`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = program(words, self.root.path());
        command.arg("--config").arg(self.config_file());
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Finished {
        finish(self.command(words))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_listening().ready()
    }

    /// Starts the server and waits until it listens, whatever it answers.
    pub fn start_listening(&self) -> Server {
        Server::spawn(self.command(&["serve"]))
    }

    /// Starts the server where it is expected to refuse, and waits for its end.
    pub fn refused_start(&self) -> Finished {
        self.run(&["serve"])
    }
}

/// The program with a clean environment, in a directory of the test's own.
pub fn program(words: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_progressdb"));
    command.args(words).current_dir(directory).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Everything that the command said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn check_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "exit code; it said:\n{}", self.said());
        self
    }

    #[track_caller]
    pub fn check_says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.said().contains(word), "nothing about {word:?} in:\n{}", self.said());
        }
        self
    }
}

/// Runs a command to its end, within [`GENEROUS`].
pub fn finish(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = pump(child.stdout.take().unwrap());
    let err = pump(child.stderr.take().unwrap());
    let deadline = Instant::now() + GENEROUS;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end; it said:\n{}{}", out.text(), err.text());
        }
        pause();
    };
    Finished { code: status.code(), stdout: out.finish(), stderr: err.finish() }
}

/// A running server.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    stdout: Pump,
    stderr: Pump,
}

impl Server {
    /// Starts `command` and waits until it says where it listens.
    pub fn spawn(command: Command) -> Self {
        Self::begin(command).listening()
    }

    /// Starts `command` and waits for nothing.
    pub fn begin(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = pump(child.stdout.take().unwrap());
        let stderr = pump(child.stderr.take().unwrap());
        Self { child, addr: ([127, 0, 0, 1], 0).into(), stdout, stderr }
    }

    /// Waits until it says where it listens.
    pub fn listening(mut self) -> Self {
        let deadline = Instant::now() + GENEROUS;
        loop {
            if let Some(addr) = listening_address(&self.log()) {
                self.addr = addr;
                return self;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server did not start ({}):\n{}", ended.unwrap(), self.log());
            assert!(Instant::now() < deadline, "the server does not listen:\n{}", self.log());
            pause();
        }
    }

    /// Whether the process has a handler of its own for `signal`.
    pub fn handles(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    }

    /// Waits until it is ready.
    pub fn ready(self) -> Self {
        wait_until("the server is ready", || self.send(&Request::get("/readyz")).status == 200);
        self
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Reads no more of its log: the pipe fills.
    pub fn hold_log(&self) {
        self.stderr.hold();
    }

    /// Reads its log again.
    pub fn release_log(&self) {
        self.stderr.release();
    }

    /// Closes its standard error, as soon as it writes one more line.
    pub fn close_log(&self) {
        self.stderr.go_away();
    }

    /// Waits until its log contains `words`, and returns the line.
    #[track_caller]
    pub fn wait_for_line(&self, words: &str) -> String {
        let line = || self.log().lines().find(|line| line.contains(words)).map(str::to_owned);
        wait_until(&format!("the log says {words}"), || line().is_some());
        line().unwrap()
    }

    /// The value of a metric, by its name and labels as they are written.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let answer = self.admin("/metrics");
        let text = answer.check_status(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        self.stdout.text()
    }

    /// A user who calls with the backend key.
    pub fn user(&self, id: &str) -> User {
        User::new(self.addr, id)
    }

    /// Sends one request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        user::send(self.addr, request)
    }

    /// A GET with the admin key.
    #[track_caller]
    pub fn admin(&self, target: &str) -> Answer {
        self.send(&Request::get(target).key(ADMIN_KEY))
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and its exit.
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let deadline = Instant::now() + GENEROUS;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (stdout, stderr) = (self.stdout.finish_in_place(), self.stderr.finish_in_place());
                return Finished { code: status.code(), stdout, stderr };
            }
            assert!(Instant::now() < deadline, "the server does not end:\n{}", self.log());
            pause();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.stderr.finish_in_place();
        let panicked =
            log.contains("event=panic") || log.contains("\"event\":\"panic\"") || log.contains("panicked at");
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", tail(&log, 60));
        } else {
            assert!(!panicked, "the server panicked:\n{}", tail(&log, 60));
        }
    }
}

/// Polls until `condition` holds; fails the test when it does not within [`GENEROUS`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GENEROUS;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause();
    }
}

/// Time that something took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A directory of a test, on a real disk.
pub fn temporary_directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("progressdb-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// The address in the log line `event=server.listening addr=...`, text or JSON.
fn listening_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("server.listening"))?;
    let rest = &line[line.find("addr")? + 4..];
    let start = rest.find(|c: char| c.is_ascii_digit() || c == '[')?;
    let end = rest[start..].find(|c: char| c == '"' || c == ',' || c.is_whitespace()).unwrap_or(rest.len() - start);
    rest[start..start + end].parse().ok()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
