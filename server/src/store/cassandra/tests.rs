//! Leases and requests that are carried out late, on a real node where a machine can have one.

use std::time::Duration;

use testing::servers::cassandra::Ring;
use tokio::time::{sleep, timeout};

use crate::keys::{Key, KeyRange, Partition, PartitionKind, ThreadRow, UserRow};
use crate::model::ThreadId;
use crate::store::contract::{connect, connect_to, shared_settings};
use crate::store::{Commit, Direction, Engine, Error, Op, OpenError, Outcome, Peer, SharedSettings};

const KEY: Key = Key::User(crate::keys::Hash16([7; 16]), UserRow::Profile);

async fn write(engine: &Engine) -> Result<(), Error> {
    let commit = Commit::of(KEY.partition(), vec![Op::Put(KEY, b"v".to_vec())]);
    engine.store().commit(commit).await.map(|_| ())
}

async fn close(engine: Engine) {
    tokio::task::spawn_blocking(move || engine.close()).await.expect("it does not panic").expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_has_the_store_alone_or_not_at_all() {
    let test = "a_command_has_the_store_alone_or_not_at_all";
    let Some(settings) = shared_settings(test) else { return };
    let Some([server, command]) = connect_to(&settings).await else { return };
    assert_eq!(command.claim().await, Ok(1));
    write(&server).await.expect("a command that is refused disturbs no server");
    close(server).await;
    assert_eq!(command.claim().await, Ok(0));
    let refused = Box::pin(Engine::connect(&settings)).await.map(|_| ());
    assert_eq!(refused, Err(OpenError::Claimed), "no server starts beside it");
    write(&command).await.expect("committed");
    close(command).await;
    let server = Box::pin(Engine::connect(&settings)).await.expect("nothing of the command is left");
    write(&server).await.expect("committed");
    close(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_has_lost_its_claim_commits_nothing() {
    let test = "a_command_that_has_lost_its_claim_commits_nothing";
    let Some(settings) = shared_settings(test) else { return };
    let Some([command]) = connect_to(&settings).await else { return };
    assert_eq!(command.claim().await, Ok(0));
    expire(test, &settings, super::slot::CLAIM);
    wait_for(async || write(&command).await.is_err()).await;
    close(command).await;
}

/// The others may have retired the epoch that it sealed with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_slot_commits_nothing_before_it_says_how_it_seals() {
    let test = "a_server_with_another_slot_commits_nothing_before_it_says_how_it_seals";
    let Some(settings) = shared_settings(test) else { return };
    let Some([server]) = connect_to(&settings).await else { return };
    let store = server.store();
    write(&server).await.expect("committed");
    let (slot, term) = (store.slot().expect("a server has one"), store.term());
    expire(test, &settings, slot.into());
    wait_for(async || store.term() > term && store.slot() != Some(slot)).await;
    assert!(matches!(write(&server).await, Err(Error::Unavailable(_))));
    store.confirm_epoch(3, term).await.expect("said");
    store.confirm_format(1, term).await.expect("said");
    assert!(write(&server).await.is_err(), "that was read before the slot was lost");
    store.confirm_epoch(3, store.term()).await.expect("said");
    assert!(write(&server).await.is_err(), "nor in which format it writes");
    store.confirm_format(1, store.term()).await.expect("said");
    write(&server).await.expect("committed");
    close(server).await;
}

/// A node that hung carries out late what was asked for again elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_comes_after_the_removal_of_its_thread_does_nothing() {
    let test = "a_creation_that_comes_after_the_removal_of_its_thread_does_nothing";
    let Some([engine]) = connect(test).await else { return };
    let store = engine.store();
    let threads = async || {
        let listed = store.partitions(PartitionKind::Thread, None, Direction::Ascending, 1).await;
        listed.expect("the engine reads")
    };
    let object = |thread| Key::Thread(thread, ThreadRow::Object);
    let create = |thread| {
        let mut created = Commit::replace(Key::Thread(thread, ThreadRow::Head), None, b"h".to_vec());
        created.ops.push(Op::Put(object(thread), b"title".to_vec()));
        created
    };
    let (all, refused) = ([1, 2, 3].map(ThreadId), Outcome::Conflict { current: None });
    for thread in all {
        let head = Key::Thread(thread, ThreadRow::Head);
        assert_eq!(store.commit(create(thread)).await, Ok(Outcome::Committed));
        assert!(!threads().await.is_empty());
        let mut removed = Commit::remove(head, b"h".to_vec());
        removed.ops.push(Op::DeleteRange(KeyRange::thread_without_head(thread)));
        assert_eq!(store.commit(removed).await, Ok(Outcome::Committed));
        assert_eq!(store.commit(create(thread)).await, Ok(refused.clone()), "carried out late");
        // Nor does what expects nothing of the thread make room for it.
        let beside = Commit::of(head.partition(), vec![Op::Delete(object(thread))]);
        assert_eq!(store.commit(beside).await, Ok(Outcome::Committed));
        assert_eq!(store.commit(create(thread)).await, Ok(refused.clone()));
        let rows = store.get_many(vec![head, object(thread)]).await.expect("the engine reads");
        assert_eq!((store.get(&head).await, rows), (Ok(None), vec![None, None]));
        assert_eq!(threads().await, []);
    }
    let last = ThreadId(4);
    assert_eq!(store.commit(create(last)).await, Ok(Outcome::Committed));
    assert_eq!(threads().await, [Partition::Thread(last)], "the removed ones are passed over");
    // An import writes what it was told, whatever was there.
    let head = Key::Thread(all[0], ThreadRow::Head);
    let put = Commit::of(head.partition(), vec![Op::Put(head, b"h".to_vec())]);
    assert_eq!(store.commit(put).await, Ok(Outcome::Committed));
    assert_eq!(store.get(&head).await, Ok(Some(b"h".to_vec())));
    close(engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_to_the_format_keeps_away_who_cannot_work_in_it() {
    let test = "a_claim_to_the_format_keeps_away_who_cannot_work_in_it";
    let Some(old) = shared_settings(test) else { return };
    let next = SharedSettings { version: "next".into(), formats: [1, 2], ..old.clone() };
    let Some([server, command]) = connect_to(&next).await else { return };
    assert_eq!(command.claim_format(2).await, Ok(true));
    assert_eq!(server.claim_format(2).await, Ok(false), "one command has it");
    let refused = Box::pin(Engine::connect(&old)).await.map(|_| ());
    assert_eq!(refused, Err(OpenError::FormatRaised(2)));
    let able = Box::pin(Engine::connect(&next)).await.expect("it can work in both");
    write(&able).await.expect("and does");
    close(able).await;

    let slot = server.store().slot().expect("a server has one");
    let peer = |follows| Peer { slot, version: "next".into(), formats: [1, 2], follows };
    assert_eq!(command.peers().await, Ok(vec![peer(None)]));
    server.store().confirm_format(1, 0).await.expect("said");
    assert_eq!(command.peers().await, Ok(vec![peer(Some(1))]));
    command.release_format().await.expect("given back");
    let server = Box::pin(Engine::connect(&old)).await.expect("nothing keeps it away");
    close(server).await;
    close(command).await;
}

/// A server that cannot read the new format may have started since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_has_lost_its_claim_to_the_format_commits_nothing() {
    let test = "a_command_that_has_lost_its_claim_to_the_format_commits_nothing";
    let Some(settings) = shared_settings(test) else { return };
    let Some([command]) = connect_to(&settings).await else { return };
    assert_eq!(command.claim_format(2).await, Ok(true));
    expire(test, &settings, super::slot::FORMAT_CLAIM);
    wait_for(async || write(&command).await.is_err()).await;
    close(command).await;
}

/// As if the row had not been renewed in time.
fn expire(test: &str, settings: &SharedSettings, id: i32) {
    let delete = format!("DELETE FROM \"{}\".slot WHERE id = {id}", settings.keyspace);
    tokio::task::block_in_place(|| Ring::shared(test).expect("it runs").execute(&delete));
}

/// Until a lease was to be renewed.
async fn wait_for(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), waiting).await.expect("a lease is renewed every few seconds");
}
