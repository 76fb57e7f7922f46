//! What HTTP itself demands (RFC 9110, 9112), whatever the route: hosts, codings, expectations, challenges, methods.

use std::collections::BTreeSet;

use serde_json::json;
use testing::http::{Answer, Connection, Request};
use testing::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, Server, Setup, THREADS, message, messages, thread, wait_until};

/// Sends a head as it is written here; line ends are added.
#[track_caller]
fn raw(server: &Server, lines: &[&str]) -> Answer {
    let mut connection = Connection::open(server.addr).unwrap();
    connection.write(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
    connection.read_answer(false).unwrap_or_else(|error| panic!("{lines:?}: {error}"))
}

#[test]
fn http_1_1_has_exactly_one_host() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new().set("server.management_address", free.to_string());
    let server = setup.start();
    let key = format!("X-API-Key: {BACKEND_KEY}");
    for target in ["/healthz", THREADS, "/nothing", "http://test/healthz"] {
        let get = format!("GET {target} HTTP/1.1");
        for hosts in [
            &[][..],
            &["Host: a", "Host: a"],
            &["Host: a", "Host: b"],
            &["Host:"],
            &["Host: a b"],
            &["Host: user@a"],
            &["Host: a/b"],
            &["Host: a:b"],
            &["Host: a:70000"],
            &["Host: [::1"],
            &["Host: http://a"],
            &["Host: a,b:80, c"],
        ] {
            let lines: Vec<&str> = [get.as_str(), &key].into_iter().chain(hosts.iter().copied()).collect();
            let refused = raw(&server, &lines);
            refused.check_refusal(400);
            assert_eq!(refused.json()["code"], json!("invalid_host"), "{lines:?}: {refused}");
            assert_eq!(refused.header("connection"), Some("close"), "{lines:?}: {refused}");
        }
    }
    raw(&server, &["OPTIONS * HTTP/1.1"]).check_refusal(400);
    for host in ["a", "a.example:8080", "127.0.0.1:1", "[::1]", "[::1]:80", "a_b", "h%C3%A9.example"] {
        raw(&server, &["GET /healthz HTTP/1.1", &format!("Host: {host}")]).check_status(200);
    }
    raw(&server, &["GET http://other/healthz HTTP/1.1", "Host: test"]).check_status(200);
    raw(&server, &["GET /healthz HTTP/1.0"]).check_status(200);
    raw(&server, &["GET /healthz HTTP/1.0", "Host: a", "Host: a"]).check_refusal(400);

    let mut management = Connection::open(free).unwrap();
    management.write(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    management.read_answer(false).unwrap().check_refusal(400);
}

#[test]
fn who_asks_is_said_once() {
    let setup = Setup::new();
    let server = setup.start();
    let post = || server.user("user1").request("POST", THREADS).json(&json!({ "title": "twice" }));
    let bearer = format!("Bearer {BACKEND_KEY}");
    for (name, lines) in [
        ("X-User-ID", &["user2"][..]),
        ("X-User-ID", &["user1"]),
        ("X-API-Key", &[BACKEND_KEY]),
        ("Authorization", &[&bearer, &bearer]),
        ("X-User-Signature", &["00", "01"]),
        ("Idempotency-Key", &["a", "b"]),
    ] {
        let refused = server.send(&lines.iter().fold(post(), |request, line| request.header(name, line)));
        refused.check_error(400, &format!("malformed header: {name}: want it once"));
    }
    assert_eq!(server.user("user1").thread_keys(""), [""; 0]);
}

#[test]
fn a_body_in_a_coding_that_is_not_spoken_is_415() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, "kept");
    let encoded = |request: Request, lines: &[&str]| {
        let request = lines.iter().fold(request, |request, line| request.header("Content-Encoding", line));
        server.send(&request.json(&json!({ "title": "x", "body": "x", "userId": "x" })))
    };
    let routes = [
        ("POST", THREADS.to_owned()),
        ("PUT", thread(&t)),
        ("POST", messages(&t)),
        ("PUT", message(&t, &m)),
        ("POST", "/backend/v1/sign".to_owned()),
    ];
    let mut routes: Vec<Request> = routes.iter().map(|(method, target)| user.request(method, target)).collect();
    for target in ["/admin/jobs/purge", "/admin/encryption/rotate", "/admin/encryption/encrypt-threads"] {
        routes.push(Request::new("POST", target).key(ADMIN_KEY));
    }
    for request in routes {
        for lines in [&["gzip"][..], &["br"], &["identity, gzip"], &["identity", "deflate"], &["x-unknown"], &["GZIP"]]
        {
            let refused = encoded(request.clone(), lines);
            refused.check_refusal(415);
            assert_eq!(refused.header("accept-encoding"), Some("identity"), "{refused}");
        }
        for lines in [&["identity"][..], &[""], &["Identity, "]] {
            let answer = encoded(request.clone(), lines);
            assert!([200, 202, 409].contains(&answer.status), "{lines:?}: {answer}");
        }
    }
    user.send(&user.request("GET", &thread(&t)).header("Content-Encoding", "gzip")).check_status(200);
}

