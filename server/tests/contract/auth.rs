//! Who may call: how keys are sent, signatures, authors, and the route that signs.

use serde_json::json;
use testing::http::{Request, signature};
use testing::{BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, Setup, THREADS};

const VECTORS: [(&str, &str); 2] = [
    ("user1", "1c0d39859b33b032c6a315790e70f92dc8738c4575026f89b0d5325e2e34920b"),
    ("user-123", "3c6f2ca6e61bab3dc2d986d97ed09f77faa2bacb9b26ce8efc077a49716a9750"),
];

fn sign(user: &str) -> Request {
    Request::new("POST", "/backend/v1/sign").key(BACKEND_KEY).json(&json!({ "userId": user }))
}

#[test]
fn signatures_are_the_published_vectors() {
    let setup = Setup::new();
    let server = setup.start();
    for (user, want) in VECTORS {
        assert_eq!(signature(user), want, "the harness itself");
        server.send(&sign(user)).check_json(200, &json!({ "userId": user, "signature": want }));
    }
    for user in ["x".repeat(128), "a:b/c d".to_owned(), "日本".to_owned()] {
        let want = json!({ "userId": user, "signature": signature(&user) });
        server.send(&sign(&user)).check_json(200, &want);
    }
}

#[test]
fn unusable_user_ids_are_not_signed() {
    let setup = Setup::new();
    let server = setup.start();
    server.send(&sign("")).check_error(400, "invalid user ID: user ID cannot be empty");
    server.send(&sign(&"x".repeat(129))).check_error_begins(400, "invalid user ID: user ID too long (maximum 128 ");
    for bad in ["a\nb", "\u{0}", "a\u{7f}"] {
        server.send(&sign(bad)).check_error(400, "invalid user ID: user ID contains invalid control characters");
    }
    for bad in [" ann", "ann ", "\u{a0}ann", "ann\u{2003}"] {
        server.send(&sign(bad)).check_error(400, "invalid user ID: user ID cannot begin or end with white space");
    }
    server.send(&sign(" \u{a0}")).check_error(400, "invalid user ID: user ID cannot be empty");
    for bad in ["", "{", "[]", "1", r#"{"userId":1}"#, r#"{"userId":"a"} x"#, r#"{"userId":"a"}{"userId":"b"}"#] {
        let request = Request::new("POST", "/backend/v1/sign").key(BACKEND_KEY).body(bad);
        server.send(&request).check_error(400, "invalid JSON payload");
    }
}

/// Whoever is signed for can call: with a frontend key and the signature, or named by a backend key in either way.
#[test]
fn every_id_that_is_signed_can_be_used() {
    let setup = Setup::new();
    let server = setup.start();
    let candidates = [
        "ann",
        " ann",
        "ann ",
        "\tann",
        "a b",
        "a\u{a0}b",
        "\u{a0}ann",
        "ann\u{2003}",
        "\u{feff}ann",
        "a\u{85}b",
        "\u{85}a",
        "é",
        "a,b",
        "%20",
        "\"a\"",
        "日本",
        "a\u{2028}",
        "a\u{7f}",
        "JosÃ©",
        "+",
        "a+b",
        "None",
    ];
    for user in candidates {
        let answer = server.send(&sign(user));
        if answer.status != 200 {
            answer.check_error_begins(400, "invalid user ID: ");
            continue;
        }
        let signed = Request::get(THREADS).key(FRONTEND_KEY).header("X-User-ID", user);
        let signed = signed.header("X-User-Signature", answer.json()["signature"].as_str().unwrap());
        let create = Request { method: "POST".into(), ..signed.clone() }.json(&json!({ "title": user }));
        let own = server.send(&create).written();
        for request in [
            signed,
            Request::get(THREADS).key(BACKEND_KEY).header("X-User-ID", user),
            Request::get(&format!("{THREADS}?author={}", testing::http::encode(user))).key(BACKEND_KEY),
        ] {
            assert_eq!(server.send(&request).check_status(200).keys("threads"), [own.as_str()], "{user:?}");
        }
    }
}

