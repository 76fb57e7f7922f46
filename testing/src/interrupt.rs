//! A command that is killed at any of its changes to the disk, or whose disk fails there, from outside, by `strace`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Finished, finish};
use crate::machine::{missing, skip};

/// The system calls by which a program changes directories, and has files on the disk.
const CHANGES: [&str; 8] = ["mkdir", "rename", "renameat2", "unlink", "unlinkat", "rmdir", "fsync", "fdatasync"];

/// Kills a command at each change that it makes to the disk, one run for each. `prepare` makes the command and what it
/// finds; `check` looks at what is left, and is told the change. Returns how many runs were killed; none without `strace`.
#[track_caller]
pub fn kill_at_each_change(test: &str, prepare: impl FnMut() -> Command, mut check: impl FnMut(&str)) -> Option<usize> {
    interrupt(test, "signal=KILL", prepare, |change, finished| {
        assert_eq!(finished.code, None, "{change}: it was killed");
        check(change);
    })
}

/// Has each change that a command makes to the disk fail, one run for each; `check` is also told how the command ended.
#[track_caller]
pub fn fail_at_each_change(
    test: &str,
    prepare: impl FnMut() -> Command,
    check: impl FnMut(&str, &Finished),
) -> Option<usize> {
    interrupt(test, "error=EIO", prepare, check)
}

fn interrupt(
    test: &str,
    fault: &str,
    mut prepare: impl FnMut() -> Command,
    mut check: impl FnMut(&str, &Finished),
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
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut interrupted = 0;
    for call in CHANGES {
        for number in 1.. {
            let finished = finish(traced(&prepare(), &format!("{call}:{fault}:when={number}"), call, log.path()));
            // A process that is killed may leave no line.
            if finished.code.is_some() && !fs::read_to_string(log.path()).unwrap().contains("(INJECTED)") {
                finished.check_code(0);
                break;
            }
            check(&format!("{call} {number}"), &finished);
            interrupted += 1;
        }
    }
    Some(interrupted)
}

/// The same command, with a fault in system calls of this kind.
fn traced(command: &Command, fault: &str, call: &str, log: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qqq", "-o"]).arg(log).args(["-e", &format!("trace={call}")]);
    traced.args(["-e", &format!("inject={fault}")]);
    traced.arg(command.get_program()).args(command.get_args()).env_clear();
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    traced
}
