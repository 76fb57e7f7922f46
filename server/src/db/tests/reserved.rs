//! Rows that only a newer version writes: carried, kept when keys change, listed, and removed with their thread.

use super::*;
use crate::db::{AdminRow, RowRequest, RowStore};
use crate::model::MessageId;
use crate::store::{Commit, Op};

plain_and_sealed!(
    rows_of_a_newer_version_are_in_nobodys_way,
    rows_of_a_newer_version_go_with_their_thread,
    partitions_of_a_newer_version_are_left_as_they_are_by_every_job,
);

const VALUE: &[u8] = b"\x01what a newer version wrote";

/// One row of each reserved kind.
fn reserved(thread: ThreadId) -> [Key; 4] {
    let (id, user) = (MessageId { ts: START, seq: 0 }, Hash16([3; 16]));
    let rows = [
        ThreadRow::ReadMarker(user),
        ThreadRow::Reaction(id, user, Hash16([4; 16])),
        ThreadRow::Reply(id, MessageId { ts: START + 1, seq: 1 }),
        ThreadRow::Change(9),
    ];
    rows.map(|row| Key::Thread(thread, row))
}

fn write(world: &World, thread: ThreadId) {
    let ops = reserved(thread).map(|key| Op::Put(key, VALUE.to_vec())).to_vec();
    let partition = Partition::Thread(thread);
    world.memory.commit(Commit::of(partition, ops)).expect("written");
}

async fn rows_of_a_newer_version_are_in_nobodys_way(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    write(&world, thread);
    let world = world.restarted().await;
    world.message(thread, "2").await;
    world.db.delete_message(&ann(), thread, key, plain()).await.expect("deleted");
    assert_eq!(world.bodies(thread).await, ["2"]);
    assert_eq!(world.titles(ThreadOrder::Created).await, ["t"]);
    if encryption == Encryption::On {
        assert_eq!(world.db.run_sealing_job().await.expect("ran").failed, 0);
        world.db.reencrypt_thread(thread).await.expect("sealed anew");
    }
    let page = RowRequest { limit: 100, ..RowRequest::default() };
    let names = world.db.list_rows(RowStore::Main, page).await.expect("listed").names;
    for key in reserved(thread) {
        assert!(names.contains(&key.to_string()), "{key} is not in {names:?}");
        let row = world.db.get_row(&key.to_string(), true).await.expect("read").expect("there");
        assert!(matches!(row.row, AdminRow::Opaque { bytes } if bytes == VALUE.len()), "{key}: {row:?}");
        assert_eq!(world.memory.get(&key), Ok(Some(VALUE.to_vec())), "{key} is as it was");
    }
}

async fn rows_of_a_newer_version_go_with_their_thread(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    write(&world, thread);
    world.erase(thread).await.expect("erased");
    let left: Vec<_> = reserved(thread).into_iter().filter(|key| world.memory.get(key) != Ok(None)).collect();
    assert_eq!(left, []);
}

/// Rows of the partitions that a newer version has besides: an archive of a thread, and activity still to be moved.
fn of_reserved_partitions(thread: ThreadId) -> [Vec<u8>; 3] {
    let id = thread.0.to_be_bytes();
    [[b"A", &id[..], &[0]].concat(), [b"A", &id[..], &[1, 0x10], &id].concat(), [b"D", &[5], &id[..]].concat()]
}

async fn partitions_of_a_newer_version_are_left_as_they_are_by_every_job(encryption: Encryption) {
    let world = World::new(encryption).await;
    let [kept, deleted, erased] = [world.thread("kept").await, world.thread("deleted").await, world.thread("e").await];
    let planted: Vec<_> = [kept, deleted, erased].into_iter().flat_map(of_reserved_partitions).collect();
    for key in &planted {
        world.memory.plant(key.clone(), VALUE.to_vec());
    }
    let world = world.restarted().await;
    world.db.delete_thread(&ann(), deleted, plain()).await.expect("deleted");
    world.erase(erased).await.expect("erased");
    world.pass(100 * HOUR);
    assert_eq!(world.db.purge(false).await.expect("ran").threads, 1);
    world.db.expire_idempotency(true).await.expect("ran");
    world.db.compact_if_due().await.expect("ran");
    world.db.digest(|_, _| {}).await.expect("read");
    for store in [RowStore::Main, RowStore::Index] {
        let page = RowRequest { limit: 100, ..RowRequest::default() };
        world.db.list_rows(store, page).await.expect("listed");
    }
    if encryption == Encryption::On {
        world.db.renew_epochs().await.expect("ran");
        assert_eq!(world.db.run_sealing_job().await.expect("ran").failed, 0);
        world.db.reencrypt_thread(kept).await.expect("sealed anew");
        world.db.decrypt().await.expect("plain");
    }
    assert_eq!(world.titles(ThreadOrder::Created).await, ["kept"]);
    let rows = world.memory.rows();
    let left: Vec<_> = planted.iter().filter(|key| rows.get(*key).is_some_and(|value| value == VALUE)).collect();
    assert_eq!(left, planted.iter().collect::<Vec<_>>());
}

/// A newer version sealed them with a key that is then replaced, and in the end given up.
#[tokio::test]
async fn sealed_rows_of_a_newer_version_outlive_the_key_they_were_sealed_with() {
    let world = World::new(Encryption::On).await;
    let thread = world.thread("t").await;
    let key = reserved(thread)[1];
    let head = world.db.head(thread).await.expect("read").expect("there").head;
    let seal = world.db.seal_for_thread(thread, &head).await.expect("its key");
    let ops = vec![Op::Put(key, seal.value(key, VALUE.to_vec()))];
    let commit = Commit::of(Partition::Thread(thread), ops);
    world.memory.commit(commit).expect("written");
    world.db.reencrypt_thread(thread).await.expect("sealed anew");
    let value = world.memory.get(&key).expect("read").expect("there");
    assert_ne!(value, VALUE, "it is still sealed");
    assert_eq!(world.db.open_value(key, value).await.expect("opens"), VALUE);
    world.db.decrypt().await.expect("plain");
    assert_eq!(world.memory.get(&key), Ok(Some(VALUE.to_vec())));
}
