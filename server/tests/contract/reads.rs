//! Every mutation, followed by every read that should show it.

use serde_json::{Value, json};
use testing::{Server, Setup, THREADS, User, message, messages, thread};

/// What a reader can see of a user, his thread and one message in it, by every route there is.
fn view(server: &Server, user: &User, t: &str, m: Option<&str>) -> Value {
    let body = |answer: testing::http::Answer| match answer.status {
        200 => answer.json(),
        status => json!(status),
    };
    let list = |query: &str| {
        let page = user.get(&format!("{THREADS}?{query}")).check_status(200).json();
        let mine = page["threads"].as_array().unwrap().iter().position(|thread| thread["key"] == json!(t));
        let total = page["pagination"]["total"].clone();
        json!({ "place": mine, "title": mine.map(|at| page["threads"][at]["title"].clone()), "total": total })
    };
    let bodies = |query: &str| match body(user.get(&format!("{}?{query}", messages(t)))) {
        Value::Number(status) => Value::Number(status),
        page => {
            let bodies: Vec<Value> = page["messages"].as_array().unwrap().iter().map(|m| m["body"].clone()).collect();
            json!({ "bodies": bodies, "total": page["pagination"]["total"] })
        }
    };
    let one = |name: &str| match body(user.get(&message(t, name))) {
        Value::Number(status) => Value::Number(status),
        found => found["message"]["body"].clone(),
    };
    let admin = |target: &str| server.admin(target).check_status(200).json();
    let anchored = m.map(|m| bodies(&format!("anchor={m}&limit=1")));
    json!({
        "thread": match body(user.get(&thread(t))) {
            Value::Number(status) => Value::Number(status),
            found => found["thread"]["title"].clone(),
        },
        "by_creation": list(""),
        "by_activity": list("sort_by=updated_ts"),
        "messages": bodies(""),
        "by_update": bodies("sort_by=updated_ts"),
        "anchored": anchored,
        "message": m.map(one),
        "provisional": m.map(|m| one(m.rsplit_once(':').unwrap().0)),
        "users_threads": admin(&format!("/admin/users/{}/threads", user.id))["threads"].as_array().unwrap().len(),
        "known": admin("/admin/users")["users"].as_array().unwrap().contains(&json!(user.id)),
        "stats": admin("/admin/stats"),
    })
}

#[test]
fn every_read_shows_every_write_at_once() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("reader");

    let t = user.create_thread("first");
    let later = user.create_thread("later");
    let listed = |place: usize, title: &str| json!({ "place": place, "title": title, "total": 2 });
    let empty = json!({ "bodies": [], "total": 0 });
    let mut want = json!({
        "thread": "first", "by_creation": listed(1, "first"), "by_activity": listed(1, "first"),
        "messages": empty, "by_update": empty, "anchored": null, "message": null, "provisional": null,
        "users_threads": 2, "known": true, "stats": { "threads": 2, "messages": 0 },
    });
    assert_eq!(view(&server, &user, &t, None), want, "after the creation of the thread");

    user.put(&thread(&t), &json!({ "title": "second" })).written();
    want["thread"] = json!("second");
    want["by_creation"] = listed(1, "second");
    want["by_activity"] = listed(0, "second");
    assert_eq!(view(&server, &user, &t, None), want, "after the change of the title");

    user.append(&later, 0);
    want["by_activity"] = listed(1, "second");
    want["stats"]["messages"] = json!(1);
    assert_eq!(view(&server, &user, &t, None), want, "after a message in the other thread");

    let m = user.append(&t, "hello");
    let one = json!({ "bodies": ["hello"], "total": 1 });
    want["by_activity"] = listed(0, "second");
    want["stats"]["messages"] = json!(2);
    for field in ["messages", "by_update", "anchored"] {
        want[field] = one.clone();
    }
    want["message"] = json!("hello");
    want["provisional"] = json!("hello");
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after the message");

    user.append(&later, 1);
    want["by_activity"] = listed(1, "second");
    want["stats"]["messages"] = json!(3);
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after another message in the other thread");

    user.put(&message(&t, &m), &json!({ "body": "edited" })).written();
    want["by_activity"] = listed(0, "second");
    for field in ["messages", "by_update", "anchored"] {
        want[field] = json!({ "bodies": ["edited"], "total": 1 });
    }
    want["message"] = json!("edited");
    want["provisional"] = json!("edited");
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after the edit");

    user.delete(&message(&t, &m)).written();
    for field in ["messages", "by_update", "anchored"] {
        want[field] = empty.clone();
    }
    want["message"] = json!(404);
    want["provisional"] = json!(404);
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after the deletion of the message");

    user.delete(&thread(&t)).written();
    for field in ["thread", "messages", "by_update", "anchored"] {
        want[field] = json!(404);
    }
    let absent = json!({ "place": null, "title": null, "total": 1 });
    want["by_creation"] = absent.clone();
    want["by_activity"] = absent;
    want["users_threads"] = json!(1);
    want["stats"]["threads"] = json!(1);
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after the deletion of the thread");
    server.kill();

    let server = setup.start();
    let user = server.user("reader");
    assert_eq!(view(&server, &user, &t, Some(&m)), want, "after kill -9 and a restart");
}

#[test]
fn activity_moves_the_threads_updated_ts() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let stamp = || user.get(&thread(&t)).json()["thread"]["updated_ts"].as_u64().unwrap();
    let mut last = stamp();
    let mut check = |what: &str| {
        let now = stamp();
        assert!(now > last, "{what}: {last} then {now}");
        last = now;
    };
    let m = user.append(&t, 1);
    check("append");
    user.put(&message(&t, &m), &json!({ "body": 2 })).written();
    check("edit");
    user.delete(&message(&t, &m)).written();
    check("delete");
    user.put(&thread(&t), &json!({ "title": "renamed" })).written();
    check("rename");
}

#[test]
fn a_reader_on_another_connection_sees_the_write() {
    let setup = Setup::new();
    let server = setup.start();
    let t = server.user("user1").create_thread("shared");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (server, t) = (&server, &t);
            scope.spawn(move || {
                let user = server.user("user1");
                for n in 0..25 {
                    let body = json!({ "writer": writer, "n": n });
                    let m = user.append(t, body.clone());
                    assert_eq!(user.get(&message(t, &m)).check_status(200).json()["message"]["body"], body);
                    let page = user.get(&format!("{}?anchor={m}&limit=1", messages(t))).check_status(200).json();
                    let shown = page["messages"].as_array().unwrap().iter().any(|message| message["key"] == json!(m));
                    assert!(shown, "{m} is not in {page}");
                }
            });
        }
    });
    let keys = server.user("user1").message_keys(&t, "limit=1000");
    let sequences: Vec<u64> = keys.iter().map(|key| key.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<u64>>());
    assert!(keys.is_sorted_by(|a, b| a < b), "sequence order is not time order");
}
