//! A full disk: writes are refused before they touch anything, reads go on, and space that comes back is enough.
//!
//! Needs root for an ext4 of its own on a loop device; elsewhere the tests are skipped by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use serde_json::{Value, json};
use testing::disk::SmallDisk;
use testing::http::{Connection, Request};
use testing::{Server, Setup, THREADS, messages, thread, wait_until};

const MIB: u64 = 1 << 20;

fn setup(disk: &SmallDisk, reserve: &str) -> Setup {
    let setup = Setup::with_db(&disk.disk.at.join("database")).set("storage.reserve", reserve);
    setup.set("storage.memory", "16MiB").set("server.max_payload_size", "2MiB")
}

/// What a client knows about its appends.
#[derive(Default)]
struct Known {
    acknowledged: Vec<(String, String)>,
    /// Answered with a refusal: must not be there.
    refused: Vec<String>,
    /// No answer, or one that does not say.
    open: Vec<String>,
    next: usize,
}

impl Known {
    /// Appends one message of about `size` bytes and notes what was said; returns the status, 0 for a broken connection.
    fn append(&mut self, server: &Server, t: &str, size: usize) -> u16 {
        let id = format!("message-{}", self.next);
        self.next += 1;
        let answer =
            Connection::open(server.addr).and_then(|mut connection| connection.send(&append(server, t, &id, size)));
        match answer {
            Ok(answer) if answer.status == 202 => self.acknowledged.push((answer.written(), id)),
            Ok(answer) if answer.status == 507 => {
                answer.check_refusal(507);
                assert_eq!(answer.json()["code"], json!("disk_full"), "{answer}");
                self.refused.push(id);
                return 507;
            }
            Ok(answer) => {
                answer.check_refusal(503);
                self.open.push(id);
                return answer.status;
            }
            Err(_) => {
                self.open.push(id);
                return 0;
            }
        }
        202
    }

    /// Sends again what got no clear answer.
    fn settle(&mut self, server: &Server, t: &str, size: usize) {
        for id in std::mem::take(&mut self.open) {
            let key = server.send(&append(server, t, &id, size)).written();
            self.acknowledged.push((key, id));
        }
        self.acknowledged.sort();
    }

    /// The thread holds exactly what was acknowledged.
    #[track_caller]
    fn check(&self, server: &Server, t: &str) {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut after = format!("{t}:m:0");
        loop {
            let page =
                server.user("user1").get(&format!("{}?limit=20&after={after}", messages(t))).check_status(200).json();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let items = page["messages"].as_array().unwrap();
            found.extend(items.iter().map(|item| (text(&item["key"]), text(&item["body"]["id"]))));
            if page["pagination"]["has_after"] != json!(true) {
                break;
            }
            after = text(&page["pagination"]["after_anchor"]);
        }
        let ids = |list: &[(String, String)]| list.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&found), ids(&self.acknowledged));
        assert_eq!(found, self.acknowledged);
        assert!(self.refused.iter().all(|id| !found.iter().any(|(_, have)| have == id)), "a refused write is there");
        let sequences: Vec<usize> =
            found.iter().map(|(key, _)| key.rsplit(':').next().unwrap().parse().unwrap()).collect();
        assert!(sequences.iter().copied().eq(0..found.len()), "{sequences:?}");
    }
}

fn append(server: &Server, t: &str, id: &str, size: usize) -> Request {
    let body = json!({ "body": { "id": id, "text": "x".repeat(size) } });
    server.user("user1").request("POST", &messages(t)).header("Idempotency-Key", id).json(&body)
}

#[test]
fn below_the_reserve_writes_are_refused_and_come_back_with_the_space() {
    let Some(disk) = SmallDisk::mount("below_the_reserve_writes_are_refused", 96 * MIB) else { return };
    let setup = setup(&disk, "32MiB");
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let mut known = Known::default();
    for _ in 0..20 {
        assert_eq!(known.append(&server, &t, 300), 202);
    }

    for round in 0..2 {
        disk.fill(16 * MIB);
        wait_until("writes are refused", || known.append(&server, &t, 300) == 507);
        let target = thread(&t);
        for request in [
            user.request("POST", THREADS).json(&json!({ "title": "refused" })),
            user.request("PUT", &target).json(&json!({ "title": "refused" })),
            user.request("DELETE", &target),
        ] {
            user.send(&request).check_refusal(507);
        }
        known.check(&server, &t);
        assert_eq!(user.get(&target).json()["thread"]["title"], json!("kept"));
        assert_eq!(user.thread_keys(""), [t.as_str()]);
        let ready = server.send(&Request::get("/readyz")).check_status(200).json();
        assert_eq!((&ready["status"], &ready["writes"]), (&json!("ok"), &json!("refused")), "{ready}");
        assert!(ready["reason"].as_str().is_some_and(|reason| reason.contains("disk")), "{ready}");
        server.send(&Request::get("/healthz")).check_status(200);
        server.admin("/admin/stats").check_status(200);

        disk.empty();
        wait_until("writes are taken again", || known.append(&server, &t, 300) == 202);
        let ready = server.send(&Request::get("/readyz")).check_status(200).json();
        assert!(ready["writes"] != json!("refused"), "{ready}");
        for _ in 0..5 {
            assert_eq!(known.append(&server, &t, 300), 202, "round {round}");
        }
        known.check(&server, &t);
    }
    server.stop().check_code(0);
    let server = setup.start();
    known.check(&server, &t);
}

