//! Collects what a process writes while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Collects what a process writes, so that its pipe never fills unless a test wants it to.
pub(crate) struct Pump {
    text: Arc<Mutex<String>>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// Whether the next line is read.
#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Held,
    /// The pipe is closed after one more line.
    Gone,
}

impl Pump {
    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Stops reading until [`Self::release`]; a line that was begun is still read.
    pub(crate) fn hold(&self) {
        self.set(Gate::Held);
    }

    pub(crate) fn release(&self) {
        self.set(Gate::Open);
    }

    /// Closes the pipe after one more line.
    pub(crate) fn go_away(&self) {
        self.set(Gate::Gone);
    }

    fn set(&self, gate: Gate) {
        *self.gate.0.lock().unwrap() = gate;
        self.gate.1.notify_all();
    }

    /// Everything up to the end of the pipe.
    pub(crate) fn finish(&mut self) -> String {
        self.release();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text()
    }
}

pub(crate) fn pump(source: impl Read + Send + 'static) -> Pump {
    let text = Arc::new(Mutex::new(String::new()));
    let gate = Arc::new((Mutex::new(Gate::Open), Condvar::new()));
    let (sink, may_read) = (Arc::clone(&text), Arc::clone(&gate));
    let thread = std::thread::spawn(move || {
        let mut lines = BufReader::new(source);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
            let mut gate = may_read.0.lock().unwrap();
            while *gate == Gate::Held {
                gate = may_read.1.wait(gate).unwrap();
            }
            if *gate == Gate::Gone {
                return;
            }
        }
    });
    Pump { text, gate, thread: Some(thread) }
}
