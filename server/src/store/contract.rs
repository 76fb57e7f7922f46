//! What every engine must do, run against every engine there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use testing::servers::cassandra::{DATACENTER, Ring};

use super::memory::{Memory, Timeout};
use super::{
    Commit, Compaction, Direction, Engine, Error, Op, Outcome, Precondition, SCAN_BYTES, SecondaryWrite, Settings,
    SharedSettings, Store,
};
use crate::keys::{Counter, Hash16, Key, KeyRange, Partition, PartitionKind, StoreRow, ThreadRow, UserRow};
use crate::model::{MessageId, ThreadId};
use crate::rows::{CounterValue, EVERY_FORMAT, Number, Row as _};

const THREAD: ThreadId = ThreadId(1_000);
const HEAD: Key = Key::Thread(THREAD, ThreadRow::Head);
const USER: Hash16 = Hash16([9; 16]);
const COUNTER: Key = Key::Store(StoreRow::Counter(Counter::Messages));

fn message(n: u64) -> Key {
    Key::Thread(THREAD, ThreadRow::Message(MessageId { ts: n, seq: n }))
}

fn put(key: Key, text: &str) -> Op {
    Op::Put(key, text.into())
}

fn commit(ops: Vec<Op>) -> Commit {
    Commit::of(Partition::Thread(THREAD), ops)
}

fn with_precondition(value: Option<&str>, ops: Vec<Op>) -> Commit {
    Commit { precondition: Some(Precondition { key: HEAD, value: value.map(Into::into) }), ..commit(ops) }
}

async fn texts(store: &Store, range: KeyRange, direction: Direction, limit: usize) -> Vec<String> {
    let scan = store.scan(range, direction, limit).await.expect("the engine reads");
    scan.rows.into_iter().map(|row| String::from_utf8(row.value).expect("texts were written")).collect()
}

async fn text(store: &Store, key: Key) -> Option<String> {
    let value = store.get(&key).await.expect("the engine reads");
    value.map(|value| String::from_utf8(value).expect("texts were written"))
}

async fn a_commit_is_visible_at_once_and_whole(store: Store) {
    let outcome = store.commit(commit(vec![put(HEAD, "head"), put(message(1), "one")])).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
    assert_eq!((text(&store, HEAD).await, text(&store, message(1)).await), (Some("head".into()), Some("one".into())));
    let many = store.get_many(vec![message(1), message(2), HEAD]).await.expect("the engine reads");
    assert_eq!(many, [Some(b"one".to_vec()), None, Some(b"head".to_vec())]);
}

async fn a_precondition_that_does_not_hold_changes_nothing(store: Store) {
    assert_eq!(store.commit(with_precondition(None, vec![put(HEAD, "a")])).await, Ok(Outcome::Committed));
    let with_secondary = Commit {
        secondary: vec![
            SecondaryWrite::Add(COUNTER, 1),
            SecondaryWrite::Put(Key::User(USER, UserRow::Profile), b"x".to_vec()),
        ],
        ..with_precondition(None, vec![put(HEAD, "b"), put(message(1), "one")])
    };
    assert_eq!(store.commit(with_secondary).await, Ok(Outcome::Conflict { current: Some(b"a".to_vec()) }));
    assert_eq!(text(&store, HEAD).await, Some("a".into()));
    assert_eq!(text(&store, message(1)).await, None);
    // Where partitions are not changed together, an index row may stand before its commit is refused.
    if !store.is_shared() {
        assert_eq!(text(&store, Key::User(USER, UserRow::Profile)).await, None);
    }
    assert_eq!(store.get(&COUNTER).await, Ok(None));
    assert_eq!(store.commit(with_precondition(Some("a"), vec![put(HEAD, "c")])).await, Ok(Outcome::Committed));
    assert_eq!(store.commit(with_precondition(Some("c"), vec![Op::Delete(HEAD)])).await, Ok(Outcome::Committed));
    assert_eq!(store.commit(with_precondition(Some("c"), vec![])).await, Ok(Outcome::Conflict { current: None }));
}

