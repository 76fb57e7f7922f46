//! Where a run lives: one directory on a real disk, removed at the end, and the processors that everything runs on.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

/// The threads of each connection.
pub(crate) type Threads = Vec<Vec<u64>>;

/// `connections` times `each` threads with made-up ids, for systems that create them by writing.
pub(crate) fn numbered_threads(connections: usize, each: usize) -> Threads {
    (0..connections).map(|index| (0..each).map(|own| (1 + index * each + own) as u64).collect()).collect()
}

/// The directory of a run, and how programs are started in it.
pub(crate) struct Workshop {
    root: TempDir,
    pinning: Option<Pinning>,
    /// By how much the generator's priority was raised, which what it starts must not inherit.
    raised: i32,
}

impl Workshop {
    /// Makes the directory under `parent`, which must be on a disk: everything is on the same file system.
    pub(crate) fn new(parent: &Path, pinning: Option<Pinning>, raised: i32) -> Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let kind = rustix::fs::statfs(parent)?.f_type as u64;
        const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
        let volatile = MEMORY_FILE_SYSTEMS.contains(&kind);
        ensure!(
            !volatile,
            "{} is in memory, where a disk sync costs nothing; name a --dir on a disk",
            parent.display()
        );
        // Open to others: PostgreSQL runs under its own account below it.
        let everyone = fs::Permissions::from_mode(0o755);
        let root = tempfile::Builder::new().prefix("progressdb-bench-").permissions(everyone).tempdir_in(parent)?;
        Ok(Self { root, pinning, raised })
    }

    /// The run's directory.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// A new directory of its own, named after `name`; it goes with the run.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(self.root.path())?;
        Ok(directory.keep())
    }

    /// A command that runs `program` on the measured side's processors, at the priority that this program was given.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.raised > 0 {
            words.extend(["nice", "-n", &self.raised.to_string()].map(OsString::from));
        }
        if let Some(pinning) = &self.pinning {
            words.extend(["taskset", "--cpu-list", &pinning.measured].map(OsString::from));
        }
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Raises the priority of this thread, and of all that it will start: when a request is due the generator sends it, and
/// what is measured waits as it would for a client on another machine. Returns by how much; the system may refuse it.
pub(crate) fn raise_priority() -> Result<i32> {
    const STEPS: i32 = 10;
    let before = getpriority_process(None)?;
    if setpriority_process(None, before - STEPS).is_err() {
        return Ok(0);
    }
    Ok(before - getpriority_process(None)?)
}

/// Measured programs on the first half of the processors, the generator on the second.
pub(crate) struct Pinning {
    measured: String,
}

impl Pinning {
    /// Moves this thread, and all it will start, to the generator's processors.
    pub(crate) fn pin_generator(processors: usize) -> Result<Self> {
        ensure!(processors >= 2, "--pin needs two processors");
        let half = processors / 2;
        let mut set = CpuSet::new();
        (half..processors).for_each(|processor| set.set(processor));
        sched_setaffinity(None, &set).context("cannot pin the generator")?;
        Ok(Self { measured: format!("0-{}", half - 1) })
    }
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_threads_of_its_own() {
        assert_eq!(numbered_threads(2, 3), [[1, 2, 3], [4, 5, 6]]);
    }

    fn workshop(raised: i32) -> Workshop {
        let program = std::env::current_exe().expect("a program");
        Workshop::new(program.parent().expect("a directory"), None, raised).expect("on a disk")
    }

    #[test]
    fn what_is_measured_does_not_inherit_the_raised_priority() {
        let priority = |workshop: &Workshop| {
            let shown = workshop.command(Path::new("nice")).output().expect("it runs").stdout;
            String::from_utf8_lossy(&shown).trim().parse::<i32>().expect("nice shows a number")
        };
        let own = priority(&workshop(0));
        assert_eq!(priority(&workshop(3)), (own + 3).min(19));
    }

    #[test]
    fn a_run_leaves_nothing_behind() {
        let workshop = workshop(0);
        let root = workshop.root().to_owned();
        let inside = workshop.directory("x").expect("room");
        assert!(inside.starts_with(&root) && inside.exists());
        drop(workshop);
        assert!(!root.exists());
    }
}
