//! A machine whose clock is set while people write, and while things expire.

use super::*;

plain_and_sealed!(
    a_wild_clock_of_four_seconds_removes_nothing_and_lets_no_retry_write_twice,
    while_a_step_is_held_reads_and_replays_go_on_and_writes_are_refused,
    an_accepted_clock_dates_expires_and_removes_at_once,
    a_machine_that_slept_for_days_goes_on_after_a_minute,
    a_start_with_a_clock_that_is_far_ahead_is_held_until_the_clock_is_right,
    a_wild_clock_compacts_nothing_early,
);

const MINUTE: u64 = HOUR / 60;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// A thread that was deleted, a message that was deleted, and a record of a write, all about a second old.
async fn what_expires(encryption: Encryption) -> (World, ThreadId, ThreadId) {
    let world = World::new(encryption).await;
    let (kept, gone) = (world.thread("kept").await, world.thread("gone").await);
    let key = world.message(kept, "1").await;
    world.db.create_message(&ann(), kept, message("2"), once("k")).await.expect("created");
    world.db.delete_message(&ann(), kept, key, plain()).await.expect("deleted");
    world.db.delete_thread(&ann(), gone, plain()).await.expect("deleted");
    world.pass(1_000_000_000);
    (world, kept, gone)
}

/// A repetition of the write is answered with the first one, and nothing was removed.
async fn check_nothing_happened(world: &World, kept: ThreadId, gone: ThreadId) {
    let again = world.db.create_message(&ann(), kept, message("2"), once("k")).await.expect("answered");
    assert!(again.replayed, "the retry wrote twice");
    assert_eq!(world.bodies(kept).await, ["2"]);
    assert!(world.memory.get(&Key::Thread(gone, ThreadRow::Head)).expect("read").is_some(), "the thread is gone");
}

async fn a_wild_clock_of_four_seconds_removes_nothing_and_lets_no_retry_write_twice(encryption: Encryption) {
    for wild in [23 * HOUR, 4 * DAY, 300 * DAY, 70 * YEAR] {
        let (world, kept, gone) = what_expires(encryption).await;
        world.time.step(wild);
        for _ in 0..4 {
            check_nothing_happened(&world, kept, gone).await;
            let purged = world.db.purge(false).await;
            assert!(matches!(purged, Err(Error::ClockHeld(_) | Error::ClockSettling { .. })), "{wild}: {purged:?}");
            let expired = world.db.expire_idempotency(true).await;
            assert!(matches!(expired, Err(Error::ClockHeld(_)) | Ok(Purged { idempotency_records: 0, .. })));
            world.pass(1_000_000_000);
        }
        world.time.set(START + 5_000_000_000);
        check_nothing_happened(&world, kept, gone).await;
        assert_eq!(world.db.purge(false).await.expect("runs"), Purged::default());
        world.message(kept, "3").await;
    }
}

async fn while_a_step_is_held_reads_and_replays_go_on_and_writes_are_refused(encryption: Encryption) {
    let (world, kept, gone) = what_expires(encryption).await;
    let before = world.memory.rows();
    world.time.step(70 * YEAR);
    assert_eq!(world.db.health().refused, Some("the clock jumped ahead"));
    check_nothing_happened(&world, kept, gone).await;
    let refused = [
        world.db.create_message(&ann(), kept, message("3"), once("new")).await.map(drop),
        world.db.create_thread(&ann(), thread("t"), once("new")).await.map(drop),
        world.db.create_thread(&caller("bob"), thread("t"), plain()).await.map(drop),
        world.db.delete_thread(&ann(), kept, plain()).await.map(drop),
        world.erase(kept).await.map(drop),
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::ClockHeld(_)))), "{refused:?}");
    assert_eq!(world.memory.rows(), before, "a write that was refused left something");
}

async fn an_accepted_clock_dates_expires_and_removes_at_once(encryption: Encryption) {
    let (world, kept, gone) = what_expires(encryption).await;
    world.time.step(70 * YEAR);
    assert!(matches!(world.db.purge(false).await, Err(Error::ClockHeld(_))));
    assert!(world.db.accept_clock());
    assert_eq!(world.db.health().refused, None);
    assert!(world.message(kept, "3").await.ts >= START + 70 * YEAR);
    let purged = world.db.purge(false).await.expect("ran");
    assert_eq!((purged.threads, purged.messages), (1, 1));
    assert!(world.memory.get(&Key::Thread(gone, ThreadRow::Head)).expect("read").is_none());
}

async fn a_machine_that_slept_for_days_goes_on_after_a_minute(encryption: Encryption) {
    let (world, kept, _) = what_expires(encryption).await;
    world.time.step(3 * DAY);
    let refused = world.db.create_message(&ann(), kept, message("3"), plain()).await;
    assert!(matches!(&refused, Err(Error::ClockHeld(held)) if held.retry_after.as_secs() == 60), "{refused:?}");
    world.pass(MINUTE);
    world.message(kept, "3").await;
    assert_eq!(world.db.purge(false).await.expect("ran").threads, 1);
}

async fn a_start_with_a_clock_that_is_far_ahead_is_held_until_the_clock_is_right(encryption: Encryption) {
    let (world, kept, gone) = what_expires(encryption).await;
    world.time.step(70 * YEAR);
    let world = world.restarted().await;
    assert_eq!(world.db.health().refused, Some("the clock jumped ahead"));
    assert!(matches!(world.db.purge(false).await, Err(Error::ClockHeld(_))));
    check_nothing_happened(&world, kept, gone).await;
    world.time.set(START + MINUTE);
    let key = world.message(kept, "3").await;
    assert!(key.ts < START + HOUR, "nothing is dated by the wild clock");
}

#[tokio::test]
async fn a_wild_clock_begins_no_epoch_and_dates_none() {
    let world = World::new(Encryption::On).await;
    world.time.step(70 * YEAR);
    assert!(!world.db.renew_epochs().await.expect("asked"), "an epoch was begun early");
    world.db.begin_epoch().await.expect("begun");
    let created = world.db.epochs().await.expect("listed").last().map(|(_, created, _)| *created);
    assert!(created.is_some_and(|created| created < START + HOUR), "{created:?}");
}

async fn a_wild_clock_compacts_nothing_early(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    world.erase(thread).await.expect("erased");
    world.time.step(20 * HOUR);
    assert!(!world.db.compact_if_due().await.expect("looked"));
    world.pass(2 * MINUTE);
    world.db.clock();
    world.pass(2 * MINUTE);
    assert!(world.db.compact_if_due().await.expect("looked"));
}
