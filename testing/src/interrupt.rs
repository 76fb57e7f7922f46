//! A command that is killed at any of its changes to the disk, from outside, by `strace`.

use std::process::{Command, Stdio};

use crate::command::finish;
use crate::machine::{missing, skip};

/// The system calls by which a program changes directories, and has files on the disk.
const CHANGES: [&str; 8] = ["mkdir", "rename", "renameat2", "unlink", "unlinkat", "rmdir", "fsync", "fdatasync"];

/// Kills a command at each change that it makes to the disk, one run for each. `prepare` makes the command and what it
/// finds; `check` looks at what is left, and is told the change. Returns how many runs were killed; none without `strace`.
#[track_caller]
pub fn kill_at_each_change(
    test: &str,
    mut prepare: impl FnMut() -> Command,
    mut check: impl FnMut(&str),
) -> Option<usize> {
    let mut probe = Command::new("strace");
    match probe.args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status() {
        Ok(ended) if ended.success() => {}
        Ok(_) => {
            skip(test, "strace may not trace here");
            return None;
        }
        Err(_) => {
            missing(test, "strace is not installed");
            return None;
        }
    }
    let mut killed = 0;
    for call in CHANGES {
        for number in 1.. {
            let finished = finish(traced(&prepare(), call, number));
            if finished.code.is_some() {
                finished.check_code(0);
                break;
            }
            check(&format!("{call} {number}"));
            killed += 1;
        }
    }
    Some(killed)
}

/// The same command, killed at this system call of its kind.
fn traced(command: &Command, call: &str, number: usize) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    traced.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    traced.arg(command.get_program()).args(command.get_args()).env_clear();
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    traced
}
