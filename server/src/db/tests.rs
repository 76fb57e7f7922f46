//! What the database promises, on an engine that can die after any effect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

use super::*;
use crate::keys::{KeyRange, Partition, ThreadRow, UserRow};
use crate::model::{Cursor, MessageContent, MessageKey, ThreadContent, ThreadId, ThreadOrder};
use crate::rows::{Format, Head};
use crate::store::memory::Memory;

const START: u64 = 1_763_700_000_000_000_000;
const HOUR: u64 = 3_600_000_000_000;
const ID: [u8; 16] = [7; 16];

struct World {
    memory: Memory,
    now: Arc<AtomicU64>,
    db: Db,
}

impl World {
    async fn new() -> Self {
        Self::on(Memory::default(), Arc::new(AtomicU64::new(START))).await
    }

    async fn on(memory: Memory, now: Arc<AtomicU64>) -> Self {
        let clock = Clock::manual(now.clone());
        let db = Db::open_with_clock(Store::Memory(memory.clone()), ID, settings(), clock).await;
        Self { memory, now, db: db.expect("the store opens") }
    }

    /// What the next process finds after this one died.
    async fn restarted(&self) -> Self {
        Self::on(self.memory.restarted(), self.now.clone()).await
    }

    fn pass(&self, nanoseconds: u64) {
        self.now.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    async fn thread(&self, title: &str) -> ThreadId {
        self.db.create_thread(&ann(), thread(title), plain()).await.expect("created").key
    }

    async fn message(&self, thread: ThreadId, body: &str) -> MessageKey {
        self.db.create_message(&ann(), thread, message(body), plain()).await.expect("created").key
    }

    async fn bodies(&self, thread: ThreadId) -> Vec<String> {
        let page = self.db.list_messages(&ann(), thread, Cursor::Newest, 1_000).await.expect("listed");
        assert_eq!(page.total, page.items.len() as u64);
        page.items.iter().map(|message| message.content.body.get().to_owned()).collect()
    }

    async fn titles(&self, order: ThreadOrder) -> Vec<String> {
        let page = self.db.list_threads(&ann(), order, Cursor::Newest, 1_000).await.expect("listed");
        page.items.into_iter().map(|thread| thread.content.title).collect()
    }
}

fn settings() -> Settings {
    Settings {
        max_clock_jump: Duration::from_hours(24),
        retention: true,
        message_ttl: Duration::from_hours(48),
        thread_ttl: Duration::from_hours(72),
    }
}

fn caller(user: &str) -> Caller {
    Caller { user: UserId::parse(user).expect("a valid id") }
}

fn ann() -> Caller {
    caller("ann")
}

fn thread(title: &str) -> ThreadContent {
    ThreadContent { title: title.into(), slug: None, metadata: None }
}

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("valid JSON")
}

fn message(body: &str) -> MessageContent {
    MessageContent { body: json(body), role: None, reply_to: None, metadata: None }
}

fn update(body: &str) -> MessageUpdate {
    MessageUpdate { body: json(body), metadata: None }
}

fn plain() -> WriteOptions {
    WriteOptions::default()
}

fn once(key: &str) -> WriteOptions {
    WriteOptions { idempotency: Some(Idempotency { key: key.into(), request: [1; 32] }), if_match: None }
}

#[tokio::test]
async fn every_write_is_seen_by_every_read_that_follows() {
    let world = World::new().await;
    let thread = world.thread("first").await;
    let key = world.message(thread, "1").await;
    assert_eq!(world.bodies(thread).await, ["1"]);
    world.db.update_message(&ann(), thread, key, update("2"), plain()).await.expect("updated");
    let read = world.db.get_message(&ann(), thread, key).await.expect("there");
    assert_eq!((read.content.body.get(), read.revision), ("2", 2));
    let renamed = ThreadUpdate { title: Some("second".into()), ..ThreadUpdate::default() };
    world.db.update_thread(&ann(), thread, renamed, plain()).await.expect("updated");
    assert_eq!(world.db.get_thread(&ann(), thread).await.expect("there").content.title, "second");
    world.db.delete_message(&ann(), thread, key, plain()).await.expect("deleted");
    assert!(matches!(world.db.get_message(&ann(), thread, key).await, Err(Error::MessageNotFound)));
    assert_eq!(world.bodies(thread).await, [""; 0]);
    world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
    assert!(matches!(world.db.get_thread(&ann(), thread).await, Err(Error::ThreadNotFound)));
    assert_eq!(world.titles(ThreadOrder::Created).await, [""; 0]);
    assert_eq!(world.db.stats().await.expect("read"), Stats { threads: 0, messages: 1 });
}

