//! Clients that append without a pause, each to a thread of its own, and remember what was acknowledged.
//!
//! What fails is tried again under the same idempotency key, as a client should; so in the end every number that was
//! acknowledged is there once, and no number is there twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Client, Database, pause, wait_until};
use testing::http::{Connection, Request, encode};

/// Running clients, and what was acknowledged to them.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<Written>>,
}

struct Written {
    client: Client,
    thread: String,
    /// Every number below was acknowledged.
    next: u64,
}

/// Where the messages of a thread are.
pub(crate) fn messages(thread: &str) -> String {
    format!("/frontend/v1/threads/{}/messages", encode(thread))
}

impl Writers {
    /// Starts clients of a database that serves, and returns when each has written.
    pub fn start(database: &Database<'_>, count: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let failed = Arc::new(AtomicUsize::new(0));
        let writers = (0..count).map(|number| {
            let client = database.client(&format!("writer{number}"));
            let thread = client.create_thread(&format!("of-writer-{number}"));
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let failed = Arc::clone(&failed);
            std::thread::spawn(move || write(client, thread, &stop, &acknowledged, &failed))
        });
        let writers = Self { writers: writers.collect(), stop, acknowledged, failed };
        writers.wait_for_more(count * 10);
        writers
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// How many requests failed and were tried again.
    pub fn failures(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    /// Waits until this many more were.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let wanted = self.acknowledged() + count;
        wait_until("writes are acknowledged again", || self.acknowledged() >= wanted);
    }

    /// Stops, reads everything back, and returns how many writes were acknowledged.
    #[track_caller]
    pub fn check(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut count = 0;
        for writer in self.writers {
            let written = writer.join().unwrap();
            let found = written.client.bodies(&written.thread);
            let wanted: Vec<Value> = (0..written.next).map(|number| json!({ "n": number })).collect();
            // One more may have been written whose acknowledgement was not waited for.
            let extra = found.len().saturating_sub(wanted.len());
            assert!(extra <= 1, "{}: {} written, {} found", written.thread, wanted.len(), found.len());
            assert_eq!(found[..found.len() - extra], wanted, "{}", written.thread);
            count += wanted.len();
        }
        assert!(count > 0, "nothing was written");
        count
    }
}

fn write(
    client: Client,
    thread: String,
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
    failed: &AtomicUsize,
) -> Written {
    let (mut next, mut connection) = (0, None);
    while !stop.load(Ordering::SeqCst) {
        let request = client.request("POST", &messages(&thread)).header("Idempotency-Key", format!("{thread}/{next}"));
        let request = request.json(&json!({ "body": { "n": next } }));
        if is_acknowledged(&client, &mut connection, &request) {
            next += 1;
            acknowledged.fetch_add(1, Ordering::SeqCst);
        } else {
            failed.fetch_add(1, Ordering::SeqCst);
            connection = None;
            pause(Duration::from_millis(50));
        }
    }
    Written { client, thread, next }
}

fn is_acknowledged(client: &Client, connection: &mut Option<Connection>, request: &Request) -> bool {
    if connection.is_none() {
        *connection = client.connect().ok();
    }
    let answer = connection.as_mut().map(|connection| connection.send(request));
    match answer {
        Some(Ok(answer)) if answer.status == 202 => true,
        // It goes down, or comes up: the same again.
        Some(Ok(answer)) if answer.status >= 500 => false,
        Some(Ok(answer)) => panic!("{answer}"),
        Some(Err(_)) | None => false,
    }
}
