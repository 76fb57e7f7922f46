//! Lists and pages, for users and for the administrator.

use super::*;

plain_and_sealed_on_every_engine!(
    threads_are_listed_by_activity_in_both_directions,
    users_are_counted_once_and_listed_in_pages,
    a_page_from_memory_is_the_page_from_the_rows_after_every_change,
    pages_of_large_messages_are_short_and_lose_nothing,
    pages_of_large_threads_are_short_and_lose_nothing;
    in_memory_only:
    an_administrator_sees_rows_but_not_what_users_wrote_unless_opened,
    row_pages_walk_the_whole_store_in_both_directions,
);

async fn threads_are_listed_by_activity_in_both_directions(encryption: Encryption) {
    let world = World::new(encryption).await;
    let mut threads = Vec::new();
    for n in 0..5 {
        threads.push(world.thread(&n.to_string()).await);
    }
    world.message(threads[1], "1").await;
    world.message(threads[3], "1").await;
    let page = async |cursor, limit| {
        let page = world.db.list_threads(&ann(), ThreadOrder::Updated, cursor, limit).await.expect("listed");
        let titles: Vec<_> = page.items.iter().map(|thread| thread.content.title.clone()).collect();
        (titles.concat(), page.has_before, page.has_after)
    };
    assert_eq!(page(Cursor::Newest, 9).await, ("31420".into(), false, false));
    assert_eq!(page(Cursor::Newest, 2).await, ("31".into(), false, true));
    assert_eq!(page(Cursor::After(threads[1]), 2).await, ("42".into(), true, true));
    assert_eq!(page(Cursor::Before(threads[4]), 1).await, ("1".into(), true, true));
    assert_eq!(page(Cursor::Anchor(threads[4]), 1).await, ("142".into(), true, true));
}

async fn an_administrator_sees_rows_but_not_what_users_wrote_unless_opened(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("canary title").await;
    world.message(thread, "\"canary body\"").await;
    let request = |limit| RowRequest { limit, ..RowRequest::default() };
    let main = world.db.list_rows(RowStore::Main, request(100)).await.expect("listed");
    let rows = if encryption == Encryption::On { 5 } else { 4 };
    assert_eq!((main.names.len() as u64, main.total), (rows, rows), "with encryption there is a key");
    let index = world.db.list_rows(RowStore::Index, request(100)).await.expect("listed");
    for name in main.names.iter().chain(&index.names) {
        let closed = format!("{:?}", world.db.get_row(name, false).await.expect("read").expect("there"));
        assert!(!closed.contains("canary") && !closed.contains("ann\""), "{closed}");
    }
    let opened = world.db.get_row(&format!("{thread}:object"), true).await.expect("read").expect("there");
    let AdminRow::Thread { open: Some((author, content)), .. } = opened.row else { panic!("{opened:?}") };
    assert_eq!((author.as_str(), content.title.as_str()), ("ann", "canary title"));
    let prefixed = RowRequest { prefix: format!("{thread}:m:"), ..request(9) };
    assert_eq!(world.db.list_rows(RowStore::Main, prefixed).await.expect("listed").names.len(), 1);
}

async fn row_pages_walk_the_whole_store_in_both_directions(encryption: Encryption) {
    let world = World::new(encryption).await;
    for n in 0..3 {
        let thread = world.thread(&n.to_string()).await;
        world.message(thread, "1").await;
    }
    let list = async |request| world.db.list_rows(RowStore::Index, request).await.expect("listed");
    let all = list(RowRequest { limit: 1_000, ..RowRequest::default() }).await.names;
    let mut walked = vec![all[0].clone()];
    loop {
        let after = walked.last().cloned();
        let page = list(RowRequest { after, limit: 2, ..RowRequest::default() }).await;
        walked.extend(page.names);
        if !page.has_after {
            break;
        }
    }
    assert_eq!(walked, all);
    let before = list(RowRequest { before: all.last().cloned(), limit: 3, ..RowRequest::default() }).await.names;
    assert_eq!(before, all.iter().rev().skip(1).take(3).cloned().collect::<Vec<_>>());
}

