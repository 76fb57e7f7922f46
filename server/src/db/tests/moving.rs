//! Every row arrives as it was, whatever ends the import in between.

use super::*;
use crate::db::{Begun, Content, Held, ImportError, Item, Reading, Stand, Writing, check_integrity};
use crate::keys::ExpiryKind;
use crate::rows::{ImportProgress, JobProgress, MessageName, MigrationProgress, Present};
use crate::store::memory::Timeout;
use crate::store::{Commit, Op, SecondaryWrite};

plain_and_sealed!(
    every_row_arrives_as_it_was,
    an_import_that_dies_anywhere_is_ended_by_the_next,
    an_import_whose_commits_time_out_is_ended_by_the_next,
    a_run_goes_on_behind_what_is_there,
    nobody_opens_a_store_before_its_import_has_ended,
    engines_of_another_order_hold_the_same,
    what_no_thread_agrees_with_stays_behind,
);

const EXPORT: [u8; 16] = [3; 16];
const IMPORT: Key = Key::Store(StoreRow::Import);
const FORMAT: Key = Key::Store(StoreRow::Format);

/// Two users, edits, deletions, answers, an erased thread that is still to be removed, and a job that was interrupted.
async fn filled(encryption: Encryption) -> World {
    let world = World::new(encryption).await;
    let thread = world.db.create_thread(&ann(), thread("t"), once("t")).await.expect("created").key;
    let edited = world.message(thread, "1").await;
    world.db.update_message(&ann(), thread, edited, update("2"), plain()).await.expect("edited");
    let deleted = world.message(thread, "3").await;
    world.db.delete_message(&ann(), thread, deleted, once("d")).await.expect("deleted");
    let gone = world.thread("gone").await;
    world.db.delete_thread(&ann(), gone, plain()).await.expect("deleted");
    let bobs = super::thread("b");
    let bobs = world.db.create_thread(&caller("bob"), bobs, plain()).await.expect("created").key;
    world.db.create_message(&caller("bob"), bobs, message("4"), plain()).await.expect("created");
    let erased = world.thread("erased").await;
    world.db.erase_thread(&ann(), erased, once("e")).await.expect("erased");
    world
}

async fn items(memory: &Memory) -> Vec<Item> {
    let (store, mut items) = (Store::Memory(memory.clone()), Vec::new());
    let mut reading = Reading::behind(None);
    while let Some(portion) = reading.next_portion(&store).await.expect("read") {
        assert!(portion.items.iter().all(|item| item.key.partition() == portion.partition));
        items.extend(portion.items);
    }
    items
}

async fn content(memory: &Memory) -> Content {
    Content::of(&Store::Memory(memory.clone()), Reading::behind(None), |_| Ok::<_, Error>(())).await.expect("read")
}

async fn format(memory: &Memory) -> Format {
    Stand::of(&Store::Memory(memory.clone()), &Formats::CURRENT).await.expect("whole").format
}

async fn begin(memory: &Memory, export: [u8; 16]) -> Result<Begun, ImportError> {
    Writing::begin(&Store::Memory(memory.clone()), ID, export).await
}

/// One run of the command, which says how far it is after every partition. Compares before the last step, as it does.
async fn import(memory: &Memory, items: &[Item], format: Format, wanted: Content) -> Result<bool, ImportError> {
    let mut writing = match begin(memory, EXPORT).await? {
        Begun::There(_) => return Ok(true),
        Begun::Writing(writing) => writing.saving_every(1),
    };
    for item in items {
        writing.put(item.clone()).await?;
    }
    writing.finish(format).await?;
    let found = Content::of(&Store::Memory(memory.clone()), Reading::behind(None), |_| Ok::<_, Error>(())).await?;
    if found != wanted {
        writing.start_over().await?;
        return Ok(false);
    }
    writing.complete().await?;
    Ok(true)
}