async fn scans_stay_in_range_and_within_the_limit(store: Store) {
    let mut ops: Vec<_> = (1..=5).map(|n| put(message(n), &n.to_string())).collect();
    ops.push(put(HEAD, "head"));
    ops.push(put(Key::Thread(THREAD, ThreadRow::Deleted(MessageId { ts: 1, seq: 1 })), "gone"));
    store.commit(commit(ops)).await.expect("committed");
    let neighbour = Key::Thread(ThreadId(1_001), ThreadRow::Message(MessageId { ts: 1, seq: 1 }));
    let elsewhere = Commit { partition: neighbour.partition(), ..commit(vec![put(neighbour, "other thread")]) };
    store.commit(elsewhere).await.expect("committed");

    let all = KeyRange::messages(THREAD);
    assert_eq!(texts(&store, all.clone(), Direction::Ascending, 9).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(texts(&store, all.clone(), Direction::Descending, 2).await, ["5", "4"]);
    let at = KeyRange::only(&message(3));
    assert_eq!(texts(&store, all.below(&at), Direction::Descending, 9).await, ["2", "1"]);
    assert_eq!(texts(&store, all.above(&at), Direction::Ascending, 1).await, ["4"]);
    assert_eq!(texts(&store, at, Direction::Ascending, 9).await, ["3"]);
    let whole = KeyRange::all(Partition::Thread(THREAD));
    assert_eq!(texts(&store, whole.clone(), Direction::Ascending, 3).await, ["head", "1", "2"]);
    assert_eq!(texts(&store, whole, Direction::Descending, 2).await, ["gone", "5"]);
    assert_eq!(texts(&store, KeyRange::messages(ThreadId(2)), Direction::Descending, 9).await, [""; 0]);
}

async fn a_scan_says_whether_there_is_more_and_ends_at_its_bytes(store: Store) {
    let quarter = "x".repeat(SCAN_BYTES / 4);
    for n in 1..=6 {
        store.commit(commit(vec![put(message(n), &quarter)])).await.expect("committed");
    }
    let scan = async |limit| {
        let scan = store.scan(KeyRange::messages(THREAD), Direction::Descending, limit).await;
        let scan = scan.expect("the engine reads");
        (scan.rows.len(), scan.more)
    };
    assert_eq!([scan(2).await, scan(3).await, scan(6).await], [(2, true), (3, true), (4, true)]);
    store.commit(commit(vec![Op::Delete(message(1)), Op::Delete(message(2))])).await.expect("committed");
    assert_eq!([scan(3).await, scan(4).await, scan(9).await], [(3, true), (4, false), (4, false)]);
}

async fn a_range_deletion_takes_its_range_and_nothing_else(store: Store) {
    let ops = (1..=4).map(|n| put(message(n), "m")).chain([put(HEAD, "head")]).collect();
    store.commit(commit(ops)).await.expect("committed");
    let deletion = vec![Op::DeleteRange(KeyRange::thread_without_head(THREAD)), put(HEAD, "after")];
    assert_eq!(store.commit(with_precondition(Some("head"), deletion)).await, Ok(Outcome::Committed));
    let whole = KeyRange::all(Partition::Thread(THREAD));
    assert_eq!(texts(&store, whole, Direction::Ascending, 9).await, ["after"]);
}

async fn a_put_into_a_range_that_the_same_commit_deletes_is_refused(store: Store) {
    store.commit(commit(vec![put(HEAD, "head"), put(message(1), "m")])).await.expect("committed");
    let range = || Op::DeleteRange(KeyRange::messages(THREAD));
    for ops in [vec![range(), put(message(2), "x")], vec![put(message(2), "x"), range()]] {
        assert_eq!(store.commit(commit(ops)).await, Err(Error::Contradiction));
    }
    let whole = KeyRange::all(Partition::Thread(THREAD));
    assert_eq!(texts(&store, whole, Direction::Ascending, 9).await, ["head", "m"]);
}

async fn secondary_writes_are_applied_and_counters_add_up(store: Store) {
    let index = Key::User(USER, UserRow::Created(THREAD));
    let with = |secondary| Commit { secondary, ..commit(vec![put(HEAD, "head")]) };
    let first = with(vec![SecondaryWrite::Put(index, b"i".to_vec()), SecondaryWrite::Add(COUNTER, 5)]);
    store.commit(first).await.expect("committed");
    assert_eq!(text(&store, index).await, Some("i".into()));
    store.commit(with(vec![SecondaryWrite::Delete(index), SecondaryWrite::Add(COUNTER, -2)])).await.expect("committed");
    assert_eq!(text(&store, index).await, None);
    assert_eq!(store.get(&COUNTER).await, Ok(Some(CounterValue(3).encode(EVERY_FORMAT))));
}

async fn every_change_of_a_number_counts_also_within_one_commit(store: Store) {
    let (other, mark) = (Key::Store(StoreRow::Counter(Counter::Users)), Key::Store(StoreRow::HighestTime));
    let adds = [(COUNTER, 5), (other, 1), (COUNTER, 2), (COUNTER, -1)].map(|(key, by)| SecondaryWrite::Add(key, by));
    let raises = [30, 10].map(|to| SecondaryWrite::Raise(mark, to));
    let change = commit(vec![put(HEAD, "head")]).with(adds).with(raises);
    for (times, counted, others) in [(1, 6, 1), (2, 12, 2)] {
        assert_eq!(store.commit(change.clone()).await, Ok(Outcome::Committed));
        let expected = [(COUNTER, counted), (other, others)];
        for (key, value) in expected {
            assert_eq!(store.get(&key).await, Ok(Some(CounterValue(value).encode(EVERY_FORMAT))), "{key} {times}");
        }
        assert_eq!(store.get(&mark).await, Ok(Some(Number(30).encode(EVERY_FORMAT))));
    }
}

async fn a_number_is_raised_and_never_lowered(store: Store) {
    let mark = Key::Store(StoreRow::HighestTime);
    for (to, want) in [(5, 5), (3, 5), (5, 5), (9, 9)] {
        let raise = Commit { secondary: vec![SecondaryWrite::Raise(mark, to)], ..commit(vec![put(HEAD, "head")]) };
        store.commit(raise).await.expect("committed");
        assert_eq!(store.get(&mark).await, Ok(Some(Number(want).encode(EVERY_FORMAT))), "raised to {to}");
    }
    let raises = [20, 10].map(|to| Commit { secondary: vec![SecondaryWrite::Raise(mark, to)], ..commit(Vec::new()) });
    let [first, second] = raises.map(|raise| store.commit(raise));
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first, second), (Ok(Outcome::Committed), Ok(Outcome::Committed)));
    assert_eq!(store.get(&mark).await, Ok(Some(Number(20).encode(EVERY_FORMAT))), "also within one group");
}

