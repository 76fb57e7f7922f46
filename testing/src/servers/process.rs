//! A server that is a process of its own, and says in its first line where it listens or is told where to.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::waiting::poll;

/// How long one may take until it listens.
const TO_START: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` and waits for nothing.
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self { child: command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// Starts `command` and returns the words of its line `listening ...`; `None` when it ends without.
    pub(crate) fn start(mut command: Command) -> Option<(Self, Vec<String>)> {
        // Standard input stays open for as long as the process may live: `serve_aws.py` ends when it is closed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Self { child };
        let (said, first) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = said.send(lines.next());
            lines.for_each(drop);
        });
        let line = first.recv_timeout(TO_START).unwrap_or_else(|_| panic!("{command:?} says nothing"))?.unwrap();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(words[0], "listening", "{command:?}: {line}");
        Some((process, words))
    }

    /// Starts `command` and waits until something listens at `addr`; `None` when it ends without.
    pub(crate) fn start_listening(mut command: Command, addr: SocketAddr) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Self { child: command.spawn().unwrap() };
        let listens = poll(TO_START, || {
            let ended = process.ended();
            let listens = !ended && TcpStream::connect(addr).is_ok();
            (ended || listens).then_some(listens)
        });
        listens.unwrap_or_else(|| panic!("{command:?} does not listen")).then_some(process)
    }

    /// Stops it, so that it takes requests and does not answer, until [`Self::go_on`].
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
