//! What a process writes, kept while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Collects what a process writes, so that its pipe never fills.
pub struct Pump {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    pub fn finish(mut self) -> String {
        self.finish_in_place()
    }

    pub fn finish_in_place(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text()
    }
}

pub fn pump(source: impl Read + Send + 'static) -> Pump {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    let thread = std::thread::spawn(move || {
        let mut lines = BufReader::new(source);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    Pump { text, thread: Some(thread) }
}