#[test]
fn expectations_and_transfer_codings_that_are_not_known_are_refused() {
    let setup = Setup::new();
    let server = setup.start();
    for value in ["nonsense", "100-continue, nonsense", "100-continue=1"] {
        server.send(&Request::get("/healthz").header("Expect", value)).check_refusal(417);
    }
    server.send(&Request::get("/healthz").header("Expect", "100-Continue")).check_status(200);
    let user = server.user("user1");
    let create = |coding: &str| {
        let mut connection = Connection::open(server.addr).unwrap();
        let head = user.request("POST", THREADS).header("Transfer-Encoding", coding).bytes();
        connection.write(&[&head[..], b"0\r\n\r\n"].concat()).unwrap();
        connection.read_answer(false).unwrap()
    };
    create("gzip, chunked").check_refusal(501);
    assert_eq!(create("gzip").status, 400, "hyper says so: the end of the body cannot be known");
    create("chunked").check_error(400, "invalid thread payload");
}

#[test]
fn every_401_says_how_to_prove_who_one_is() {
    let setup = Setup::new();
    let server = setup.start();
    let signed = || Request::get(THREADS).key(FRONTEND_KEY);
    for request in [
        Request::get(THREADS),
        Request::get("/nothing"),
        Request::new("TRACE", "/nothing"),
        Request::get(THREADS).key("nobody"),
        Request::get(THREADS).header("Authorization", "Bearer nobody"),
        Request::get(THREADS).header("Authorization", "Basic eDp5"),
        Request::get("/metrics"),
        Request::get("/admin/stats"),
        Request::new("POST", "/backend/v1/sign").json(&json!({ "userId": "u" })),
        signed(),
        signed().header("X-User-Signature", "00"),
        signed().header("X-User-ID", "u").header("X-User-Signature", "00"),
        Request::new("HEAD", THREADS),
    ] {
        let refused = server.send(&request);
        assert_eq!(refused.status, 401, "{refused}");
        let challenge = refused.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"progressdb\""), "{} {}: {refused}", request.method, request.target);
    }
}

#[test]
fn a_method_that_a_route_lacks_is_405_with_those_it_has() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    for method in ["TRACE", "CONNECT", "FOO", "PROPFIND"] {
        let request = user.request(method, THREADS);
        let request = if method == "CONNECT" { Request { target: "test:80".into(), ..request } } else { request };
        let refused = user.send(&request);
        assert!([403, 404, 405].contains(&refused.status), "{refused}");
        assert!(!refused.text().contains(BACKEND_KEY), "a TRACE is not echoed: {refused}");
        assert_eq!(refused.status == 405, refused.header("allow").is_some(), "{refused}");
    }
    for target in ["/healthz", "/readyz", "/openapi.json", "/docs/"] {
        let refused = server.send(&Request::new("POST", target));
        refused.check_refusal(405);
        assert!(refused.header("allow").unwrap_or_default().contains("GET"), "{target}: {refused}");
    }
}

#[test]
fn options_says_the_methods_of_a_path() {
    let setup = Setup::new().set("server.cors.allowed_origins", json!(["https://app.example"]));
    let server = setup.start();
    let ask = |target: &str| Request::new("OPTIONS", target);
    for (target, methods) in [
        (THREADS.to_owned(), "get head post"),
        (thread("t"), "delete get head put"),
        ("/backend/v1/sign".to_owned(), "post"),
        ("/admin/stats".to_owned(), "get head"),
        ("/healthz".to_owned(), "get head"),
        ("/docs/".to_owned(), "get head"),
    ] {
        let preflight = ask(&target).header("Access-Control-Request-Method", "PUT");
        for request in [ask(&target), preflight.header("Origin", "https://app.example")] {
            let answer = server.send(&request);
            answer.check_status(204);
            let named: Vec<String> = listed(&answer, "allow").into_iter().collect();
            assert_eq!(named.join(" "), methods, "{target}");
        }
    }
    let unknown = server.send(&ask("/nothing"));
    assert_eq!((unknown.status, unknown.header("allow")), (204, None), "{unknown}");
}

