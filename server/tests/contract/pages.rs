//! Pages in both directions: the worked examples as tables, orders, limits, and walks as the React hooks do them.

use serde_json::{Value, json};
use testing::{Server, Setup, THREADS, User, message, messages, thread};

/// One row of a worked example: query, items by number, `has_before`, `has_after`.
type Row = (&'static str, &'static [usize], bool, bool);

/// Replaces `T3` or `M3` in a query by the key.
fn fill(query: &str, letter: char, keys: &[String]) -> String {
    let fill = |value: &str| match value.strip_prefix(letter).and_then(|number| number.parse::<usize>().ok()) {
        Some(number) => keys[number].clone(),
        None => value.to_owned(),
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap())
        .map(|(k, v)| format!("{k}={}", fill(v)))
        .collect::<Vec<_>>()
        .join("&")
}

/// The page at `list?query`, threads or messages, is exactly this.
#[track_caller]
fn check_page(user: &User, list: &str, query: &str, items: &[String], before: bool, after: bool, total: usize) {
    let name = if list.ends_with("/messages") { "messages" } else { "threads" };
    let answer = user.get(&format!("{list}?{query}"));
    let first = items.first().cloned().unwrap_or_default();
    let last = items.last().cloned().unwrap_or_default();
    assert_eq!(answer.check_status(200).keys(name), items, "{query}");
    let want = json!({
        "before_anchor": first, "after_anchor": last, "has_before": before, "has_after": after,
        "count": items.len(), "total": total,
    });
    assert_eq!(answer.json()["pagination"], want, "{query}");
}

fn five_threads(server: &Server) -> (User, Vec<String>) {
    let user = server.user("five");
    let keys = std::iter::once(String::new()).chain((1..=5).map(|n| user.create_thread(&format!("T{n}")))).collect();
    (user, keys)
}

#[test]
fn threads_page_as_in_the_worked_example() {
    let setup = Setup::new();
    let server = setup.start();
    let (user, keys) = five_threads(&server);
    server.user("other").create_thread("not listed");
    let rows: [Row; 13] = [
        ("", &[5, 4, 3, 2, 1], false, false),
        ("limit=5", &[5, 4, 3, 2, 1], false, false),
        ("limit=2", &[5, 4], false, true),
        ("limit=2&after=T4", &[3, 2], true, true),
        ("limit=2&after=T2", &[1], true, false),
        ("limit=2&after=T3", &[2, 1], true, false),
        ("limit=2&before=T2", &[4, 3], true, true),
        ("limit=2&before=T3", &[5, 4], false, true),
        ("limit=2&before=T4", &[5], false, true),
        ("limit=1&anchor=T3", &[4, 3, 2], true, true),
        ("limit=2&anchor=T3", &[5, 4, 3, 2, 1], false, false),
        ("limit=2&anchor=T5", &[5, 4, 3], false, true),
        ("limit=2&anchor=T1", &[3, 2, 1], true, false),
    ];
    for (query, items, before, after) in rows {
        let items: Vec<String> = items.iter().map(|&n| keys[n].clone()).collect();
        check_page(&user, THREADS, &fill(query, 'T', &keys), &items, before, after, 5);
    }
    check_page(&user, THREADS, &fill("after=T1", 'T', &keys), &[], false, false, 5);
    check_page(&user, THREADS, &fill("before=T5", 'T', &keys), &[], false, false, 5);
}

#[test]
fn messages_page_as_in_the_worked_example() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("seven");
    let t = user.create_thread("seven");
    let other = user.create_thread("another");
    let keys: Vec<String> = (0..7).map(|n| user.append(&t, n)).inspect(|_| drop(user.append(&other, 0))).collect();
    let rows: [Row; 15] = [
        ("", &[0, 1, 2, 3, 4, 5, 6], false, false),
        ("limit=7", &[0, 1, 2, 3, 4, 5, 6], false, false),
        ("limit=3", &[4, 5, 6], true, false),
        ("limit=3&before=M4", &[1, 2, 3], true, true),
        ("limit=3&before=M3", &[0, 1, 2], false, true),
        ("limit=3&before=M1", &[0], false, true),
        ("limit=3&after=M3", &[4, 5, 6], true, false),
        ("limit=3&after=M2", &[3, 4, 5], true, true),
        ("limit=3&after=M0", &[1, 2, 3], true, true),
        ("limit=2&anchor=M3", &[1, 2, 3, 4, 5], true, true),
        ("limit=3&anchor=M3", &[0, 1, 2, 3, 4, 5, 6], false, false),
        ("limit=1&anchor=M0", &[0, 1], false, true),
        ("limit=1&anchor=M6", &[5, 6], true, false),
        ("limit=3&after=M6", &[], false, false),
        ("limit=3&before=M0", &[], false, false),
    ];
    for (query, items, before, after) in rows {
        let items: Vec<String> = items.iter().map(|&n| keys[n].clone()).collect();
        check_page(&user, &messages(&t), &fill(query, 'M', &keys), &items, before, after, 7);
    }
}

