//! Rows that two may change at once: whoever comes second builds on the first.

use super::*;
use crate::rows::{JobProgress, Number};
use crate::store::Outcome;

const PENDING: Key = Key::Store(StoreRow::Erasures);
const SEALING: Key = Key::Store(StoreRow::Sealing);

/// A store in which one thread is plain and another is sealed, by a job that has not come to it.
async fn half_sealed() -> (World, ThreadId, ThreadId) {
    let plain = plain_world().await;
    let old = plain.thread("old").await;
    let world = World::open(plain.memory.restarted(), crypt()).await;
    let new = world.thread("new").await;
    assert_eq!((head(&world.memory, old).oldest, head(&world.memory, new).oldest), (0, 1));
    (world, old, new)
}

#[tokio::test]
async fn of_two_erasures_at_once_neither_loses_what_the_other_noted() {
    for (mine, other) in [(false, true), (true, false), (false, false)] {
        for other_at in [5, 15] {
            let world = sealed_world().await;
            let noted = Erasures { oldest: other_at, latest: other_at, plain: other };
            world.memory.meanwhile(Partition::Store, move |memory| put(memory, PENDING, noted.encode(1)));
            world.db.note_erasure(10, mine).await.expect("noted");
            let both = Erasures { oldest: other_at.min(10), latest: other_at.max(10), plain: mine || other };
            assert_eq!(pending(&world.memory), Some(both));
        }
    }
}

#[tokio::test]
async fn an_erasure_that_meets_a_finished_compaction_is_noted_anew() {
    let world = sealed_world().await;
    world.db.note_erasure(5, true).await.expect("noted");
    world.memory.meanwhile(Partition::Store, |memory| {
        let ops = vec![Op::Delete(PENDING)];
        let commit = Commit::of(Partition::Store, ops);
        assert_eq!(memory.commit(commit), Ok(Outcome::Committed));
    });
    world.db.note_erasure(10, false).await.expect("noted");
    assert_eq!(pending(&world.memory), Some(Erasures { oldest: 10, latest: 10, plain: false }));
}

#[tokio::test]
async fn in_a_half_sealed_store_every_erasure_has_all_files_compacted() {
    let (world, old, new) = half_sealed().await;
    world.erase(new).await.expect("erased");
    assert_eq!(pending(&world.memory).map(|noted| noted.plain), Some(true), "as long as anything is plain");
    world.erase(old).await.expect("erased");
    assert_eq!(pending(&world.memory).map(|noted| noted.plain), Some(true));
    // A thread that the job has sealed was plain a moment ago, and files still hold that.
    let (world, old, _) = half_sealed().await;
    world.db.seal_threads().await.expect("sealed");
    assert_eq!(head(&world.memory, old).oldest, 1);
    world.erase(old).await.expect("erased");
    assert_eq!(pending(&world.memory).map(|noted| noted.plain), Some(true));
}

#[tokio::test]
async fn what_was_sealed_by_hand_or_before_a_crash_at_any_effect_is_compacted_too() {
    for effects in 0.. {
        let (world, ..) = half_sealed().await;
        // Nothing plain is left but the user's row, and a crash behind that leaves no count of it either.
        world.db.seal_threads().await.expect("sealed");
        world.memory.die_after(effects);
        let died = world.db.run_sealing_job().await.is_err();
        let world = world.restarted().await;
        world.db.run_sealing_job().await.expect("done");
        assert_eq!(pending(&world.memory).map(|noted| noted.plain), Some(true), "died after {effects}");
        if !died {
            assert!(effects > 4, "the job has more effects than {effects}");
            break;
        }
    }
}

#[tokio::test]
async fn a_job_whose_record_is_taken_away_starts_over() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    // The save at the start comes first, the one behind the visits second.
    world.memory.meanwhile(Partition::Thread(thread), |_| panic!("nothing of the thread is to be changed"));
    let done = world.db.run_sealing_job().await.expect("done");
    assert_eq!((done.threads, done.failed), (1, 0));

    let world = world.restarted().await;
    world.db.begin_epoch().await.expect("begun");
    world.memory.meanwhile(Partition::Store, |memory| {
        memory.meanwhile(Partition::Store, |memory| {
            let ops = vec![Op::Delete(SEALING)];
            let commit = Commit::of(Partition::Store, ops);
            assert_eq!(memory.commit(commit), Ok(Outcome::Committed));
        });
    });
    let done = world.db.run_sealing_job().await.expect("done");
    assert_eq!((done.epoch, done.threads, done.keys), (2, 1, 1), "the user; the thread was done before");
    let row = raw(&world.memory, SEALING);
    assert_eq!(JobProgress::decode(&row).expect("progress"), done);
}

#[tokio::test]
async fn the_store_secret_is_sealed_over_what_is_there_and_nothing_else() {
    let world = sealed_world().await;
    let secret = Key::Store(StoreRow::Secret);
    let before = raw(&world.memory, secret);
    let other = before.clone();
    world.memory.meanwhile(Partition::Store, move |memory| {
        put(memory, secret, other.iter().rev().copied().collect());
    });
    assert!(world.db.reseal_secret(true).await.is_err(), "somebody else's secret was overwritten");
    put(&world.memory, secret, before);
    world.db.reseal_secret(true).await.expect("sealed");
}

#[tokio::test]
async fn a_message_that_changes_while_it_is_purged_waits_for_the_next_run() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    let key = world.message(thread, "1").await;
    world.db.delete_message(&ann(), thread, key, plain()).await.expect("deleted");
    world.pass(49 * 3_600_000_000_000);
    let deleted = Key::Thread(thread, ThreadRow::Deleted(crate::model::MessageId { ts: key.ts, seq: 0 }));
    let before = raw(&world.memory, deleted);
    let other = [before.as_slice(), &[0]].concat();
    world.memory.meanwhile(Partition::Thread(thread), move |memory| put(memory, deleted, other));
    assert_eq!(world.db.purge(false).await.expect("ran").messages, 0);
    put(&world.memory, deleted, before);
    assert_eq!(world.db.purge(false).await.expect("ran").messages, 1);
}

#[tokio::test]
async fn the_highest_time_is_that_of_the_latest_commit_in_whatever_order_they_arrive() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    let highest = Key::Store(StoreRow::HighestTime);
    let ahead = Number(u64::MAX / 2).encode(1);
    let noted = ahead.clone();
    world.memory.meanwhile(Partition::Thread(thread), move |memory| put(memory, highest, noted));
    world.message(thread, "1").await;
    assert_eq!(raw(&world.memory, highest), ahead);
}
