//! `ETag` and `If-Match`: no one overwrites what he has not seen.

use serde_json::json;

use crate::harness::http::Answer;
use crate::harness::{Server, Setup, User, message, thread};

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