#[test]
fn deleted_items_are_skipped_but_still_position() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let keys: Vec<String> = (0..7).map(|n| user.append(&t, n)).collect();
    for n in [0, 3, 6] {
        user.delete(&message(&t, &keys[n])).written();
    }
    let rows: [Row; 8] = [
        ("limit=3", &[2, 4, 5], true, false),
        ("limit=3&before=M3", &[1, 2], false, true),
        ("limit=3&after=M3", &[4, 5], true, false),
        ("limit=1&anchor=M3", &[2, 4], true, true),
        ("limit=3&before=M6", &[2, 4, 5], true, false),
        ("limit=3&after=M0", &[1, 2, 4], false, true),
        ("limit=2&before=M2", &[1], false, true),
        ("limit=9&after=M5", &[], false, false),
    ];
    for (query, items, before, after) in rows {
        let items: Vec<String> = items.iter().map(|&n| keys[n].clone()).collect();
        check_page(&user, &messages(&t), &fill(query, 'M', &keys), &items, before, after, 4);
    }

    let (user, keys) = five_threads(&server);
    for n in [3, 5] {
        user.delete(&thread(&keys[n])).written();
    }
    let rows: [Row; 6] = [
        ("", &[4, 2, 1], false, false),
        ("limit=2", &[4, 2], false, true),
        ("limit=2&after=T3", &[2, 1], true, false),
        ("limit=2&before=T3", &[4], false, true),
        ("limit=1&anchor=T3", &[4, 2], false, true),
        ("limit=2&after=T5", &[4, 2], false, true),
    ];
    for (query, items, before, after) in rows {
        let items: Vec<String> = items.iter().map(|&n| keys[n].clone()).collect();
        check_page(&user, THREADS, &fill(query, 'T', &keys), &items, before, after, 3);
    }
}

#[test]
fn a_cursor_that_names_nothing_is_a_position() {
    let setup = Setup::new();
    let server = setup.start();
    let (user, keys) = five_threads(&server);
    let between = |a: &str, b: &str| {
        let stamp = |key: &str| key.rsplit(':').next().unwrap().parse::<u64>().unwrap();
        format!("t:{}", stamp(a).midpoint(stamp(b)))
    };
    let gap = between(&keys[2], &keys[3]);
    let pick = |numbers: &[usize]| numbers.iter().map(|&n| keys[n].clone()).collect::<Vec<_>>();
    check_page(&user, THREADS, &format!("limit=2&after={gap}"), &pick(&[2, 1]), true, false, 5);
    check_page(&user, THREADS, &format!("limit=2&before={gap}"), &pick(&[4, 3]), true, true, 5);
    check_page(&user, THREADS, &format!("limit=1&anchor={gap}"), &pick(&[3, 2]), true, true, 5);
    check_page(&user, THREADS, "limit=2&after=t:1", &[], false, false, 5);
    check_page(&user, THREADS, "limit=2&before=t:1", &pick(&[2, 1]), true, false, 5);
    check_page(&user, THREADS, "limit=2&after=t:18446744073709551615", &pick(&[5, 4]), false, true, 5);

    let t = &keys[1];
    let sent: Vec<String> = (0..3).map(|n| user.append(t, n)).collect();
    let list = messages(t);
    check_page(&user, &list, &format!("limit=2&after={t}:m:1:000000000"), &sent[..2], false, true, 3);
    check_page(&user, &list, &format!("limit=2&before={t}:m:9999999999999999999"), &sent[1..], true, false, 3);
}

#[test]
fn threads_by_activity_are_in_one_order_across_pages() {
    let setup = Setup::new();
    let server = setup.start();
    let (user, keys) = five_threads(&server);
    user.append(&keys[2], 1);
    user.put(&thread(&keys[1]), &json!({ "title": "renamed" })).written();
    let m = user.append(&keys[4], 1);
    user.append(&keys[3], 1);
    user.put(&message(&keys[4], &m), &json!({ "body": 2 })).written();
    let order: Vec<String> = [4, 3, 1, 2, 5].iter().map(|&n: &usize| keys[n].clone()).collect();

    let sorted = "sort_by=updated_ts";
    check_page(&user, THREADS, sorted, &order, false, false, 5);
    let pages = [(0..2, false, true), (2..4, true, true), (4..5, true, false)];
    let mut query = format!("{sorted}&limit=2");
    for (page, before, after) in pages {
        check_page(&user, THREADS, &query, &order[page.clone()], before, after, 5);
        query = format!("{sorted}&limit=2&after={}", order[page.end - 1]);
    }
    query = format!("{sorted}&limit=2&before={}", order[4]);
    check_page(&user, THREADS, &query, &order[2..4], true, true, 5);
    query = format!("{sorted}&limit=2&before={}", order[2]);
    check_page(&user, THREADS, &query, &order[..2], false, true, 5);
    query = format!("{sorted}&limit=1&anchor={}", order[2]);
    check_page(&user, THREADS, &query, &order[1..4], true, true, 5);
    let stamps: Vec<u64> = user.get(&format!("{THREADS}?{sorted}")).json()["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|thread| thread["updated_ts"].as_u64().unwrap())
        .collect();
    assert!(stamps.is_sorted_by(|a, b| a > b), "{stamps:?}");
    // The default order is by creation, activity or not.
    assert_eq!(user.thread_keys("sort_by=created_ts"), user.thread_keys(""));
    assert_eq!(user.thread_keys("limit=1"), [keys[5].clone()]);
}

#[test]
fn messages_by_update_are_sorted_within_their_page() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let keys: Vec<String> = (0..5).map(|n| user.append(&t, n)).collect();
    user.put(&message(&t, &keys[3]), &json!({ "body": "edited" })).written();
    let page = user.message_keys(&t, "sort_by=updated_ts&limit=3");
    assert_eq!(page, [keys[2].clone(), keys[4].clone(), keys[3].clone()]);
}

