//! Clients that ask for much and do not take it.

use std::io::Read as _;

use serde_json::{Value, json};
use testing::http::{Answer, Connection, Request, encode};
use testing::{ADMIN_KEY, GENEROUS, Server, Setup, THREADS, User, message, messages, thread, timed, wait_until};

use crate::victim::MIB;

/// Kilobytes of text.
fn text(kilobytes: usize) -> String {
    "x".repeat(kilobytes << 10)
}

/// Reads that each answer some 4 MiB, of every path that a page takes: the newest messages, which memory holds, older ones,
/// both sides of an anchor, one message, threads with metadata, rows for administrators.
struct Large {
    user: User,
    thread: String,
    reads: Vec<Request>,
}

fn write_large(server: &Server, id: &str) -> Large {
    let user = server.user(id);
    let thread_key = user.create_thread("large");
    let keys: Vec<String> = (0..20).map(|_| user.append(&thread_key, text(500))).collect();
    let one = user.append(&thread_key, text(3_500));
    let last = user.append(&thread_key, "last");
    for _ in 0..10 {
        let create = user.request("POST", THREADS).json(&json!({ "title": "t", "metadata": { "m": text(500) } }));
        user.send(&create).written();
    }
    let list = messages(&thread_key);
    let get = |target: &str| user.request("GET", target);
    let reads = vec![
        get(&list),
        get(&format!("{list}?limit=1000&before={}", encode(&keys[16]))),
        get(&format!("{list}?anchor={}", encode(&keys[10]))),
        get(&message(&thread_key, &one)),
        get(THREADS),
        Request::get(&format!(
            "/admin/users/large/threads/{}/messages/{}?open=true",
            encode(&thread_key),
            encode(&one)
        ))
        .key(ADMIN_KEY),
    ];
    user.get(&message(&thread_key, &last)).check_status(200);
    Large { user, thread: thread_key, reads }
}

/// The sum of a metric's samples with this label.
#[track_caller]
fn metric(server: &Server, name: &str, label: &str) -> f64 {
    let text = server.admin("/metrics").check_status(200).text();
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[track_caller]
fn check_replies_full(answer: &Answer) {
    answer.check_refusal(503);
    assert_eq!(
        (answer.json()["code"].as_str(), answer.header("retry-after")),
        (Some("replies_full"), Some("1")),
        "{answer}"
    );
}

/// Sends a request and does not read what comes.
fn leave_unread(server: &Server, read: &Request) -> Connection {
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(&read.bytes()).unwrap();
    connection
}

#[test]
fn replies_that_nobody_reads_take_bounded_memory_and_leave_others_served() {
    let setup = Setup::new().set("storage.memory", "32MiB").set("server.max_payload_size", "4MiB");
    let setup = setup.set("server.max_reply_memory", "24MiB");
    let server = setup.start();
    let Large { user, thread: thread_key, reads } = write_large(&server, "large");
    for read in &reads {
        let length = server.send(read).check_status(200).body.len() as u64;
        assert!((3 * MIB..10 * MIB).contains(&length), "{}: {length} bytes", read.target);
    }
    let others: Vec<Large> = (0..6).map(|n| write_large(&server, &format!("other{n}"))).collect();
    let before = server.resident_bytes();
    let refused = || metric(&server, "progressdb_http_rejections_total", "limit=\"reply_memory\"");
    let under_way = || metric(&server, "progressdb_http_reply_bytes", "kind=\"main\"");

    let mut open: Vec<Connection> = (0..40).flat_map(|_| &reads[..5]).map(|read| leave_unread(&server, read)).collect();
    let mut most = 0;
    wait_until("most are refused", || {
        most = most.max(server.resident_bytes());
        refused() >= 180.0
    });
    // One user has a part of it: another's large page is served.
    server.send(&others[0].reads[0]).check_status(200);
    let many = others.iter().flat_map(|other| vec![&other.reads[0]; 20]);
    open.extend(many.chain(vec![&reads[5]; 20]).map(|read| leave_unread(&server, read)));
    wait_until("the memory for replies is used up", || {
        most = most.max(server.resident_bytes());
        server.send(&others[0].reads[0]).status == 503 && refused() >= 300.0
    });
    assert!(under_way() <= 24.0 * MIB as f64, "{} bytes under way", under_way());
    let grown = most.saturating_sub(before) / MIB;
    // The budget, the pages being made, and what the allocator keeps of those that were refused, up to 600 MiB on a fast
    // machine. Kept, the replies would take more than 1 000.
    assert!(grown < 800, "{} clients that read nothing took {grown} MiB", open.len());

    // What is small goes on, writes are answered, and what is large is refused, whoever asks.
    server.send(&Request::get("/healthz")).check_status(200);
    user.get(&thread(&thread_key)).check_status(200);
    let late = server.user("late");
    let own = late.create_thread("late");
    late.append(&own, "small");
    late.get(&messages(&own)).check_status(200);
    check_replies_full(&server.send(&reads[0]));
    // The object that a write was asked to send back is left out; the write is done and says so.
    let write = late.request("POST", &messages(&own)).header("Prefer", "return=representation");
    let write = write.json(&json!({ "body": text(3_500) }));
    let answer = late.send(&write);
    assert_eq!(answer.header("preference-applied"), None, "{answer}");
    answer.written();
    check_replies_full(&late.get(&messages(&own)));

    drop(open);
    wait_until("all have gone", || under_way() == 0.0);
    for read in &reads {
        server.send(read).check_status(200);
    }
    let represented = late.send(&write);
    assert_eq!(represented.check_status(202).header("preference-applied"), Some("return=representation"));
    assert!(matches!(represented.json()["message"]["body"], Value::String(_)));
    server.stop().check_code(0);
}

#[test]
fn a_client_that_takes_its_reply_too_slowly_is_cut_off() {
    let setup = Setup::new().set("server.max_payload_size", "32MiB").set("server.timeouts.reply", "500ms");
    let setup = setup.set("server.timeouts.body", "60s");
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("large");
    let m = user.append(&t, text(30 << 10));
    let read = user.request("GET", &message(&t, &m));
    assert_eq!(server.send(&read).check_status(200).body.len() >> 20, 30);

    let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    std::io::Write::write_all(&mut stream, &read.bytes()).unwrap();
    // Some bytes at each poll: never idle, never done.
    let late = || metric(&server, "progressdb_http_reply_timeouts_total", "listener=\"main\"");
    let (mut piece, mut taken) = ([0; 1024], 0);
    let (_, took) = timed(|| {
        wait_until("the server gives up", || {
            taken += stream.read(&mut piece).unwrap_or(0);
            late() >= 1.0
        });
    });
    assert!(took < GENEROUS / 4 && taken < 30 << 20, "{taken} bytes in {took:?}");
    wait_until("its memory is free", || metric(&server, "progressdb_http_reply_bytes", "kind=\"main\"") == 0.0);
    let rest = stream.read_to_end(&mut Vec::new()).unwrap_or(0);
    assert!(taken + rest < 30 << 20, "the reply came whole");
    server.send(&read).check_status(200);
}
