//! A store that is whole passes, and whatever is done to a row of it is found.

use super::*;
use crate::db::{Integrity, check_integrity};
use crate::keys::{ExpiryKind, day_of};
use crate::model::MessageId;
use crate::rows::{
    CounterValue, DeletedMessage, MessageName, MessageRow, Names, Present, Profile, Row as _, ThreadObject,
};
use crate::store::{Commit, Op};

plain_and_sealed!(
    a_whole_store_passes_and_everything_in_it_is_counted,
    a_store_passes_after_deletes_purges_and_erasures,
    every_row_that_is_lost_is_found,
    every_row_that_cannot_be_read_is_found,
    every_counter_that_is_off_is_found,
    a_head_that_disagrees_with_its_rows_is_found,
    messages_out_of_order_are_found,
    rows_too_many_in_indexes_are_found,
    rows_under_another_name_are_found,
    what_a_newer_version_wrote_is_opaque,
);

async fn check(world: &World) -> Integrity {
    let store = Store::Memory(world.memory.clone());
    check_integrity(&store, Some(&world.db)).await.expect("it reads")
}

fn write(memory: &Memory, op: Op) {
    let key = match &op {
        Op::Put(key, _) | Op::Delete(key) => *key,
        Op::DeleteRange(_) => panic!("one row at a time"),
    };
    let commit = Commit { partition: key.partition(), precondition: None, ops: vec![op], secondary: Vec::new() };
    memory.commit(commit).expect("written");
}

/// What a scan finds after this was done to a copy of the store.
async fn found_after(world: &World, op: Op) -> Integrity {
    let copy = world.restarted().await;
    write(&copy.memory, op);
    check(&copy).await
}

/// The scan finds something after this, and names the row.
async fn check_found(world: &World, op: Op, row: &str) {
    let what = format!("{op:?}");
    let found = found_after(world, op).await;
    assert!(!found.ok && found.wrong > 0, "{what} is not found");
    let named: Vec<_> = found.findings.iter().map(|finding| finding.row.as_str()).collect();
    assert!(named.contains(&row), "{what}: {row} is not named in {:?}", found.findings);
}

#[track_caller]
fn check_passes(found: &Integrity) {
    assert!(found.ok && found.wrong == 0, "{:?}", found.findings);
}

/// Every kind of row: two users, an edited and a deleted message, a deleted thread, answers, a receipt.
async fn filled(encryption: Encryption) -> (World, ThreadId, MessageId, MessageId) {
    let world = World::new(encryption).await;
    let created = world.db.create_thread(&ann(), thread("t"), once("t")).await.expect("created").key;
    let edited = world.message(created, "1").await;
    world.db.update_message(&ann(), created, edited, update("2"), once("e")).await.expect("edited");
    world.db.update_message(&ann(), created, edited, update("3"), plain()).await.expect("edited");
    let deleted = world.message(created, "3").await;
    world.db.update_message(&ann(), created, deleted, update("4"), plain()).await.expect("edited");
    world.db.delete_message(&ann(), created, deleted, plain()).await.expect("deleted");
    world.message(created, "5").await;
    world.db.create_thread(&caller("bob"), thread("b"), plain()).await.expect("created");
    let gone = world.thread("gone").await;
    world.db.delete_thread(&ann(), gone, plain()).await.expect("deleted");
    let erased = world.thread("erased").await;
    let options = WriteOptions { idempotency: once("x").idempotency, ..plain() };
    world.db.erase_thread(&ann(), erased, options).await.expect("erased");
    let id = |key: MessageKey| MessageId { ts: key.ts, seq: key.seq.expect("final") };
    (world, created, id(edited), id(deleted))
}

async fn a_whole_store_passes_and_everything_in_it_is_counted(encryption: Encryption) {
    let (world, ..) = filled(encryption).await;
    let found = check(&world).await;
    check_passes(&found);
    let counts = found.counts;
    let threads = (counts.threads, counts.live_threads, counts.erased_threads);
    assert_eq!(threads, (3, 2, 0));
    assert_eq!((counts.messages, counts.versions, counts.deleted, counts.participants), (2, 3, 1, 3));
    assert_eq!((counts.users, counts.answers, counts.receipts, counts.expiring), (2, 2, 1, 6));
    assert_eq!(counts.rows, world.memory.rows().len() as u64);
    let keys = (counts.data_keys, counts.epoch_keys, counts.not_opened, counts.opened > 0);
    assert_eq!(keys, if encryption == Encryption::On { (5, 1, 0, true) } else { (0, 0, 0, false) });
    let digest = world.db.digest(|_, _| {}).await.expect("read");
    assert_eq!(found.digest.map(|digest| digest.root), Some(digest.root));
    if encryption == Encryption::On {
        let closed = check_integrity(&Store::Memory(world.memory.clone()), None).await.expect("it reads");
        check_passes(&closed);
        assert_eq!((closed.counts.not_opened, closed.counts.opened), (counts.opened, 0));
        assert_eq!(closed.digest, None);
    }
}

