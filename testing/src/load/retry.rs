//! Writers of a fleet: what is refused or not answered they send again, word for word, to another replica.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Book, Control, SAMPLED, Write, start};
use crate::fleet::Fleet;
use crate::http::{Answer, Connection};
use crate::{GENEROUS, Random};

/// How long a writer waits after a refusal, whatever that says: a test has less time than a client.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts `writers` writers, each on one replica after the other, and lets `during` decide when they stop; returns all they
/// know together, and what they met.
pub fn run_on_fleet(
    fleet: &Fleet,
    name: &str,
    writers: usize,
    shared: &[String],
    random: &mut Random,
    during: impl FnOnce(&Control),
) -> (Book, Control) {
    let control = Control::default();
    let write = |name: &str, random| Writer::new(fleet, &control, random).write_until_stopped(name, shared);
    let book = start(name, writers, random, &control, write, during);
    (book, control)
}

struct Writer<'a> {
    fleet: &'a Fleet,
    control: &'a Control,
    random: Random,
    /// An open connection to the replica of this number.
    connection: Option<(usize, Connection)>,
}

impl<'a> Writer<'a> {
    fn new(fleet: &'a Fleet, control: &'a Control, random: Random) -> Self {
        Self { fleet, control, random, connection: None }
    }

    fn write_until_stopped(mut self, name: &str, shared: &[String]) -> Book {
        let mut book = Book::default();
        for number in 0.. {
            if self.control.stops() {
                break;
            }
            let write = Write::next(&book, &format!("{name}-{number}"), shared, &mut self.random);
            match self.send_until_acknowledged(&write) {
                Some(key) => book.acknowledged(write, key, self.random.below(SAMPLED) == 0),
                None => book.unanswered(write),
            }
        }
        book
    }

    /// The key in the acknowledgement; `None` if the writers stop before there is one.
    fn send_until_acknowledged(&mut self, write: &Write) -> Option<String> {
        let began = Instant::now();
        loop {
            match self.send(write) {
                Some(answer) if answer.status == 202 => {
                    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
                    self.control.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.control.slowest_ms.fetch_max(took, Ordering::Relaxed);
                    return Some(answer.written());
                }
                Some(refused) => {
                    check_refused_for_now(&refused);
                    self.control.refused.fetch_add(1, Ordering::Relaxed);
                }
                None => drop(self.control.broken.fetch_add(1, Ordering::Relaxed)),
            }
            self.connection = None;
            if self.control.stops() {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What a replica answers, if it does.
    fn send(&mut self, write: &Write) -> Option<Answer> {
        // Now and then another replica without need, so that what one has written another goes on with.
        if self.random.below(4) == 0 {
            self.connection = None;
        }
        if self.connection.is_none() {
            let replica = self.random.below(self.fleet.size());
            self.connection = Some((replica, Connection::open_within(self.fleet.addr(replica), GENEROUS).ok()?));
        }
        self.connection.as_mut()?.1.send(&write.request()).ok()
    }
}

/// Whatever befalls the store, a write that is in order is refused with nothing but 503, and the client told when to come
/// back.
#[track_caller]
fn check_refused_for_now(answer: &Answer) {
    answer.check_refusal(503);
    let after = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(after.is_some_and(|seconds| seconds >= 1), "no Retry-After: {answer}");
}
