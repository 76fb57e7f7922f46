//! Leases, on a real node where a machine can have one.

use std::time::Duration;

use testing::servers::cassandra::Ring;
use tokio::time::{sleep, timeout};

use crate::keys::{Key, UserRow};
use crate::store::contract::{connect_to, shared_settings};
use crate::store::{Commit, Engine, Error, Op, OpenError, SharedSettings};

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
    assert!(write(&server).await.is_err(), "that was read before the slot was lost");
    store.confirm_epoch(3, store.term()).await.expect("said");
    write(&server).await.expect("committed");
    close(server).await;
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
