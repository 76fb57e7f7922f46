//! Around the routes: health, CORS, the whitelist, rate limits, body limits, methods, request ids.

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{ADMIN_KEY, BACKEND_KEY, Setup, THREADS, message, messages, skip, thread};

#[test]
fn health_needs_no_key() {
    let setup = Setup::new();
    let server = setup.start();
    server.send(&Request::get("/healthz")).check_json(200, &json!({ "status": "ok" }));
    server.send(&Request::get("/healthz").key("nobody")).check_json(200, &json!({ "status": "ok" }));
    let ready = server.send(&Request::get("/readyz")).check_status(200).json();
    assert_eq!(ready["status"], json!("ok"), "{ready}");
    assert!(ready["version"].as_str().is_some_and(|version| !version.is_empty()), "{ready}");
    let format = &ready["format"];
    let writes = format["writes"].as_u64().unwrap_or_else(|| panic!("{ready}"));
    let reads: Vec<u64> = format["reads"].as_array().unwrap().iter().map(|bound| bound.as_u64().unwrap()).collect();
    assert!(reads.len() == 2 && reads[0] <= writes && writes <= reads[1], "{ready}");
    assert_eq!(format["data"], json!(writes), "{ready}");
    let before = ready["sequence"].as_u64().unwrap();
    server.user("u").create_thread("one");
    let after = server.send(&Request::get("/readyz")).json()["sequence"].as_u64().unwrap();
    assert_eq!(after, before + 1, "sequence counts client commits");
}

#[test]
fn the_management_listener_serves_health_and_metrics() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new().set("server.management_address", free.to_string());
    let server = setup.start();
    let ask = |target: &str| {
        let mut connection = Connection::open(free).unwrap();
        connection.send(&Request::get(target)).unwrap()
    };
    ask("/healthz").check_json(200, &json!({ "status": "ok" }));
    ask("/readyz").check_status(200);
    server.user("secret-user").create_thread("secret-title");
    let metrics = ask("/metrics");
    metrics.check_status(200);
    assert!(metrics.text().contains("# TYPE "), "{metrics}");
    assert!(!metrics.text().contains("secret-"), "{metrics}");
    ask(THREADS).check_status(404);
}

#[test]
fn all_interfaces_are_those_of_both_families() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        skip("all_interfaces_are_those_of_both_families", "this machine has no IPv6");
        return;
    }
    let setup = Setup::new().set("server.address", "::").set("server.ip_whitelist", json!(["127.0.0.1"]));
    let server = setup.start_listening();
    let ask = |host: &str| {
        let address = format!("{host}:{}", server.addr.port()).parse().unwrap();
        Connection::open(address).unwrap().send(&Request::get("/healthz")).unwrap()
    };
    ask("127.0.0.1").check_json(200, &json!({ "status": "ok" }));
    // It is reached, and told apart from the address that is allowed.
    ask("[::1]").check_error(403, "forbidden");
}

#[test]
fn metrics_on_the_main_port_need_an_admin_key() {
    let setup = Setup::new();
    let server = setup.start();
    server.send(&Request::get("/metrics")).check_error(401, "unauthorized");
    server.send(&Request::get("/metrics").key(BACKEND_KEY)).check_error(403, "forbidden");
    for target in ["/metrics", "/admin/debug/prometheus"] {
        let metrics = server.admin(target);
        metrics.check_status(200);
        assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{metrics}");
        assert!(metrics.text().contains("# TYPE "), "{metrics}");
    }
}

