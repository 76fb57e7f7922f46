//! The error table: who asks what wrongly, and the exact answer.

use serde_json::json;
use testing::http::{Answer, Request};
use testing::{ADMIN_KEY, BACKEND_KEY, FRONTEND_KEY, Setup, THREADS, message, messages, thread};

const NOT_YOURS: &str = "access denied: not thread owner or participant";

#[test]
fn every_refusal_before_the_routes_has_its_text() {
    let setup = Setup::new();
    let server = setup.start();
    let get = |target: &str| Request::get(target);
    let rows: Vec<(&str, Request, u16, &str)> = vec![
        ("no key", get(THREADS), 401, "unauthorized"),
        ("unknown key", get(THREADS).key("nobody"), 401, "unauthorized"),
        ("empty key", get(THREADS).key(""), 401, "unauthorized"),
        ("the signing secret is no key", get(THREADS).key("sign_example"), 401, "unauthorized"),
        ("no key, admin route", get("/admin/stats"), 401, "unauthorized"),
        ("no key, unknown path", get("/frontend/v1/nothing"), 401, "unauthorized"),
        ("no key, sign", Request::new("POST", "/backend/v1/sign").body("{}"), 401, "unauthorized"),
        ("admin on data", get(THREADS).key(ADMIN_KEY).header("X-User-ID", "u"), 403, "forbidden"),
        ("backend on admin", get("/admin/stats").key(BACKEND_KEY).header("X-User-ID", "u"), 403, "forbidden"),
        ("frontend on admin", get("/admin/stats").signed("u"), 403, "forbidden"),
        ("frontend on sign", Request::new("POST", "/backend/v1/sign").signed("u").body("{}"), 403, "forbidden"),
        ("admin on sign", Request::new("POST", "/backend/v1/sign").key(ADMIN_KEY).body("{}"), 403, "forbidden"),
        ("a claimed role", get("/admin/stats").key(FRONTEND_KEY).header("X-Role-Name", "admin"), 403, "forbidden"),
        ("unsigned", get(THREADS).key(FRONTEND_KEY).header("X-User-ID", "u"), 401, "signature required"),
        (
            "unsigned create",
            Request::new("POST", THREADS).key(FRONTEND_KEY).header("X-User-ID", "u").body("{}"),
            401,
            "signature required",
        ),
        ("signed by nobody", get(THREADS).key(FRONTEND_KEY).header("X-User-Signature", "00"), 401, "missing user id"),
        (
            "wrong signature",
            get(THREADS).key(FRONTEND_KEY).header("X-User-ID", "u").header("X-User-Signature", "00"),
            401,
            "invalid signature",
        ),
        (
            "frontend as another author",
            get(&format!("{THREADS}?author=v")).signed("u"),
            403,
            "author mismatch between signature and query param",
        ),
        ("backend as nobody", get(THREADS).key(BACKEND_KEY), 400, "author required for backend requests"),
        (
            "backend as blank",
            get(THREADS).key(BACKEND_KEY).header("X-User-ID", "   "),
            400,
            "author required for backend requests",
        ),
        ("long author", get(THREADS).key(BACKEND_KEY).header("X-User-ID", "u".repeat(129)), 400, "author too long"),
        (
            "long author in the query",
            get(&format!("{THREADS}?author={}", "u".repeat(129))).key(BACKEND_KEY),
            400,
            "author too long",
        ),
        ("unknown data path", get("/frontend/v1/nothing").key(BACKEND_KEY).header("X-User-ID", "u"), 404, "not found"),
        ("unknown admin path", get("/admin/nothing").key(ADMIN_KEY), 404, "not found"),
        ("the old API", get("/v1/threads").key(BACKEND_KEY).header("X-User-ID", "u"), 403, "forbidden"),
        ("trailing slash", get("/frontend/v1/threads/").key(BACKEND_KEY).header("X-User-ID", "u"), 404, "not found"),
    ];
    for (name, request, status, text) in rows {
        eprintln!("{name}");
        server.send(&request).check_error(status, text);
    }
}

