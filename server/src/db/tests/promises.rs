//! What a user is promised about writes and reads.

use std::collections::BTreeSet;

use super::*;
use crate::store::memory::Timeout;

plain_and_sealed_on_every_engine!(
    every_write_is_seen_by_every_read_that_follows,
    a_stranger_learns_nothing_not_even_that_a_thread_exists,
    racing_appends_get_dense_sequences_in_the_order_of_time,
    duplicates_that_race_are_one_message_and_one_answer,
    an_idempotency_key_is_bound_to_its_request_its_user_and_its_day,
    order_survives_a_clock_that_steps_back_and_a_restart,
    a_precondition_that_fails_changes_nothing_and_names_the_revision,
    a_message_of_another_thread_is_not_found_there,
    the_head_counts_what_is_there,
    a_reply_names_its_parent_by_either_key_and_only_one_of_its_thread;
    in_memory_only:
    duplicates_in_one_commit_are_one_message,
);

async fn every_write_is_seen_by_every_read_that_follows(encryption: Encryption) {
    let world = World::new(encryption).await;
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

async fn a_stranger_learns_nothing_not_even_that_a_thread_exists(encryption: Encryption) {
    let world = World::new(encryption).await;
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

async fn racing_appends_get_dense_sequences_in_the_order_of_time(encryption: Encryption) {
    let world = World::new(encryption).await;
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

async fn duplicates_that_race_are_one_message_and_one_answer(encryption: Encryption) {
    let world = World::new(encryption).await;
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

/// While the first append is committed, and again because that was lost, equal ones gather and go into one commit.
async fn duplicates_in_one_commit_are_one_message(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("busy").await;
    world.memory.time_out([Timeout::Lost]);
    let appends = ["first", "k", "k", "k"].map(|key| {
        let db = world.db.clone();
        tokio::spawn(async move { db.create_message(&ann(), thread, message("1"), once(key)).await })
    });
    let mut answers = Vec::new();
    for append in appends {
        answers.push(append.await.expect("no panic").expect("answered"));
    }
    let head = world.db.head(thread).await.expect("read").expect("there").head;
    assert_eq!(head.revision, 3, "the equal ones went into one commit");
    assert_eq!(answers.iter().map(|answer| answer.replayed).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!((answers[1].key, answers[1].key), (answers[2].key, answers[3].key));
    assert_eq!(world.bodies(thread).await, ["1", "1"]);
}

async fn an_idempotency_key_is_bound_to_its_request_its_user_and_its_day(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let first = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
    let other = WriteOptions { idempotency: Some(Idempotency { key: "k".into(), request: [2; 32] }), ..plain() };
    let refused = world.db.create_message(&ann(), thread, message("2"), other).await;
    assert!(matches!(refused, Err(Error::IdempotencyMismatch)));
    let again = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("replayed");
    assert_eq!(again, Written { replayed: true, ..first });
    world.pass(25 * HOUR);
    let next_day = world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
    assert!(!next_day.replayed && next_day.key != first.key);
    assert_eq!(world.bodies(thread).await, ["1", "1"]);
}

async fn order_survives_a_clock_that_steps_back_and_a_restart(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    world.time.set(START - HOUR);
    world.message(thread, "2").await;
    let world = world.restarted().await;
    world.message(thread, "3").await;
    assert_eq!(world.bodies(thread).await, ["1", "2", "3"]);
}

async fn a_precondition_that_fails_changes_nothing_and_names_the_revision(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    let at = |revision| WriteOptions { if_match: Some(Revisions::OneOf(vec![revision])), ..plain() };
    world.db.update_message(&ann(), thread, key, update("2"), at(1)).await.expect("updated");
    let refused = world.db.update_message(&ann(), thread, key, update("3"), at(1)).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { current: 2 })));
    assert!(matches!(
        world.db.delete_thread(&ann(), thread, at(9)).await,
        Err(Error::PreconditionFailed { current: 1 })
    ));
    assert_eq!(world.bodies(thread).await, ["2"]);
}

async fn a_message_of_another_thread_is_not_found_there(encryption: Encryption) {
    let world = World::new(encryption).await;
    let (own, other) = (world.thread("own").await, world.thread("other").await);
    let key = world.message(other, "1").await;
    let not_in_thread = |result: Result<(), Error>| matches!(result, Err(Error::MessageNotInThread));
    let db = &world.db;
    assert!(not_in_thread(db.get_message(&ann(), own, key).await.map(drop)));
    assert!(not_in_thread(db.update_message(&ann(), own, key, update("9"), plain()).await.map(drop)));
    assert!(not_in_thread(db.delete_message(&ann(), own, key, plain()).await.map(drop)));
    assert_eq!(world.bodies(other).await, ["1"]);
}

/// The head is what every decision rests on; its counts must be those of the rows.
async fn the_head_counts_what_is_there(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    world.message(thread, "2").await;
    world.db.delete_message(&ann(), thread, key, plain()).await.expect("deleted");
    let head: Head = world.db.row(Key::Thread(thread, ThreadRow::Head)).await.expect("read").expect("there");
    assert_eq!((head.live, head.next_seq), (1, 2));
    assert_eq!(world.db.health().sequence, 4);
}

async fn a_reply_names_its_parent_by_either_key_and_only_one_of_its_thread(encryption: Encryption) {
    let world = World::new(encryption).await;
    let (thread, other) = (world.thread("t").await, world.thread("other").await);
    let parent = world.message(thread, "1").await;
    let elsewhere = world.message(other, "1").await;
    let reply = |parent| NewMessage { parent: Some(parent), ..message("2") };
    for key in [parent, MessageKey { seq: None, ..parent }] {
        let written = world.db.create_message(&ann(), thread, reply(key), plain()).await.expect("created").key;
        let read = world.db.get_message(&ann(), thread, written).await.expect("there");
        assert_eq!(read.content.reply_to.map(|id| MessageKey::new(thread, id)), Some(parent));
    }
    let missing = MessageKey { ts: parent.ts + 1, ..parent };
    for key in [elsewhere, missing] {
        let refused = world.db.create_message(&ann(), thread, reply(key), plain()).await;
        assert!(matches!(refused, Err(Error::ParentNotFound)));
    }
}
