//! A command that is killed at any of its steps, or stopped by a signal. Afterwards there is no artefact or a whole one.

use std::path::Path;
use std::process::Command;

use progressdb_server::backup::{Artefact, Progress};
use progressdb_server::format::Formats;
use rustix::process::Signal;
use testing::command::binary;
use testing::{Server, Setup, missing, wait_until};

use crate::kept::stopped;
use crate::tree::names;

fn is_temporary(name: &str) -> bool {
    name.starts_with("progressdb-backup-") && name.ends_with(".tmp")
}

/// Every artefact in the directory is whole; how many, and how many temporaries there are.
#[track_caller]
fn look(out: &Path) -> (usize, usize) {
    let (temporary, artefacts): (Vec<_>, Vec<_>) = names(out).into_iter().partition(|name| is_temporary(name));
    for name in &artefacts {
        let artefact = Artefact::open(&out.join(name), &Formats::CURRENT).unwrap();
        artefact.check(&Progress::default()).unwrap();
    }
    (artefacts.len(), temporary.len())
}

/// The next backup to the same place succeeds and removes what the killed one left.
#[track_caller]
fn check_next(setup: &Setup, out: &Path) {
    let (before, _) = look(out);
    let next = out.join("next.pdbk");
    setup.run(&["backup", "--out", next.to_str().unwrap()]).check_code(0);
    assert_eq!(look(out), (before + 1, 0), "{:?}", names(out));
    std::fs::remove_file(next).unwrap();
}

/// A backup that writes for many seconds; there is a temporary when this returns.
fn slow_backup(setup: &Setup, out: &Path, form: &str) -> Server {
    let target = out.join("b.pdbk");
    let words = ["backup", "--format", form, "--rate-limit", "50KB", "--out", target.to_str().unwrap()];
    let running = Server::begin(setup.command(&words));
    wait_until("it writes", || names(out).iter().any(|name| is_temporary(name)));
    running
}

#[test]
fn a_signal_stops_a_backup_and_nothing_is_left() {
    let setup = Setup::new();
    stopped(&setup, 2_000_000);
    let out = setup.root().join("out");
    std::fs::create_dir(&out).unwrap();
    for (signal, form) in [(Signal::TERM, "tar"), (Signal::INT, "tar"), (Signal::TERM, "dir")] {
        let running = slow_backup(&setup, &out, form);
        running.signal(signal);
        running.wait().check_code(130).check_says(&["stopped by a signal", "event=\"cli.backup_failed\""]);
        assert_eq!(names(&out), Vec::<String>::new());
    }
}

#[test]
fn what_a_killed_backup_leaves_is_removed_by_the_next_one_and_not_while_it_runs() {
    let setup = Setup::new();
    stopped(&setup, 2_000_000);
    let other = Setup::new();
    stopped(&other, 1_000);
    let out = setup.root().join("out");
    std::fs::create_dir(&out).unwrap();
    for form in ["tar", "dir"] {
        let running = slow_backup(&setup, &out, form);
        other.run(&["backup", "--out", out.join("other.pdbk").to_str().unwrap()]).check_code(0);
        assert_eq!(look(&out), (1, 1), "one that is being written was removed");
        running.kill();
        assert_eq!(look(&out), (1, 1));
        check_next(&setup, &out);
        std::fs::remove_file(out.join("other.pdbk")).unwrap();
    }
}

/// By system calls: the first and the last sync of what was written, the rename, the sync of the directory around it. A call
/// that never comes kills nobody, and the test fails.
#[test]
fn a_backup_that_is_killed_at_any_step_left_no_artefact_or_a_whole_one() {
    let setup = Setup::new();
    stopped(&setup, 200_000);
    let out = setup.root().join("out");
    std::fs::create_dir(&out).unwrap();
    let whole = setup.run(&["backup", "--json", "--out", setup.root().join("whole").to_str().unwrap()]);
    let files = serde_json::from_str::<serde_json::Value>(&whole.stdout).unwrap()["files"].as_u64().unwrap();
    for form in ["tar", "dir"] {
        // In a directory: each file of the store, header and manifest, and the two directories.
        let syncs = if form == "tar" { 1 } else { files + 4 };
        let mut outcomes = Vec::new();
        for (call, when) in [("fsync", 1), ("fsync", syncs), ("renameat2", 1), ("fsync", syncs + 1)] {
            let target = out.join("b.pdbk");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:signal=KILL:when={when}")]).arg(binary());
            command.args(["backup", "--format", form, "--out", target.to_str().unwrap()]);
            command.arg("--config").arg(setup.config_file()).current_dir(setup.root());
            let Ok(ended) = command.output() else {
                return missing("a_backup_that_is_killed_at_any_step", "strace is not installed");
            };
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            if said.contains("ptrace") {
                return testing::skip("a_backup_that_is_killed_at_any_step", said.trim());
            }
            assert!(!ended.status.success(), "{call} {when} of {form} never came: {said}");
            let found = look(&out);
            outcomes.push(found);
            check_next(&setup, &out);
            if found.0 == 1 {
                match form {
                    "tar" => std::fs::remove_file(&target).unwrap(),
                    _ => std::fs::remove_dir_all(&target).unwrap(),
                }
            }
        }
        assert_eq!(outcomes, [(0, 1), (0, 1), (0, 1), (1, 0)], "{form}");
    }
}
