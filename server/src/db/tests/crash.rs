//! What is left after a crash, damage, or the passing of time.

use super::*;

plain_and_sealed!(
    a_retry_after_a_crash_at_any_effect_leaves_exactly_one,
    a_crash_at_any_effect_of_a_change_leaves_it_done_or_undone,
    retention_purges_what_is_due_and_leaves_no_row_of_it,
    a_damaged_row_stops_the_read_and_is_named,
    a_store_of_a_newer_format_or_of_another_database_does_not_open,
    idempotency_records_run_out_whether_retention_is_on_or_off,
);

/// Dies after each effect in turn; after a restart the same request must succeed and have happened once.
async fn a_retry_after_a_crash_at_any_effect_leaves_exactly_one(encryption: Encryption) {
    let mut died = 0;
    for effects in 0.. {
        let world = World::new(encryption).await;
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

async fn a_crash_at_any_effect_of_a_change_leaves_it_done_or_undone(encryption: Encryption) {
    for change in ["append", "edit", "delete message", "rename", "delete thread"] {
        for effects in 0.. {
            let world = World::new(encryption).await;
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

async fn retention_purges_what_is_due_and_leaves_no_row_of_it(encryption: Encryption) {
    let world = World::new(encryption).await;
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

async fn a_damaged_row_stops_the_read_and_is_named(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let head = Key::Thread(thread, ThreadRow::Head);
    damage(&world.memory, head).await;
    let read = world.db.get_thread(&ann(), thread).await;
    assert!(matches!(read, Err(Error::Corrupt { key }) if key == head.to_string()));
}

async fn damage(memory: &Memory, key: Key) {
    let ops = vec![crate::store::Op::Put(key, vec![1, 2, 3])];
    let commit = crate::store::Commit::of(key.partition(), ops);
    memory.commit(commit).expect("written");
}

async fn a_store_of_a_newer_format_or_of_another_database_does_not_open(encryption: Encryption) {
    let world = World::new(encryption).await;
    let reopen = async |id| {
        let clock = Clock::manual(world.time.clone(), START);
        let (store, identity) = (Store::Memory(world.memory.restarted()), Identity { database_id: id, ..IDENTITY });
        Db::open_with_clock(store, identity, &Formats::CURRENT, settings(), encryption.crypt(), clock).await.map(drop)
    };
    assert!(matches!(reopen([8; 16]).await, Err(OpenError::Foreign)));
    let format = Format { format: 2, incarnation: Incarnation(1), created: 0, database_id: ID };
    let key = Key::Store(StoreRow::Format);
    let ops = vec![crate::store::Op::Put(key, format.encode(EVERY_FORMAT))];
    let commit = crate::store::Commit::of(key.partition(), ops);
    world.memory.commit(commit).expect("written");
    assert!(matches!(reopen(ID).await, Err(OpenError::Format(Unreadable { found: 2, .. }))));
}

async fn idempotency_records_run_out_whether_retention_is_on_or_off(encryption: Encryption) {
    for (days, look_back, removed) in [(1, false, 0), (2, false, 2), (9, false, 0), (9, true, 2)] {
        let world = World::new(encryption).await;
        let thread = world.db.create_thread(&ann(), thread("t"), once("k")).await.expect("created").key;
        world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
        world.pass(days * 23 * HOUR);
        let purged = world.db.expire_idempotency(look_back).await.expect("ran");
        assert_eq!((purged.idempotency_records, purged.threads), (removed, 0), "after {days} days");
    }
}
