//! Threads and messages on the wire: their fields, what the server sets itself, and bodies kept to the letter.

use serde_json::{Value, json};
use testing::http::Answer;
use testing::{Server, Setup, THREADS, User, message, messages, thread};

/// Fields that may be there beside the ones that must be.
const THREAD_EXTRAS: [&str; 6] = ["slug", "metadata", "participants", "unread", "last_message_ts", "message_count"];
const MESSAGE_EXTRAS: [&str; 5] = ["role", "reply_to", "metadata", "reactions", "version"];

/// The object without its optional additions must be exactly `want`.
#[track_caller]
fn check_object(object: &Value, extras: &[&str], want: &Value) {
    let mut kept = object.clone();
    kept.as_object_mut().unwrap().retain(|field, _| !extras.contains(&field.as_str()));
    assert_eq!(kept, *want, "of {object}");
}

#[track_caller]
fn object(answer: &Answer, name: &str) -> Value {
    let body = answer.check_status(200).json();
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, [name], "{body}");
    body[name].clone()
}

#[track_caller]
fn timestamp(key: &str, part: usize) -> u64 {
    key.split(':').nth(part).unwrap().parse().unwrap()
}

#[test]
fn the_documented_exchange_goes_as_documented() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");

    let t = user.post(THREADS, &json!({ "title": "General" })).written();
    let created = timestamp(&t, 1);
    assert_eq!(t, format!("t:{created}"));
    assert_eq!(created.to_string().len(), 19, "nanoseconds: {t}");
    let found = object(&user.get(&thread(&t)), "thread");
    let want = json!({ "key": t, "title": "General", "author": "user1", "created_ts": created, "updated_ts": created });
    check_object(&found, &THREAD_EXTRAS, &want);

    let m = user.post(&messages(&t), &json!({ "body": { "text": "hi" } })).written();
    let sent = timestamp(&m, 3);
    assert_eq!(m, format!("{t}:m:{sent}:000000000"));
    assert!(sent > created, "{m}");
    let want = json!({
        "key": m, "thread": t, "author": "user1", "created_ts": sent, "updated_ts": sent, "body": { "text": "hi" },
    });
    let found = object(&user.get(&message(&t, &m)), "message");
    check_object(&found, &MESSAGE_EXTRAS, &want);

    let page = user.get(&format!("{}?limit=50", messages(&t))).check_status(200).json();
    let pagination = json!({
        "before_anchor": m, "after_anchor": m, "has_before": false, "has_after": false, "count": 1, "total": 1,
    });
    assert_eq!(page, json!({ "thread": t, "messages": [found], "pagination": pagination }));
    let list = user.get(THREADS).check_status(200).json();
    let listed = object(&user.get(&thread(&t)), "thread");
    let pagination = json!({
        "before_anchor": t, "after_anchor": t, "has_before": false, "has_after": false, "count": 1, "total": 1,
    });
    assert_eq!(list, json!({ "threads": [listed], "pagination": pagination }));

    user.delete(&message(&t, &m)).check_json(202, &json!({ "key": m }));
    user.delete(&message(&t, &m)).check_error(404, "message not found");
    user.delete(&thread(&t)).check_json(202, &json!({ "key": t }));
    user.delete(&thread(&t)).check_error(404, "thread not found");
}

#[test]
fn lists_of_nothing_are_empty_arrays() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let nothing = json!({
        "before_anchor": "", "after_anchor": "", "has_before": false, "has_after": false, "count": 0, "total": 0,
    });
    user.get(THREADS).check_json(200, &json!({ "threads": [], "pagination": nothing }));
    let t = user.create_thread("empty");
    user.get(&messages(&t)).check_json(200, &json!({ "thread": t, "messages": [], "pagination": nothing }));
}

