//! What encryption promises: nothing readable, nothing moved, nothing lost, and gone when it is to be gone.

mod races;
mod rotation;

use super::{Encryption, HOUR, ID, World, ann, crypt_with, json, message, once, plain, settings, thread, update};
use crate::crypt::seal::SEALS_A_KEY;
use crate::db::*;
use crate::keys::{KeyRange, Partition, PartitionKind, ThreadRow, UserRow};
use crate::model::{MessageKey, ThreadId, ThreadOrder};
use crate::rows::{EpochKey, Erasures, Head};
use crate::store::memory::{Memory, Timeout};
use crate::store::{Commit, Direction, Op};

const CANARY: &str = "canary-7f3a";

/// A world without encryption, whose store can be opened with it later.
async fn plain_world() -> World {
    World::open(Memory::default(), None).await
}

fn crypt() -> Option<Arc<Crypt>> {
    Encryption::On.crypt()
}

async fn sealed_world() -> World {
    World::open(Memory::default(), crypt()).await
}

/// Everything that a user can write, with the canary in all of it.
async fn write_canaries(world: &World) -> (ThreadId, MessageKey) {
    let caller = Caller { user: UserId::parse(&format!("user-{CANARY}")).expect("a valid id") };
    let content = crate::model::ThreadContent {
        title: format!("title {CANARY}"),
        slug: Some(CANARY.into()),
        metadata: Some(json(&format!("{{\"m\":\"{CANARY}\"}}"))),
    };
    let thread = world.db.create_thread(&caller, content, once(CANARY)).await.expect("created").key;
    let body = format!("\"{CANARY}\"");
    let new = |key: &str| (message(&body), once(&format!("{CANARY}{key}")));
    let (one, options) = new("1");
    let kept = world.db.create_message(&caller, thread, one, options).await.expect("created").key;
    let (two, options) = new("2");
    let gone = world.db.create_message(&caller, thread, two, options).await.expect("created").key;
    let changed = world.db.update_message(&caller, thread, kept, update(&body), once("e")).await;
    changed.expect("changed");
    world.db.delete_message(&caller, thread, gone, once("d")).await.expect("deleted");
    (thread, kept)
}

fn holds(memory: &Memory, needle: &str) -> Vec<String> {
    let rows = memory.rows().into_iter();
    let found = rows
        .filter(|(key, value)| [key, value].iter().any(|b| b.windows(needle.len()).any(|w| w == needle.as_bytes())));
    found.map(|(key, _)| Key::decode(&key).expect("a key").to_string()).collect()
}

fn put(memory: &Memory, key: Key, value: Vec<u8>) {
    let commit = Commit::of(key.partition(), vec![Op::Put(key, value)]);
    memory.commit(commit).expect("committed");
}

fn raw(memory: &Memory, key: Key) -> Vec<u8> {
    memory.get(&key).expect("read").expect("there")
}

fn head(memory: &Memory, thread: ThreadId) -> Head {
    Head::decode(&raw(memory, Key::Thread(thread, ThreadRow::Head))).expect("a head")
}

fn message_row(key: MessageKey) -> Key {
    let id = crate::model::MessageId { ts: key.ts, seq: key.seq.expect("a final key") };
    Key::Thread(key.thread, ThreadRow::Message(id))
}

/// What waits for a compaction.
fn pending(memory: &Memory) -> Option<Erasures> {
    let row = memory.get(&Key::Store(StoreRow::Erasures)).expect("read");
    row.map(|row| Erasures::decode(&row).expect("erasures"))
}

fn data_keys(memory: &Memory, thread: ThreadId) -> usize {
    let range = KeyRange::data_keys(Partition::Thread(thread));
    memory.scan(&range, Direction::Ascending, 100).expect("scanned").rows.len()
}

fn epochs(memory: &Memory) -> Vec<Partition> {
    memory.partitions(PartitionKind::Epoch, None, Direction::Ascending, 100).expect("listed")
}

#[tokio::test]
async fn no_row_holds_what_a_user_wrote() {
    let plain = plain_world().await;
    write_canaries(&plain).await;
    assert!(holds(&plain.memory, CANARY).len() > 5, "without encryption they are there to be found");
    let sealed = sealed_world().await;
    write_canaries(&sealed).await;
    assert_eq!(holds(&sealed.memory, CANARY), [""; 0]);
}

