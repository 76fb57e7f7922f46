//! `Idempotency-Key`: the same request twice is one write and one answer.

use serde_json::{Value, json};
use testing::http::Answer;
use testing::{Setup, THREADS, User, message, messages, thread, wait_until};

fn keyed(user: &User, key: &str, method: &str, target: &str, body: &Value) -> Answer {
    user.send(&user.request(method, target).header("Idempotency-Key", key).json(body))
}

/// The second answer is the first one again, and says so.
#[track_caller]
fn check_replay(first: &Answer, again: &Answer) {
    assert_eq!(first.header("idempotency-replayed"), None, "{first}");
    assert_eq!((again.status, again.text()), (first.status, first.text()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again}");
}

#[test]
fn a_repeated_write_is_answered_as_the_first_and_written_once() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let twice = |key: &str, method: &str, target: &str, body: &Value| {
        let first = keyed(&user, key, method, target, body);
        let key_of_object = first.written();
        check_replay(&first, &keyed(&user, key, method, target, body));
        key_of_object
    };
    let t = twice("create", "POST", THREADS, &json!({ "title": "once" }));
    assert_eq!(user.thread_keys(""), [t.as_str()]);
    let m = twice("append", "POST", &messages(&t), &json!({ "body": "once" }));
    assert_eq!(user.message_keys(&t, ""), [m.as_str()]);

    twice("rename", "PUT", &thread(&t), &json!({ "title": "a" }));
    user.put(&thread(&t), &json!({ "title": "b" })).written();
    keyed(&user, "rename", "PUT", &thread(&t), &json!({ "title": "a" })).check_status(202);
    assert_eq!(user.get(&thread(&t)).json()["thread"]["title"], json!("b"), "a replay wrote again");

    twice("edit", "PUT", &message(&t, &m), &json!({ "body": "a" }));
    user.put(&message(&t, &m), &json!({ "body": "b" })).written();
    keyed(&user, "edit", "PUT", &message(&t, &m), &json!({ "body": "a" })).check_status(202);
    assert_eq!(user.get(&message(&t, &m)).json()["message"]["body"], json!("b"), "a replay wrote again");

    twice("remove", "DELETE", &message(&t, &m), &json!({}));
    twice("remove-all", "DELETE", &thread(&t), &json!({}));
    assert_eq!(server.admin("/admin/stats").json(), json!({ "threads": 0, "messages": 1 }));
}

#[test]
fn the_same_key_for_another_request_is_422() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = keyed(&user, "k", "POST", THREADS, &json!({ "title": "one" })).written();
    keyed(&user, "k", "POST", THREADS, &json!({ "title": "two" })).check_refusal(422);
    assert_eq!(user.thread_keys(""), [t.as_str()]);

    let m = keyed(&user, "k", "POST", &messages(&t), &json!({ "body": 1 })).written();
    keyed(&user, "k", "POST", &messages(&t), &json!({ "body": 2 })).check_refusal(422);
    keyed(&user, "k", "PUT", &message(&t, &m), &json!({ "body": 1 })).check_refusal(422);
    keyed(&user, "k", "DELETE", &message(&t, &m), &json!({})).check_refusal(422);
    assert_eq!(user.message_keys(&t, ""), [m.as_str()]);
    assert_eq!(user.get(&message(&t, &m)).json()["message"]["body"], json!(1));
}

#[test]
fn keys_of_other_users_and_threads_do_not_meet() {
    let setup = Setup::new();
    let server = setup.start();
    let (alice, bob) = (server.user("alice"), server.user("bob"));
    let create = |user: &User| keyed(user, "k", "POST", THREADS, &json!({ "title": "same" }));
    let (of_alice, of_bob) = (create(&alice), create(&bob));
    assert_ne!(of_alice.written(), of_bob.written());
    assert_eq!(of_bob.header("idempotency-replayed"), None);

    let (one, two) = (alice.create_thread("one"), alice.create_thread("two"));
    let append = |t: &str| keyed(&alice, "k", "POST", &messages(t), &json!({ "body": 1 }));
    let (first, second) = (append(&one), append(&two));
    assert_ne!(first.written(), second.written());
    assert_eq!(second.header("idempotency-replayed"), None);
}

#[test]
fn a_refused_request_leaves_its_key_free() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    keyed(&user, "k", "POST", THREADS, &json!({ "title": "" })).check_refusal(400);
    let t = keyed(&user, "k", "POST", THREADS, &json!({ "title": "now" })).written();
    let missing = "t:1763700000000000000";
    keyed(&user, "m", "POST", &messages(missing), &json!({ "body": 1 })).check_refusal(403);
    keyed(&user, "m", "POST", &messages(&t), &json!({ "body": null })).check_refusal(400);
    keyed(&user, "m", "POST", &messages(&t), &json!({ "body": 1 })).written();
}

#[test]
fn concurrent_duplicates_are_one_write() {
    let setup = Setup::new();
    let server = setup.start();
    // The nodes of a shared store may not decide between so many in time: whoever is asked to comes again.
    let send = |user: &User, key: &str, target: &str, body: &Value| {
        let mut written = None;
        wait_until("it is written", || {
            let answer = keyed(user, key, "POST", target, body);
            if setup.is_shared() && answer.status == 503 {
                answer.check_refusal(503);
                return false;
            }
            written = Some(answer.written());
            true
        });
        written.unwrap()
    };
    let t = server.user("user1").create_thread("kept");
    for (target, body) in [(messages(&t), json!({ "body": 1 })), (THREADS.to_owned(), json!({ "title": "once" }))] {
        for round in 0..10 {
            let key = format!("round-{round}");
            let keys: Vec<String> = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..8)
                    .map(|_| server.user("user1"))
                    .map(|user| {
                        scope.spawn(|| {
                            let user = user;
                            send(&user, &key, &target, &body)
                        })
                    })
                    .collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|have| *have == keys[0]), "{keys:?}");
        }
    }
    let user = server.user("user1");
    assert_eq!(user.message_keys(&t, "").len(), 10);
    assert_eq!(user.thread_keys("").len(), 11);
}

#[test]
fn an_answer_is_remembered_through_kill_and_restart() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let created = keyed(&user, "c", "POST", THREADS, &json!({ "title": "once" }));
    let t = created.written();
    let appended = keyed(&user, "a", "POST", &messages(&t), &json!({ "body": 1 }));
    let m = appended.written();
    let removed = keyed(&user, "d", "DELETE", &message(&t, &m), &json!({}));
    server.kill();

    let server = setup.start();
    let user = server.user("user1");
    check_replay(&created, &keyed(&user, "c", "POST", THREADS, &json!({ "title": "once" })));
    check_replay(&appended, &keyed(&user, "a", "POST", &messages(&t), &json!({ "body": 1 })));
    check_replay(&removed, &keyed(&user, "d", "DELETE", &message(&t, &m), &json!({})));
    assert_eq!(server.admin("/admin/stats").json(), json!({ "threads": 1, "messages": 1 }));
}

#[test]
fn an_overlong_or_empty_key_is_refused_and_writes_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    for key in ["", &"k".repeat(10_000)] {
        let answer = keyed(&user, key, "POST", THREADS, &json!({ "title": "x" }));
        answer.check_refusal(400);
    }
    assert_eq!(user.thread_keys(""), [""; 0]);
}
