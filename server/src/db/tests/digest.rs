//! One digest for what all threads hold.

use super::*;
use crate::db::{DIGEST_VERSION, Digest, ThreadUpdate, check_integrity};
use crate::keys::ThreadRow;
use crate::model::MessageId;
use crate::store::{Commit, Op, Store};

plain_and_sealed!(
    a_digest_counts_what_it_covers_and_names_each_thread,
    a_row_that_is_lost_changes_the_digest,
    every_change_changes_the_digest,
    a_damaged_row_ends_the_digest_and_is_named,
    threads_of_probe_users_are_left_out,
    the_order_in_which_threads_are_listed_does_not_count,
);

async fn digest(world: &World) -> Digest {
    world.db.digest(|_, _| {}).await.expect("every row is read")
}

/// A thread with a message that was edited, one that was deleted, and one of every field.
async fn filled(encryption: Encryption) -> (World, ThreadId, MessageKey) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let edited = world.message(thread, "1").await;
    world.db.update_message(&ann(), thread, edited, update("2"), plain()).await.expect("edited");
    let deleted = world.message(thread, "3").await;
    world.db.delete_message(&ann(), thread, deleted, plain()).await.expect("deleted");
    let mut full = message("4");
    full.content.role = Some("tool".into());
    full.content.metadata = Some(json("{}"));
    full.parent = Some(edited);
    world.db.create_message(&ann(), thread, full, once("k")).await.expect("created");
    (world, thread, edited)
}

async fn a_digest_counts_what_it_covers_and_names_each_thread(encryption: Encryption) {
    let (world, thread, _) = filled(encryption).await;
    let second = world.thread("u").await;
    let mut threads = Vec::new();
    let found = world.db.digest(|thread, digest| threads.push((thread, digest.to_owned()))).await.expect("read");
    assert_eq!((found.version, found.root.len()), (DIGEST_VERSION, 64));
    let counts = (found.threads, found.messages, found.versions, found.deleted, found.participants);
    assert_eq!(counts, (2, 2, 1, 1, 2));
    assert!(found.bytes > 100, "{found:?}");
    assert_eq!(threads.iter().map(|(thread, _)| *thread).collect::<Vec<_>>(), [thread, second]);
    assert_ne!(threads[0].1, threads[1].1);
    assert_eq!(digest(&world).await, found, "the same twice");
    assert_eq!(digest(&world.restarted().await).await.root, found.root, "and after a restart");
}

/// Every row of a thread but wrapped keys and answers counts: without it, or with another value, the root is another.
async fn a_row_that_is_lost_changes_the_digest(encryption: Encryption) {
    let (world, thread, _) = filled(encryption).await;
    let whole = digest(&world).await.root;
    let rows = world.memory.rows();
    let mut counted = 0;
    for name in rows.keys() {
        let Some(Key::Thread(_, row)) = Key::decode(name).filter(|key| key.partition() == Partition::Thread(thread))
        else {
            continue;
        };
        let memory = world.memory.restarted();
        let ops = vec![Op::Delete(Key::Thread(thread, row))];
        let commit = Commit::of(Partition::Thread(thread), ops);
        memory.commit(commit).expect("removed");
        let without = World::on(memory, world.time.clone(), encryption).await;
        match row {
            ThreadRow::Idempotency(_) => assert_eq!(digest(&without).await.root, whole, "{row:?}"),
            // What it had sealed cannot be read any more.
            ThreadRow::DataKey(_) => assert_ne!(digest(&without).await.root, whole, "{row:?}"),
            _ => {
                counted += 1;
                assert_ne!(digest(&without).await.root, whole, "{row:?}");
            }
        }
    }
    assert_eq!(counted, 7, "head, participant, object, two messages, a version, a deleted one");
}

async fn every_change_changes_the_digest(encryption: Encryption) {
    let (world, thread, edited) = filled(encryption).await;
    let mut roots = vec![digest(&world).await.root];
    world.db.update_message(&ann(), thread, edited, update("5"), plain()).await.expect("edited");
    roots.push(digest(&world).await.root);
    let title = ThreadUpdate { title: Some("other".into()), ..ThreadUpdate::default() };
    world.db.update_thread(&ann(), thread, title, plain()).await.expect("renamed");
    roots.push(digest(&world).await.root);
    let slug = ThreadUpdate { slug: Some("other".into()), ..ThreadUpdate::default() };
    world.db.update_thread(&ann(), thread, slug, plain()).await.expect("renamed");
    roots.push(digest(&world).await.root);
    world.db.delete_message(&ann(), thread, edited, plain()).await.expect("deleted");
    roots.push(digest(&world).await.root);
    world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
    roots.push(digest(&world).await.root);
    let all = roots.len();
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), all, "two states have the same root");
}

async fn a_damaged_row_ends_the_digest_and_is_named(encryption: Encryption) {
    let (world, thread, _) = filled(encryption).await;
    let key = Key::Thread(thread, ThreadRow::Message(MessageId { ts: START + 1_000_000, seq: 9 }));
    let commit = Commit::of(Partition::Thread(thread), vec![Op::Put(key, b"\x01cut".to_vec())]);
    world.memory.commit(commit).expect("written");
    let failed = world.db.digest(|_, _| {}).await.expect_err("it does not decode");
    assert!(matches!(&failed, Error::Corrupt { key: named } if *named == key.to_string()), "{failed:?}");
}

async fn the_order_in_which_threads_are_listed_does_not_count(encryption: Encryption) {
    let (world, thread, _) = filled(encryption).await;
    let second = world.thread("u").await;
    let other = Memory::reversed();
    world.memory.rows().into_iter().for_each(|(key, value)| other.plant(key, value));
    let other = World::on(other, world.time.clone(), encryption).await;
    let mut threads = Vec::new();
    let found = other.db.digest(|thread, _| threads.push(thread)).await.expect("read");
    assert_eq!(threads, [second, thread]);
    assert_eq!(found, digest(&world).await);
    let scan = check_integrity(&Store::Memory(other.memory.clone()), Some(&other.db)).await.expect("it reads");
    assert_eq!(scan.digest.map(|digest| digest.root), Some(found.root));
}

/// Live, edited, deleted: whatever a smoke test leaves is nobody's data, and a user who is named nearly so is a client.
async fn threads_of_probe_users_are_left_out(encryption: Encryption) {
    let (world, ..) = filled(encryption).await;
    let before = digest(&world).await;
    let probe = caller("progressdb-probe-smoke");
    for is_deleted in [false, true] {
        let thread = world.db.create_thread(&probe, thread("probe"), plain()).await.expect("created").key;
        world.db.create_message(&probe, thread, message("1"), plain()).await.expect("created");
        if is_deleted {
            world.db.delete_thread(&probe, thread, plain()).await.expect("deleted");
        }
        assert_eq!(digest(&world).await, before);
        let scan = check_integrity(&Store::Memory(world.memory.clone()), Some(&world.db)).await.expect("it reads");
        assert_eq!((scan.wrong, scan.digest.map(|digest| digest.root)), (0, Some(before.root.clone())));
    }
    let client = caller("progressdb-probe");
    world.db.create_thread(&client, thread("not a probe"), plain()).await.expect("created");
    let after = digest(&world).await;
    assert_eq!((after.threads, after.participants), (before.threads + 1, before.participants + 1));
    assert_ne!(after.root, before.root);
}
