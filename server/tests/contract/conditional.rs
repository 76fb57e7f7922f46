//! `ETag`, `If-Match` and `If-None-Match`: no one overwrites what he has not seen, or is sent what he has.

use serde_json::json;
use testing::http::{Answer, Request};
use testing::{ADMIN_KEY, Server, Setup, THREADS, User, message, messages, thread};

#[track_caller]
fn etag(answer: &Answer) -> String {
    let etag = answer.check_status(200).header("etag").unwrap_or_else(|| panic!("no ETag: {answer}")).to_owned();
    assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    etag
}

fn put_if(user: &User, target: &str, etag: &str, text: &str) -> Answer {
    user.send(&user.request("PUT", target).header("If-Match", etag).json(&json!({ "title": text, "body": text })))
}

/// The whole life of one object under `If-Match`.
fn check_conditional(server: &Server, target: &str) {
    let user = server.user("user1");
    let first = etag(&user.get(target));
    assert_eq!(etag(&user.get(target)), first, "reading changes nothing");

    put_if(&user, target, &first, "one").check_status(202);
    let second = etag(&user.get(target));
    assert_ne!(second, first);

    let before = user.get(target).text();
    let late = put_if(&user, target, &first, "late");
    late.check_refusal(412);
    assert_eq!(late.header("etag"), Some(second.as_str()), "{late}");
    let late = user.send(&user.request("DELETE", target).header("If-Match", &first));
    late.check_refusal(412);
    assert_eq!(late.header("etag"), Some(second.as_str()), "{late}");
    assert_eq!(user.get(target).text(), before);

    let nonsense = put_if(&user, target, "nonsense", "late");
    assert!([400, 412].contains(&nonsense.status), "{nonsense}");
    assert_eq!(user.get(target).text(), before);

    put_if(&user, target, "*", "any").check_status(202);
    let third = etag(&user.get(target));
    assert_ne!(third, second);
    user.send(&user.request("DELETE", target).header("If-Match", &third)).check_status(202);
    user.get(target).check_refusal(404);
}

#[test]
fn a_thread_changes_only_for_who_has_seen_it() {
    let setup = Setup::new();
    let server = setup.start();
    let t = server.user("user1").create_thread("kept");
    check_conditional(&server, &thread(&t));
}

#[test]
fn a_message_changes_only_for_who_has_seen_it() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, "first");
    check_conditional(&server, &message(&t, &m));
}

#[test]
fn appends_leave_the_etags_of_others_alone() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let (first, second) = (user.append(&t, 1), user.append(&t, 2));
    let etags = || (etag(&user.get(&thread(&t))), etag(&user.get(&message(&t, &first))));
    let before = etags();
    user.append(&t, 3);
    user.put(&message(&t, &second), &json!({ "body": 4 })).written();
    user.delete(&message(&t, &second)).written();
    assert_eq!(etags(), before);
}

#[test]
fn of_many_conditional_edits_one_wins() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 0);
    for target in [thread(&t), message(&t, &m)] {
        let seen = etag(&user.get(&target));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|n| (server.user("user1"), seen.clone(), target.clone(), format!("racer {n}")))
                .map(|(user, seen, target, text)| scope.spawn(move || put_if(&user, &target, &seen, &text).status))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let count = |status| statuses.iter().filter(|&&have| have == status).count();
        assert_eq!((count(202), count(412)), (1, 7), "{statuses:?}");
    }
}

/// Sends a change of `target` under a condition, whose header stands on as many lines as there are values.
fn change(user: &User, target: &str, name: &str, lines: &[&str], text: &str) -> Answer {
    let request = user.request("PUT", target).json(&json!({ "title": text, "body": text }));
    user.send(&lines.iter().fold(request, |request, line| request.header(name, line)))
}

/// A thread and a message of it, with their paths.
fn objects(user: &User) -> [String; 2] {
    let t = user.create_thread("kept");
    let m = user.append(&t, "kept");
    [thread(&t), message(&t, &m)]
}