/// The rows of both are the same, counters that stand at 0 aside.
#[track_caller]
fn check_same(one: &Memory, other: &Memory) {
    let rows = |memory: &Memory| {
        let mut rows = memory.rows();
        rows.retain(|key, value| {
            let is_counter = Key::decode(key).is_some_and(|key| Item::is_counter(&key));
            !is_counter || CounterValue::decode(value).expect("a counter").0 != 0
        });
        rows
    };
    assert_eq!(rows(one), rows(other));
}

async fn every_row_arrives_as_it_was(encryption: Encryption) {
    let world = filled(encryption).await;
    let (items, wanted, format) =
        (items(&world.memory).await, content(&world.memory).await, format(&world.memory).await);
    assert!(items.len() > 30, "{}", items.len());
    assert_eq!(wanted.rows, items.len() as u64);
    let target = Memory::default();
    assert!(import(&target, &items, format, wanted).await.expect("imported"));
    check_same(&world.memory, &target);
    assert!(matches!(begin(&target, EXPORT).await, Ok(Begun::There(there)) if there == format));
    let there = World::on(target, world.time.clone(), encryption).await;
    let titles = there.titles(ThreadOrder::Updated).await;
    assert_eq!((titles.len(), &titles), (1, &world.titles(ThreadOrder::Updated).await));
    assert_eq!(there.db.digest(|_, _| {}).await.expect("read"), world.db.digest(|_, _| {}).await.expect("read"));
    let checked = check_integrity(&Store::Memory(there.memory.clone()), Some(&there.db)).await.expect("read");
    assert!(checked.ok, "{:?}", checked.findings);
}

async fn an_import_that_dies_anywhere_is_ended_by_the_next(encryption: Encryption) {
    let world = filled(encryption).await;
    let (items, wanted, format) =
        (items(&world.memory).await, content(&world.memory).await, format(&world.memory).await);
    let mut died = 0;
    loop {
        let mut target = Memory::default();
        target.die_after(died);
        if import(&target, &items, format, wanted).await.is_ok() {
            break;
        }
        died += 1;
        // The next one dies as well, somewhere else.
        target = target.restarted();
        target.die_after(died * 7 % 31);
        let _ = import(&target, &items, format, wanted).await;
        target = target.restarted();
        assert!(import(&target, &items, format, wanted).await.expect("imported"), "after {died} effects");
        check_same(&world.memory, &target);
    }
    assert!(died > 30, "{died}");
}

async fn an_import_whose_commits_time_out_is_ended_by_the_next(encryption: Encryption) {
    let world = filled(encryption).await;
    let (items, wanted, format) =
        (items(&world.memory).await, content(&world.memory).await, format(&world.memory).await);
    for timeout in [Timeout::Lost, Timeout::Applied, Timeout::Unavailable] {
        for number in 0.. {
            let target = Memory::default();
            target.time_out(std::iter::repeat_n(Timeout::Never, number).chain([timeout]));
            let mut runs = 0;
            while !matches!(import(&target, &items, format, wanted).await, Ok(true)) {
                runs += 1;
                assert!(runs < 3, "{timeout:?} {number}: it never ends");
            }
            check_same(&world.memory, &target);
            if target.timeouts_left() > 0 {
                break;
            }
        }
    }
}

