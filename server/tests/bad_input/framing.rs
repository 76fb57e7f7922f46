//! Heads and framing: too long, malformed, ambiguous, pipelined; keys and headers of any bytes.

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{ADMIN_KEY, BACKEND_KEY, Setup, THREADS, messages, thread};

use crate::victim::Victim;

#[test]
fn headers_too_long_or_too_many() {
    let victim = Victim::start(Setup::new());
    let long = "x".repeat(70_000);
    let base = || Request::get(THREADS).key(BACKEND_KEY);
    let mut many = base();
    for n in 0..2_000 {
        many = many.header(&format!("X-{n}"), "1");
    }
    for request in [
        base().header("X-User-ID", &long),
        base().header("X-Long", &long),
        Request::get(THREADS).key(&long),
        Request::get(THREADS).header("Authorization", format!("Bearer {long}")),
        base().header(&long, "1"),
        many,
        Request::get(&format!("{THREADS}?after={long}")),
        Request::get(&format!("/{long}")),
    ] {
        victim.check_refused(&request.bytes(), &[400, 401, 414, 431]);
    }
    let megabytes = base().header("X-Long", "x".repeat(8 << 20));
    victim.check_refused(&megabytes.bytes(), &[400, 431]);
    victim.check_unharmed();
}

#[test]
fn broken_requests() {
    let victim = Victim::start(Setup::new());
    let head = format!("X-API-Key: {BACKEND_KEY}\r\nX-User-ID: user1\r\n");
    let body = r#"{"title":"smuggled"}"#;
    let length = body.len();
    let requests = [
        "\r\n\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET / HTTP/2.0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
        format!("GET {THREADS}\0 HTTP/1.1\r\nHost: x\r\n{head}\r\n"),
        format!("GET {THREADS} HTTP/1.1\r\nHost: x\r\n{head}X-User ID: x\r\n\r\n"),
        format!("GET {THREADS} HTTP/1.1\r\nHost: x\r\nX-API-Key {BACKEND_KEY}\r\n\r\n"),
        format!("GET {THREADS} HTTP/1.1\r\nHost: x\r\n{head}X-Nul: a\0b\r\n\r\n"),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: -1\r\n\r\n{body}"),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: x\r\n\r\n{body}"),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {}\r\n\r\n{body}", "9".repeat(10_000)),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {}\r\n\r\n{body}", length + 10),
        format!(
            "POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {length}\r\nContent-Length: 5\r\n\r\n{body}"
        ),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {}\r\n\r\n{body}", length - 3),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: nonsense\r\n\r\n{body}"),
        format!(
            "POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"
        ),
        format!("POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}"),
        format!(
            "POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"
        ),
        format!(
            "POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{body}"
        ),
        format!(
            "POST {THREADS} HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\n{}\r\n{body}",
            "f".repeat(10_000)
        ),
    ];
    for request in &requests {
        victim.check_refused(request.as_bytes(), &[400, 413, 501, 505, 403, 404, 401]);
    }
    victim.check_unharmed();
}