#[test]
fn of_several_tags_one_that_matches_is_enough() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    for target in objects(&user) {
        let current = || etag(&user.get(&target));
        let tag = current();
        change(&user, &target, "If-Match", &[&format!("\"98\", {tag} ,\"99\"")], "one line").check_status(202);
        change(&user, &target, "If-Match", &["\"98\"", &current()], "two lines").check_status(202);
        change(&user, &target, "If-Match", &[&format!(",,\"a,b\",W/\"1\",{},", current())], "odd").check_status(202);
        let before = user.get(&target).text();
        let tag = current();
        for lines in [&["\"98\", \"99\""][..], &["\"98\"", "\"99\""], &[&format!("W/{tag}")], &["\"\""], &["\"x\""]] {
            let refused = change(&user, &target, "If-Match", lines, "late");
            refused.check_refusal(412);
            assert_eq!(refused.header("etag"), Some(tag.as_str()), "{lines:?}: {refused}");
        }
        let padded = format!("\"0{}", &tag[1..]);
        change(&user, &target, "If-Match", &[&padded], "another spelling").check_refusal(412);
        for lines in [
            &[""][..],
            &[","],
            &["1"],
            &["\"1"],
            &["w/\"1\""],
            &["W/ \"1\""],
            &["\"1\" \"2\""],
            &["*, \"1\""],
            &["*", &tag],
            &["\"1\"", "2"],
            &["\"a b\""],
        ] {
            for name in ["If-Match", "If-None-Match"] {
                let refused = change(&user, &target, name, lines, "malformed");
                refused.check_error_begins(400, &format!("malformed header: {name}"));
                let read = lines.iter().fold(user.request("GET", &target), |request, line| request.header(name, line));
                user.send(&read).check_refusal(400);
            }
        }
        assert_eq!(user.get(&target).text(), before);
    }
}

#[test]
fn if_none_match_keeps_what_is_there_from_being_changed() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    for target in objects(&user) {
        let tag = etag(&user.get(&target));
        let before = user.get(&target).text();
        for lines in [&["*"][..], &[&tag], &[&format!("W/{tag}")], &["\"98\"", &tag]] {
            let refused = change(&user, &target, "If-None-Match", lines, "late");
            refused.check_refusal(412);
            assert_eq!(refused.header("etag"), Some(tag.as_str()), "{lines:?}: {refused}");
            let delete = user.request("DELETE", &target);
            user.send(&lines.iter().fold(delete, |request, line| request.header("If-None-Match", line)))
                .check_refusal(412);
        }
        assert_eq!(user.get(&target).text(), before);
        change(&user, &target, "If-None-Match", &["\"98\", W/\"99\""], "other").check_status(202);
        let both = user.request("PUT", &target).header("If-Match", etag(&user.get(&target)));
        let both = both.header("If-None-Match", "*").json(&json!({ "title": "both", "body": "both" }));
        user.send(&both).check_refusal(412);
    }
}

/// Everything with a tag: objects, pages for users, pages for administrators; and how it is asked for.
fn readable(user: &User) -> Vec<(String, Request)> {
    let t = user.create_thread("kept");
    let m = user.append(&t, "kept");
    let admin = |target: String| (target.clone(), Request::get(&target).key(ADMIN_KEY));
    let own = |target: String| (target.clone(), user.request("GET", &target));
    vec![
        own(thread(&t)),
        own(message(&t, &m)),
        own(THREADS.to_owned()),
        own(format!("{THREADS}?sort_by=updated_ts&limit=3&anchor={t}")),
        own(messages(&t)),
        own(format!("{}?limit=1&before={m}", messages(&t))),
        admin("/admin/users".to_owned()),
        admin("/admin/keys?limit=5".to_owned()),
        admin(format!("/admin/users/{}/threads", user.id)),
        admin(format!("/admin/users/{}/threads/{t}/messages", user.id)),
    ]
}

#[test]
fn what_the_client_has_already_is_304() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    for (target, get) in readable(&user) {
        let full = server.send(&get);
        let tag = etag(&full);
        assert_eq!(etag(&server.send(&get)), tag, "{target}: the same bytes have the same tag");
        let head = Request { method: "HEAD".into(), ..get.clone() };
        for request in [get, head] {
            let ask = |lines: &[&str]| {
                let asked = lines.iter().fold(request.clone(), |request, line| request.header("If-None-Match", line));
                server.send(&asked)
            };
            for lines in
                [&[tag.as_str()][..], &[&format!("W/{tag}")], &["*"], &[&format!("\"98\",{tag}")], &["\"98\"", &tag]]
            {
                let unchanged = ask(lines);
                unchanged.check_status(304);
                assert_eq!(unchanged.text(), "");
                for name in ["etag", "cache-control", "vary"] {
                    assert_eq!(unchanged.header(name), full.header(name), "{target}: {name}: {unchanged}");
                }
                assert_eq!(unchanged.header("content-type"), None, "{unchanged}");
                assert!(unchanged.header("x-request-id").is_some(), "{unchanged}");
            }
            let other = ask(&["\"98\", W/\"99\""]);
            assert_eq!((other.status, other.header("etag")), (200, Some(tag.as_str())), "{target}: {other}");

            let held = |tag: &str| server.send(&request.clone().header("If-Match", tag));
            for fine in [tag.as_str(), "*"] {
                held(fine).check_status(200);
            }
            for other in ["\"98\"", &format!("W/{tag}")] {
                let refused = held(other);
                refused.check_status(412);
                assert_eq!(refused.header("etag"), Some(tag.as_str()), "{target}: {refused}");
            }
        }
    }
}

