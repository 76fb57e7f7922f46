//! Two servers on one store, and what a server that died leaves there. On a real engine, where a machine can have one.

use super::*;
use crate::format::{Change, Migration, MigrationTime};
use crate::rows::{Damaged, MessageRow};
use crate::store::contract::connect;
use crate::store::{Commit, Engine};

/// Two servers, each with a slot and a clock of its own.
struct Pair {
    engines: [Engine; 2],
    servers: [Db; 2],
    time: Arc<Manual>,
}

impl Pair {
    async fn open(test: &'static str, encryption: Encryption) -> Option<Self> {
        let [first, second] = connect(test).await?;
        let time = Arc::new(Manual::at(START));
        let server = async |engine: &Engine| {
            let clock = Clock::manual(time.clone(), 0);
            let opened =
                Db::open_with_clock(engine.store(), IDENTITY, &Formats::CURRENT, settings(), encryption.crypt(), clock);
            opened.await.expect("the store opens")
        };
        let servers = [server(&first).await, server(&second).await];
        Some(Self { engines: [first, second], servers, time })
    }
}

async fn titles(db: &Db, order: ThreadOrder) -> (Vec<String>, u64) {
    let page = db.list_threads(&ann(), order, Cursor::Newest, 100).await.expect("listed");
    (page.items.into_iter().map(|thread| thread.content.title).collect(), page.total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_acknowledged_the_other_reads() {
    let Some(pair) = Pair::open("what_one_server_acknowledged_the_other_reads", Encryption::On).await else { return };
    let [a, b] = &pair.servers;
    assert_ne!(pair.engines[0].store().slot(), pair.engines[1].store().slot());
    let mut made = Vec::new();
    for n in 0..6 {
        // Ids of two servers are in order only if time passes between them.
        pair.time.pass(1_000_000);
        let (writer, reader) = if n % 2 == 0 { (a, b) } else { (b, a) };
        let key = writer.create_thread(&ann(), thread(&n.to_string()), plain()).await.expect("created").key;
        let read = reader.get_thread(&ann(), key).await.expect("read through the other");
        assert_eq!(read.content.title, n.to_string());
        writer.create_message(&ann(), key, message("1"), plain()).await.expect("created");
        reader.create_message(&ann(), key, message("2"), plain()).await.expect("created");
        for server in [a, b] {
            let page = server.list_messages(&ann(), key, Cursor::Newest, 9).await.expect("listed");
            let bodies: Vec<_> = page.items.iter().map(|message| message.content.body.get()).collect();
            assert_eq!((bodies.concat().as_str(), page.total), ("12", 2));
        }
        made.push(n.to_string());
        let newest_first: Vec<_> = made.iter().rev().cloned().collect();
        for server in [a, b] {
            assert_eq!(titles(server, ThreadOrder::Created).await, (newest_first.clone(), n + 1));
            assert_eq!(titles(server, ThreadOrder::Updated).await, (newest_first.clone(), n + 1));
        }
    }
    assert_eq!(a.stats().await.expect("read"), Stats { threads: 6, messages: 12 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_write_one_thread_and_every_message_has_a_number_of_its_own() {
    const EACH: u64 = 40;
    let test = "both_write_one_thread_and_every_message_has_a_number_of_its_own";
    let Some(pair) = Pair::open(test, Encryption::Off).await else { return };
    let thread = pair.servers[0].create_thread(&ann(), thread("hot"), plain()).await.expect("created").key;
    let writers = pair.servers.iter().flat_map(|server| (0..EACH).map(move |n| (server.clone(), n)));
    let writers = writers.map(|(server, n)| {
        tokio::spawn(async move {
            let mut tries = 0..20;
            loop {
                match server.create_message(&ann(), thread, message(&n.to_string()), plain()).await {
                    // Refused, and nothing was written: it was overtaken too often.
                    Err(Error::Busy) if tries.next().is_some() => {}
                    written => return written.expect("written").key.seq,
                }
            }
        })
    });
    let mut numbers = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        numbers.push(writer.await.expect("no writer panics"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..2 * EACH).map(Some).collect::<Vec<_>>());
    let page = pair.servers[1].list_messages(&ann(), thread, Cursor::Newest, 1_000).await.expect("listed");
    assert_eq!((page.items.len() as u64, page.total), (2 * EACH, 2 * EACH));
    let (titles, total) = titles(&pair.servers[0], ThreadOrder::Updated).await;
    assert_eq!((titles, total), (vec!["hot".to_owned()], 1), "attempts that were refused left nothing in the list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_is_repeated_through_another_server_is_one_thread() {
    let test = "a_creation_that_is_repeated_through_another_server_is_one_thread";
    let Some(pair) = Pair::open(test, Encryption::On).await else { return };
    let [a, b] = &pair.servers;
    let create = async |server: &Db| server.create_thread(&ann(), thread("once"), once("k")).await;
    // At once, of which one may be told to come back, and later.
    let (first, second) = tokio::join!(create(a), create(b));
    let made = first.or(second).expect("one of them created it").key;
    pair.time.pass(1_000_000);
    for server in [a, b, a] {
        assert_eq!(create(server).await.expect("repeated").key, made);
        assert_eq!(titles(server, ThreadOrder::Created).await, (vec!["once".to_owned()], 1));
        assert_eq!(titles(server, ThreadOrder::Updated).await, (vec!["once".to_owned()], 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_retired_only_when_both_seal_with_the_next() {
    let test = "an_epoch_is_retired_only_when_both_seal_with_the_next";
    let Some(pair) = Pair::open(test, Encryption::On).await else { return };
    let [a, b] = &pair.servers;
    for server in [a, b] {
        server.follow_others().await.expect("followed");
    }
    let before = b.create_thread(&ann(), thread("before"), plain()).await.expect("created").key;
    assert_eq!(a.begin_epoch().await.expect("begun"), 2);
    assert!(matches!(a.run_sealing_job().await, Err(Error::Busy)), "the other still seals with the first");
    let between = b.create_thread(&ann(), thread("between"), plain()).await.expect("created").key;
    b.follow_others().await.expect("followed");
    a.run_sealing_job().await.expect("run");
    let crypt = Encryption::On.crypt().expect("encrypted");
    let report = verify_keys(&pair.engines[0].store(), &crypt, ID).await.expect("read");
    assert_eq!((report.failed, report.epochs), (0, 1), "{report:?}");
    for key in [before, between] {
        for server in [a, b] {
            server.get_thread(&ann(), key).await.expect("opens");
        }
    }
    b.follow_others().await.expect("followed");
    b.create_thread(&ann(), thread("after"), plain()).await.expect("created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_that_died_has_left_is_passed_over_and_put_right() {
    let test = "what_a_server_that_died_has_left_is_passed_over_and_put_right";
    let Some(pair) = Pair::open(test, Encryption::Off).await else { return };
    let [a, _] = &pair.servers;
    let user = a.hash_user(&ann().user);
    let real = a.create_thread(&ann(), thread("real"), plain()).await.expect("created").key;
    // Of a creation whose commit never came, of an attempt that was overtaken, and what both had counted.
    let nobody = ThreadId(START + 1);
    let created = Key::User(user, UserRow::Created(nobody));
    let active = |updated| Key::User(user, UserRow::Active { updated, thread: real });
    let left = [created, active(START + 3), active(START + 5)].map(|key| SecondaryWrite::Put(key, b"x".to_vec()));
    let counted = [Key::User(user, UserRow::LiveThreads), Key::Store(StoreRow::Counter(Counter::Threads))];
    let counted = counted.map(|key| SecondaryWrite::Add(key, 3));
    let store = pair.engines[0].store();
    let change = Commit::of(Partition::Store, Vec::new()).with(left).with(counted);
    store.commit(change).await.expect("committed");
    for order in [ThreadOrder::Created, ThreadOrder::Updated] {
        assert_eq!(titles(a, order).await, (vec!["real".to_owned()], 1));
    }
    assert!(store.get(&created).await.expect("read").is_some(), "it may be somebody's work in progress");
    // A creation may be repeated with its key for a day.
    pair.time.pass(HOUR);
    assert_eq!(titles(a, ThreadOrder::Created).await.0, ["real"]);
    assert!(store.get(&created).await.expect("read").is_some());
    pair.time.pass(25 * HOUR);
    for order in [ThreadOrder::Created, ThreadOrder::Updated] {
        assert_eq!(titles(a, order).await.0, ["real"]);
    }
    for key in [created, active(START + 3), active(START + 5)] {
        assert_eq!(store.get(&key).await, Ok(None));
    }
    assert_eq!(a.stats().await.expect("read").threads, 4);
    assert!(a.recount_store().await.expect("counted"));
    assert_eq!(a.stats().await.expect("read").threads, 1);
    assert!(!a.recount_store().await.expect("counted"), "nothing is wrong any more");
    // So many that they are not counted at each request.
    let (live, users) = (Key::User(user, UserRow::LiveThreads), Key::Store(StoreRow::Counter(Counter::Users)));
    let counted = [SecondaryWrite::Add(live, 5_000), SecondaryWrite::Add(users, 2)];
    store.commit(Commit::of(Partition::Store, Vec::new()).with(counted)).await.expect("committed");
    assert!(a.recount_store().await.expect("counted"));
    assert_eq!(a.live_threads(user).await.expect("read"), 1);
    assert_eq!(a.list_users(None, 9).await.expect("listed").total, 1);
    assert!(!a.recount_store().await.expect("counted"), "nothing is wrong any more");
}

/// How often a migration has stopped after it read a row, and how often it was told to go on.
static STOPPED: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);

/// Not for ever, so that a test that fails ends.
fn wait_for(counter: &AtomicU64, count: u64) {
    let reached = || (counter.load(Ordering::SeqCst) >= count).then_some(());
    let _ = testing::waiting::poll(std::time::Duration::from_secs(30), reached);
}

/// Makes all titles and bodies new, and stops once at a row of each kind.
const ANEW: Migration = Migration {
    number: 910,
    name: "anew",
    from: 1,
    to: 2,
    at: MigrationTime::Start,
    kinds: &[PartitionKind::Thread, PartitionKind::User],
    range: KeyRange::all,
    rewrite: write_anew,
};

fn write_anew(key: Key, value: &[u8], format: u32) -> Result<Vec<Change>, Damaged> {
    static STOPS: AtomicU64 = AtomicU64::new(2);
    let anew = match key {
        Key::Thread(_, ThreadRow::Message(_)) => MessageRow::decode(value)?.encode(format),
        Key::User(_, UserRow::Idempotency(_)) => crate::rows::Idempotency::decode(value)?.encode(format),
        _ => return Ok(Vec::new()),
    };
    // One message and one record.
    if STOPS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let stop = STOPPED.fetch_add(1, Ordering::SeqCst) + 1;
        wait_for(&TOLD, stop);
    }
    Ok(vec![Change::Put(key, anew)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_migration_undoes_nothing_that_is_written_meanwhile() {
    let test = "a_migration_undoes_nothing_that_is_written_meanwhile";
    let Some(pair) = Pair::open(test, Encryption::On).await else { return };
    let [a, b] = pair.servers.clone();
    let made = a.create_thread(&ann(), thread("t"), once("k")).await.expect("created").key;
    let key = a.create_message(&ann(), made, message("1"), plain()).await.expect("created").key;
    let migration = tokio::spawn(async move { a.migrate(&ANEW).await });
    let until_stop = async |stop| tokio::task::spawn_blocking(move || wait_for(&STOPPED, stop)).await.expect("waited");
    until_stop(1).await;
    b.update_message(&ann(), made, key, update("2"), plain()).await.expect("updated");
    b.create_message(&ann(), made, message("3"), plain()).await.expect("created");
    TOLD.store(1, Ordering::SeqCst);
    until_stop(2).await;
    let page = b.list_messages(&ann(), made, Cursor::Newest, 9).await.expect("listed");
    let bodies: Vec<_> = page.items.iter().map(|message| message.content.body.get()).collect();
    assert_eq!((bodies.concat().as_str(), page.total), ("23", 2));
    // Notes in the record of its creation that it must not be created again.
    b.erase_thread(&ann(), made, plain()).await.expect("erased");
    TOLD.store(2, Ordering::SeqCst);
    migration.await.expect("no panic").expect("migrated");
    let repeated = b.create_thread(&ann(), thread("t"), once("k")).await.expect("repeated");
    assert_eq!((repeated.key, repeated.replayed), (made, true));
    assert!(b.get_thread(&ann(), made).await.is_err(), "it was erased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_bring_one_migration_to_its_end() {
    const COUNTED: Migration = Migration { number: 911, name: "counted", rewrite: nothing, ..ANEW };
    fn nothing(_: Key, _: &[u8], _: u32) -> Result<Vec<Change>, Damaged> {
        Ok(Vec::new())
    }
    let test = "two_servers_bring_one_migration_to_its_end";
    let Some(pair) = Pair::open(test, Encryption::Off).await else { return };
    let [a, b] = &pair.servers;
    for n in 0..3 {
        a.create_thread(&ann(), thread(&n.to_string()), plain()).await.expect("created");
    }
    let (first, second) = tokio::join!(a.migrate(&COUNTED), b.migrate(&COUNTED));
    let (first, second) = (first.expect("migrated"), second.expect("migrated"));
    let again = a.migrate(&COUNTED).await.expect("what has ended is not run again");
    assert!(first.rows > 0 && first.rows == second.rows && again.rows == first.rows, "{first:?} {second:?}");
}
