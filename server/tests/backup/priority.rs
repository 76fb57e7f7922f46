//! Whom a backup leaves the processors to.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, getpriority_process};
use testing::{Server, Setup, wait_until};

use crate::online::{path, place};
use crate::stores::fill;
use crate::tree::names;

const LOWEST: i32 = 19;

/// The threads of a process: their names and nice values. Some may have ended.
fn threads(process: &Server) -> Vec<(String, i32)> {
    let thread = |task: &Path| {
        let id = Pid::from_raw(task.file_name()?.to_str()?.parse().ok()?)?;
        let name = fs::read_to_string(task.join("comm")).ok()?;
        Some((name.trim_end().to_owned(), getpriority_process(Some(id)).ok()?))
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    tasks.filter_map(|task| thread(&task.unwrap().path())).collect()
}

/// The same, those that pack a backup apart from the others.
fn split(process: &Server) -> (Vec<i32>, Vec<i32>) {
    let (packing, others): (Vec<_>, Vec<_>) = threads(process).into_iter().partition(|(name, _)| name == "backup");
    let nice = |threads: Vec<(String, i32)>| threads.into_iter().map(|(_, nice)| nice).collect();
    (nice(packing), nice(others))
}

/// A backup that writes for minutes.
fn slow_backup(setup: &Setup, out: &Path) -> Server {
    let running = Server::begin(setup.command(&["backup", "--rate-limit", "10KB", "--out", path(out)]));
    wait_until("it writes", || names(out).iter().any(|name| name.ends_with(".tmp")));
    running
}

fn stop(backup: Server) {
    backup.signal(Signal::TERM);
    backup.wait().check_code(130);
}

#[test]
fn a_backup_is_packed_at_the_lowest_priority_while_a_server_runs_and_at_its_own_otherwise() {
    let own = getpriority_process(None).unwrap();
    let setup = Setup::new();
    fill(&setup, 2);
    let out = place(&setup);
    let backup = slow_backup(&setup, &out);
    let (packing, others) = split(&backup);
    assert!(packing.is_empty() && others.iter().all(|nice| *nice == own), "{:?}", threads(&backup));
    stop(backup);

    let server = setup.start();
    let backup = slow_backup(&setup, &out);
    wait_until("it reads and compresses", || split(&backup).0.len() == 2);
    let (packing, others) = split(&backup);
    assert_eq!(packing, [LOWEST; 2]);
    assert!(others.iter().all(|nice| *nice == own), "the lease is renewed at its own: {:?}", threads(&backup));
    stop(backup);
    server.stop().check_code(0);
}

#[test]
fn a_server_packs_its_own_backups_at_the_lowest_priority_and_serves_at_its_own() {
    let own = getpriority_process(None).unwrap();
    let setup = Setup::new();
    fill(&setup, 2);
    let destination = place(&setup);
    let setup = setup.set("backup.schedule", "* * * * * *").set("backup.destination", path(&destination));
    let setup = setup.set("backup.rate_limit", "10KB");
    let server = setup.start();
    wait_until("it packs", || split(&server).0.len() == 2);
    let (packing, _) = split(&server);
    assert_eq!(packing, [LOWEST; 2]);
    let serving = threads(&server).into_iter().filter(|(name, _)| name.starts_with("tokio"));
    let serving: Vec<i32> = serving.map(|(_, nice)| nice).collect();
    assert!(!serving.is_empty() && serving.iter().all(|nice| *nice == own), "{:?}", threads(&server));
    server.stop().check_code(0);
}