async fn users_are_counted_once_and_listed_in_pages(encryption: Encryption) {
    let world = World::new(encryption).await;
    let names = ["ann", "bob:x", "c/d", "é"];
    for name in names.iter().chain(&names) {
        world.db.create_thread(&caller(name), thread("t"), plain()).await.expect("created");
    }
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = world.db.list_users(after.as_ref(), 3).await.expect("listed");
        assert_eq!(page.total, 4);
        found.extend(page.users.iter().map(|user| user.as_str().to_owned()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, names);
}

/// Pages of a thread that is being read come from memory; they must be what the rows say after every change.
async fn a_page_from_memory_is_the_page_from_the_rows_after_every_change(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let mut keys = Vec::new();
    for n in 0..8 {
        keys.push(world.message(thread, &n.to_string()).await);
        check_newest(&world, thread).await;
    }
    world.db.update_message(&ann(), thread, keys[7], update("70"), plain()).await.expect("updated");
    check_newest(&world, thread).await;
    world.message(thread, "8").await;
    check_newest(&world, thread).await;
    world.db.delete_message(&ann(), thread, keys[6], plain()).await.expect("deleted");
    check_newest(&world, thread).await;
    for n in 0..recent::LONGEST {
        world.message(thread, &n.to_string()).await;
    }
    check_newest(&world, thread).await;
}

async fn check_newest(world: &World, thread: ThreadId) {
    let fresh = world.restarted().await;
    for limit in [1, 3, 5, recent::LONGEST, 1_000, 3] {
        let mut pages = Vec::new();
        for db in [&world.db, &world.db, &fresh.db] {
            let page = db.list_messages(&ann(), thread, Cursor::Newest, limit).await.expect("listed");
            pages.push(format!("{page:?}"));
        }
        assert_eq!((&pages[0], &pages[1]), (&pages[2], &pages[2]));
    }
}

/// A page is bounded in bytes too; what it leaves out is found by walking on.
async fn pages_of_large_messages_are_short_and_lose_nothing(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let large = format!("\"{}\"", "x".repeat(crate::store::SCAN_BYTES / 5));
    for _ in 0..12 {
        world.message(thread, &large).await;
    }
    let (mut cursor, mut sizes) = (Cursor::Newest, Vec::new());
    loop {
        let page = world.db.list_messages(&ann(), thread, cursor, 1_000).await.expect("listed");
        assert_eq!(page.total, 12);
        sizes.push(page.items.len());
        if !page.has_before {
            break;
        }
        cursor = Cursor::Before(MessageKey::new(thread, page.items[0].id));
    }
    assert_eq!(sizes, [5, 5, 2]);
}

/// So is a page of threads, which metadata can make large; an anchor stays in the middle of what is left.
async fn pages_of_large_threads_are_short_and_lose_nothing(encryption: Encryption) {
    let world = World::new(encryption).await;
    let metadata = || Some(json(&format!("{{\"x\":\"{}\"}}", "x".repeat(crate::store::SCAN_BYTES / 20))));
    let mut created = Vec::new();
    for n in 0..40 {
        let content = ThreadContent { title: n.to_string(), slug: None, metadata: metadata() };
        created.push(world.db.create_thread(&ann(), content, plain()).await.expect("created").key);
    }
    created.reverse();
    for order in [ThreadOrder::Created, ThreadOrder::Updated] {
        let list = async |cursor| world.db.list_threads(&ann(), order, cursor, 1_000).await.expect("listed");
        let (mut cursor, mut found) = (Cursor::Newest, Vec::new());
        loop {
            let page = list(cursor).await;
            assert!((1..30).contains(&page.items.len()), "{} on a page", page.items.len());
            assert_eq!((page.has_before, page.total), (!found.is_empty(), 40));
            found.extend(page.items.iter().map(|thread| thread.id));
            cursor = Cursor::After(page.items[page.items.len() - 1].id);
            if !page.has_after {
                break;
            }
        }
        assert_eq!(found, created);
        let before = list(Cursor::Before(created[39])).await;
        assert!(before.has_before && before.has_after);
        assert_eq!(before.items[before.items.len() - 1].id, created[38]);
        let around = list(Cursor::Anchor(created[20])).await;
        assert!(around.has_before && around.has_after);
        let ids: Vec<ThreadId> = around.items.iter().map(|thread| thread.id).collect();
        let start = created.iter().position(|id| *id == ids[0]).expect("one of them");
        assert_eq!(ids, created[start..start + ids.len()]);
        assert!(start < 20 && start + ids.len() > 21, "{start} and {}", ids.len());
    }
}