async fn a_store_passes_after_deletes_purges_and_erasures(encryption: Encryption) {
    let (world, created, ..) = filled(encryption).await;
    world.pass(100 * HOUR);
    assert!(world.db.purge(false).await.expect("ran").messages > 0);
    check_passes(&check(&world).await);
    if encryption == Encryption::On {
        world.db.begin_epoch().await.expect("begun");
        check_passes(&check(&world).await);
        world.db.run_sealing_job().await.expect("ran");
        world.db.reencrypt_thread(created).await.expect("sealed anew");
        check_passes(&check(&world).await);
        world.db.decrypt().await.expect("plain");
        let plain = World::on(world.memory.restarted(), world.time.clone(), Encryption::Off).await;
        check_passes(&check(&plain).await);
    }
    world.erase(created).await.expect("erased");
    if encryption == Encryption::Off {
        check_passes(&check(&world).await);
    }
}

/// Without any one row the store is not whole, but for those that only tell how far a job is.
async fn every_row_that_is_lost_is_found(encryption: Encryption) {
    let (world, created, _, deleted) = filled(encryption).await;
    let deleted_or_gone = |thread| {
        let head = world.memory.get(&Key::Thread(thread, ThreadRow::Head)).expect("read");
        head.is_none_or(|head| Head::decode(&head).expect("a head").deleted != 0)
    };
    for name in world.memory.rows().keys() {
        let key = Key::decode(name).expect("a key");
        let harmless = match key {
            Key::Store(StoreRow::Erasures | StoreRow::Sealing | StoreRow::HighestTime) => true,
            // Nobody can tell whether there was one.
            Key::Thread(_, ThreadRow::Idempotency(_)) => true,
            Key::User(_, UserRow::Idempotency(_) | UserRow::Receipt(_)) => true,
            // Retention takes the keys of a deleted thread before its rows.
            Key::Thread(thread, ThreadRow::DataKey(_)) => deleted_or_gone(thread),
            // The thread is gone already.
            Key::Expiry { thread, kind: ExpiryKind::Thread, .. } => {
                !world.memory.rows().contains_key(&Key::Thread(thread, ThreadRow::Head).encode())
            }
            _ => false,
        };
        let copy = world.memory.restarted();
        write(&copy, Op::Delete(key));
        let opened = World::with(copy.clone(), world.time.clone(), encryption.crypt()).await;
        // A store without its format, its secret or its epoch does not open at all.
        let Ok(opened) = opened else { continue };
        let found = check_integrity(&Store::Memory(copy), Some(&opened.db)).await.expect("it reads");
        let is_made_anew = matches!(key, Key::Store(StoreRow::Format) | Key::Epoch(_));
        assert!(!found.ok || harmless || is_made_anew, "{key} is gone, and nothing is found");
    }
    let lost = Key::Thread(created, ThreadRow::Deleted(deleted));
    check_found(&world, Op::Delete(lost), &lost.to_string()).await;
}

async fn every_row_that_cannot_be_read_is_found(encryption: Encryption) {
    let (world, ..) = filled(encryption).await;
    for (name, value) in world.memory.rows() {
        let key = Key::decode(&name).expect("a key");
        if matches!(key, Key::Store(StoreRow::Format | StoreRow::Secret | StoreRow::HighestTime) | Key::Epoch(_)) {
            // Read before anything else: the database does not open.
            continue;
        }
        for damaged in [vec![1, 2, 3], value[..value.len() - 1].to_vec(), [value.as_slice(), b"x"].concat(), vec![]] {
            let row = key.to_string();
            let copy = world.memory.restarted();
            let opened = World::with(copy.clone(), world.time.clone(), encryption.crypt()).await.expect("it opens");
            write(&copy, Op::Put(key, damaged.clone()));
            let store = Store::Memory(copy);
            let found = check_integrity(&store, Some(&opened.db)).await.expect("it reads");
            let named = found.findings.iter().any(|finding| finding.row == row);
            assert!(named, "{key} as {damaged:?} is not named in {:?}", found.findings);
            if matches!(key, Key::Thread(_, row) if !matches!(row, ThreadRow::DataKey(_) | ThreadRow::Idempotency(_))) {
                assert_eq!(found.digest, None, "{key}: a digest of what could not be read");
            }
        }
    }
}