async fn a_run_goes_on_behind_what_is_there(encryption: Encryption) {
    let world = filled(encryption).await;
    let (items, wanted, format) =
        (items(&world.memory).await, content(&world.memory).await, format(&world.memory).await);
    let target = Memory::default();
    let Ok(Begun::Writing(first)) = begin(&target, EXPORT).await else { panic!("it is empty") };
    assert!(!first.goes_on());
    let (mut first, half) = (first.saving_every(1), items.len() / 2);
    for item in &items[..half] {
        first.put(item.clone()).await.expect("put");
    }
    drop(first);
    let saved = ImportProgress::decode(&target.get(&IMPORT).expect("read").expect("there")).expect("its own");
    let position = Partition::decode(&saved.position.expect("it was saved")).expect("a partition");
    let there = target.rows();
    // What lies in front of the position is not looked at again, so somebody else's change to it stays.
    let kept = items.iter().find(|item| item.key.partition() == position && !Item::is_counter(&item.key)).expect("one");
    target.commit(Commit::of(position, vec![Op::Delete(kept.key)])).expect("committed");
    // A counter that was added to once too often gets what it lacks, which is less than nothing.
    let counter = items.iter().find(|item| Item::is_counter(&item.key)).expect("one").key;
    let added = Commit::of(Partition::Store, Vec::new()).with([SecondaryWrite::Add(counter, 5)]);
    target.commit(added).expect("committed");
    let Ok(Begun::Writing(second)) = begin(&target, EXPORT).await else { panic!("it is not whole") };
    assert!(second.goes_on());
    assert!(!import(&target, &items, format, wanted).await.expect("ran"), "a row is missing, and that was noticed");
    let saved = ImportProgress::decode(&target.get(&IMPORT).expect("read").expect("there")).expect("its own");
    assert_eq!(saved.position, None, "the next run begins anew");
    assert!(target.rows().len() > there.len());
    assert!(import(&target, &items, format, wanted).await.expect("imported"));
    check_same(&world.memory, &target);
}

async fn nobody_opens_a_store_before_its_import_has_ended(encryption: Encryption) {
    let world = filled(encryption).await;
    let (items, format) = (items(&world.memory).await, format(&world.memory).await);
    let target = Memory::default();
    let store = Store::Memory(target.clone());
    let Ok(Begun::Writing(mut writing)) = begin(&target, EXPORT).await else { panic!("it is empty") };
    let open = async || Db::open(store.clone(), IDENTITY, &Formats::CURRENT, settings(), encryption.crypt()).await;
    let inspect = async || Db::inspect(&store, &Formats::CURRENT).await;
    for item in items {
        assert!(matches!(open().await.err(), Some(OpenError::Importing)));
        writing.put(item).await.expect("put");
    }
    writing.finish(format).await.expect("finished");
    assert!(matches!(open().await.err(), Some(OpenError::Importing)));
    assert!(matches!(inspect().await, Err(OpenError::Importing)));
    assert!(matches!(Stand::of(&store, &Formats::CURRENT).await, Err(OpenError::Importing)));
    let checked = check_integrity(&store, None).await.expect("read");
    assert_eq!(checked.findings.iter().map(|finding| finding.row.as_str()).collect::<Vec<_>>(), ["s:import"]);
    writing.complete().await.expect("completed");
    open().await.expect("a database");
    inspect().await.expect("a database");
}

/// An engine may list partitions in any order: neither what moves nor the digests depend on it.
async fn engines_of_another_order_hold_the_same(encryption: Encryption) {
    let world = filled(encryption).await;
    let (sent, wanted, format) =
        (items(&world.memory).await, content(&world.memory).await, format(&world.memory).await);
    let target = Memory::reversed();
    assert!(import(&target, &sent, format, wanted).await.expect("imported"));
    let received = items(&target).await;
    assert_ne!(received, sent, "it lists them in its own order");
    assert_eq!(content(&target).await, wanted);
    let there = World::on(target.clone(), world.time.clone(), encryption).await;
    let digest = world.db.digest(|_, _| {}).await.expect("read");
    assert_eq!(there.db.digest(|_, _| {}).await.expect("read"), digest);
    let checked = check_integrity(&Store::Memory(target), Some(&there.db)).await.expect("read");
    assert_eq!((checked.ok, checked.digest.map(|found| found.root)), (true, Some(digest.root)));
    let back = Memory::default();
    assert!(import(&back, &received, format, wanted).await.expect("imported"));
    check_same(&world.memory, &back);
}