/// 64 callers race on one row; every increment must count once, whether callers share a group or not.
async fn racing_commits_are_serial(store: Store) {
    const CALLERS: usize = 64;
    store.commit(with_precondition(None, vec![put(HEAD, "0")])).await.expect("committed");
    let callers = (0..CALLERS).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut current = text(&store, HEAD).await.expect("the row is there");
            loop {
                let next = (current.parse::<usize>().expect("a number") + 1).to_string();
                let mine = Key::Thread(THREAD, ThreadRow::Message(MessageId { ts: caller as u64, seq: 0 }));
                let commit = Commit {
                    secondary: vec![SecondaryWrite::Add(COUNTER, 1)],
                    ..with_precondition(Some(&current), vec![put(HEAD, &next), put(mine, "m")])
                };
                match store.commit(commit.clone()).await {
                    Ok(Outcome::Committed) => return,
                    Ok(Outcome::Conflict { current: Some(value) }) => {
                        current = String::from_utf8(value).expect("texts were written");
                    }
                    Ok(Outcome::Conflict { current: None }) => panic!("the row vanished"),
                    // A shared engine under load may not say.
                    _ if store.is_shared() => {
                        if text(&store, mine).await.is_some() {
                            return store.complete(&commit).await;
                        }
                        current = text(&store, HEAD).await.expect("the row is there");
                    }
                    outcome => panic!("{outcome:?}"),
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no caller panics");
    }
    assert_eq!(text(&store, HEAD).await, Some(CALLERS.to_string()));
    let messages = texts(&store, KeyRange::messages(THREAD), Direction::Ascending, 1_000).await;
    assert_eq!(messages.len(), CALLERS);
    assert_eq!(store.get(&COUNTER).await, Ok(Some(CounterValue(CALLERS as i64).encode(EVERY_FORMAT))));
}

async fn partitions_are_enumerated_by_kind_and_in_pages(store: Store) {
    for n in [3, 1, 2] {
        let head = Key::Thread(ThreadId(n), ThreadRow::Head);
        let index = SecondaryWrite::Put(Key::User(Hash16([n as u8; 16]), UserRow::Profile), b"u".to_vec());
        let commit = Commit { partition: head.partition(), secondary: vec![index], ..commit(vec![put(head, "h")]) };
        store.commit(commit).await.expect("committed");
    }
    let walk = async |direction| {
        let page = |from| store.partitions(PartitionKind::Thread, from, direction, 2);
        let first = page(None).await?;
        let second = page(first.last().copied()).await?;
        Ok::<_, Error>([first, second].concat())
    };
    let mut there = walk(Direction::Ascending).await.expect("the engine reads");
    match walk(Direction::Descending).await {
        Ok(mut back) => {
            back.reverse();
            assert_eq!(there, back);
        }
        Err(error) => assert!(store.is_shared() && error == Error::Unsupported, "{error}"),
    }
    there.sort();
    assert_eq!(there, [1, 2, 3].map(|n| Partition::Thread(ThreadId(n))));
    let users = store.partitions(PartitionKind::User, None, Direction::Ascending, 9).await;
    assert_eq!(users.expect("the engine reads").len(), 3);
}

macro_rules! on_every_engine {
    ($($claim:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Store::Memory(super::Memory::default())).await;
            })*
        }
        mod in_rocksdb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                let directory = tempfile::tempdir().expect("a temporary directory");
                super::$claim(super::open(directory.path()).store()).await;
            })*
        }
        mod in_cassandra {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                if let Some([engine]) = super::connect(stringify!($claim)).await {
                    super::$claim(engine.store()).await;
                }
            })*
        }
    };
}