#[tokio::test]
async fn a_stranger_learns_nothing_not_even_that_a_thread_exists() {
    let world = World::new().await;
    let (thread, missing) = (world.thread("secret").await, ThreadId(1));
    let key = world.message(thread, "1").await;
    let eve = caller("eve");
    for thread in [thread, missing] {
        let denied = |result: Result<(), Error>| matches!(result, Err(Error::AccessDenied));
        let db = &world.db;
        let append = db.create_message(&eve, thread, message("1"), once("k")).await.map(drop);
        let edit = db.update_message(&eve, thread, key, update("9"), plain()).await.map(drop);
        let delete = db.delete_thread(&eve, thread, plain()).await.map(drop);
        let read = db.get_thread(&eve, thread).await.map(drop);
        let list = db.list_messages(&eve, thread, Cursor::Newest, 9).await.map(drop);
        assert!([append, edit, delete, read, list].into_iter().all(denied));
    }
    assert_eq!(world.bodies(thread).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_appends_get_dense_sequences_in_the_order_of_time() {
    let world = World::new().await;
    let thread = world.thread("busy").await;
    let appends = (0..200).map(|n| {
        let db = world.db.clone();
        tokio::spawn(async move { db.create_message(&ann(), thread, message(&n.to_string()), plain()).await })
    });
    let mut keys = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        keys.push(append.await.expect("no panic").expect("appended").key);
    }
    keys.sort_by_key(|key| key.ts);
    let sequences: Vec<_> = keys.iter().map(|key| key.seq.expect("final keys")).collect();
    assert_eq!(sequences, (0..200).collect::<Vec<_>>());
    assert_eq!(keys.iter().map(|key| key.ts).collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(world.bodies(thread).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_that_race_are_one_message_and_one_answer() {
    let world = World::new().await;
    let thread = world.thread("busy").await;
    let appends = (0..50).map(|_| {
        let db = world.db.clone();
        tokio::spawn(async move { db.create_message(&ann(), thread, message("1"), once("k")).await })
    });
    let mut answers = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        answers.push(append.await.expect("no panic").expect("answered"));
    }
    assert_eq!(answers.iter().map(|answer| answer.key).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(world.bodies(thread).await, ["1"]);
}

#[tokio::test]
async fn an_idempotency_key_is_bound_to_its_request_its_user_and_its_day() {
    let world = World::new().await;
    let thread = world.thread("t").await;
    let first = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
    let other = WriteOptions { idempotency: Some(Idempotency { key: "k".into(), request: [2; 32] }), if_match: None };
    let refused = world.db.create_message(&ann(), thread, message("2"), other).await;
    assert!(matches!(refused, Err(Error::IdempotencyMismatch)));
    let again = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("replayed");
    assert_eq!(again, Written { replayed: true, ..first });
    world.pass(25 * HOUR);
    let next_day = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
    assert!(!next_day.replayed && next_day.key != first.key);
    assert_eq!(world.bodies(thread).await, ["1", "1"]);
}

/// Dies after each effect in turn; after a restart the same request must succeed and have happened once.
#[tokio::test]
async fn a_retry_after_a_crash_at_any_effect_leaves_exactly_one() {
    let mut died = 0;
    for effects in 0.. {
        let world = World::new().await;
        world.memory.die_after(effects);
        let first = world.db.create_thread(&ann(), thread("t"), once("k")).await;
        let world = world.restarted().await;
        let retried = world.db.create_thread(&ann(), thread("t"), once("k")).await.expect("retried");
        if let Ok(first) = &first {
            assert_eq!(first.key, retried.key);
        }
        assert_eq!(world.titles(ThreadOrder::Created).await, ["t"]);
        assert_eq!(world.titles(ThreadOrder::Updated).await, ["t"]);
        if first.is_ok() {
            break;
        }
        died += 1;
    }
    assert!(died > 5, "the crash came before {died} effects only");
}

#[tokio::test]
async fn a_crash_at_any_effect_of_a_change_leaves_it_done_or_undone() {
    for change in ["append", "edit", "delete message", "rename", "delete thread"] {
        for effects in 0.. {
            let world = World::new().await;
            let thread = world.thread("old").await;
            let key = world.message(thread, "1").await;
            world.memory.die_after(effects);
            let done = apply(&world.db, change, thread, key).await.is_ok();
            let world = world.restarted().await;
            apply(&world.db, change, thread, key).await.expect("the retry succeeds");
            check_done(&world, change, thread).await;
            if done {
                assert!(effects > 1, "{change} never died");
                break;
            }
        }
    }
}

async fn apply(db: &Db, change: &str, thread: ThreadId, key: MessageKey) -> Result<(), Error> {
    let renamed = ThreadUpdate { title: Some("new".into()), ..ThreadUpdate::default() };
    match change {
        "append" => db.create_message(&ann(), thread, message("2"), once("k")).await.map(drop),
        "edit" => db.update_message(&ann(), thread, key, update("2"), once("k")).await.map(drop),
        "delete message" => db.delete_message(&ann(), thread, key, once("k")).await.map(drop),
        "rename" => db.update_thread(&ann(), thread, renamed, once("k")).await.map(drop),
        _ => db.delete_thread(&ann(), thread, once("k")).await.map(drop),
    }
}

async fn check_done(world: &World, change: &str, thread: ThreadId) {
    if change == "delete thread" {
        assert_eq!(world.titles(ThreadOrder::Created).await, [""; 0]);
        assert_eq!(world.titles(ThreadOrder::Updated).await, [""; 0]);
        return;
    }
    let title = if change == "rename" { "new" } else { "old" };
    assert_eq!(world.titles(ThreadOrder::Created).await, [title]);
    let bodies: &[&str] = match change {
        "append" => &["1", "2"],
        "edit" => &["2"],
        "delete message" => &[],
        _ => &["1"],
    };
    assert_eq!(world.bodies(thread).await, bodies);
}

#[tokio::test]
async fn threads_are_listed_by_activity_in_both_directions() {
    let world = World::new().await;
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

#[tokio::test]
async fn order_survives_a_clock_that_steps_back_and_a_restart() {
    let world = World::new().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    world.now.store(START - HOUR, Ordering::Relaxed);
    world.message(thread, "2").await;
    let world = world.restarted().await;
    world.message(thread, "3").await;
    assert_eq!(world.bodies(thread).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn retention_purges_what_is_due_and_leaves_no_row_of_it() {
    let world = World::new().await;
    let (kept, gone) = (world.thread("kept").await, world.thread("gone").await);
    let key = world.message(kept, "1").await;
    world.message(gone, "1").await;
    world.db.update_message(&ann(), kept, key, update("2"), once("k")).await.expect("updated");
    world.db.delete_message(&ann(), kept, key, plain()).await.expect("deleted");
    world.db.delete_thread(&ann(), gone, once("k")).await.expect("deleted");
    let due = Purged { threads: 1, messages: 1, idempotency_records: 2 };
    assert_eq!(world.db.purge(false).await.expect("ran"), Purged::default());
    world.pass(71 * HOUR);
    assert_eq!(world.db.purge(true).await.expect("ran"), Purged { threads: 0, ..due });
    world.pass(2 * HOUR);
    assert_eq!(world.db.purge(true).await.expect("ran"), due);
    let purged = world.db.purge(false).await.expect("ran");
    assert_eq!((purged.threads, purged.messages), (1, 1));
    assert_eq!(world.db.purge(false).await.expect("ran"), Purged::default());
    let rows = world.memory.rows();
    let of_gone = KeyRange::all(Partition::Thread(gone));
    assert!(!rows.keys().any(|row| of_gone.contains(row)), "a row of the purged thread is left");
    let left: Vec<_> = rows.keys().filter_map(|row| Key::decode(row)).collect();
    assert!(!left.iter().any(|row| matches!(row, Key::Expiry { .. })), "something is still to expire");
    assert!(!left.iter().any(|row| matches!(row, Key::Thread(_, ThreadRow::Version(..) | ThreadRow::Deleted(_)))));
    assert!(!left.iter().any(|row| matches!(row, Key::User(_, UserRow::Wrote(thread)) if *thread == gone)));
    assert!(matches!(world.db.get_thread(&ann(), gone).await, Err(Error::AccessDenied)));
    assert_eq!(world.titles(ThreadOrder::Created).await, ["kept"]);
}

#[tokio::test]
async fn a_precondition_that_fails_changes_nothing_and_names_the_revision() {
    let world = World::new().await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    let at = |revision| WriteOptions { if_match: Some(revision), ..plain() };
    world.db.update_message(&ann(), thread, key, update("2"), at(1)).await.expect("updated");
    let refused = world.db.update_message(&ann(), thread, key, update("3"), at(1)).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { current: 2 })));
    assert!(matches!(
        world.db.delete_thread(&ann(), thread, at(9)).await,
        Err(Error::PreconditionFailed { current: 1 })
    ));
    assert_eq!(world.bodies(thread).await, ["2"]);
}

#[tokio::test]
async fn a_message_of_another_thread_is_not_found_there() {
    let world = World::new().await;
    let (own, other) = (world.thread("own").await, world.thread("other").await);
    let key = world.message(other, "1").await;
    let not_in_thread = |result: Result<(), Error>| matches!(result, Err(Error::MessageNotInThread));
    let db = &world.db;
    assert!(not_in_thread(db.get_message(&ann(), own, key).await.map(drop)));
    assert!(not_in_thread(db.update_message(&ann(), own, key, update("9"), plain()).await.map(drop)));
    assert!(not_in_thread(db.delete_message(&ann(), own, key, plain()).await.map(drop)));
    assert_eq!(world.bodies(other).await, ["1"]);
}

#[tokio::test]
async fn a_damaged_row_stops_the_read_and_is_named() {
    let world = World::new().await;
    let thread = world.thread("t").await;
    let head = Key::Thread(thread, ThreadRow::Head);
    damage(&world.memory, head).await;
    let read = world.db.get_thread(&ann(), thread).await;
    assert!(matches!(read, Err(Error::Corrupt { key }) if key == head.to_string()));
}

async fn damage(memory: &Memory, key: Key) {
    let ops = vec![crate::store::Op::Put(key, vec![1, 2, 3])];
    let commit = crate::store::Commit { partition: key.partition(), expect: None, ops, sides: Vec::new() };
    memory.commit(commit).expect("written");
}

#[tokio::test]
async fn a_store_of_a_newer_format_or_of_another_database_does_not_open() {
    let world = World::new().await;
    let reopen = async |id| {
        let clock = Clock::manual(world.now.clone());
        Db::open_with_clock(Store::Memory(world.memory.restarted()), id, settings(), clock).await.map(drop)
    };
    assert!(matches!(reopen([8; 16]).await, Err(OpenError::Foreign)));
    let format = Format { format: 2, incarnation: 1, created: 0, database_id: ID };
    let key = Key::Store(StoreRow::Format);
    let ops = vec![crate::store::Op::Put(key, format.encode())];
    let commit = crate::store::Commit { partition: key.partition(), expect: None, ops, sides: Vec::new() };
    world.memory.commit(commit).expect("written");
    assert!(matches!(reopen(ID).await, Err(OpenError::TooNew { found: 2 })));
}

#[tokio::test]
async fn an_administrator_sees_rows_but_not_what_users_wrote_unless_opened() {
    let world = World::new().await;
    let thread = world.thread("canary title").await;
    world.message(thread, "\"canary body\"").await;
    let request = |limit| RowRequest { limit, ..RowRequest::default() };
    let main = world.db.list_rows(RowStore::Main, request(100)).await.expect("listed");
    assert_eq!(main.items.len(), 4);
    let index = world.db.list_rows(RowStore::Index, request(100)).await.expect("listed");
    for name in main.items.iter().chain(&index.items) {
        let closed = world.db.get_row(name, false).await.expect("read").expect("there").to_string();
        assert!(!closed.contains("canary") && !closed.contains("ann\""), "{closed}");
    }
    let opened = world.db.get_row(&format!("{thread}:object"), true).await.expect("read").expect("there");
    assert_eq!(opened["open"]["title"], "canary title");
    let prefixed = RowRequest { prefix: format!("{thread}:m:"), ..request(9) };
    assert_eq!(world.db.list_rows(RowStore::Main, prefixed).await.expect("listed").items.len(), 1);
}

#[tokio::test]
async fn row_pages_walk_the_whole_store_in_both_directions() {
    let world = World::new().await;
    for n in 0..3 {
        let thread = world.thread(&n.to_string()).await;
        world.message(thread, "1").await;
    }
    let list = async |request| world.db.list_rows(RowStore::Index, request).await.expect("listed");
    let all = list(RowRequest { limit: 1_000, ..RowRequest::default() }).await.items;
    let mut walked = vec![all[0].clone()];
    loop {
        let after = walked.last().cloned();
        let page = list(RowRequest { after, limit: 2, ..RowRequest::default() }).await;
        walked.extend(page.items);
        if !page.has_after {
            break;
        }
    }
    assert_eq!(walked, all);
    let before = list(RowRequest { before: all.last().cloned(), limit: 3, ..RowRequest::default() }).await.items;
    assert_eq!(before, all.iter().rev().skip(1).take(3).cloned().collect::<Vec<_>>());
}

#[tokio::test]
async fn users_are_counted_once_and_listed_in_pages() {
    let world = World::new().await;
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

/// The head is what every decision rests on; its counts must be those of the rows.
#[tokio::test]
async fn the_head_counts_what_is_there() {
    let world = World::new().await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    world.message(thread, "2").await;
    world.db.delete_message(&ann(), thread, key, plain()).await.expect("deleted");
    let head: Head = world.db.row(Key::Thread(thread, ThreadRow::Head)).await.expect("read").expect("there");
    assert_eq!((head.live, head.next_seq), (1, 2));
    assert_eq!(world.db.health().sequence, 4);
}
