//! Erasures that are repeated, conditional, or interrupted.

use super::*;

plain_and_sealed!(
    a_repeated_erasure_is_answered_with_the_first_receipt_also_after_a_restart,
    a_receipt_names_copies_also_one_that_is_made_while_it_is_written,
    a_receipt_runs_out_and_is_removed,
    an_erasure_that_dies_after_any_effect_is_finished_by_its_repetition,
    of_many_equal_erasures_at_once_one_erases_and_all_get_its_receipt,
    a_stale_precondition_erases_nothing,
    a_key_that_stood_for_another_write_to_the_thread_does_not_erase,
    a_repeated_creation_does_not_bring_a_removed_thread_back,
);

/// An erasure that may be repeated.
fn erasing(key: &str) -> WriteOptions {
    WriteOptions { idempotency: Some(Idempotency { key: key.into(), request: [2; 32] }), ..plain() }
}

async fn a_repeated_erasure_is_answered_with_the_first_receipt_also_after_a_restart(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    let first = world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("erased");
    assert_eq!((first.1, first.0.key_ids.len()), (false, usize::from(encryption == Encryption::On)));
    world.pass(1_000_000_000);
    let again = world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("answered");
    assert_eq!(again, (first.0.clone(), true));
    let world = world.restarted().await;
    assert_eq!(world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("answered"), (first.0, true));
    for (who, options) in [("ann", plain()), ("ann", erasing("other")), ("bob", erasing("k"))] {
        let refused = world.db.erase_thread(&caller(who), thread, options).await;
        assert!(matches!(refused, Err(Error::AccessDenied)), "{who}: {refused:?}");
    }
    let another = WriteOptions { idempotency: once("k").idempotency, ..plain() };
    let refused = world.db.erase_thread(&ann(), thread, another).await;
    assert!(matches!(refused, Err(Error::IdempotencyMismatch)), "{refused:?}");
}

async fn a_receipt_names_copies_also_one_that_is_made_while_it_is_written(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.memory.copy("store-1");
    world.db.know_oldest_backup(Some("/backups/a.pdbk".into()));
    world.memory.meanwhile(Partition::Thread(thread), |memory| memory.copy("tmp/backup-1"));
    let (receipt, _) = world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("erased");
    assert_eq!(receipt.checkpoints, ["store-1", "/backups/a.pdbk", "tmp/backup-1"]);
    world.db.know_oldest_backup(None);
    assert_eq!(world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("answered"), (receipt, true));
}

async fn a_receipt_runs_out_and_is_removed(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("erased");
    let user = world.db.hash_user(&ann().user);
    let receipts =
        |world: &World| world.memory.scan(&KeyRange::receipts_of_user(user), crate::store::Direction::Ascending, 9);
    world.pass(23 * HOUR);
    world.db.expire_idempotency(false).await.expect("ran");
    assert_eq!(receipts(&world).expect("read").rows.len(), 1);
    world.pass(2 * HOUR);
    let again = world.db.erase_thread(&ann(), thread, erasing("k")).await;
    assert!(matches!(again, Err(Error::AccessDenied)), "the key may be used again: {again:?}");
    assert_eq!(world.db.expire_idempotency(false).await.expect("ran").idempotency_records, 1);
    assert_eq!(receipts(&world).expect("read").rows.len(), 0);
    let left: Vec<_> = world.memory.rows().keys().filter_map(|row| Key::decode(row)).collect();
    assert!(
        !left.iter().any(|row| matches!(row, Key::Expiry { kind: crate::keys::ExpiryKind::Receipt, .. })),
        "something is still to expire"
    );
}