#[tokio::test]
async fn only_an_empty_store_or_the_same_import_takes_rows() {
    let target = Memory::default();
    let Ok(Begun::Writing(_)) = begin(&target, EXPORT).await else { panic!("it is empty") };
    let other = begin(&target, [4; 16]).await.err();
    assert!(matches!(other, Some(ImportError::OtherExport { database_id: ID, export: EXPORT })), "{other:?}");
    let world = World::new(Encryption::Off).await;
    let store = Store::Memory(world.memory.clone());
    let other = Writing::begin(&store, [9; 16], EXPORT).await.err();
    assert!(matches!(other, Some(ImportError::Occupied { database_id: Some(ID) })), "{other:?}");
    for key in [Key::Epoch(1), Key::Thread(ThreadId(1), ThreadRow::Head), Key::Store(StoreRow::HighestTime)] {
        let memory = Memory::default();
        memory.commit(Commit::of(key.partition(), vec![Op::Put(key, vec![1])])).expect("committed");
        let occupied = begin(&memory, EXPORT).await.err();
        assert!(matches!(occupied, Some(ImportError::Occupied { database_id: None })), "{key}: {occupied:?}");
        assert_eq!(memory.rows().len(), 1, "nothing was changed");
    }
}

#[tokio::test]
async fn where_a_job_stopped_stays_behind_and_what_it_did_moves() {
    let memory = Memory::default();
    let (sealing, migration) = (Key::Store(StoreRow::Sealing), Key::Store(StoreRow::Migration(7)));
    let position = Some(Partition::Store.encode());
    let job = JobProgress { epoch: 2, position: position.clone(), started: 3, threads: 4, ..JobProgress::default() };
    let run = MigrationProgress { to: 2, position, started: 3, rows: 5, ..MigrationProgress::default() };
    let ops = vec![Op::Put(sealing, job.encode(1)), Op::Put(migration, run.encode(1)), Op::Put(FORMAT, vec![1])];
    let counter = Key::Store(StoreRow::Counter(Counter::Messages));
    let counted =
        [SecondaryWrite::Add(counter, 2), SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Users)), 0)];
    memory.commit(Commit::of(Partition::Store, ops).with(counted)).expect("committed");
    let migrated = MigrationProgress { position: None, ..run };
    let mut moved = vec![
        Item { key: migration, held: Held::Value(migrated.encode(1)) },
        Item { key: counter, held: Held::Count(2) },
    ];
    assert_eq!(items(&memory).await, moved, "neither the format nor a counter at 0 is among them");
    let ended = JobProgress { finished: 9, ..job };
    memory.commit(Commit::of(Partition::Store, vec![Op::Put(sealing, ended.encode(1))])).expect("committed");
    moved.insert(0, Item { key: sealing, held: Held::Value(ended.encode(1)) });
    assert_eq!(items(&memory).await, moved);
}

