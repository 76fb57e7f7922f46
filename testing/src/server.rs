//! One running `progressdb serve`.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::ADMIN_KEY;
use crate::command::{Finished, Running};
use crate::http::{Answer, Request};
use crate::user::{self, User};
use crate::waiting::{GENEROUS, poll, wait_until};

/// A running server.
pub struct Server {
    process: Running,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Server {
    /// Starts `command` and waits until it says where it listens.
    pub fn spawn(command: Command) -> Self {
        Self::begin(command).listening()
    }

    /// Starts `command` and waits for nothing.
    pub fn begin(command: Command) -> Self {
        Self { process: Running::spawn(command), addr: ([127, 0, 0, 1], 0).into() }
    }

    /// Waits until it says where it listens.
    #[track_caller]
    pub fn listening(mut self) -> Self {
        let found = poll(GENEROUS, || {
            let found = listening_address(&self.log());
            let ended = if found.is_none() { self.process.ended() } else { None };
            assert!(ended.is_none(), "the server did not start ({}):\n{}", ended.unwrap(), self.log());
            found
        });
        self.addr = found.unwrap_or_else(|| panic!("the server does not listen:\n{}", self.log()));
        self
    }

    /// Whether the process has a handler of its own for `signal`.
    pub fn handles(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
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
        self.process.stderr.text()
    }

    /// Reads no more of its log: the pipe fills.
    pub fn hold_log(&self) {
        self.process.stderr.hold();
    }

    /// Reads its log again.
    pub fn release_log(&self) {
        self.process.stderr.release();
    }

    /// Closes its standard error, as soon as it writes one more line.
    pub fn close_log(&self) {
        self.process.stderr.go_away();
    }

    /// Waits until its log contains `words`, and returns the line.
    #[track_caller]
    pub fn wait_for_line(&self, words: &str) -> String {
        let line = || self.log().lines().find(|line| line.contains(words)).map(str::to_owned);
        wait_until(&format!("the log says {words}"), || line().is_some());
        line().unwrap()
    }

    /// The value of a metric, by its name and labels as they are written. Waits for it: some are published at first right
    /// after the start.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        let value = poll(GENEROUS, || {
            text = self.admin("/metrics").check_status(200).text();
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        });
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        self.process.stdout.text()
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, and its exit.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        self.process.finish()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        let log = self.process.stderr.finish();
        let panicked =
            log.contains("event=panic") || log.contains("\"event\":\"panic\"") || log.contains("panicked at");
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", last_lines(&log, 60));
        } else {
            assert!(!panicked, "the server panicked:\n{}", last_lines(&log, 60));
        }
    }
}

/// The address in the log line `event=server.listening addr=...`, text or JSON.
fn listening_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("server.listening"))?;
    let rest = &line[line.find("addr")? + 4..];
    let start = rest.find(|c: char| c.is_ascii_digit() || c == '[')?;
    let end = rest[start..].find(|c: char| c == '"' || c == ',' || c.is_whitespace()).unwrap_or(rest.len() - start);
    rest[start..start + end].parse().ok()
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
