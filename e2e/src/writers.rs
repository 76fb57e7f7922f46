//! Clients that append without a pause, each to a thread of its own, and remember what was acknowledged.
//!
//! What fails is tried again under the same idempotency key, as a client should; so in the end every number that was
//! acknowledged is there once, and no number is there twice.
//!
//! [`Writers::roaming`] are users of a fleet: they meet all of its servers, and read at one what they wrote at another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use testing::http::{Answer, Connection};
use testing::messages;

use crate::fleet::process_of;
use crate::{Client, Database, pause, wait_until};

/// After so many messages a roaming client opens a new connection, which may lead to another server.
const MESSAGES_A_CONNECTION: u64 = 5;

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
    /// How many requests each process has answered; only of roaming clients.
    answers: BTreeMap<String, usize>,
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

    fn fail(&mut self, why: String) {
        self.failures += 1;
        self.last_failure = why;
    }

    fn note(&mut self, answer: &Answer) {
        *self.answers.entry(process_of(answer)).or_default() += 1;
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
        Self::begin(clients, write)
    }

    /// Starts so many users of a fleet.
    #[track_caller]
    pub fn roaming(database: &Database<'_>, count: usize) -> Self {
        let clients = (0..count).map(|number| database.client(&format!("roamer{number}"))).collect();
        Self::begin(clients, write_and_read)
    }

    #[track_caller]
    fn begin(clients: Vec<Client>, go_on: fn(Client, String, &Mutex<Progress>) -> Written) -> Self {
        let (progress, count) = (Arc::new(Mutex::new(Progress::default())), clients.len());
        let writers = clients.into_iter().enumerate().map(|(number, client)| {
            let thread = client.create_thread(&format!("of-writer-{number}"));
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || go_on(client, thread, &progress))
        });
        let writers = Self { writers: writers.collect(), progress };
        writers.wait_for_more(count * 10);
        writers
    }

    /// How many requests failed and were tried again.
    pub fn failures(&self) -> usize {
        self.progress().failures
    }

    /// How many requests each process has answered so far, by the name of [`process_of`]; only of roaming clients.
    pub fn answers(&self) -> BTreeMap<String, usize> {
        self.progress().answers
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
        if append(&client, (&thread, next), &mut connection, progress).is_some() {
            next += 1;
        }
    }
    Written { client, thread, next }
}

/// After each message that is acknowledged it is the newest, whichever server is asked.
fn write_and_read(client: Client, thread: String, progress: &Mutex<Progress>) -> Written {
    let (mut next, mut connection) = (0, None);
    let newest = client.request("GET", &format!("{}?limit=1", messages(&thread)));
    while !progress.lock().unwrap().stop {
        if next % MESSAGES_A_CONNECTION == 0 {
            connection = None;
        }
        let Some(answer) = append(&client, (&thread, next), &mut connection, progress) else { continue };
        progress.lock().unwrap().note(&answer);
        // The other requests go on on the connection; this one need not lead to the same server.
        let mut another = (next % MESSAGES_A_CONNECTION == 1).then_some(None);
        match client.try_send(another.as_mut().unwrap_or(&mut connection), &newest) {
            Ok(answer) => {
                progress.lock().unwrap().note(&answer);
                let found = answer.check_status(200).json()["messages"][0]["body"].clone();
                assert_eq!(found, json!({ "n": next }), "the newest message of {thread}");
            }
            Err(why) => progress.lock().unwrap().fail(why),
        }
        next += 1;
    }
    Written { client, thread, next }
}

/// Appends the message with this number, and takes a break if it is not acknowledged.
fn append(
    client: &Client,
    (thread, number): (&str, u64),
    connection: &mut Option<Connection>,
    progress: &Mutex<Progress>,
) -> Option<Answer> {
    let request = client.request("POST", &messages(thread)).header("Idempotency-Key", format!("{thread}/{number}"));
    match client.try_send(connection, &request.json(&json!({ "body": { "n": number } }))) {
        Ok(answer) => {
            answer.written();
            progress.lock().unwrap().acknowledge();
            Some(answer)
        }
        Err(why) => {
            progress.lock().unwrap().fail(why);
            pause(Duration::from_millis(50));
            None
        }
    }
}
