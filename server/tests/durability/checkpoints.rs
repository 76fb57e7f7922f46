//! A checkpoint that is cut under full load opens like any store, and holds every write acknowledged before the cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use progressdb_server::db::{self, Caller, Db, NewMessage, WriteOptions};
use progressdb_server::format::{Formats, Identity};
use progressdb_server::keys::{Counter, Key, KeyRange, StoreRow, ThreadRow};
use progressdb_server::model::{Incarnation, MessageContent, MessageId, ThreadContent, ThreadId, UserId};
use progressdb_server::rows::{Head, Row as _};
use progressdb_server::store::{self, Direction, Engine};
use serde_json::value::RawValue;
use testing::{Random, temporary_directory, timed, variable, wait_until};

const WRITERS: usize = 32;
const THREADS: usize = 8;
const IDENTITY: Identity = Identity { database_id: [7; 16], incarnation: Incarnation(1) };

type Acknowledged = Arc<Mutex<Vec<(ThreadId, MessageId)>>>;

fn open(path: &Path, memory_bytes: u64, read_only: bool) -> Engine {
    let (path, create) = (path.to_owned(), !path.exists());
    let settings = store::Settings { path, create, memory_bytes, reserve_bytes: 0, max_tables: 256, read_only };
    Engine::open(settings).unwrap()
}

async fn database(engine: &Engine) -> Db {
    let settings = db::Settings {
        max_clock_jump: Duration::from_hours(24),
        accept_clock: false,
        read_only: false,
        makes_epochs: true,
        recent_bytes: 1 << 20,
        retention: false,
        message_ttl: Duration::from_hours(1),
        thread_ttl: Duration::from_hours(1),
        epoch_age: Duration::from_hours(1),
        rewrap_rate: 1_000,
        erasure_horizon: Duration::from_hours(1),
    };
    Db::open(engine.store(), IDENTITY, &Formats::CURRENT, settings, None).await.unwrap()
}

fn caller() -> Caller {
    Caller { user: UserId::parse("writer").unwrap() }
}

/// Appends until it is stopped, and notes each message once it is acknowledged.
async fn append(db: Db, threads: Vec<ThreadId>, mut random: Random, acknowledged: Acknowledged, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let thread = threads[random.below(threads.len())];
        // Some are as long as a log's block, so that a record is often in two.
        let text = "x".repeat(if random.below(20) == 0 { 40_000 } else { random.below(600) });
        let body = RawValue::from_string(format!("\"{text}\"")).unwrap();
        let content = MessageContent { body, role: None, reply_to: None, metadata: None };
        let message = NewMessage { content, parent: None };
        let written = db.create_message(&caller(), thread, message, WriteOptions::default()).await.unwrap();
        let id = MessageId { ts: written.key.ts, seq: written.key.seq.unwrap() };
        acknowledged.lock().unwrap().push((thread, id));
    }
}

/// What a checkpoint holds: every message of each thread. Everything that the store counts is counted again.
async fn read_whole(engine: &Engine, threads: &[ThreadId]) -> BTreeMap<ThreadId, BTreeSet<MessageId>> {
    let (store, db) = (engine.store(), database(engine).await);
    let mut found = BTreeMap::new();
    for thread in threads {
        let head = store.get(&Key::Thread(*thread, ThreadRow::Head)).await.unwrap().unwrap();
        let head = Head::decode(&head).unwrap();
        let (mut ids, mut range) = (BTreeSet::new(), KeyRange::messages(*thread));
        loop {
            let scan = store.scan(range.clone(), Direction::Ascending, 1_000).await.unwrap();
            for row in &scan.rows {
                match Key::decode(&row.key) {
                    Some(Key::Thread(_, ThreadRow::Message(id))) => ids.insert(id),
                    other => panic!("{other:?} among messages"),
                };
            }
            let Some(last) = scan.rows.last().filter(|_| scan.more) else { break };
            range.start = [last.key.as_slice(), &[0]].concat();
        }
        assert!(ids.iter().map(|id| id.seq).eq(0..head.next_seq), "{thread}: sequences are not dense");
        assert_eq!(head.live, head.next_seq, "{thread}");
        found.insert(*thread, ids);
    }
    let total: usize = found.values().map(BTreeSet::len).sum();
    assert_eq!(db.stats().await.unwrap(), db::Stats { threads: threads.len() as u64, messages: total as u64 });
    // The other client writes made the threads.
    assert_eq!(db.health().sequence, (total + threads.len()) as u64);
    let digest = db.digest(|_, _| {}).await.unwrap();
    assert_eq!((digest.threads, digest.messages), (threads.len() as u64, total as u64));
    found
}