#[tokio::test]
async fn a_row_in_another_place_does_not_open() {
    let world = sealed_world().await;
    let (one, two) = (world.thread("one").await, world.thread("two").await);
    let (first, second) = (world.message(one, "1").await, world.message(one, "2").await);
    let foreign = world.message(two, "3").await;
    let original = raw(&world.memory, message_row(first));
    for other in [second, foreign] {
        put(&world.memory, message_row(first), raw(&world.memory, message_row(other)));
        let read = world.restarted().await.db.get_message(&ann(), one, first).await;
        assert!(matches!(&read, Err(Error::Corrupt { key }) if *key == message_row(first).to_string()), "{read:?}");
    }
    for bit in [0, 8, 40, 17 * 8, original.len() * 8 - 1] {
        let mut flipped = original.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        put(&world.memory, message_row(first), flipped);
        let read = world.restarted().await.db.get_message(&ann(), one, first).await;
        assert!(matches!(read, Err(Error::Corrupt { .. } | Error::Erased)), "bit {bit}: {read:?}");
    }
    put(&world.memory, message_row(first), original);
    let read = world.restarted().await.db.get_message(&ann(), one, first).await.expect("as it was");
    assert_eq!(read.content.body.get(), "1");
}

#[tokio::test]
async fn a_plain_row_put_among_sealed_ones_is_refused() {
    let (sealed, plain) = (sealed_world().await, plain_world().await);
    let thread = sealed.thread("t").await;
    let key = sealed.message(thread, "1").await;
    let foreign = plain.thread("t").await;
    let forged = plain.message(foreign, "\"forged\"").await;
    put(&sealed.memory, message_row(key), raw(&plain.memory, message_row(forged)));
    let read = sealed.restarted().await.db.get_message(&ann(), thread, key).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn turning_on_seals_what_is_there_and_a_crash_at_any_effect_loses_nothing() {
    for effects in 0.. {
        let world = plain_world().await;
        write_canaries(&world).await;
        let thread = world.thread("old").await;
        world.message(thread, "1").await;
        world.memory.die_after(effects);
        let turned_on = async {
            let db = World::try_open(world.memory.clone(), crypt()).await?;
            db.run_sealing_job().await.map_err(OpenError::Unreadable)
        };
        let died = turned_on.await.is_err();
        let world = World::open(world.memory.restarted(), crypt()).await;
        assert_eq!(world.bodies(thread).await, ["1"], "a mixed store is readable, died after {effects}");
        world.message(thread, "2").await;
        world.db.run_sealing_job().await.expect("goes on");
        assert_eq!(holds(&world.memory, CANARY), [""; 0]);
        assert!(world.db.is_all_sealed());
        let world = world.restarted().await;
        assert!(world.db.is_all_sealed());
        assert_eq!(world.bodies(thread).await, ["1", "2"]);
        assert_eq!(world.db.count_unsealed().await.expect("counted").values, 0);
        if !died {
            assert!(effects > 20, "the job has more effects than {effects}");
            break;
        }
    }
}

#[tokio::test]
async fn a_plain_copy_and_a_sealed_one_have_the_same_digest() {
    let world = plain_world().await;
    write_canaries(&world).await;
    let root = async |world: &World| world.db.digest(|_, _| {}).await.expect("read").root;
    let plain = root(&world).await;
    let sealed = World::open(world.memory.restarted(), crypt()).await;
    assert_eq!(root(&sealed).await, plain, "encryption is on and nothing is sealed yet");
    sealed.db.run_sealing_job().await.expect("sealed");
    assert_eq!(holds(&sealed.memory, CANARY), [""; 0]);
    assert_eq!(root(&sealed).await, plain);
    sealed.db.decrypt().await.expect("decrypted");
    assert_eq!(root(&World::open(sealed.memory.restarted(), None).await).await, plain);
}

#[tokio::test]
async fn a_wrong_master_key_is_named_and_changes_nothing() {
    let world = sealed_world().await;
    world.thread("t").await;
    let before = world.memory.rows();
    let opened = World::try_open(world.memory.restarted(), crypt_with([8; 32])).await.map(drop);
    let Err(OpenError::Keys(EpochError::Kms { epoch: 1, error: kms::Error::WrongKey { wanted, have } })) = opened
    else {
        panic!("{opened:?}");
    };
    let digits = [&wanted, &have].map(|name| name.strip_prefix("master key ").map(str::len));
    assert_eq!((digits, wanted == have), ([Some(16); 2], false), "{wanted} {have}");
    assert_eq!(world.memory.rows(), before);
}

#[tokio::test]
async fn a_sealed_store_is_not_opened_without_encryption() {
    let world = sealed_world().await;
    let opened = World::try_open(world.memory.restarted(), None).await.map(drop);
    assert!(matches!(opened, Err(OpenError::Sealed)), "{opened:?}");
}

#[tokio::test]
async fn a_store_secret_put_back_plain_is_refused_once_anything_is_sealed() {
    let world = sealed_world().await;
    world.thread("t").await;
    let secret = crate::rows::Secret { bytes: [1; 32], strict: false };
    put(&world.memory, Key::Store(StoreRow::Secret), secret.encode(1));
    let opened = World::try_open(world.memory.restarted(), crypt()).await.map(drop);
    assert!(matches!(&opened, Err(OpenError::Unreadable(Error::Corrupt { key })) if key == "s:secret"), "{opened:?}");
}

#[tokio::test]
async fn files_that_held_plain_rows_are_compacted_as_a_whole() {
    let world = plain_world().await;
    let thread = world.thread("t").await;
    world.erase(thread).await.expect("erased");
    let is_plain = |world: &World| pending(&world.memory).map(|noted| noted.plain);
    assert_eq!(is_plain(&world), Some(true), "its rows were plain");
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.erase(thread).await.expect("erased");
    assert_eq!(is_plain(&world), Some(false), "only its key has to go");
    let plain = plain_world().await;
    plain.thread("t").await;
    let world = World::open(plain.memory.restarted(), crypt()).await;
    world.db.run_sealing_job().await.expect("done");
    assert_eq!(is_plain(&world), Some(true), "what was sealed had been plain");
}

#[tokio::test]
async fn an_erasure_destroys_the_keys_first_and_is_finished_after_a_crash_at_any_effect() {
    for effects in 0.. {
        let world = sealed_world().await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        let key_id = world.db.list_rows(RowStore::Main, RowRequest { limit: 100, ..RowRequest::default() }).await;
        assert_eq!(key_id.expect("listed").total, 5, "head, object, participant, key, message");
        world.memory.die_after(effects);
        let erased = world.erase(thread).await;
        let world = world.restarted().await;
        let keys_left = data_keys(&world.memory, thread);
        let gone = world.db.get_thread(&ann(), thread).await;
        match keys_left {
            0 => assert!(matches!(gone, Err(Error::AccessDenied | Error::ThreadNotFound)), "{effects}: {gone:?}"),
            _ => assert!(gone.is_ok() && erased.is_err(), "{effects}: {gone:?}"),
        }
        if keys_left == 0 {
            assert_eq!(world.titles(ThreadOrder::Created).await, [""; 0]);
            world.pass(1_000_000);
            world.db.expire_idempotency(true).await.expect("finishes what is left");
            let rows = world.memory.rows();
            let left: Vec<_> = rows.keys().filter(|key| key.starts_with(&Partition::Thread(thread).encode())).collect();
            assert!(left.is_empty(), "{effects}: {left:?}");
        }
        if let Ok(receipt) = erased {
            assert_eq!(receipt.key_ids.len(), 1);
            assert_eq!(receipt.horizon - receipt.erased, 24 * 3_600_000_000_000);
            assert_eq!(world.db.stats().await.expect("counted").threads, 0);
            assert!(effects > 3, "an erasure has more effects than {effects}");
            break;
        }
    }
}

#[tokio::test]
async fn only_who_may_see_a_thread_erases_it_and_a_deleted_one_too() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    let stranger = Caller { user: UserId::parse("bob").expect("a valid id") };
    assert!(matches!(world.db.erase_thread(&stranger, thread, plain()).await, Err(Error::AccessDenied)));
    world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
    assert_eq!(world.erase(thread).await.expect("erased").key_ids.len(), 1);
    assert!(matches!(world.erase(thread).await, Err(Error::AccessDenied)), "it is not there any more");
}

