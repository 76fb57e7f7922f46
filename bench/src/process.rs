//! Programs that the generator starts, and what the kernel says about them.
//!
//! A [`Process`] never outlives its guard: dropping it ends the program by its own process id and waits.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The unit of processor time in `/proc`: 100 a second on every Linux we run on.
const TICK: Duration = Duration::from_millis(10);

/// A running program.
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
    stop: Signal,
}

impl Process {
    /// Starts `command` with both outputs going to `log`; `stop` is what ends it when the guard is dropped.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path, stop: Signal) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).context("cannot open the log")?;
        let errors = output.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log: log.to_owned(), stop })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of its log if the program has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(10).collect();
        bail!("{} ended with {status}:\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for an end that must be a good one.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("{} was stopped and ended with {status}", self.name) }
    }

    /// Resident memory in megabytes of 10⁶ bytes.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if kill_process(Pid::from_child(&self.child), self.stop).is_err() {
                self.child.kill().ok();
            }
            self.child.wait().ok();
        }
    }
}

/// Processor time that `root` and all its descendants have used, the ended ones included.
pub(crate) fn tree_cpu(root: u32) -> Result<Duration> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) {
            all.push((id, parse_stat(&stat).with_context(|| format!("/proc/{id}/stat is strange"))?));
        }
    }
    if all.iter().all(|(id, _)| *id != root) {
        bail!("process {root} is gone");
    }
    let mut tree = HashSet::from([root]);
    while all.iter().any(|(id, stat)| tree.contains(&stat.parent) && tree.insert(*id)) {}
    let ticks: u64 = all.iter().filter(|(id, _)| tree.contains(id)).map(|(_, stat)| stat.ticks).sum();
    Ok(TICK * u32::try_from(ticks)?)
}

/// Processor time of this program alone.
pub(crate) fn own_cpu() -> Result<Duration> {
    let stat = parse_stat(&fs::read_to_string("/proc/self/stat")?).context("/proc/self/stat is strange")?;
    Ok(TICK * u32::try_from(stat.ticks - stat.ended_ticks)?)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Its own and those of its ended children.
    ticks: u64,
    ended_ticks: u64,
}

/// The name in the second field may hold anything, so fields count from its closing parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let sum = |fields: &[&str]| fields.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>();
    let (own, ended_ticks) = (sum(fields.get(11..13)?)?, sum(fields.get(13..15)?)?);
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: own + ended_ticks, ended_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 10 20 300 4000 20 0 1 0";
        assert_eq!(parse_stat(text), Some(Stat { parent: 3, ticks: 4330, ended_ticks: 4300 }));
        assert_eq!(parse_stat("7 (a) S 3"), None);
    }

    #[test]
    fn the_own_tree_has_used_time_and_a_missing_one_is_an_error() {
        assert!(tree_cpu(std::process::id()).is_ok());
        assert!(tree_cpu(u32::MAX).is_err());
    }

    #[test]
    fn a_dropped_guard_ends_its_program() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let process = Process::start("sleep", Command::new("sleep").arg("600"), &log, Signal::TERM).expect("started");
        let id = process.id();
        assert!(process.resident_mb().expect("running") > 0.0);
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