/// A checkpoint that was cut.
struct Cut {
    path: PathBuf,
    /// How many messages were acknowledged before.
    acknowledged: usize,
    /// How many there were, as the cut itself says it.
    counter: Vec<u8>,
}

const COUNTER: Key = Key::Store(StoreRow::Counter(Counter::Messages));

async fn check(Cut { path, counter, .. }: &Cut, threads: &[ThreadId], acknowledged: &[(ThreadId, MessageId)]) {
    let found = {
        let engine = open(path, 64 << 20, true);
        assert_eq!(engine.store().get(&COUNTER).await.unwrap().as_ref(), Some(counter), "the cut saw another moment");
        read_whole(&engine, threads).await
    };
    for (thread, id) in acknowledged {
        assert!(found[thread].contains(id), "{} lacks {id:?} of {thread}", path.display());
    }
    // As a restore opens it: to write.
    let engine = open(path, 64 << 20, false);
    assert_eq!(read_whole(&engine, threads).await, found);
    engine.close().unwrap();
}

/// Cuts that many checkpoints of a store with this much memory while everyone appends, and checks them all. Says how long
/// that took.
async fn cut_under_load(cuts: usize, memory_bytes: u64) -> String {
    let directory = temporary_directory();
    let engine = open(&directory.path().join("store-1"), memory_bytes, false);
    let db = database(&engine).await;
    let mut threads = Vec::new();
    for n in 0..THREADS {
        let content = ThreadContent { title: format!("thread {n}"), slug: None, metadata: None };
        threads.push(db.create_thread(&caller(), content, WriteOptions::default()).await.unwrap().key);
    }
    let (acknowledged, stop) = (Acknowledged::default(), Arc::new(AtomicBool::new(false)));
    let mut random = Random::seeded();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| append(db.clone(), threads.clone(), random.fork(), acknowledged.clone(), stop.clone()))
        .map(tokio::spawn)
        .collect();

    let count = || acknowledged.lock().unwrap().len();
    let (mut made, mut times) = (Vec::new(), Vec::new());
    for n in 0..cuts {
        // At any moment of a flush or of a new log, not always right behind the last cut.
        let (before, more) = (count(), random.below(1_500));
        wait_until("more is written", || count() >= before + more);
        let path = directory.path().join(format!("backup-{n}"));
        let acknowledged = count();
        let (cut, time) = timed(|| engine.checkpoint(&path, &[COUNTER]));
        times.push(time);
        made.push(Cut { path, acknowledged, counter: cut.unwrap().remove(0).unwrap() });
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    for cut in &made {
        check(cut, &threads, &acknowledged[..cut.acknowledged]).await;
    }
    times.sort();
    assert_eq!(read_whole(&engine, &threads).await.values().map(BTreeSet::len).sum::<usize>(), acknowledged.len());
    engine.close().unwrap();
    let (messages, median, slowest) = (acknowledged.len(), times[cuts / 2], times[cuts - 1]);
    format!("{cuts} checkpoints of up to {messages} messages, each in {median:?}, the slowest in {slowest:?}")
}

fn cuts() -> usize {
    variable("PROGRESSDB_TORTURE_LOOPS").map_or(20, |text| text.parse().unwrap())
}

/// Small memtables: a flush or a new log at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checkpoints_under_load_hold_all_that_was_acknowledged() {
    println!("{}", cut_under_load(cuts(), 8 << 20).await);
}

/// The memory of a server by default: long logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checkpoints_with_long_logs_hold_all_that_was_acknowledged() {
    println!("{}", cut_under_load(cuts() / 2, 256 << 20).await);
}