on_every_engine!(
    a_commit_is_visible_at_once_and_whole,
    a_precondition_that_does_not_hold_changes_nothing,
    scans_stay_in_range_and_within_the_limit,
    a_scan_says_whether_there_is_more_and_ends_at_its_bytes,
    a_range_deletion_takes_its_range_and_nothing_else,
    a_put_into_a_range_that_the_same_commit_deletes_is_refused,
    secondary_writes_are_applied_and_counters_add_up,
    every_change_of_a_number_counts_also_within_one_commit,
    a_number_is_raised_and_never_lowered,
    racing_commits_are_serial,
    partitions_are_enumerated_by_kind_and_in_pages,
);

/// So many servers of a keyspace of the test's own, on nodes that all tests share; none on a machine that cannot have one.
pub(crate) async fn connect<const N: usize>(test: &'static str) -> Option<[Engine; N]> {
    connect_to(&shared_settings(test)?).await
}

/// So many servers of this keyspace.
pub(crate) async fn connect_to<const N: usize>(settings: &SharedSettings) -> Option<[Engine; N]> {
    Engine::apply_schema(settings).await.expect("the tables are made");
    let mut engines = Vec::new();
    for _ in 0..N {
        engines.push(Box::pin(Engine::connect(settings)).await.expect("connected"));
    }
    engines.try_into().ok()
}

pub(crate) fn shared_settings(test: &'static str) -> Option<SharedSettings> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let ring = tokio::task::block_in_place(|| Ring::shared(test))?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(SharedSettings {
        contact_points: ring.contact_points().split(',').map(str::to_owned).collect(),
        datacenter: Some(DATACENTER.to_owned()),
        // The first name is a word of the engine's language.
        keyspace: if number == 0 { "full".to_owned() } else { format!("test_{number}") },
        replication_factor: ring.nodes().len().try_into().expect("a few nodes"),
        credentials: None,
        tls: None,
        version: "test".to_owned(),
        formats: [1, 1],
        read_only: false,
    })
}

fn settings(path: &std::path::Path) -> Settings {
    let path = path.join("store");
    Settings { path, create: true, memory_bytes: 64 << 20, reserve_bytes: 0, max_tables: 64, read_only: false }
}

fn open(path: &std::path::Path) -> Engine {
    Engine::open(settings(path)).expect("an empty directory opens")
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopen_also_without_a_flush() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (round, flush) in [(1, true), (2, false), (3, true)] {
        let engine = open(directory.path());
        let store = engine.store();
        let found = texts(&store, KeyRange::messages(THREAD), Direction::Ascending, 9).await.len();
        assert_eq!(found as u64, round - 1);
        store.commit(commit(vec![put(message(round), "m")])).await.expect("committed");
        if flush {
            engine.close().expect("flushed");
        }
    }
}

#[tokio::test]
async fn a_closed_or_read_only_store_refuses_commits_and_still_reads() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engine = open(directory.path());
    let store = engine.store();
    store.commit(commit(vec![put(HEAD, "head")])).await.expect("committed");
    engine.close().expect("flushed");
    assert!(matches!(store.commit(commit(vec![put(HEAD, "x")])).await, Err(Error::Stopped(_))));
    assert_eq!(text(&store, HEAD).await, Some("head".into()));
    drop((store, engine));
    let engine = Engine::open(Settings { read_only: true, ..settings(directory.path()) }).expect("opens");
    let store = engine.store();
    assert_eq!(text(&store, HEAD).await, Some("head".into()));
    assert!(matches!(store.commit(commit(vec![put(HEAD, "x")])).await, Err(Error::Stopped(_))));
}

