//! Writers that remember what was acknowledged, and the check that the store holds exactly that.

mod book;
mod retry;
mod write;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use self::book::{Book, listed_threads};
pub use self::retry::run_on_fleet;
use self::write::Write;
use crate::http::Connection;
use crate::{Random, Server, wait_until};

/// Everyone who writes is this user: all write to the same threads.
pub const USER: &str = "writer";
/// Of so many acknowledged writes one is kept, to be sent again.
const SAMPLED: usize = 100;

/// Counters and the switch that writers and their controller share.
#[derive(Default)]
pub struct Control {
    /// Writes that were acknowledged.
    pub acknowledged: AtomicUsize,
    /// Answers that said: not now.
    pub refused: AtomicUsize,
    /// Requests without an answer.
    pub broken: AtomicUsize,
    /// The longest time from the first request of a write to its acknowledgement.
    pub slowest_ms: AtomicU64,
    /// The writers end once this is set.
    pub stop: AtomicBool,
}

impl Control {
    /// Waits until so many more writes are acknowledged.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        wait_until("enough is written", || self.acknowledged.load(Ordering::Relaxed) >= enough);
    }

    /// Waits until so many more requests are refused.
    #[track_caller]
    pub fn wait_for_refusals(&self, more: usize) {
        let enough = self.refused.load(Ordering::Relaxed) + more;
        wait_until("writes are refused", || self.refused.load(Ordering::Relaxed) >= enough);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [acknowledged, refused, broken] =
            [&self.acknowledged, &self.refused, &self.broken].map(|counter| counter.load(Ordering::Relaxed));
        let slowest = self.slowest_ms.load(Ordering::Relaxed);
        write!(f, "{acknowledged} acknowledged, {refused} refusals, {broken} without an answer, slowest {slowest} ms")
    }
}

/// Creates the threads that the writers of one run share; the first is the hot one.
pub fn shared_threads(server: &Server, book: &mut Book, run: &str, count: usize) -> Vec<String> {
    let user = server.user(USER);
    let titles = (0..count).map(|n| format!("{run} shared {n}"));
    titles.map(|title| book.created(user.create_thread(&title), title)).collect()
}

/// Starts `writers` writers, lets `during` decide when they stop, and returns all they know together. A writer stops as
/// well when its connection breaks.
pub fn run(
    server: &Server,
    name: &str,
    writers: usize,
    shared: &[String],
    random: &mut Random,
    during: impl FnOnce(&Control),
) -> Book {
    let addr = server.addr;
    let control = Control::default();
    let write = |name: &str, random| write_until_stopped(addr, name, shared, random, &control);
    start(name, writers, random, &control, write, during)
}

/// Runs `write` once for each writer; they stop when `during` is over, and also when it fails.
fn start(
    name: &str,
    writers: usize,
    random: &mut Random,
    control: &Control,
    write: impl Fn(&str, Random) -> Book + Sync,
    during: impl FnOnce(&Control),
) -> Book {
    struct Stop<'a>(&'a Control);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..writers)
            .map(|n| (format!("{name}-w{n}"), random.fork()))
            .map(|(name, random)| {
                scope.spawn({
                    let write = &write;
                    move || write(&name, random)
                })
            })
            .collect();
        let stop = Stop(control);
        during(control);
        drop(stop);
        let mut all = Book::default();
        for handle in handles {
            all.absorb(handle.join().unwrap());
        }
        all
    })
}

fn write_until_stopped(addr: SocketAddr, name: &str, shared: &[String], mut random: Random, control: &Control) -> Book {
    let mut book = Book::default();
    let Ok(mut connection) = Connection::open(addr) else { return book };
    for number in 0.. {
        if control.stops() {
            break;
        }
        let write = Write::next(&book, &format!("{name}-{number}"), shared, &mut random);
        match connection.send(&write.request()) {
            Ok(answer) if answer.status == 202 => {
                book.acknowledged(write, answer.written(), random.below(SAMPLED) == 0);
                control.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // A server about to stop may refuse; what it refused must not be there, unless it is sent again.
            Ok(answer) if answer.status == 503 => break,
            Ok(answer) => panic!("{name}: {answer}"),
            Err(_) => {
                book.unanswered(write);
                break;
            }
        }
    }
    book
}