#[test]
fn fields_that_belong_to_the_server_are_ignored() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let claims = json!({
        "title": "mine", "body": 1, "deleted": true, "author": "mallory", "key": "t:1", "id": "x", "thread": "t:1",
        "created_ts": 1, "updated_ts": 1, "kms": { "key_id": "x" }, "unknown": [1],
    });

    let t = user.post(THREADS, &claims).written();
    let created = timestamp(&t, 1);
    let want = json!({ "key": t, "title": "mine", "author": "user1", "created_ts": created, "updated_ts": created });
    check_object(&object(&user.get(&thread(&t)), "thread"), &THREAD_EXTRAS, &want);

    let m = user.post(&messages(&t), &claims).written();
    user.put(&message(&t, &m), &claims).check_json(202, &json!({ "key": m }));
    let found = object(&user.get(&message(&t, &m)), "message");
    let sent = timestamp(&m, 3);
    let updated = found["updated_ts"].as_u64().unwrap();
    assert!(updated > sent, "{found}");
    let want =
        json!({ "key": m, "thread": t, "author": "user1", "created_ts": sent, "updated_ts": updated, "body": 1 });
    check_object(&found, &MESSAGE_EXTRAS, &want);

    user.put(&thread(&t), &claims).check_json(202, &json!({ "key": t }));
    let found = object(&user.get(&thread(&t)), "thread");
    assert_eq!((&found["author"], &found["created_ts"], &found["key"]), (&json!("user1"), &json!(created), &json!(t)));
}

#[test]
fn an_absent_optional_field_stays_absent() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("plain");
    let found = object(&user.get(&thread(&t)), "thread");
    let m = user.append(&t, "plain");
    let sent = object(&user.get(&message(&t, &m)), "message");
    for (object, field) in [(&found, "slug"), (&found, "metadata"), (&found, "last_message_ts"), (&found, "deleted")]
        .into_iter()
        .chain([(&sent, "role"), (&sent, "reply_to"), (&sent, "metadata"), (&sent, "reactions"), (&sent, "deleted")])
        .chain([(&found, "kms"), (&sent, "kms")])
    {
        assert_eq!(object.get(field), None, "{field} of {object}");
    }
}

#[test]
fn optional_fields_come_back_as_sent() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let sent = json!({ "title": "full", "slug": "full-1", "metadata": { "tags": ["a", 1, null] } });
    let t = user.post(THREADS, &sent).written();
    let found = object(&user.get(&thread(&t)), "thread");
    assert_eq!(
        (&found["title"], &found["slug"], &found["metadata"]),
        (&sent["title"], &sent["slug"], &sent["metadata"]),
        "{found}"
    );

    let parent = user.append(&t, "question");
    let sent = json!({ "body": "answer", "role": "assistant", "reply_to": parent, "metadata": { "model": "x" } });
    let m = user.post(&messages(&t), &sent).written();
    let found = object(&user.get(&message(&t, &m)), "message");
    for field in ["body", "role", "reply_to", "metadata"] {
        assert_eq!(found[field], sent[field], "{field} of {found}");
    }
    let found = object(&user.get(&thread(&t)), "thread");
    assert_eq!(found["last_message_ts"], json!(timestamp(&m, 3)), "{found}");
    assert_eq!(found["message_count"], json!(2), "{found}");
}

#[test]
fn an_answer_to_a_message_of_another_thread_is_refused() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let (here, there) = (user.create_thread("here"), user.create_thread("there"));
    let elsewhere = user.append(&there, 1);
    let answer = user.post(&messages(&here), &json!({ "body": 1, "reply_to": elsewhere }));
    assert!((400..500).contains(&answer.status), "{answer}");
    answer.check_error_shape();
    assert_eq!(user.message_keys(&here, "limit=10"), [""; 0]);
}

/// JSON that any detour through numbers, maps or normal forms would change.
const BODIES: [&str; 17] = [
    r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#,
    "1e400",
    "-0.0",
    "1.0",
    "1.10",
    "1E+2",
    "1152921504606846977",
    "123456789012345678901234567890.12345678901234567890",
    r#""\u00e9\u0041\/\"\\\b\f\n\r\t""#,
    r#""\u0000""#,
    r#""\uD83D\ude00 é 😀 <b>&amp;""#,
    r#"{"twice":1,"twice":2}"#,
    r#"[1.0,1,"1",[[]],{}]"#,
    r#""""#,
    "0",
    "false",
    "{}",
];