/// A file of the store that holds rows.
fn a_table(path: &std::path::Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(path).expect("the store is there").map(|entry| entry.expect("an entry").path());
    let mut tables = entries.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    tables.next().expect("something was flushed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_leaves_no_file_and_says_so_if_it_does() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = settings(directory.path()).path;
    let engine = open(directory.path());
    for n in 1..=3 {
        engine.store().commit(commit(vec![put(message(n), "m"), put(HEAD, "head")])).await.expect("committed");
        // The second finds nothing but what the first has left, at the bottom already.
        for compaction in [Compaction::Rows, Compaction::Rows] {
            assert_eq!(engine.store().compact(compaction).await, Ok(()), "after {n}");
        }
    }
    engine.close().expect("flushed");
    drop(engine);
    let damaged = a_table(&path);
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[0] ^= 0xff;
    std::fs::write(&damaged, bytes).expect("written");
    let engine = open(directory.path());
    let compacted = engine.store().compact(Compaction::Rows).await;
    assert!(matches!(compacted, Err(Error::Compaction(_))), "{compacted:?}");
}

#[tokio::test]
async fn below_the_reserve_commits_are_refused_and_reads_go_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(directory.path()).store();
    store.commit(commit(vec![put(HEAD, "head")])).await.expect("committed");
    drop(store);
    let engine = Engine::open(Settings { reserve_bytes: u64::MAX, ..settings(directory.path()) }).expect("opens");
    let store = engine.store();
    assert_eq!(store.commit(commit(vec![put(HEAD, "x")])).await, Err(Error::DiskFull));
    assert_eq!((text(&store, HEAD).await, store.refused()), (Some("head".into()), Some(Error::DiskFull)));
}

#[tokio::test]
async fn the_memory_engine_dies_after_the_effect_it_was_told() {
    let memory = Memory::default();
    let store = Store::Memory(memory.clone());
    let index = Key::User(USER, UserRow::Profile);
    let doomed =
        Commit { secondary: vec![SecondaryWrite::Put(index, b"i".to_vec())], ..commit(vec![put(HEAD, "head")]) };
    memory.die_after(1);
    assert!(matches!(store.commit(doomed).await, Err(Error::Stopped(_))));
    let next = Store::Memory(memory.restarted());
    assert_eq!((text(&next, index).await, text(&next, HEAD).await), (Some("i".into()), None));
}

#[tokio::test]
async fn the_memory_engine_leaves_open_what_became_of_a_commit() {
    let memory = Memory::default();
    let store = Store::Memory(memory.clone());
    memory.time_out([Timeout::Lost, Timeout::Applied, Timeout::Unavailable]);
    let [lost, applied] = ["lost", "applied"].map(|text| commit(vec![put(HEAD, text)]));
    assert_eq!(store.commit(lost.clone()).await, Ok(Outcome::Unknown(Box::new(lost))));
    assert_eq!(text(&store, HEAD).await, None);
    assert_eq!(store.commit(applied.clone()).await, Ok(Outcome::Unknown(Box::new(applied))));
    assert_eq!(text(&store, HEAD).await, Some("applied".into()));
    assert!(matches!(store.commit(commit(vec![put(HEAD, "x")])).await, Err(Error::Unavailable(_))));
    assert_eq!(store.commit(commit(vec![])).await, Ok(Outcome::Committed));
    assert_eq!(text(&store, HEAD).await, Some("applied".into()));
}

/// A group is cut before a range deletion: rows that an earlier commit of the same drain wrote are deleted too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_deletion_among_waiting_commits_keeps_its_place() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(open(directory.path()).store());
    for _ in 0..50 {
        let before = store.commit(commit(vec![put(message(1), "before")]));
        let delete = store.commit(commit(vec![Op::DeleteRange(KeyRange::messages(THREAD))]));
        let after = store.commit(commit(vec![put(message(2), "after")]));
        let outcomes = tokio::join!(before, delete, after);
        assert_eq!(outcomes, (Ok(Outcome::Committed), Ok(Outcome::Committed), Ok(Outcome::Committed)));
        assert_eq!(texts(&store, KeyRange::messages(THREAD), Direction::Ascending, 9).await, ["after"]);
    }
}