async fn every_counter_that_is_off_is_found(encryption: Encryption) {
    let (world, ..) = filled(encryption).await;
    let user = world.db.hash_user(&ann().user);
    let exact = [
        (Key::Store(StoreRow::Counter(Counter::Threads)), 2),
        (Key::Store(StoreRow::Counter(Counter::Users)), 2),
        (Key::User(user, UserRow::LiveThreads), 1),
    ];
    for (key, is) in exact {
        for says in [is - 1, is + 1, -1] {
            check_found(&world, Op::Put(key, CounterValue(says).encode(EVERY_FORMAT)), &key.to_string()).await;
        }
    }
    for counter in [Counter::Messages, Counter::Sequence] {
        let key = Key::Store(StoreRow::Counter(counter));
        check_found(&world, Op::Put(key, CounterValue(2).encode(EVERY_FORMAT)), &key.to_string()).await;
        let more = found_after(&world, Op::Put(key, CounterValue(1_000).encode(EVERY_FORMAT))).await;
        assert_eq!(more.ok, counter == Counter::Sequence, "{:?}", more.findings);
    }
    if encryption == Encryption::On {
        let seals = Key::User(user, UserRow::Seals);
        check_found(&world, Op::Put(seals, CounterValue(0).encode(EVERY_FORMAT)), &seals.to_string()).await;
    }
}

async fn a_head_that_disagrees_with_its_rows_is_found(encryption: Encryption) {
    let (world, created, ..) = filled(encryption).await;
    let row = Key::Thread(created, ThreadRow::Head);
    let head = world.db.head(created).await.expect("read").expect("there").head;
    let wrong = [
        Head { live: head.live + 1, ..head },
        Head { live: 0, ..head },
        Head { next_seq: 2, ..head },
        Head { updated: head.updated + 1, ..head },
        Head { updated: 1, ..head },
        Head { updated: u64::MAX, ..head },
        Head { last_message: head.last_message + 1, ..head },
        Head { last_message: head.last_message - 1, ..head },
        Head { owner: Hash16([9; 16]), ..head },
        Head { deleted: head.updated, ..head },
        Head { generation: 7, ..head },
    ];
    for head in wrong {
        let found = found_after(&world, Op::Put(row, head.encode(1))).await;
        assert!(!found.ok, "{head:?} is not found");
    }
    for (head, named) in [(Head { live: 9, ..head }, row), (Head { last_message: 1, ..head }, row)] {
        check_found(&world, Op::Put(row, head.encode(1)), &named.to_string()).await;
    }
}

/// Writes a row as this database would.
async fn sealed(world: &World, key: Key, value: Vec<u8>) -> Op {
    let Key::Thread(thread, _) = key else { panic!("a row of a thread") };
    let head = world.db.head(thread).await.expect("read").expect("there").head;
    let seal = match world.encryption {
        Encryption::On => world.db.seal_for_thread(thread, &head).await.expect("its key"),
        Encryption::Off => world.db.new_seal_for_thread(thread, 1).await.expect("none"),
    };
    Op::Put(key, seal.value(key, value))
}

async fn messages_out_of_order_are_found(encryption: Encryption) {
    let (world, created, edited, deleted) = filled(encryption).await;
    let message = MessageRow { revision: 1, updated: START, author: ann().user, content: super::message("9").content };
    let at = |id: MessageId| Key::Thread(created, ThreadRow::Message(id));
    for id in [
        // The sequence number of another one, of one to come, one that does not grow, and one from before the thread.
        MessageId { ts: edited.ts + 1, seq: edited.seq },
        MessageId { ts: deleted.ts + 1, seq: deleted.seq },
        MessageId { ts: deleted.ts + 1, seq: 99 },
        MessageId { ts: edited.ts - 1, seq: 2 },
        MessageId { ts: 1, seq: 0 },
    ] {
        let op = sealed(&world, at(id), message.encode(1)).await;
        let found = found_after(&world, op).await;
        assert!(found.wrong >= 2, "{id:?}: a count and an order are off: {:?}", found.findings);
    }
    let version = Key::Thread(created, ThreadRow::Version(edited, 9));
    check_found(&world, sealed(&world, version, message.encode(1)).await, &at(edited).to_string()).await;
    let nowhere = MessageId { ts: edited.ts + 1, seq: 9 };
    let version = Key::Thread(created, ThreadRow::Version(nowhere, 1));
    check_found(&world, sealed(&world, version, message.encode(1)).await, &at(nowhere).to_string()).await;
    let row = Key::Thread(created, ThreadRow::Deleted(deleted));
    let other = DeletedMessage { deleted: START, message: MessageRow { revision: 2, ..message } };
    let entry = Key::Expiry { due: START, thread: created, kind: ExpiryKind::Message };
    check_found(&world, sealed(&world, row, other.encode(1)).await, &entry.to_string()).await;
}

