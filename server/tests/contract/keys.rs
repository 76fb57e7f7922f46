//! Keys in paths and queries: malformed ones, provisional ones, and ones put behind the wrong thread.

use serde_json::json;
use testing::http::encode;
use testing::{Setup, THREADS, message, messages, thread};

#[test]
fn a_malformed_thread_key_is_400_on_every_route() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let m = "t:1:m:2:000000000";
    let body = json!({ "title": "x", "body": 1 });
    for bad in [
        "x",
        "t",
        "t:",
        "t:abc",
        "t:-1",
        "t:1.5",
        "t:1 ",
        "T:1",
        "t:18446744073709551616",
        "t:0x10",
        "t:1:x:2",
        "msg-1",
        "thread:1",
        "t:%31",
        "t:１",
    ] {
        for (method, target) in [
            ("GET", thread(bad)),
            ("PUT", thread(bad)),
            ("DELETE", thread(bad)),
            ("GET", messages(bad)),
            ("POST", messages(bad)),
            ("GET", message(bad, m)),
            ("PUT", message(bad, m)),
            ("DELETE", message(bad, m)),
        ] {
            user.send(&user.request(method, &target).json(&body))
                .check_error_begins(400, "invalid thread key format: ");
        }
    }
    for (method, target) in [("GET", thread(m)), ("PUT", thread(m)), ("DELETE", thread(m)), ("GET", messages(m))] {
        user.send(&user.request(method, &target).json(&body)).check_error_begins(400, "expected thread key, got ");
    }
}

#[test]
fn a_malformed_message_key_is_400_on_every_route() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let body = json!({ "body": 1 });
    for bad in [
        "x",
        "t:1:m",
        "t:1:m:",
        "t:1:m:x",
        "t:1:m:2:",
        "t:1:m:2:x",
        "t:1:m:2:000000000:3",
        "m:2",
        "t:1:x:2",
        "t:1:m:-2",
        "t:1:m:18446744073709551616",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = user.send(&user.request(method, &message(&t, bad)).json(&body));
            answer.check_error_begins(400, "invalid message key format: ");
        }
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = user.send(&user.request(method, &message(&t, &t)).json(&body));
        answer.check_error_begins(400, "expected message key, got ");
    }
}

#[test]
fn a_malformed_cursor_is_400() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    for cursor in ["before", "after", "anchor"] {
        for bad in ["x", "t:", "NaN", "t:NaN", "-1", "t:1:m:NaN"] {
            for list in [THREADS.to_owned(), messages(&t)] {
                user.get(&format!("{list}?{cursor}={}", encode(bad))).check_refusal(400);
            }
        }
        user.get(&format!("{THREADS}?{cursor}=t:1:m:2")).check_refusal(400);
    }
}

#[test]
fn a_provisional_key_names_its_message_everywhere() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let keys: Vec<String> = (0..5).map(|n| user.append(&t, n)).collect();
    let provisional = keys[2].rsplit_once(':').unwrap().0.to_owned();

    let found = user.get(&message(&t, &provisional)).check_status(200).json();
    assert_eq!(found, user.get(&message(&t, &keys[2])).json());
    assert_eq!(found["message"]["key"], json!(keys[2]));
    for (query, want) in [
        (format!("before={provisional}&limit=10"), &keys[..2]),
        (format!("after={provisional}&limit=10"), &keys[3..]),
        (format!("anchor={provisional}&limit=1"), &keys[1..4]),
    ] {
        assert_eq!(user.message_keys(&t, &query), want, "{query}");
    }
    let answer = user.post(&messages(&t), &json!({ "body": "answer", "reply_to": provisional }));
    let answer = user.get(&message(&t, &answer.written())).json();
    assert_eq!(answer["message"]["reply_to"], json!(keys[2]));
    user.put(&message(&t, &provisional), &json!({ "body": "new" })).check_json(202, &json!({ "key": keys[2] }));
    assert_eq!(user.get(&message(&t, &keys[2])).json()["message"]["body"], json!("new"));
    user.delete(&message(&t, &provisional)).check_json(202, &json!({ "key": keys[2] }));
    user.get(&message(&t, &keys[2])).check_error(404, "message not found");
}

#[test]
fn a_message_is_out_of_reach_behind_another_thread() {
    let setup = Setup::new();
    let server = setup.start();
    let (owner, attacker) = (server.user("owner"), server.user("attacker"));
    let theirs = owner.create_thread("theirs");
    let victim = owner.append(&theirs, "untouched");
    let own = owner.create_thread("own");
    let attackers = attacker.create_thread("attacker's");
    let provisional = victim.rsplit_once(':').unwrap().0;
    for (user, path) in [(&owner, &own), (&attacker, &attackers)] {
        for name in [victim.as_str(), provisional, "t:1:m:2", "t:1:m:2:000000000"] {
            let target = message(path, name);
            user.get(&target).check_error(404, "message not found in thread");
            user.put(&target, &json!({ "body": "taken" })).check_error(404, "message not found in thread");
            user.delete(&target).check_error(404, "message not found in thread");
        }
    }
    assert_eq!(owner.get(&message(&theirs, &victim)).json()["message"]["body"], json!("untouched"));
}

#[test]
fn keys_may_be_sent_with_and_without_percent_encoding() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    let want = user.get(&message(&t, &m)).check_status(200).text();
    for (t, m) in [
        (t.clone(), m.clone()),
        (t.replace(':', "%3a"), m.replace(':', "%3A")),
        (t.replace('t', "%74"), m.replace('1', "%31")),
    ] {
        let answer = user.get(&format!("{THREADS}/{t}/messages/{m}"));
        assert_eq!((answer.status, answer.text()), (200, want.clone()), "{}", answer.asked);
    }
}

#[test]
fn user_ids_may_hold_colons_slashes_and_letters_of_any_script() {
    let setup = Setup::new();
    let server = setup.start();
    let ids = [
        "a:b",
        "a/b",
        "a:t:1",
        "u:a:t",
        "a b",
        "a%2Fb",
        "ünï",
        "日本",
        &"x".repeat(128),
        "../../etc",
        "a\"b",
        "a?b#c&d",
    ];
    let mut keys = Vec::new();
    for id in ids {
        let user = server.user(id);
        let t = user.create_thread(id);
        let m = user.append(&t, id);
        assert_eq!(user.get(&thread(&t)).json()["thread"]["author"], json!(id));
        assert_eq!(user.get(&message(&t, &m)).json()["message"]["author"], json!(id));
        keys.push(t);
    }
    for (id, t) in ids.iter().zip(&keys) {
        assert_eq!(server.user(id).thread_keys(""), [t.as_str()], "{id}");
        let listed = server.admin(&format!("/admin/users/{}/threads", encode(id))).check_status(200).json();
        assert_eq!(listed["threads"], json!([t]), "{id}");
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    assert_eq!(server.admin("/admin/users").check_status(200).json()["users"], json!(sorted));
}