#[test]
fn every_bad_body_has_its_text() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, "kept");
    let before = (user.get(&thread(&t)).text(), user.get(&messages(&t)).text());

    let title = "validation errors: title: cannot be empty";
    let body = "validation errors: body: cannot be empty";
    let routes = [
        ("POST", THREADS.to_owned(), "invalid thread payload", title),
        ("PUT", thread(&t), "invalid thread update payload", title),
        ("POST", messages(&t), "invalid message payload", body),
        ("PUT", message(&t, &m), "invalid message update payload", body),
    ];
    for (method, target, unreadable, empty) in routes {
        let send = |body: &[u8]| user.send(&user.request(method, &target).body(body));
        for bad in [&b""[..], b" ", b"{", b"nonsense", b"[]", b"1", b"\"x\"", b"{\"title\":\"a\",\"body\":1} x"] {
            eprintln!("{method} {target} {}", String::from_utf8_lossy(bad));
            send(bad).check_error(400, unreadable);
        }
        let trailing = br#"{"title":"a","body":1}{"title":"b","body":2}"#;
        send(trailing).check_error(400, unreadable);
        send(b"{\"title\":\"\xff\",\"body\":\"\xff\"}").check_error(400, unreadable);
        send(b"{}").check_error(400, empty);
        send(br#"{"title":null,"body":null}"#).check_error(400, empty);
    }
    for (method, target, unreadable) in
        [("POST", THREADS.to_owned(), "invalid thread payload"), ("PUT", thread(&t), "invalid thread update payload")]
    {
        let send = |body: &[u8]| user.send(&user.request(method, &target).body(body));
        send(br#"{"title":""}"#).check_error(400, title);
        for wrong in [&br#"{"title":1}"#[..], br#"{"title":["a"]}"#, br#"{"title":{}}"#, br#"{"title":true}"#] {
            send(wrong).check_error(400, unreadable);
        }
    }
    assert_eq!((user.get(&thread(&t)).text(), user.get(&messages(&t)).text()), before);
    assert_eq!(user.thread_keys(""), [t]);
}

#[test]
fn a_missing_thread_and_a_strangers_thread_look_the_same() {
    let setup = Setup::new();
    let server = setup.start();
    let (owner, stranger) = (server.user("owner"), server.user("stranger"));
    let theirs = owner.create_thread("secret");
    let their_message = owner.append(&theirs, "secret");
    let missing = "t:1763700000000000000".to_owned();
    let missing_message = format!("{missing}:m:1763700000000000001:000000000");

    let same = |method: &str, there: String, nowhere: String, body: Option<serde_json::Value>| {
        let ask = |target: &str| -> Answer {
            let request = stranger.request(method, target);
            stranger.send(&body.iter().fold(request, |request, body| request.json(body)))
        };
        let (seen, unseen) = (ask(&there), ask(&nowhere));
        seen.check_error(403, NOT_YOURS);
        unseen.check_error(403, NOT_YOURS);
        assert_eq!(seen.text(), unseen.text());
        let names = |answer: &Answer| answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&seen), names(&unseen), "{method} {there}");
    };
    let content = || Some(json!({ "title": "x", "body": "x" }));
    same("GET", thread(&theirs), thread(&missing), None);
    same("PUT", thread(&theirs), thread(&missing), content());
    same("DELETE", thread(&theirs), thread(&missing), None);
    same("GET", messages(&theirs), messages(&missing), None);
    same("POST", messages(&theirs), messages(&missing), content());
    let (there, nowhere) = (message(&theirs, &their_message), message(&missing, &missing_message));
    same("GET", there.clone(), nowhere.clone(), None);
    same("PUT", there.clone(), nowhere.clone(), content());
    same("DELETE", there, nowhere, None);

    assert_eq!(owner.get(&message(&theirs, &their_message)).json()["message"]["body"], json!("secret"));
    assert_eq!(owner.message_keys(&theirs, ""), [their_message]);
}

#[test]
fn a_deleted_thread_is_404_to_its_owner_and_403_to_others() {
    let setup = Setup::new();
    let server = setup.start();
    let (owner, stranger) = (server.user("owner"), server.user("stranger"));
    let t = owner.create_thread("gone");
    let m = owner.append(&t, 1);
    owner.delete(&thread(&t)).check_json(202, &json!({ "key": t }));
    for (method, target) in [
        ("GET", thread(&t)),
        ("PUT", thread(&t)),
        ("DELETE", thread(&t)),
        ("GET", messages(&t)),
        ("POST", messages(&t)),
        ("GET", message(&t, &m)),
        ("PUT", message(&t, &m)),
        ("DELETE", message(&t, &m)),
    ] {
        let body = json!({ "title": "x", "body": "x" });
        let ask = |user: &testing::User| user.send(&user.request(method, &target).json(&body));
        ask(&owner).check_error(404, "thread not found");
        ask(&stranger).check_error(403, NOT_YOURS);
    }
}

#[test]
fn a_deleted_message_is_gone_under_every_name() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let keys: Vec<String> = (0..3).map(|n| user.append(&t, n)).collect();
    user.delete(&message(&t, &keys[1])).check_json(202, &json!({ "key": keys[1] }));
    let provisional = keys[1].rsplit_once(':').unwrap().0;
    for name in [keys[1].as_str(), provisional] {
        user.get(&message(&t, name)).check_error(404, "message not found");
        user.put(&message(&t, name), &json!({ "body": 1 })).check_error(404, "message not found");
        user.delete(&message(&t, name)).check_error(404, "message not found");
    }
    let page = user.get(&messages(&t)).json();
    assert_eq!(user.message_keys(&t, ""), [keys[0].clone(), keys[2].clone()]);
    assert_eq!(page["pagination"]["total"], json!(2));
    let next = user.append(&t, 3);
    assert!(next.ends_with(":000000003"), "a sequence number was used again: {next}");
}

#[test]
fn a_message_that_never_was_is_404() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let real = user.append(&t, 1);
    let stamp = real.split(':').nth(3).unwrap();
    for name in [
        format!("{t}:m:1763700000000000000"),
        format!("{t}:m:1763700000000000000:000000000"),
        format!("{t}:m:{stamp}:000000001"),
        format!("{t}:m:18446744073709551615:999999999"),
    ] {
        user.get(&message(&t, &name)).check_error(404, "message not found");
        user.put(&message(&t, &name), &json!({ "body": 2 })).check_error(404, "message not found");
        user.delete(&message(&t, &name)).check_error(404, "message not found");
    }
    assert_eq!(user.get(&message(&t, &real)).json()["message"]["body"], json!(1));
}