async fn rows_too_many_in_indexes_are_found(encryption: Encryption) {
    let (world, created, edited, _) = filled(encryption).await;
    let user = world.db.hash_user(&ann().user);
    let nobody = ThreadId(START + 999);
    let head = world.db.head(created).await.expect("read").expect("there").head;
    for row in [
        UserRow::Created(nobody),
        UserRow::Wrote(nobody),
        UserRow::Active { updated: head.updated - 1, thread: created },
        UserRow::Active { updated: head.updated, thread: nobody },
    ] {
        let key = Key::User(user, row);
        check_found(&world, Op::Put(key, Present.encode(1)), &key.to_string()).await;
    }
    let other = Key::User(Hash16([9; 16]), UserRow::Created(created));
    check_found(&world, Op::Put(other, Present.encode(1)), &other.to_string()).await;
    let entry = |kind| Key::Expiry { due: START, thread: created, kind };
    let missing = Key::Thread(created, ThreadRow::Deleted(edited));
    check_found(&world, Op::Put(entry(ExpiryKind::Message), MessageName(edited).encode(1)), &missing.to_string()).await;
    let deletion = entry(ExpiryKind::Thread);
    check_found(&world, Op::Put(deletion, Present.encode(1)), &deletion.to_string()).await;
    let names = entry(ExpiryKind::Receipt);
    check_found(&world, Op::Put(names, Names(vec![user]).encode(1)), &names.to_string()).await;
    assert_eq!(day_of(START), day_of(START + 1));
}

async fn rows_under_another_name_are_found(encryption: Encryption) {
    let (world, created, ..) = filled(encryption).await;
    let user = world.db.hash_user(&ann().user);
    let other = Key::Thread(created, ThreadRow::Participant(Hash16([9; 16])));
    let own = Key::Thread(created, ThreadRow::Participant(user));
    let value = world.memory.get(&own).expect("read").expect("there");
    check_found(&world, Op::Put(other, value), &other.to_string()).await;
    if encryption == Encryption::Off {
        let profile = Key::User(user, UserRow::Profile);
        let bob = Profile { since: START, user: caller("bob").user };
        check_found(&world, Op::Put(profile, bob.encode(1)), &profile.to_string()).await;
        return;
    }
    // A row of one thread in another, a plain one where all are sealed, and a key of another owner.
    let object = Key::Thread(created, ThreadRow::Object);
    let second = world.thread("second").await;
    let value = world.memory.get(&Key::Thread(second, ThreadRow::Object)).expect("read").expect("there");
    check_found(&world, Op::Put(object, value), &object.to_string()).await;
    let plain = ThreadObject { revision: 1, author: ann().user, content: thread("forged") };
    check_found(&world, Op::Put(object, plain.encode(1)), &object.to_string()).await;
    let key = Key::Thread(created, ThreadRow::DataKey(1));
    let value = world.memory.get(&Key::Thread(second, ThreadRow::DataKey(1))).expect("read").expect("there");
    check_found(&world, Op::Put(key, value), &key.to_string()).await;
    let newer = Key::Thread(created, ThreadRow::DataKey(1));
    check_found(&world, Op::Delete(newer), &Key::Thread(created, ThreadRow::Head).to_string()).await;
}

async fn what_a_newer_version_wrote_is_opaque(encryption: Encryption) {
    let (world, created, edited, _) = filled(encryption).await;
    for row in [ThreadRow::ReadMarker(Hash16([3; 16])), ThreadRow::Reply(edited, edited), ThreadRow::Change(9)] {
        write(&world.memory, Op::Put(Key::Thread(created, row), b"\x01whatever".to_vec()));
    }
    let found = check(&world).await;
    check_passes(&found);
    assert_eq!(found.counts.reserved, 3);
    let digest = world.db.digest(|_, _| {}).await.expect("read");
    assert_eq!(found.digest.map(|digest| digest.root), Some(digest.root));
}