#[test]
fn a_server_starts_and_reads_on_a_disk_below_the_reserve() {
    let Some(disk) = SmallDisk::mount("a_server_starts_on_a_disk_below_the_reserve", 96 * MIB) else { return };
    let setup = setup(&disk, "32MiB");
    let server = setup.start();
    let t = server.user("user1").create_thread("kept");
    let mut known = Known::default();
    for _ in 0..20 {
        known.append(&server, &t, 300);
    }
    server.kill();
    disk.fill(16 * MIB);
    let server = setup.start();
    known.check(&server, &t);
    assert_eq!(known.append(&server, &t, 300), 507);
    disk.empty();
    wait_until("writes are taken again", || known.append(&server, &t, 300) == 202);
    known.check(&server, &t);
    server.stop().check_code(0);
}

/// The reserve is checked before a write, not during it: large writes at once can still meet a disk without space.
#[test]
fn a_disk_without_any_space_loses_no_acknowledged_write() {
    let Some(disk) = SmallDisk::mount("a_disk_without_any_space", 96 * MIB) else { return };
    let setup = setup(&disk, "1MiB");
    let mut server = setup.start();
    let t = server.user("user1").create_thread("kept");
    let others: Vec<String> = (0..8).map(|n| server.user("user1").create_thread(&format!("{n}"))).collect();
    let size = 1_000_000;
    let mut known = Known::default();
    for _ in 0..3 {
        assert_eq!(known.append(&server, &t, size), 202);
    }
    disk.fill(6 * MIB);
    // Eight at a time, until the disk says no in one way or the other.
    let mut books: Vec<Known> = others.iter().map(|_| Known::default()).collect();
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for (book, t) in books.iter_mut().zip(&others) {
                let server = &server;
                scope.spawn(move || book.append(server, t, size));
            }
        });
        if books.iter().any(|book| !book.open.is_empty()) {
            break;
        }
    }
    let said_no = books.iter().map(|book| book.open.len() + book.refused.len()).sum::<usize>();
    assert!(said_no > 0, "80 MB fitted on a full disk");

    println!(
        "{said_no} of 80 large writes were not taken: {}",
        books.iter().map(|book| book.open.len()).sum::<usize>()
    );
    let failed = books.iter().any(|book| !book.open.is_empty());
    if failed {
        // The log could not be written: nothing may be acknowledged after that, and the process ends with an error.
        let finished = server.wait();
        assert!(finished.code.is_some_and(|code| code != 0), "it failed to write and exits {:?}", finished.code);
    } else {
        wait_until("the refusal shows", || server.send(&Request::get("/readyz")).json()["writes"] == json!("refused"));
        server.kill();
    }
    disk.empty();
    server = setup.start();
    known.check(&server, &t);
    for (book, t) in books.iter_mut().zip(&others) {
        book.settle(&server, t, size);
        book.check(&server, t);
    }
    assert_eq!(known.append(&server, &t, size), 202);
    server.stop().check_code(0);
}

/// No write is in flight when the last byte goes: what runs in the background must not take the server down.
#[test]
fn reads_go_on_when_the_last_byte_is_gone() {
    let Some(disk) = SmallDisk::mount("reads_go_on_when_the_last_byte_is_gone", 96 * MIB) else { return };
    let setup = setup(&disk, "4MiB");
    let server = setup.start();
    let t = server.user("user1").create_thread("kept");
    let mut known = Known::default();
    for _ in 0..20 {
        known.append(&server, &t, 300);
    }
    disk.fill(0);
    wait_until("writes are refused", || known.append(&server, &t, 300) == 507);
    known.check(&server, &t);
    server.send(&Request::get("/readyz")).check_status(200);
    // A stop on a full disk may fail to flush, but loses nothing: the log has it.
    let stopped = server.stop();
    assert!(stopped.code.is_some(), "{stopped:?}");
    disk.empty();
    let server = setup.start();
    known.check(&server, &t);
    assert_eq!(known.append(&server, &t, 300), 202);
    known.check(&server, &t);
    server.stop().check_code(0);
}

/// A disk that fails turns its file system read-only; nothing more is acknowledged, and what was is there again with it.
#[test]
fn a_disk_that_turns_read_only_ends_the_server_with_an_event_of_its_own() {
    let Some(disk) = SmallDisk::mount("a_disk_that_turns_read_only", 96 * MIB) else { return };
    let setup = setup(&disk, "16MiB");
    let server = setup.start();
    let t = server.user("user1").create_thread("kept");
    let mut known = Known::default();
    for _ in 0..20 {
        assert_eq!(known.append(&server, &t, 300), 202);
    }
    fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", disk.disk.device()), "a test").unwrap();
    assert_ne!(known.append(&server, &t, 300), 202);
    let finished = server.wait();
    finished.check_code(1).check_says(&["event=\"store.stopped\"", "event=\"server.failed\""]);
    assert!(!finished.said().contains("startup."), "it had started: {}", finished.said());

    let again = disk.remount();
    let server = setup.start();
    known.settle(&server, &t, 300);
    known.check(&server, &t);
    server.stop().check_code(0);
    drop(again);
}