#[test]
fn a_preflight_from_an_allowed_origin_says_what_browsers_ask() {
    let origins = json!(["https://app.example", "https://other.example"]);
    let setup = Setup::new().set("server.cors.allowed_origins", origins);
    let server = setup.start();
    let preflight = |origin: &str, target: &str| {
        let request = Request::new("OPTIONS", target).header("Origin", origin);
        server.send(
            &request
                .header("Access-Control-Request-Method", "PUT")
                .header("Access-Control-Request-Headers", "authorization,content-type,x-api-key,x-user-id"),
        )
    };
    for target in [THREADS, "/frontend/v1/threads/t%3A1/messages", "/backend/v1/sign", "/admin/stats"] {
        let answer = preflight("https://app.example", target);
        answer.check_status(204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"), "{answer}");
        assert!(answer.header("vary").unwrap_or_default().to_lowercase().contains("origin"), "{answer}");
        assert_eq!(answer.header("access-control-max-age"), Some("600"), "{answer}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer}");
        let list = |name: &str| answer.header(name).unwrap_or_default().to_lowercase();
        for method in ["get", "post", "put", "delete"] {
            assert!(list("access-control-allow-methods").contains(method), "{method}: {answer}");
        }
        let headers = list("access-control-allow-headers");
        for header in [
            "authorization",
            "content-type",
            "x-api-key",
            "x-user-id",
            "x-user-signature",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "traceparent",
            "tracestate",
        ] {
            assert!(headers.contains(header), "{header}: {answer}");
        }
        assert_eq!(answer.text(), "");
    }

    for answer in [preflight("https://evil.example", THREADS), preflight("https://app.example.evil", THREADS)] {
        answer.check_status(204);
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{answer}");
    }

    let ask = |origin: &str, key: &str| {
        server.send(&Request::get(THREADS).header("Origin", origin).key(key).header("X-User-ID", "u"))
    };
    for (key, status) in [(BACKEND_KEY, 200), ("nobody", 401)] {
        let answer = ask("https://other.example", key);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://other.example"), "{answer}");
        assert_eq!(ask("https://evil.example", key).header("access-control-allow-origin"), None);
    }
    let answer = ask("HTTPS://APP.example", BACKEND_KEY);
    assert_eq!(answer.header("access-control-allow-origin"), Some("HTTPS://APP.example"), "case does not matter");
}

#[test]
fn without_origins_there_is_no_cors_and_a_star_allows_all() {
    let closed = Setup::new();
    let server = closed.start();
    let request = || Request::new("OPTIONS", THREADS).header("Origin", "https://any.example");
    let answer = server.send(&request().header("Access-Control-Request-Method", "GET"));
    answer.check_status(204);
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{answer}");

    let open = Setup::new().set("server.cors.allowed_origins", json!(["*"]));
    let server = open.start();
    let answer = server.send(&request().header("Access-Control-Request-Method", "GET"));
    answer.check_status(204);
    let allowed = answer.header("access-control-allow-origin");
    assert!([Some("*"), Some("https://any.example")].contains(&allowed), "{answer}");
}

#[test]
fn the_whitelist_shuts_out_everyone_else_from_everything() {
    let setup = Setup::new().set("server.ip_whitelist", json!(["192.0.2.1"]));
    let server = setup.start_listening();
    for target in ["/healthz", "/readyz", THREADS, "/admin/stats", "/openapi.json", "/nothing"] {
        let request = Request::get(target).key(ADMIN_KEY).header("X-Forwarded-For", "192.0.2.1");
        server.send(&request).check_error(403, "forbidden");
    }
    let setup = Setup::new().set("server.ip_whitelist", json!(["192.0.2.1", "127.0.0.1"]));
    setup.start().admin("/admin/stats").check_status(200);
}

#[test]
fn a_spent_bucket_is_429_for_that_key_and_user_only() {
    let setup = Setup::new().set("server.rate_limit.rps", 0.001).set("server.rate_limit.burst", 3);
    let server = setup.start();
    let alice = server.user("alice");
    for _ in 0..3 {
        alice.get(THREADS).check_status(200);
    }
    for answer in [alice.get(THREADS), alice.post(THREADS, &json!({ "title": "refused" }))] {
        answer.check_error(429, "rate limit exceeded");
        let number = |name: &str| -> u64 {
            answer.header(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: {answer}"))
        };
        assert!(number("retry-after") >= 1, "{answer}");
        assert_eq!((number("x-ratelimit-limit"), number("x-ratelimit-remaining")), (3, 0), "{answer}");
        assert!(number("x-ratelimit-reset") >= 1, "{answer}");
    }
    assert_eq!(server.user("bob").thread_keys(""), [""; 0]);
    for _ in 0..10 {
        server.send(&Request::get("/healthz")).check_status(200);
        server.send(&Request::get("/readyz")).check_status(200);
    }
    server.send(&Request::get(THREADS).signed("alice")).check_status(200);
    assert_eq!(server.admin("/admin/stats").json(), json!({ "threads": 0, "messages": 0 }));
}

/// However a backend key names its users, each has a bucket, and one only.
#[test]
fn users_that_a_backend_key_names_have_a_bucket_each() {
    let setup = Setup::new().set("server.rate_limit.rps", 0.001).set("server.rate_limit.burst", 2);
    let server = setup.start();
    let by_author = |user: &str| Request::get(&format!("{THREADS}?author={user}")).key(BACKEND_KEY);
    let by_header = |user: &str| Request::get(THREADS).key(BACKEND_KEY).header("X-User-ID", user);
    for user in ["ann", "bob", "caf%C3%A9"] {
        server.send(&by_author(user)).check_status(200);
        server.send(&by_author(&format!("+{user}%20"))).check_status(200);
        server.send(&by_author(user)).check_error(429, "rate limit exceeded");
    }
    for spent in [by_header("ann"), by_header(" bob"), by_header("café")] {
        server.send(&spent).check_refusal(429);
    }
    let header_wins = Request::get(&format!("{THREADS}?author=ann")).key(BACKEND_KEY).header("X-User-ID", "cid");
    server.send(&header_wins).check_status(200);
    server.send(&by_header("cid")).check_status(200);
    server.send(&by_author("cid")).check_refusal(429);
    // Requests that name nobody share what belongs to the key.
    for target in [THREADS.to_owned(), format!("{THREADS}?author="), format!("{THREADS}?author=%00")] {
        let answer = server.send(&Request::get(&target).key(BACKEND_KEY));
        assert!([400, 429].contains(&answer.status), "{answer}");
    }
    server.send(&Request::get(THREADS).key(BACKEND_KEY)).check_refusal(429);
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    let setup = Setup::new().set("server.rate_limit.rps", 0).set("server.rate_limit.burst", 0);
    let server = setup.start();
    for _ in 0..50 {
        server.user("u").get(THREADS).check_status(200);
    }
}

#[test]
fn an_oversized_body_is_413_and_writes_nothing() {
    let setup = Setup::new().set("server.max_payload_size", "1KiB");
    let server = setup.start();
    let user = server.user("user1");
    let title = |length: usize| format!(r#"{{"title":"{}"}}"#, "x".repeat(length - 12));
    let exact = user.send(&user.request("POST", THREADS).body(title(1024)));
    let t = exact.written();
    for body in [title(1025), title(100_000)] {
        for (method, target) in [("POST", THREADS.to_owned()), ("PUT", thread(&t)), ("POST", messages(&t))] {
            user.send(&user.request(method, &target).body(&body)).check_refusal(413);
        }
        let mut chunked = user.request("POST", THREADS).header("Transfer-Encoding", "chunked").bytes();
        chunked.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
        let mut connection = testing::http::Connection::open(server.addr).unwrap();
        let sent = connection.write(&chunked);
        connection.read_answer(false).unwrap_or_else(|error| panic!("{error}, {sent:?}")).check_refusal(413);
    }
    let request = Request::new("POST", "/backend/v1/sign").key(BACKEND_KEY).body("x".repeat(1025));
    server.send(&request).check_refusal(413);
    assert_eq!(user.thread_keys(""), [t]);
}

#[test]
fn an_unsupported_method_is_405_and_names_the_supported_ones() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    for (target, methods, allowed) in [
        (THREADS.to_owned(), &["PUT", "DELETE", "PATCH"][..], &["GET", "POST"][..]),
        (thread(&t), &["POST", "PATCH"], &["GET", "PUT", "DELETE"]),
        (messages(&t), &["PUT", "DELETE", "PATCH"], &["GET", "POST"]),
        (message(&t, &m), &["POST", "PATCH"], &["GET", "PUT", "DELETE"]),
        ("/backend/v1/sign".to_owned(), &["GET", "PUT", "DELETE"], &["POST"]),
    ] {
        for method in methods {
            let answer = user.send(&user.request(method, &target).json(&json!({ "title": "x", "body": 1 })));
            answer.check_refusal(405);
            let mut named: Vec<&str> = answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
            named.retain(|name| !["HEAD", "OPTIONS"].contains(name));
            named.sort_unstable();
            let mut allowed = allowed.to_vec();
            allowed.sort_unstable();
            assert_eq!(named, allowed, "{}", answer.asked);
        }
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = server.send(&Request::new(method, "/admin/stats").key(ADMIN_KEY));
        answer.check_refusal(405);
        assert!(answer.header("allow").unwrap_or_default().contains("GET"), "{answer}");
    }
    assert_eq!(user.get(&message(&t, &m)).json()["message"]["body"], json!(1));
}

#[test]
fn head_is_answered_wherever_get_is() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    let targets = [THREADS.to_owned(), thread(&t), messages(&t), message(&t, &m), thread("t:1"), thread("x")];
    let mut asked: Vec<(String, Request, Request)> = Vec::new();
    for target in targets {
        asked.push((target.clone(), user.request("GET", &target), user.request("HEAD", &target)));
    }
    for target in
        ["/healthz", "/readyz", "/admin/stats", "/admin/health", "/admin/keys", "/admin/users", "/openapi.json"]
    {
        let request = |method| Request::new(method, target).key(ADMIN_KEY);
        asked.push((target.to_owned(), request("GET"), request("HEAD")));
    }
    for (target, get, head) in asked {
        let (get, head) = (server.send(&get), server.send(&head));
        assert_eq!((head.status, head.text().as_str()), (get.status, ""), "{target}: {head}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
        assert_eq!(head.header("etag"), get.header("etag"), "{target}");
    }
}

#[test]
fn every_answer_carries_a_request_id_of_its_own() {
    let setup = Setup::new().set("server.max_payload_size", "1KiB");
    let server = setup.start();
    let user = server.user("user1");
    let requests = [
        Request::get("/healthz"),
        Request::get("/readyz"),
        Request::get("/openapi.json"),
        Request::new("OPTIONS", THREADS).header("Origin", "https://a.example"),
        Request::get(THREADS),
        Request::get(THREADS).key(ADMIN_KEY),
        Request::get("/nothing").key(ADMIN_KEY),
        Request::get("/admin/stats").key(ADMIN_KEY),
        user.request("PATCH", THREADS),
        user.request("GET", THREADS),
        user.request("HEAD", THREADS),
        user.request("GET", &thread("x")),
        user.request("POST", THREADS).body("{"),
        user.request("POST", THREADS).json(&json!({ "title": "x" })),
        user.request("POST", THREADS).body("x".repeat(2000)),
    ];
    let mut ids: Vec<String> = Vec::new();
    for request in requests {
        let answer = server.send(&request);
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{}: {answer}", answer.asked));
        assert!(!id.is_empty() && !ids.contains(&id.to_owned()), "{}: {id} again", answer.asked);
        ids.push(id.to_owned());
    }
}

#[test]
fn openapi_and_its_page_are_served() {
    let setup = Setup::new();
    let server = setup.start();
    let api = server.send(&Request::get("/openapi.json")).check_status(200).json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"), "{}", api["openapi"]);
    for path in ["/frontend/v1/threads", "/backend/v1/sign", "/healthz", "/admin/stats"] {
        assert!(api["paths"].get(path).is_some(), "{path}");
    }
    let mut page = server.send(&Request::get("/docs"));
    if let Some(location) = page.header("location").map(str::to_owned).filter(|_| (300..400).contains(&page.status)) {
        page = server.send(&Request::get(&location));
    }
    page.check_status(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page}");
}