#[test]
fn bad_pagination_has_its_texts() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("kept");
    let one = "invalid pagination: only one of anchor, before, after can be specified";
    let sort = "invalid pagination: sort_by must be 'created_ts' or 'updated_ts'";
    let least = "invalid pagination: limit must be at least 1";
    let most = "invalid pagination: limit cannot exceed 1000";
    for list in [THREADS.to_owned(), messages(&t)] {
        for (query, text) in [
            ("sort_by=invalid", sort),
            ("sort_by=title", sort),
            ("limit=0", least),
            ("limit=", least),
            ("limit=abc", least),
            ("limit=1.5", least),
            ("limit=NaN", least),
            ("limit=-1", "invalid pagination: limit cannot be negative"),
            ("limit=1001", most),
            ("limit=4294967297", most),
            (&format!("before={t}&after={t}"), one),
            (&format!("before={t}&anchor={t}"), one),
            (&format!("after={t}&anchor={t}"), one),
            (&format!("before={t}&after={t}&anchor={t}"), one),
        ] {
            user.get(&format!("{list}?{query}")).check_error(400, text);
        }
        user.get(&format!("{list}?limit=1000")).check_status(200);
        user.get(&format!("{list}?limit=1")).check_status(200);
    }
}

#[test]
fn the_literal_none_counts_as_absent() {
    let setup = Setup::new();
    let server = setup.start();
    let (user, keys) = five_threads(&server);
    user.append(&keys[1], 1);
    for list in [THREADS.to_owned(), messages(&keys[1])] {
        let want = user.get(&list).check_status(200).text();
        for query in
            ["limit=None", "before=None", "limit=None&before=None&after=None&anchor=None&sort_by=None", "x=None"]
        {
            assert_eq!(user.get(&format!("{list}?{query}")).check_status(200).text(), want, "{query}");
        }
    }
    let answer = user.get(&format!("{THREADS}?after={}&before=None&limit=1", keys[4]));
    assert_eq!(answer.check_status(200).keys("threads"), [keys[3].clone()]);
}

#[test]
fn the_default_page_has_fifty_items() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("long");
    let keys: Vec<String> = (0..60).map(|n| user.append(&t, n)).collect();
    check_page(&user, &messages(&t), "", &keys[10..], true, false, 60);
}

/// Follows `has_after` and `has_before` to the end, as the React hooks do.
fn walk(user: &User, list: &str, name: &str, forwards: bool, start: &str) -> Vec<String> {
    let (flag, anchor, cursor) =
        if forwards { ("has_after", "after_anchor", "after") } else { ("has_before", "before_anchor", "before") };
    let mut seen: Vec<String> = Vec::new();
    let mut query = start.to_owned();
    loop {
        let page = user.get(&format!("{list}?limit=7&{query}"));
        let keys = page.check_status(200).keys(name);
        let pagination = &page.json()["pagination"];
        if forwards {
            seen.extend(keys);
        } else {
            seen.splice(0..0, keys);
        }
        if pagination[flag] != Value::Bool(true) {
            return seen;
        }
        query = format!("{cursor}={}", pagination[anchor].as_str().unwrap());
        assert!(seen.len() < 1000, "the walk does not end");
    }
}

#[test]
fn a_walk_sees_every_item_once_in_order() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let t = user.create_thread("long");
    let keys: Vec<String> = (0..40).map(|n| user.append(&t, n)).collect();
    assert_eq!(walk(&user, &messages(&t), "messages", false, ""), keys);
    assert_eq!(walk(&user, &messages(&t), "messages", true, &format!("after={t}:m:1:000000000")), keys);

    let mut threads: Vec<String> = (0..20).map(|n| user.create_thread(&n.to_string())).collect();
    threads.insert(0, t);
    threads.reverse();
    assert_eq!(walk(&user, THREADS, "threads", true, ""), threads);
    assert_eq!(walk(&user, THREADS, "threads", false, "before=t:1"), threads);
}

#[test]
fn a_cursor_of_another_thread_is_refused() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("user1");
    let (here, there) = (user.create_thread("here"), user.create_thread("there"));
    user.append(&here, 1);
    let elsewhere = user.append(&there, 1);
    for cursor in ["before", "after", "anchor"] {
        let answer = user.get(&format!("{}?{cursor}={elsewhere}", messages(&here)));
        assert!([400, 404].contains(&answer.status), "{answer}");
        answer.check_error_shape();
    }
}
