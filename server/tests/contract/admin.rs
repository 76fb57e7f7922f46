//! The admin routes: shapes of the earlier server's code, lists never `null` and always limited.

use serde_json::{Value, json};
use testing::http::{Answer, Request, encode};
use testing::{ADMIN_KEY, Server, Setup, User, message, thread, wait_until};

/// Three threads of user1 with 3, 3 and 2 messages.
fn eight_messages(server: &Server) -> (User, Vec<String>, Vec<Vec<String>>) {
    let user = server.user("user1");
    let threads: Vec<String> = (0..3).map(|n| user.create_thread(&n.to_string())).collect();
    let counts = [3, 3, 2];
    let sent = threads.iter().zip(counts).map(|(t, count)| (0..count).map(|n| user.append(t, n)).collect()).collect();
    (user, threads, sent)
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("no array: {value}"));
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn page(answer: &Answer, name: &str) -> (Vec<String>, Value) {
    let body = answer.check_status(200).json();
    let mut fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    fields.sort_unstable();
    let mut want = [name, "pagination"];
    want.sort_unstable();
    assert_eq!(fields, want, "{answer}");
    let mut fields: Vec<&String> = body["pagination"].as_object().unwrap().keys().collect();
    fields.sort_unstable();
    assert_eq!(fields, ["after_anchor", "before_anchor", "count", "has_after", "has_before", "total"], "{answer}");
    (strings(&body[name]), body["pagination"].clone())
}

#[test]
fn health_and_stats_say_what_they_said() {
    let setup = Setup::new();
    let server = setup.start();
    server.admin("/admin/health").check_json(200, &json!({ "status": "ok", "service": "progressdb" }));
    server.admin("/admin/stats").check_json(200, &json!({ "threads": 0, "messages": 0 }));
    let (user, threads, sent) = eight_messages(&server);
    server.admin("/admin/stats").check_json(200, &json!({ "threads": 3, "messages": 8 }));
    user.delete(&message(&threads[0], &sent[0][0])).written();
    server.admin("/admin/stats").check_json(200, &json!({ "threads": 3, "messages": 8 }));
    user.delete(&thread(&threads[0])).written();
    server.admin("/admin/stats").check_json(200, &json!({ "threads": 2, "messages": 8 }));
}

#[test]
fn five_keys_come_with_all_anchor_and_flag_fields() {
    let setup = Setup::new();
    let server = setup.start();
    eight_messages(&server);
    let (keys, pagination) = page(&server.admin("/admin/keys?limit=5"), "keys");
    assert_eq!(keys.len(), 5);
    assert_eq!(pagination["count"], json!(5));
    assert_eq!((&pagination["has_before"], &pagination["has_after"]), (&json!(true), &json!(false)), "{pagination}");
    assert_eq!((&pagination["before_anchor"], &pagination["after_anchor"]), (&json!(keys[0]), &json!(keys[4])));
    assert!(pagination["total"].as_u64().unwrap() > 8, "{pagination}");
}

#[test]
fn keys_page_in_pure_key_order() {
    let setup = Setup::new();
    let server = setup.start();
    eight_messages(&server);
    for store in ["main", "index"] {
        let list = |query: &str| page(&server.admin(&format!("/admin/keys?store={store}&{query}")), "keys");
        let (all, pagination) = list("limit=1000");
        let total = all.len();
        assert!(total > 3, "{store}: {all:?}");
        assert_eq!((&pagination["total"], &pagination["count"]), (&json!(total), &json!(total)), "{store}");
        let position = |key: &str| all.iter().position(|have| have == key).unwrap();

        // Backwards from the end: each page just below the last, descending.
        let (mut seen, mut flags) = list("limit=3");
        assert_eq!(seen, all[total - 3..], "{store}: the last keys, ascending");
        seen.reverse();
        while flags["has_before"] == json!(true) {
            let anchor = encode(flags["before_anchor"].as_str().unwrap());
            let (next, found) = list(&format!("limit=3&before={anchor}"));
            assert_eq!(found["has_after"], json!(true), "{store}");
            seen.extend(next);
            flags = found;
            assert!(seen.len() <= total, "{store}: the walk does not end");
        }
        seen.reverse();
        assert_eq!(seen, all, "{store}");

        let middle = &all[total / 2];
        let (next, flags) = list(&format!("limit=1&after={}", encode(middle)));
        assert_eq!(next, all[total / 2 + 1..total / 2 + 2], "{store}");
        assert_eq!(flags["has_before"], json!(true), "{store}");
        let (around, flags) = list(&format!("limit=1&anchor={}", encode(middle)));
        assert_eq!(around, all[total / 2 - 1..total / 2 + 2], "{store}");
        assert_eq!(position(flags["before_anchor"].as_str().unwrap()), total / 2 - 1, "{store}");
        assert_eq!(position(flags["after_anchor"].as_str().unwrap()), total / 2 + 1, "{store}");
        let (none, flags) = list(&format!("after={}", encode(&all[total - 1])));
        assert_eq!((none.len(), &flags["count"]), (0, &json!(0)), "{store}");
    }
}

#[test]
fn a_prefix_narrows_the_keys_and_their_total() {
    let setup = Setup::new();
    let server = setup.start();
    let (_, threads, _) = eight_messages(&server);
    let (all, _) = page(&server.admin("/admin/keys?limit=1000"), "keys");
    let ours: Vec<String> = all.iter().filter(|key| key.starts_with(&threads[1])).cloned().collect();
    assert!(ours.len() > 3, "no rows begin with the thread's key: {all:?}");
    let target = format!("/admin/keys?limit=1000&prefix={}", encode(&threads[1]));
    let (found, pagination) = page(&server.admin(&target), "keys");
    assert_eq!(found, ours);
    assert_eq!(pagination["total"], json!(ours.len()));
}

