//! kill -9 at random moments under load, again and again on one directory.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use serde_json::json;
use testing::load::{Book, listed_threads, run, shared_threads};
use testing::{Random, Setup, variable, wait_until};

const WRITERS: usize = 8;
const SHARED_THREADS: usize = 6;
/// Most acknowledged writes of one loop: under a second of load.
const MOST_WRITES: usize = 1_200;

#[test]
fn kill_9_under_load_loses_and_doubles_nothing() {
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(20, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let setup = Setup::new();
    let mut server = setup.start();
    let mut kept: Vec<Book> = Vec::new();
    let (mut threads, mut messages, mut unanswered) = (0, 0, 0);
    for turn in 0..loops {
        let name = format!("turn{turn}");
        let mut book = Book::default();
        let shared = shared_threads(&server, &mut book, &name, SHARED_THREADS);
        let moment = random.below(MOST_WRITES);
        let written = run(&server, &name, WRITERS, &shared, &mut random, |control| {
            wait_until("enough is written", || control.acknowledged.load(Ordering::Relaxed) >= moment);
            server.signal(Signal::KILL);
        });
        server.kill();
        book.absorb(written);
        unanswered += book.open_writes();

        server = setup.start();
        book.settle(&server);
        book.check(&server);
        let (new_threads, new_messages) = book.counts();
        threads += new_threads;
        messages += new_messages;
        let stats = server.admin("/admin/stats").check_status(200).json();
        assert_eq!(stats, json!({ "threads": threads, "messages": messages }), "turn {turn}");
        kept.push(book);
        let live: Vec<String> = kept.iter().flat_map(Book::live_threads).cloned().collect();
        assert_eq!(listed_threads(&server, ""), live, "turn {turn}");
        let mut by_activity = listed_threads(&server, "sort_by=updated_ts");
        by_activity.sort();
        assert_eq!(by_activity, live, "turn {turn}: by activity");
    }
    // What one kill left alone, no later one may harm.
    for book in &kept {
        book.check(&server);
    }
    println!("{loops} kills, {threads} threads, {messages} messages, {unanswered} writes sent again");
    assert!(unanswered > 0 || loops < 5, "no write was ever in flight at a kill: the test tests nothing");
    server.stop().check_code(0);
}

/// A new directory is made in several steps; a kill between any two of them leaves one that the next start completes.
#[test]
fn a_kill_during_the_first_starts_leaves_a_directory_that_starts() {
    let mut random = Random::seeded();
    for _ in 0..10 {
        let setup = Setup::new();
        for _ in 0..3 {
            let mut command = setup.command(&["serve"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut polls = random.below(40);
            wait_until("its moment has come", || {
                polls = polls.saturating_sub(1);
                polls == 0
            });
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let server = setup.start();
        let t = server.user("user1").create_thread("kept");
        server.kill();
        assert_eq!(setup.start().user("user1").thread_keys(""), [t]);
    }
}