#[track_caller]
fn check_body(server: &Server, user: &User, t: &str, m: &str, body: &str) {
    let exact = format!("\"body\":{body}");
    for target in [message(t, m), format!("{}?anchor={}&limit=1", messages(t), testing::http::encode(m))] {
        let answer = server.send(&user.request("GET", &target));
        answer.check_status(200);
        assert!(answer.text().contains(&exact), "{exact} is not in {answer}");
    }
}

#[test]
fn bodies_keep_their_exact_json() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("exact");
    let mut stored = Vec::new();
    for body in BODIES {
        let request = user.request("POST", &messages(&t)).body(format!(r#" {{ "x" : 1, "body" : {body} }} "#));
        let m = user.send(&request).written();
        check_body(&server, &user, &t, &m, body);
        stored.push(m);
    }
    // Each body moves one message on, so that every edit changes the text.
    for (m, body) in stored.iter().zip(BODIES.iter().cycle().skip(1)) {
        let request = user.request("PUT", &message(&t, m)).body(format!(r#"{{"body":{body}}}"#));
        assert_eq!(user.send(&request).written(), *m);
        check_body(&server, &user, &t, m, body);
    }
    server.kill();

    let server = setup.start();
    let user = server.user("user1");
    for (m, body) in stored.iter().zip(BODIES.iter().cycle().skip(1)) {
        check_body(&server, &user, &t, m, body);
    }
}

#[test]
fn thread_metadata_keeps_its_exact_json() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let request = user.request("POST", THREADS).body(r#"{"title":"\u0041","metadata":{"z":1.0,"a":1e400}}"#);
    let t = user.send(&request).written();
    let answer = user.get(&thread(&t));
    assert!(answer.check_status(200).text().contains(r#""metadata":{"z":1.0,"a":1e400}"#), "{answer}");
    assert!(answer.text().contains(r#""title":"A""#), "{answer}");
}

#[test]
fn a_half_of_a_surrogate_pair_is_refused_or_kept() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("half");
    let answer = user.send(&user.request("POST", &messages(&t)).body(r#"{"body":"\ud800"}"#));
    match answer.status {
        202 => check_body(&server, &user, &t, &answer.written(), r#""\ud800""#),
        _ => {
            answer.check_error_begins(400, "invalid message payload");
        }
    }
}

#[test]
fn what_the_released_load_generator_sends_is_stored() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("load");
    let sent = json!({ "id": "msg-1", "content": "x".repeat(1000), "checksum": "abc", "body": {} });
    let m = user.post(&messages(&t), &sent).written();
    check_body(&server, &user, &t, &m, "{}");
}

#[test]
fn prefer_return_representation_adds_the_object() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let preferring = |method: &str, target: &str, body: &Value| {
        user.send(&user.request(method, target).header("Prefer", "return=representation").json(body))
    };
    let check = |answer: &Answer, name: &str, target: &dyn Fn(&str) -> String| {
        let body = answer.check_status(202).json();
        let key = body["key"].as_str().unwrap().to_owned();
        let now = user.get(&target(&key)).check_status(200).json();
        assert_eq!(body, json!({ "key": key, name: now[name] }), "{}", answer.asked);
        key
    };
    let t = check(&preferring("POST", THREADS, &json!({ "title": "a" })), "thread", &thread);
    check(&preferring("PUT", &thread(&t), &json!({ "title": "b" })), "thread", &thread);
    let m = check(&preferring("POST", &messages(&t), &json!({ "body": 1 })), "message", &|m| message(&t, m));
    check(&preferring("PUT", &message(&t, &m), &json!({ "body": 2 })), "message", &|m| message(&t, m));
}