#[test]
fn every_503_says_when_to_try_again() {
    let setup = Setup::new().set("drain.hold", "60s");
    let mut server = setup.start();
    server.signal(rustix::process::Signal::TERM);
    wait_until("the server drains", || server.send(&Request::get("/readyz")).status == 503);
    let refused = server.send(&Request::get("/readyz"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused}");
    assert!(server.runs());
}

/// What browsers may see without being told: the response headers that the Fetch standard lists as safe.
const SAFE: [&str; 7] =
    ["cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"];

fn listed(answer: &Answer, name: &str) -> BTreeSet<String> {
    let text = answer.header(name).unwrap_or_else(|| panic!("{name}: {answer}"));
    text.split(',').map(|name| name.trim().to_lowercase()).collect()
}

#[test]
fn a_browser_may_send_and_see_every_header_of_the_api() {
    let setup = Setup::new().set("server.cors.allowed_origins", json!(["https://app.example"]));
    let setup = setup.set("server.rate_limit.rps", 1000).set("server.max_payload_size", "1KiB");
    let server = setup.start();
    let user = server.user("user1");
    let send = |request: Request| server.send(&request.header("Origin", "https://app.example"));
    let allowed = listed(&send(Request::new("OPTIONS", THREADS)), "access-control-allow-headers");
    let api = server.send(&Request::get("/openapi.json")).json();
    let mut wanted: BTreeSet<String> =
        ["authorization", "x-api-key", "content-type", "content-encoding", "x-request-id", "traceparent", "tracestate"]
            .map(str::to_owned)
            .into();
    let operations = api["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    for parameter in operations.filter_map(|operation| operation["parameters"].as_array()).flatten() {
        if parameter["in"] == json!("header") {
            wanted.insert(parameter["name"].as_str().unwrap().to_lowercase());
        }
    }
    assert!(wanted.contains("if-none-match") && wanted.contains("idempotency-key"), "{wanted:?}");
    let missing: Vec<&String> = wanted.difference(&allowed).collect();
    assert_eq!(missing, [""; 0], "headers that a preflight does not allow");

    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    let tag = user.get(&thread(&t)).header("etag").unwrap().to_owned();
    let create = || {
        let create = user.request("POST", THREADS).header("Idempotency-Key", "k");
        create.header("Prefer", "return=representation").json(&json!({ "title": "x" }))
    };
    let mut seen = BTreeSet::new();
    for request in [
        create(),
        create(),
        user.request("GET", &thread(&t)),
        user.request("GET", &message(&t, &m)).header("If-None-Match", "*"),
        user.request("GET", &messages(&t)),
        user.request("PUT", &thread(&t)).header("If-Match", "\"98\"").json(&json!({ "title": "x" })),
        user.request("PUT", &thread(&t)).header("If-Match", &tag).json(&json!({ "title": "x" })),
        user.request("POST", THREADS).header("Content-Encoding", "gzip").body("x"),
        user.request("POST", THREADS).body("x".repeat(2000)),
        user.request("PATCH", THREADS),
        Request::get(THREADS),
        Request::get("/docs"),
        Request::get("/docs/swagger-ui.css"),
        Request::get("/openapi.json"),
        Request::get("/metrics").key(ADMIN_KEY),
    ] {
        let answer = send(request);
        let exposed = listed(&answer, "access-control-expose-headers");
        for (name, _) in &answer.headers {
            let of_the_hop = ["connection", "transfer-encoding"].contains(&name.as_str());
            if !of_the_hop && !name.starts_with("access-control-") && !SAFE.contains(&name.as_str()) {
                assert!(exposed.contains(name), "{name} is hidden from scripts: {answer}");
                seen.insert(name.clone());
            }
        }
        assert!(listed(&answer, "vary").contains("origin"), "{answer}");
    }
    let spoken = [
        "accept-encoding",
        "allow",
        "etag",
        "idempotency-replayed",
        "location",
        "preference-applied",
        "www-authenticate",
        "x-ratelimit-limit",
        "x-request-id",
    ];
    let unseen: Vec<&&str> = spoken.iter().filter(|name| !seen.contains(**name)).collect();
    assert_eq!(unseen, [&""; 0], "headers that this test meant to see");
}