#[tokio::test]
async fn retention_destroys_the_keys_of_what_it_purges() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
    world.pass(settings().thread_ttl.as_nanos() as u64 + 1_000_000);
    assert_eq!(world.db.purge(false).await.expect("purged").threads, 1);
    assert_eq!(data_keys(&world.memory, thread), 0);
    assert!(world.db.erasure_pending_since().await.expect("read").is_some(), "a compaction is due");
    world.pass(13 * 3_600_000_000_000);
    assert!(world.db.compact_if_due().await.expect("compacted"));
    assert_eq!(world.db.erasure_pending_since().await.expect("read"), None);
}

#[tokio::test]
async fn a_compaction_that_failed_stays_due() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.erase(thread).await.expect("erased");
    let noted = pending(&world.memory).expect("noted");
    world.pass(13 * HOUR);
    world.memory.time_out([Timeout::Unavailable]);
    let failed = world.db.compact_if_due().await;
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(pending(&world.memory), Some(noted));
    assert!(world.db.compact_if_due().await.expect("compacted"));
    assert_eq!(pending(&world.memory), None);
}

/// Without the note, nothing would compact the files that still hold the keys.
#[tokio::test]
async fn whoever_destroys_keys_notes_it_before_and_a_crash_at_any_effect_loses_no_note() {
    for (by_retention, least) in [(false, 3), (true, 3)] {
        for effects in 0.. {
            let world = sealed_world().await;
            let thread = world.thread("t").await;
            if by_retention {
                world.db.delete_thread(&ann(), thread, plain()).await.expect("deleted");
                world.pass(settings().thread_ttl.as_nanos() as u64 + 1_000_000);
            }
            world.memory.die_after(effects);
            let died = match by_retention {
                true => world.db.purge(false).await.is_err(),
                false => world.erase(thread).await.is_err(),
            };
            let noted = pending(&world.memory.restarted()).is_some();
            assert!(
                noted || data_keys(&world.memory, thread) == 1,
                "died after {effects}, by retention {by_retention}"
            );
            if !died {
                assert!(effects > least, "it has more effects than {effects}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_is_erased_leaves_memory() {
    let world = sealed_world().await;
    let thread = world.thread("t").await;
    world.message(thread, "1").await;
    world.bodies(thread).await;
    let place = Key::Thread(thread, ThreadRow::DataKey(1));
    let (crypt, now) = (world.db.crypt().expect("encrypted"), head(&world.memory, thread));
    let in_memory = || (crypt.keyring.data_key(place).is_some(), world.db.0.recent.get(thread, &now, 1).is_some());
    assert_eq!(in_memory(), (true, true));
    world.erase(thread).await.expect("erased");
    assert_eq!(in_memory(), (false, false));
}

#[tokio::test]
async fn decrypting_leaves_no_key_and_a_crash_at_any_effect_is_made_good_by_another_run() {
    for effects in 0.. {
        let world = sealed_world().await;
        let thread = world.thread("t").await;
        world.message(thread, "1").await;
        world.memory.die_after(effects);
        let died = world.db.decrypt().await.is_err();
        let memory = world.memory.restarted();
        if died {
            let world = World::open(memory.clone(), crypt()).await;
            assert_eq!(world.bodies(thread).await, ["1"], "died after {effects}");
            world.db.decrypt().await.expect("goes on");
        }
        let world = World::open(memory, None).await;
        assert_eq!(world.bodies(thread).await, ["1"]);
        assert_eq!(world.titles(ThreadOrder::Updated).await, ["t"]);
        let sealed = world.memory.rows().into_iter().filter(|(_, value)| value.first() == Some(&0xe1)).count();
        assert_eq!((sealed, data_keys(&world.memory, thread), epochs(&world.memory).len()), (0, 0, 0));
        if !died {
            break;
        }
        assert!(effects < 100, "it never ends");
    }
}

#[tokio::test]
async fn a_user_s_records_are_sealed_under_a_key_that_is_counted() {
    let world = sealed_world().await;
    world.db.create_thread(&ann(), thread("t"), once("1")).await.expect("created");
    world.db.create_thread(&ann(), thread("t"), once("2")).await.expect("created");
    let user = world.db.hash_user(&ann().user);
    assert_eq!(raw(&world.memory, Key::User(user, UserRow::Seals)), crate::rows::CounterValue(3).encode(1));
    let row = EpochKey::decode(&raw(&world.memory, Key::Epoch(1))).expect("an epoch");
    assert_eq!(row.wraps.len(), 1);
    // Those that the job seals count as well: the profile and the record.
    let plain = plain_world().await;
    plain.db.create_thread(&ann(), thread("t"), once("1")).await.expect("created");
    let world = World::open(plain.memory.restarted(), crypt()).await;
    world.db.run_sealing_job().await.expect("sealed");
    let user = world.db.hash_user(&ann().user);
    assert_eq!(raw(&world.memory, Key::User(user, UserRow::Seals)), crate::rows::CounterValue(2).encode(1));
}