#[test]
fn a_key_may_come_as_bearer_or_as_api_key() {
    let setup = Setup::new();
    let server = setup.start();
    let get = || Request::get(THREADS).header("X-User-ID", "u");
    let wrong = "Authorization";
    for (name, request, status) in [
        ("X-API-Key", get().header("X-API-Key", BACKEND_KEY), 200),
        ("lower case name", get().header("x-api-key", BACKEND_KEY), 200),
        ("padded", get().header("X-API-Key", format!("  {BACKEND_KEY} \t")), 200),
        ("Bearer", get().header(wrong, format!("Bearer {BACKEND_KEY}")), 200),
        ("bearer", get().header(wrong, format!("bEARER   {BACKEND_KEY}")), 200),
        ("bearer wins", get().header(wrong, format!("Bearer {BACKEND_KEY}")).header("X-API-Key", "nobody"), 200),
        ("wrong bearer wins", get().header(wrong, "Bearer nobody").header("X-API-Key", BACKEND_KEY), 401),
        ("three fields fall through", get().header(wrong, "Bearer a b").header("X-API-Key", BACKEND_KEY), 200),
        ("one field falls through", get().header(wrong, BACKEND_KEY).header("X-API-Key", BACKEND_KEY), 200),
        ("basic falls through", get().header(wrong, "Basic eDp5").header("X-API-Key", BACKEND_KEY), 200),
        ("bare key", get().header(wrong, BACKEND_KEY), 401),
        ("query", Request::get(&format!("{THREADS}?api_key={BACKEND_KEY}")).header("X-User-ID", "u"), 401),
        ("other case", get().header("X-API-Key", BACKEND_KEY.to_uppercase()), 401),
        ("a prefix", get().header("X-API-Key", &BACKEND_KEY[..BACKEND_KEY.len() - 1]), 401),
    ] {
        let answer = server.send(&request);
        assert_eq!(answer.status, status, "{name}: {answer}");
    }
}

#[test]
fn a_signature_is_good_for_its_user_only() {
    let setup = Setup::new();
    let server = setup.start();
    let ask = |user: &str, signature: &str| {
        let request = Request::get(THREADS).key(FRONTEND_KEY).header("X-User-ID", user);
        server.send(&request.header("X-User-Signature", signature))
    };
    let good = signature("user1");
    ask("user1", &good).check_status(200);
    ask("user2", &good).check_error(401, "invalid signature");
    ask("user1", &good.to_uppercase()).check_error(401, "invalid signature");
    ask("user1", &good[..62]).check_error(401, "invalid signature");
    ask("user1", &format!("{good}00")).check_error(401, "invalid signature");
    ask("user1", "").check_status(401);
    ask("", &signature("")).check_error(401, "missing user id");
}

#[test]
fn any_configured_signing_key_verifies_and_the_first_signs() {
    let setup = Setup::new().set("server.api_keys.signing", json!(["new_secret", SIGNING_KEY]));
    let server = setup.start();
    server.send(&Request::get(THREADS).signed("user1")).check_status(200);
    let signed = server.send(&sign("user1")).check_status(200).json();
    let fresh = signed["signature"].as_str().unwrap();
    assert_ne!(fresh, signature("user1"));
    let request = Request::get(THREADS).key(FRONTEND_KEY).header("X-User-ID", "user1");
    server.send(&request.header("X-User-Signature", fresh)).check_status(200);
}

#[test]
fn a_signed_user_and_a_backend_acting_for_him_are_one() {
    let setup = Setup::new();
    let server = setup.start();
    let by_backend = server.user("user1").create_thread("from the backend");
    let create = Request::new("POST", THREADS).signed("user1").json(&json!({ "title": "from the browser" }));
    let by_browser = server.send(&create).written();
    let want = [by_browser, by_backend];
    assert_eq!(server.send(&Request::get(THREADS).signed("user1")).keys("threads"), want);
    assert_eq!(server.user("user1").thread_keys(""), want);
    let author = |request: Request| server.send(&request).check_status(200).keys("threads");
    assert_eq!(author(Request::get(&format!("{THREADS}?author=user1")).key(BACKEND_KEY)), want);
    assert_eq!(author(Request::get(&format!("{THREADS}?author=user1")).signed("user1")), want);
    let header_wins = Request::get(&format!("{THREADS}?author=other")).key(BACKEND_KEY).header("X-User-ID", " user1 ");
    assert_eq!(author(header_wins), want);
    let signed_backend = Request::get(THREADS).key(BACKEND_KEY).header("X-User-ID", "user1");
    assert_eq!(author(signed_backend.header("X-User-Signature", "not looked at")), want);
}

#[test]
fn a_key_in_several_lists_has_the_strongest_role() {
    let setup = Setup::new().set("server.api_keys.frontend", json!([FRONTEND_KEY, "both"]));
    let setup = setup.set("server.api_keys.backend", json!([BACKEND_KEY, "both", "all"]));
    let setup = setup.set("server.api_keys.admin", json!(["all"]));
    let server = setup.start();
    server.send(&Request::get(THREADS).key("both").header("X-User-ID", "u")).check_status(200);
    server.send(&Request::get("/admin/stats").key("all")).check_status(200);
    server.send(&Request::get(THREADS).key("all").header("X-User-ID", "u")).check_error(403, "forbidden");
}