#[test]
fn a_page_that_changed_is_sent_in_full() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let m = user.append(&t, 1);
    let changes: [&dyn Fn(); 4] = [
        &|| drop(user.append(&t, 2)),
        &|| drop(user.put(&message(&t, &m), &json!({ "body": 3 })).written()),
        &|| drop(user.put(&thread(&t), &json!({ "title": "new" })).written()),
        &|| drop(user.delete(&message(&t, &m)).written()),
    ];
    for change in changes {
        let seen = [THREADS.to_owned(), messages(&t)].map(|target| (etag(&user.get(&target)), target));
        let before = seen.clone().map(|(_, target)| user.get(&target).text());
        change();
        for ((tag, target), before) in seen.into_iter().zip(before) {
            let now = user.send(&user.request("GET", &target).header("If-None-Match", &tag));
            if user.get(&target).text() == before {
                now.check_status(304);
            } else {
                assert_ne!(etag(&now), tag, "{target}");
            }
        }
    }
    let list = etag(&user.get(&messages(&t)));
    user.append(&t, 5);
    user.send(&user.request("GET", &messages(&t)).header("If-None-Match", &list)).check_status(200);
}

/// A browser asks by itself whether what it kept is still so. The tag of a thread does not know of its counts, so a thread
/// is not to be kept.
#[test]
fn browsers_keep_only_what_its_tag_speaks_for() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let [thread, message] = objects(&user);
    let storing = |answer: Answer| answer.header("cache-control").unwrap_or_default().to_owned();
    for target in [message.as_str(), THREADS, &format!("{thread}/messages")] {
        let answer = user.get(target);
        let vary = answer.header("vary").unwrap_or_default().to_lowercase();
        assert!(["authorization", "x-api-key", "x-user-id"].iter().all(|name| vary.contains(name)), "{answer}");
        assert_eq!(storing(answer), "private, no-cache", "{target}");
    }
    for request in [
        user.request("GET", &thread),
        user.request("GET", "/frontend/nothing"),
        user.request("POST", THREADS).json(&json!({ "title": "x" })),
        Request::get("/readyz"),
        Request::get("/admin/stats").key(ADMIN_KEY),
        Request::get(THREADS),
    ] {
        assert_eq!(storing(server.send(&request)), "no-store", "{}", request.target);
    }
}

#[test]
fn conditions_tell_a_stranger_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let stranger = server.user("stranger");
    for target in objects(&server.user("user1")) {
        for (name, value) in [("If-Match", "\"98\""), ("If-None-Match", "*"), ("If-None-Match", "nonsense")] {
            stranger.send(&stranger.request("GET", &target).header(name, value)).check_refusal(403);
        }
        change(&stranger, &target, "If-Match", &["\"98\""], "late").check_refusal(403);
    }
}

#[test]
fn a_create_with_a_condition_is_refused_not_done_without_it() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    for target in [THREADS.to_owned(), messages(&t)] {
        let create = |name: &str, value: &str| {
            user.send(&user.request("POST", &target).header(name, value).json(&json!({ "title": "x", "body": "x" })))
        };
        for (name, value) in [("If-Match", "\"1\""), ("If-None-Match", "*"), ("If-None-Match", "\"1\"")] {
            create(name, value).check_error_begins(400, &format!("{name} cannot be checked on a create"));
        }
        create("If-Match", "nonsense").check_refusal(400);
        assert_eq!((user.thread_keys("").len(), user.message_keys(&t, "").len()), (1, 0));
    }
    user.send(&user.request("POST", THREADS).header("If-Match", "*").json(&json!({ "title": "x" }))).check_status(202);
}
