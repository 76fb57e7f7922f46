//! Programs as processes: the server's own, and any other that a test runs to its end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::machine::build_directory;
use crate::pump::{Pump, pump};
use crate::waiting::{GENEROUS, poll};

/// The program under test.
pub const PROGRAM: &str = "progressdb";
/// The versions after it, of `testing/next`.
pub const NEXT_PROGRAM: &str = "progressdb-next";

/// The program under test, as cargo built it beside the tests.
pub fn binary() -> PathBuf {
    binary_named(PROGRAM)
}

/// The same of another program of ours.
pub fn binary_named(name: &str) -> PathBuf {
    let path = build_directory().join(name);
    assert!(path.exists(), "{} is not built; type: cargo build --release --workspace --bins", path.display());
    path
}

/// The program with a clean environment, in a directory of the test's own.
pub fn program(words: &[&str], directory: &Path) -> Command {
    program_named(PROGRAM, words, directory)
}

/// The same with another program of ours.
pub fn program_named(name: &str, words: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(binary_named(name));
    command.args(words).current_dir(directory).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Everything that the command said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn check_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "exit code; it said:\n{}", self.said());
        self
    }

    /// Its output contains each of these.
    #[track_caller]
    pub fn check_says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.said().contains(word), "nothing about {word:?} in:\n{}", self.said());
        }
        self
    }
}

/// Runs a command to its end, within [`GENEROUS`].
#[track_caller]
pub fn finish(command: Command) -> Finished {
    Running::spawn(command).finish()
}

/// A process whose output is collected; killed when it is dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    pub(crate) stdout: Pump,
    pub(crate) stderr: Pump,
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = pump(child.stdout.take().unwrap());
        let stderr = pump(child.stderr.take().unwrap());
        Self { name: format!("{command:?}"), child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end, within [`GENEROUS`].
    #[track_caller]
    pub(crate) fn finish(&mut self) -> Finished {
        let Some(status) = poll(GENEROUS, || self.ended()) else {
            panic!("{} does not end; it said:\n{}{}", self.name, self.stdout.text(), self.stderr.text());
        };
        Finished { code: status.code(), stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