async fn an_erasure_that_dies_after_any_effect_is_finished_by_its_repetition(encryption: Encryption) {
    for effects in 0.. {
        let world = World::new(encryption).await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        world.memory.die_after(effects);
        let first = world.db.erase_thread(&ann(), thread, erasing("k")).await;
        let world = world.restarted().await;
        let (receipt, _) = world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("finished");
        assert_eq!(
            receipt.key_ids.len(),
            usize::from(encryption == Encryption::On),
            "{effects}: no name of a key is lost or twice there"
        );
        let of_thread = Partition::Thread(thread).encode();
        assert!(!world.memory.rows().keys().any(|key| key.starts_with(&of_thread)), "{effects}");
        assert_eq!(world.titles(ThreadOrder::Created).await, [""; 0]);
        assert_eq!(
            world.db.erase_thread(&ann(), thread, erasing("k")).await.expect("answered"),
            (receipt.clone(), true)
        );
        if let Ok((first, replayed)) = first {
            assert_eq!((first, replayed), (receipt, false));
            assert!(effects > 5, "an erasure has more effects than {effects}");
            break;
        }
    }
}

async fn of_many_equal_erasures_at_once_one_erases_and_all_get_its_receipt(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let erase = async || world.db.erase_thread(&ann(), thread, erasing("k")).await;
    let (a, b, c) = tokio::join!(erase(), erase(), erase());
    let answers = [a, b, c].map(|answer| answer.expect("answered"));
    assert!(answers.iter().all(|(receipt, _)| *receipt == answers[0].0), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
}

async fn a_stale_precondition_erases_nothing(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let at = |revision| WriteOptions { if_match: Some(Revisions::OneOf(vec![revision])), ..erasing("k") };
    let renamed = ThreadUpdate { title: Some("new".into()), ..ThreadUpdate::default() };
    world.db.update_thread(&ann(), thread, renamed, plain()).await.expect("renamed");
    let refused = world.db.erase_thread(&ann(), thread, at(1)).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { current: 2 })), "{refused:?}");
    assert_eq!(world.titles(ThreadOrder::Created).await, ["new"]);
    world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
    let refused = world.db.erase_thread(&ann(), thread, at(1)).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { current: 2 })), "{refused:?}");
    let (receipt, _) = world.db.erase_thread(&ann(), thread, at(2)).await.expect("erased");
    assert_eq!(world.db.erase_thread(&ann(), thread, at(2)).await.expect("answered"), (receipt, true));
}

async fn a_key_that_stood_for_another_write_to_the_thread_does_not_erase(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.db.create_message(&ann(), thread, message("1"), once("k")).await.expect("created");
    let refused = world.db.erase_thread(&ann(), thread, erasing("k")).await;
    assert!(matches!(refused, Err(Error::IdempotencyMismatch)), "{refused:?}");
    assert_eq!(world.bodies(thread).await, ["1"]);
    // The same key for two threads stands for two erasures, as it does for other writes.
    let other = world.thread("other").await;
    for thread in [thread, other] {
        let (_, replayed) = world.db.erase_thread(&ann(), thread, erasing("e")).await.expect("erased");
        assert!(!replayed);
    }
}

async fn a_repeated_creation_does_not_bring_a_removed_thread_back(encryption: Encryption) {
    for by_retention in [false, true] {
        let world = World::new(encryption).await;
        let create = async || world.db.create_thread(&ann(), thread("t"), once("k")).await;
        let first = create().await.expect("created").key;
        if by_retention {
            world.db.delete_thread(&ann(), first, plain()).await.expect("deleted");
            let commit = world.db.removal(first).await.expect("read").expect("deleted");
            world.db.0.store.commit(commit).await.expect("removed");
        } else {
            world.erase(first).await.expect("erased");
        }
        let again = create().await.expect("answered");
        assert_eq!((again.key, again.replayed), (first, true));
        assert_eq!(world.titles(ThreadOrder::Created).await, [""; 0], "it came back");
        assert_eq!(world.db.stats().await.expect("counted").threads, 0);
        world.pass(25 * HOUR);
        assert_ne!(create().await.expect("created").key, first, "a day later the key stands for a new thread");
    }
}
