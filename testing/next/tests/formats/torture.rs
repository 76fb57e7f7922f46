//! Both versions, taken in turn and killed at random moments, with writes by whichever serves.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testing::http::Connection;
use testing::{Random, Server, Setup, User, messages, variable, wait_until};

use crate::{Versions, inspect};

/// Messages that were acknowledged, in order.
type Book = Vec<String>;

const THREADS: usize = 100;
/// The longest that a process lives, in looks of 2 ms.
const LOOKS: usize = 400;

#[test]
fn kill_9_at_any_moment_of_a_change_of_format_or_a_way_back_loses_nothing() {
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(10, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let versions = Versions::new();
    let server = versions.old.start();
    // So many that a migration takes a moment.
    let threads: Vec<String> = (0..THREADS).map(|n| server.user("ann").create_thread(&n.to_string())).collect();
    server.stop().check_code(0);
    let mut book = Book::new();
    // What there was when the checkpoint was made, as long as the store is raised.
    let mut at_checkpoint: Option<Book> = None;
    let (mut raised, mut back) = (0, 0);
    for turn in 0..loops {
        let (thread, before) = (&threads[random.below(THREADS)], book.clone());
        match random.below(4) {
            0 => kill(versions.next.command(&["migrate", "--finalize"]), &mut random),
            1 => kill(versions.next.command(&["rollback", "--confirm"]), &mut random),
            2 => write_and_kill(&versions.next, thread, &mut book, &turn.to_string(), &mut random),
            _ => kill(versions.next.command(&["serve"]), &mut random),
        }
        // Whatever was left, the old version serves it or names the way back, and the next version serves it.
        let left = versions.old.run(&["verify", "--digest"]);
        match left.code {
            Some(78) => {
                left.check_says(&["store format 2 is too new", "progressdb rollback"]);
                raised += usize::from(at_checkpoint.is_none());
                at_checkpoint.get_or_insert(before);
                check(&versions.next.start(), &threads, &book, turn);
                if random.below(2) == 0 {
                    continue;
                }
                versions.next.run(&["rollback", "--confirm"]).check_code(0);
            }
            code => assert_eq!(code, Some(0), "turn {turn}: {}", left.said()),
        }
        // The way back hides what was written behind the checkpoint, and nothing else.
        if let Some(kept) = at_checkpoint.take() {
            book = kept;
            back += 1;
        }
        assert_eq!(inspect(&versions.old)["format"], json!(1), "turn {turn}");
        write_and_kill(&versions.old, thread, &mut book, &format!("{turn} old"), &mut random);
        check(&versions.old.start(), &threads, &book, turn);
    }
    println!("{loops} kills, {raised} times raised, {back} times back, {} messages", book.len());
}

fn kill(mut command: Command, random: &mut Random) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut looks = random.below(LOOKS);
    wait_until("its moment has come", || {
        looks = looks.saturating_sub(1);
        looks == 0 || child.try_wait().unwrap().is_some()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Writes as long as the server lives.
fn write_and_kill(setup: &Setup, thread: &str, book: &mut Book, name: &str, random: &mut Random) {
    let server = setup.start();
    let user = server.user("ann");
    for n in 0..1 + random.below(20) {
        append(&server, &user, thread, book, &format!("{name} {n}"));
    }
    server.kill();
}

fn append(server: &Server, user: &User, thread: &str, book: &mut Book, text: &str) {
    let request = user.request("POST", &messages(thread)).json(&json!({ "body": text }));
    let answer = Connection::open(server.addr).and_then(|mut connection| connection.send(&request)).unwrap();
    answer.check_status(202);
    book.push(text.to_owned());
}

/// Exactly what was acknowledged is there.
#[track_caller]
fn check(server: &Server, threads: &[String], book: &Book, turn: usize) {
    let user = server.user("ann");
    let mut found: Vec<String> = Vec::new();
    for thread in threads {
        let answer = user.get(&format!("{}?limit=100", messages(thread))).check_status(200).json();
        let read = answer["messages"].as_array().unwrap().iter();
        found.extend(read.map(|message: &Value| message["body"].as_str().unwrap().to_owned()));
        assert_eq!(answer["pagination"]["has_before"], json!(false), "more than one page");
    }
    let mut expected = book.clone();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "turn {turn}");
}