/// What a server of a shared store that died, or was overtaken, leaves there.
async fn what_no_thread_agrees_with_stays_behind(encryption: Encryption) {
    let world = filled(encryption).await;
    let exact = |memory: &Memory| {
        let store = Store::Memory(memory.clone());
        async move {
            let (mut reading, mut items) = (Reading::behind(None).exact(&Content::default()), Vec::new());
            while let Some(portion) = reading.next_portion(&store).await.expect("read") {
                items.extend(portion.items);
            }
            items
        }
    };
    let truth = items(&world.memory).await;
    assert_eq!(exact(&world.memory).await, truth, "where everything agrees, nothing stays behind");
    let live =
        world.db.list_threads(&ann(), ThreadOrder::Created, Cursor::Newest, 9).await.expect("listed").items[0].id;
    let (user, nobody, id) = (world.db.hash_user(&ann().user), ThreadId(7), MessageId { ts: START, seq: 99 });
    let row = |row| Key::User(user, row);
    let due = |thread, kind| Key::Expiry { due: START, thread, kind };
    let stale = [
        (row(UserRow::Created(nobody)), Present.encode(1)),
        (row(UserRow::Wrote(nobody)), Present.encode(1)),
        (row(UserRow::Active { updated: START, thread: live }), Present.encode(1)),
        (due(live, ExpiryKind::Thread), Present.encode(1)),
        (due(live, ExpiryKind::Message), MessageName(id).encode(1)),
    ];
    // About a thread that is gone: nobody's concern, and so it moves.
    let gone = (due(nobody, ExpiryKind::Erasure), Present.encode(1));
    for (key, value) in stale.iter().chain([&gone]) {
        world.memory.plant(key.encode(), value.clone());
    }
    let [threads, messages, sequence, users] = Counter::ALL.map(|counter| Key::Store(StoreRow::Counter(counter)));
    let drifted = [(row(UserRow::LiveThreads), 3), (threads, -7), (messages, -2), (sequence, -30), (users, 5)];
    let drifted = drifted.map(|(key, by)| SecondaryWrite::Add(key, by));
    world.memory.commit(Commit::of(Partition::Store, Vec::new()).with(drifted)).expect("committed");
    let found = exact(&world.memory).await;
    let is_sequence = |item: &Item| item.key == sequence;
    let names = |items: &[Item]| {
        let mut items: Vec<_> = items.iter().filter(|item| !is_sequence(item) && item.key != gone.0).cloned().collect();
        items.sort_by_key(|item| item.key);
        items
    };
    assert_eq!(names(&found), names(&truth));
    assert!(found.iter().any(|item| item.key == gone.0));
    // Edits and deletions are in no row: of writes, the least that there were.
    let least = found.iter().find(|item| is_sequence(item)).map(|item| item.held.clone());
    let threads = truth.iter().filter(|item| matches!(item.key, Key::Thread(_, ThreadRow::Head))).count() as i64;
    let Some(Held::Count(messages)) = truth.iter().find(|item| item.key == messages).map(|item| item.held.clone())
    else {
        panic!("messages are counted")
    };
    assert_eq!(least, Some(Held::Count(messages + threads)));
    assert_ne!(names(&items(&world.memory).await), names(&truth), "as it is, it is all there");
}

/// A thread of more rows than a page, and of more bytes than a commit.
#[tokio::test]
async fn a_large_partition_is_read_in_pages_and_put_in_commits() {
    let (memory, id) = (Memory::default(), ThreadId(1));
    let key = |seq| Key::Thread(id, ThreadRow::Message(MessageId { ts: seq + 1, seq }));
    for start in (0..2_500).step_by(500) {
        let ops = (start..start + 500).map(|seq| Op::Put(key(seq), vec![7; 1_000])).collect();
        memory.commit(Commit::of(Partition::Thread(id), ops)).expect("committed");
    }
    let user = Key::User(Hash16([1; 16]), UserRow::Profile);
    memory.commit(Commit::of(user.partition(), vec![Op::Put(user, vec![1])])).expect("committed");
    let store = Store::Memory(memory.clone());
    let (mut reading, mut sizes) = (Reading::behind(None), Vec::new());
    while let Some(portion) = reading.next_portion(&store).await.expect("read") {
        sizes.push((portion.partition.kind(), portion.items.len()));
    }
    let (thread, user) = (PartitionKind::Thread, PartitionKind::User);
    assert_eq!(sizes, [(thread, 1_000), (thread, 1_000), (thread, 500), (user, 1)]);
    let mut rest = Reading::behind(Some(Partition::Thread(id)));
    assert_eq!(rest.next_portion(&store).await.expect("read").map(|portion| portion.partition.kind()), Some(user));
    let target = Memory::default();
    let Ok(Begun::Writing(mut writing)) = begin(&target, EXPORT).await else { panic!("it is empty") };
    target.die_after(3);
    let mut put = Ok(());
    for item in items(&memory).await {
        put = writing.put(item).await;
        if put.is_err() {
            break;
        }
    }
    put.expect("only what waits for the end of its partition is not sent yet");
    assert!(writing.flush().await.is_err(), "the thread took three commits, the user a fourth");
}