#[test]
fn a_listed_key_can_be_read_and_an_unknown_one_is_404() {
    let setup = Setup::new();
    let server = setup.start();
    eight_messages(&server);
    for store in ["main", "index"] {
        let (keys, _) = page(&server.admin(&format!("/admin/keys?store={store}&limit=1000")), "keys");
        for key in keys {
            for query in ["", "&open=true"] {
                let row = server.admin(&format!("/admin/keys/{}?store={store}{query}", encode(&key)));
                row.check_status(200);
                assert!(row.json().is_object(), "{row}");
            }
        }
    }
    for unknown in ["nothing", "t:1", "t:1:m:2:000000000"] {
        server.admin(&format!("/admin/keys/{}", encode(unknown))).check_refusal(404);
    }
}

#[test]
fn every_list_has_a_limit() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("long");
    for n in 0..120 {
        user.append(&t, n);
        server.user(&format!("user-{n:03}")).create_thread("x");
    }
    let route = format!("/admin/users/user1/threads/{}/messages", encode(&t));
    for (target, name) in [("/admin/keys", "keys"), ("/admin/users", "users"), (route.as_str(), "messages")] {
        assert_eq!(page(&server.admin(target), name).0.len(), 100, "{target}");
        assert_eq!(page(&server.admin(&format!("{target}?limit=3")), name).0.len(), 3, "{target}");
        for bad in ["0", "-1", "x", "1001"] {
            server.admin(&format!("{target}?limit={bad}")).check_refusal(400);
        }
    }
}

#[test]
fn users_and_their_threads_are_lists_of_keys() {
    let setup = Setup::new();
    let server = setup.start();
    assert_eq!(page(&server.admin("/admin/users"), "users").0, [""; 0]);
    let (user, threads, sent) = eight_messages(&server);
    server.user("another").create_thread("x");
    let (users, pagination) = page(&server.admin("/admin/users"), "users");
    assert_eq!(users, ["another", "user1"]);
    assert_eq!((&pagination["count"], &pagination["total"]), (&json!(2), &json!(2)));
    let (found, pagination) = page(&server.admin("/admin/users/user1/threads"), "threads");
    assert_eq!(found, threads, "oldest first");
    assert_eq!(pagination["total"], json!(3));
    assert_eq!(page(&server.admin("/admin/users/nobody/threads"), "threads").0, [""; 0]);
    server.admin(&format!("/admin/users/{}/threads", "x".repeat(129))).check_error(400, "invalid userID format");

    user.delete(&message(&threads[1], &sent[1][1])).written();
    let route = format!("/admin/users/user1/threads/{}/messages", encode(&threads[1]));
    let (found, pagination) = page(&server.admin(&route), "messages");
    assert_eq!(found, sent[1], "deleted messages included");
    assert_eq!(pagination["total"], json!(3));
    for m in &sent[1] {
        let row = server.admin(&format!("{route}/{}", encode(m)));
        row.check_status(200);
        assert!(row.json().is_object(), "{row}");
    }
    server.admin(&format!("{route}/{}", encode(&sent[0][0]))).check_refusal(404);
}

#[test]
fn a_purge_runs_when_retention_is_on_and_is_refused_when_off() {
    let purge = || Request::new("POST", "/admin/jobs/purge").key(ADMIN_KEY);
    let setup = Setup::new();
    let answer = setup.start().send(&purge());
    assert!((400..500).contains(&answer.status), "{answer}");
    answer.check_error_shape();

    let setup = Setup::new().set("retention.enabled", true).set("retention.tttl", "1ms").set("retention.mttl", "720h");
    let server = setup.start();
    let (user, threads, sent) = eight_messages(&server);
    user.delete(&message(&threads[1], &sent[1][0])).written();
    user.delete(&thread(&threads[0])).written();
    let left = || {
        let (keys, _) = page(&server.admin("/admin/keys?limit=1000"), "keys");
        keys.into_iter().filter(|key| key.starts_with(&threads[0]) && key.contains(":m:")).count()
    };
    wait_until("a millisecond has passed and a purge removed the thread", || {
        let done = server.send(&purge()).check_status(200).json();
        assert_eq!((&done["status"], &done["message"]), (&json!("ok"), &json!("retention run triggered")), "{done}");
        left() == 0
    });
    assert_eq!(user.thread_keys(""), [threads[2].clone(), threads[1].clone()]);
    assert_eq!(user.message_keys(&threads[1], ""), sent[1][1..]);
    let gone = user.get(&thread(&threads[0]));
    assert!([403, 404].contains(&gone.status), "{gone}");
    assert_eq!(server.admin("/admin/stats").json(), json!({ "threads": 2, "messages": 8 }));
}

#[test]
fn no_admin_row_shows_key_material_or_another_role_in() {
    let setup = Setup::new();
    let server = setup.start();
    eight_messages(&server);
    for target in ["/admin/keys", "/admin/users", "/admin/stats", "/admin/health", "/metrics"] {
        for request in [Request::get(target).signed("user1"), server.user("user1").request("GET", target)] {
            server.send(&request).check_error(403, "forbidden");
        }
        for secret in ["sk_example", "pk_example", "admin_example", "sign_example"] {
            assert!(!server.admin(target).text().contains(secret), "{target} shows {secret}");
        }
    }
}
