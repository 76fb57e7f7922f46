//! Clients that append without a pause, each to a thread of its own, and remember what was acknowledged.
//!
//! What fails is tried again under the same idempotency key, as a client should; so in the end every number that was
//! acknowledged is there once, and no number is there twice.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Client, Database, pause, wait_until};
use testing::messages;

/// Running clients, and what was acknowledged to them. They stop when it is dropped.
pub struct Writers {
    progress: Arc<Mutex<Progress>>,
    writers: Vec<JoinHandle<Written>>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    stop: bool,
    acknowledged: usize,
    /// Requests that failed and were tried again.
    failures: usize,
    last_failure: String,
    /// When anybody's write was acknowledged last.
    last: Option<Instant>,
    /// The longest time between two acknowledgements.
    silence: Duration,
}

struct Written {
    client: Client,
    thread: String,
    /// Every number below was acknowledged.
    next: u64,
}

impl Progress {
    fn acknowledge(&mut self) {
        let now = Instant::now();
        self.silence = self.silence.max(self.last.replace(now).map_or(Duration::ZERO, |last| now - last));
        self.acknowledged += 1;
    }
}

impl Writers {
    /// Starts so many clients of a database that serves, and returns when each has written.
    #[track_caller]
    pub fn start(database: &Database<'_>, count: usize) -> Self {
        Self::with((0..count).map(|number| database.client(&format!("writer{number}"))).collect())
    }

    /// Starts these clients, who are different users, and returns when each has written.
    #[track_caller]
    pub fn with(clients: Vec<Client>) -> Self {
        let (progress, count) = (Arc::new(Mutex::new(Progress::default())), clients.len());
        let writers = clients.into_iter().enumerate().map(|(number, client)| {
            let thread = client.create_thread(&format!("of-writer-{number}"));
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || write(client, thread, &progress))
        });
        let writers = Self { writers: writers.collect(), progress };
        writers.wait_for_more(count * 10);
        writers
    }

    /// How many requests failed and were tried again.
    pub fn failures(&self) -> usize {
        self.progress().failures
    }

    /// The longest time without any acknowledgement, which has ended; it is measured anew from here on.
    #[track_caller]
    pub fn silence(&self) -> Duration {
        self.wait_for_more(1);
        std::mem::take(&mut self.progress.lock().unwrap().silence)
    }

    /// Waits until this many more writes are acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let wanted = self.progress().acknowledged + count;
        let see = || {
            assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer failed");
            self.progress()
        };
        wait_until("writes are acknowledged again", see, |progress| progress.acknowledged >= wanted);
    }

    /// Stops, and reads everything back.
    #[track_caller]
    pub fn check(self) {
        assert_eq!(self.check_but_for(0), 0);
    }

    /// Stops, and reads everything back from a database that was made again on the same data, under another address.
    #[track_caller]
    pub fn check_in(mut self, database: &Database<'_>) {
        let written = self.stop().into_iter().map(|written| Written { client: written.client.of(database), ..written });
        assert_eq!(self.count_missing(written.collect(), 0), 0);
    }

    /// Stops, and reads everything back but for so many that may be missing; returns how many are.
    #[track_caller]
    pub fn check_but_for(mut self, most: usize) -> usize {
        let written = self.stop();
        self.count_missing(written, most)
    }

    fn stop(&mut self) -> Vec<Written> {
        self.progress.lock().unwrap().stop = true;
        std::mem::take(&mut self.writers).into_iter().map(|writer| writer.join().unwrap()).collect()
    }

    #[track_caller]
    fn count_missing(&self, all: Vec<Written>, most: usize) -> usize {
        let mut missing = 0;
        for written in all {
            let found = written.client.bodies(&written.thread);
            // One more may have been written whose acknowledgement did not arrive.
            let wanted = (0..=written.next).map(|number| json!({ "n": number }));
            let mut rest = found.iter().peekable();
            let lost: Vec<Value> = wanted.filter(|number| rest.next_if_eq(&number).is_none()).collect();
            assert!(rest.peek().is_none(), "{}: twice, or out of order: {:?}", written.thread, rest.peek());
            let lost = lost.iter().filter(|number| **number != json!({ "n": written.next }));
            missing += lost.inspect(|number| println!("{}: {number} is missing", written.thread)).count();
        }
        println!("acknowledged and found but for {missing}: {:?}", self.progress());
        assert!(missing <= most, "{missing} writes are missing, and {most} may be");
        missing
    }

    fn progress(&self) -> Progress {
        self.progress.lock().unwrap().clone()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.progress.lock().unwrap().stop = true;
    }
}

fn write(client: Client, thread: String, progress: &Mutex<Progress>) -> Written {
    let (mut next, mut connection) = (0, None);
    while !progress.lock().unwrap().stop {
        let request = client.request("POST", &messages(&thread)).header("Idempotency-Key", format!("{thread}/{next}"));
        let request = request.json(&json!({ "body": { "n": next } }));
        match client.try_send(&mut connection, &request) {
            Ok(answer) => {
                answer.written();
                next += 1;
                progress.lock().unwrap().acknowledge();
            }
            Err(why) => {
                let mut progress = progress.lock().unwrap();
                progress.failures += 1;
                progress.last_failure = why;
                drop(progress);
                pause(Duration::from_millis(50));
            }
        }
    }
    Written { client, thread, next }
}