/// A request with both framings is refused, or read as chunked with the connection closed after it: what follows is
/// never taken for a second request.
#[test]
fn a_smuggled_request_is_never_answered() {
    let victim = Victim::start(Setup::new());
    let head = format!("Host: x\r\nX-API-Key: {BACKEND_KEY}\r\nX-User-ID: user1\r\n");
    let hidden = format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
    let bytes = format!(
        "POST {THREADS} HTTP/1.1\r\n{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5
    );
    let mut connection = victim.connect();
    connection.write(bytes.as_bytes()).unwrap();
    connection.finish_writing().unwrap();
    if let Ok(answer) = connection.read_answer(false) {
        assert_eq!(answer.status, 400, "{answer}");
        if let Ok(second) = connection.read_answer(false) {
            assert_ne!(second.text().trim(), r#"{"status":"ok"}"#, "the hidden request was answered");
        }
    }
    victim.check_unharmed();
}

#[test]
fn keys_and_paths_of_any_bytes() {
    let victim = Victim::start(Setup::new());
    let digits = "9".repeat(10_000);
    let segments = [
        "%2F",
        "..",
        "%2e%2e",
        ".",
        "%00",
        "t%3A%00",
        "t:1%00",
        "%",
        "%2",
        "%zz",
        "%ff%fe",
        "t%3A1%2F..%2F",
        "t:1;x",
        "~",
        "t:%F0%9F%98%80",
        "NaN",
        "t:NaN",
        "t:Infinity",
        "null",
        "undefined",
        "%252F",
        "t:1e5",
        "t:+1",
        "t:1%20",
        "%0d%0a",
        "t:1:m:2:%30%30%30",
        &format!("t:{digits}"),
        &format!("t:1:m:{digits}"),
        &format!("t:1:m:1:{digits}"),
        &"%41".repeat(5_000),
    ];
    for segment in segments {
        for target in [
            format!("{THREADS}/{segment}"),
            format!("{THREADS}/{segment}/messages"),
            format!("{}/{segment}", messages(&victim.thread)),
            format!("{THREADS}?before={segment}"),
            format!("{}?anchor={segment}", messages(&victim.thread)),
            format!("{THREADS}?limit={segment}"),
            format!("/frontend/{segment}/threads"),
            format!("/{segment}"),
        ] {
            for method in ["GET", "PUT", "DELETE", "POST"] {
                if method != "GET" && target == format!("{THREADS}?limit={segment}") {
                    continue;
                }
                let answer =
                    victim.user.send(&victim.user.request(method, &target).json(&json!({ "title": "", "body": null })));
                assert!((400..500).contains(&answer.status), "{method} {target}: {answer}");
                answer.check_error_shape();
            }
        }
        for target in [
            format!("/admin/keys/{segment}"),
            format!("/admin/keys?limit={segment}"),
            format!("/admin/keys?before={segment}"),
            format!("/admin/keys?prefix={segment}"),
            format!("/admin/users/{segment}/threads"),
            format!("/admin/users/{segment}/threads/{segment}/messages"),
            format!("/admin/users/user1/threads/{segment}/messages/{segment}"),
        ] {
            let answer = victim.server.send(&Request::get(&target).key(ADMIN_KEY));
            assert!(answer.status == 200 || (400..500).contains(&answer.status), "{target}: {answer}");
        }
    }
    victim.check_unharmed();
}

#[test]
fn odd_headers() {
    let victim = Victim::start(Setup::new());
    let get = || Request::get(THREADS).key(BACKEND_KEY);
    for (request, statuses) in [
        (get().header("X-User-ID", b"\xff\xfe"), &[200, 400][..]),
        (get().header("X-User-ID", b"a\tb"), &[400]),
        (get().header("X-User-ID", b"a").header("X-User-ID", "b"), &[200, 400]),
        (Request::get(&format!("{THREADS}?author=%00")).key(BACKEND_KEY), &[400]),
        (Request::get(&format!("{THREADS}?author=%ff")).key(BACKEND_KEY), &[200, 400]),
        (Request::get(&format!("{THREADS}?author=a%0ab")).key(BACKEND_KEY), &[400]),
        (get().header("X-User-ID", "u").header("If-Match", b"\xff"), &[200, 400]),
        (get().header("X-User-ID", "u").header("Prefer", b"\xff,,=;"), &[200]),
        (get().header("X-User-ID", "u").header("Origin", b"\xff"), &[200, 400]),
        (get().header("X-User-ID", "u").header("X-Request-Id", "x".repeat(5_000)), &[200]),
        (get().header("X-User-ID", "u").header("Expect", "nonsense"), &[200, 400, 417]),
        (Request::get(THREADS).header("Authorization", b"Bearer \xff"), &[401]),
        (Request::get(THREADS).header("X-API-Key", b"\xff"), &[400, 401]),
    ] {
        let answer = victim.server.send(&request);
        assert!(statuses.contains(&answer.status), "{:?}: {answer}, want {statuses:?}", request.headers);
    }
    for value in [&b"\xff"[..], b"\x01", b""] {
        let create =
            victim.user.request("POST", THREADS).header("Idempotency-Key", value).json(&json!({ "title": "" }));
        let answer = victim.server.send(&create);
        assert_eq!(answer.status, 400, "{answer}");
    }
    victim.check_unharmed();
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    let victim = Victim::start(Setup::new());
    let mut connection = victim.connect();
    let get = |n: usize| victim.user.request("GET", &thread(&format!("t:{n}"))).bytes();
    let missing: Vec<u8> =
        (1..=50).flat_map(|n| if n % 2 == 0 { get(n) } else { Request::get("/healthz").bytes() }).collect();
    connection.write(&missing).unwrap();
    for n in 1..=50 {
        let answer = connection.read_answer(false).unwrap();
        assert_eq!(answer.status, if n % 2 == 0 { 403 } else { 200 }, "answer {n}: {answer}");
    }
    victim.check_unharmed();
}

#[test]
fn chunked_bodies_and_continue_and_http_1_0_work() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let body = r#"{"title":"in pieces"}"#;

    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(&user.request("POST", THREADS).header("Transfer-Encoding", "chunked").bytes()).unwrap();
    for piece in body.as_bytes().chunks(3) {
        connection.write(format!("{:x};ext=1\r\n", piece.len()).as_bytes()).unwrap();
        connection.write(piece).unwrap();
        connection.write(b"\r\n").unwrap();
    }
    connection.write(b"0\r\nTrailer: x\r\n\r\n").unwrap();
    let chunked = connection.read_answer(false).unwrap().written();

    let head = user.request("POST", THREADS).header("Content-Length", body.len().to_string());
    connection.write(&head.header("Expect", "100-continue").bytes()).unwrap();
    connection.write(body.as_bytes()).unwrap();
    let continued = connection.read_answer(false).unwrap().written();

    let old = String::from_utf8(user.request("POST", THREADS).body(body).bytes()).unwrap();
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(old.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes()).unwrap();
    let old = connection.read_answer(false).unwrap().written();
    assert!(connection.closed(), "HTTP/1.0 without keep-alive ends with its answer");
    assert_eq!(user.thread_keys(""), [old, continued, chunked]);
}

#[test]
fn a_connection_serves_on_after_an_error() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let mut connection = Connection::open(server.addr).unwrap();
    for _ in 0..20 {
        for (request, status) in [
            (user.request("POST", THREADS).body("{"), 400),
            (user.request("GET", &thread("x")), 400),
            (user.request("GET", &thread("t:1")), 403),
            (Request::get(THREADS), 401),
            (Request::get("/admin/nothing").key(ADMIN_KEY), 404),
            (user.request("GET", THREADS), 200),
            (user.request("HEAD", THREADS), 200),
        ] {
            let answer = connection.send(&request).unwrap();
            assert_eq!(answer.status, status, "{answer}");
        }
    }
}
