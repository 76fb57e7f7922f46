//! A store is raised to another format while servers write to it. What needs two servers is tried on a real engine, where a
//! machine can have one.

use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt as _;

use super::*;
use crate::db::edit::Edited;
use crate::db::walk::Rows;
use crate::format::{Change, Migration, MigrationTime};
use crate::rows::{Damaged, MessageRow, Present};
use crate::store::contract::connect;

plain_and_sealed!(what_a_client_writes_is_waited_for_before_another_format_is_followed);

/// A version that knows format 2, in which answers are indexed and nothing else is changed.
const NEXT: Formats = Formats { version: "next", reads: [1, 2], writes: 2, migrations: &[ANSWERS, NOTHING] };

const ANSWERS: Migration = Migration {
    number: 911,
    name: "answers",
    from: 1,
    to: 2,
    at: MigrationTime::Start,
    kinds: &[PartitionKind::Thread],
    range: KeyRange::all,
    rewrite: index_answer,
};
const NOTHING: Migration =
    Migration { number: 912, name: "nothing", at: MigrationTime::Finalize, rewrite: change_nothing, ..ANSWERS };

fn index_answer(key: Key, value: &[u8], _: u32) -> Result<Vec<Change>, Damaged> {
    let Key::Thread(thread, ThreadRow::Message(answer)) = key else { return Ok(Vec::new()) };
    let Some(parent) = MessageRow::decode(value)?.content.reply_to else { return Ok(Vec::new()) };
    let row = Key::Thread(thread, ThreadRow::Reply(parent, answer));
    Ok(vec![Change::Put(row, Present.encode(EVERY_FORMAT))])
}

fn change_nothing(_: Key, _: &[u8], _: u32) -> Result<Vec<Change>, Damaged> {
    Ok(Vec::new())
}

async fn next_version(world: &World) -> Db {
    let memory = world.memory.restarted();
    let opened = World::of_version(&NEXT, memory, world.time.clone(), world.encryption.crypt()).await;
    opened.expect("it reads both formats").db
}

async fn what_a_client_writes_is_waited_for_before_another_format_is_followed(encryption: Encryption) {
    let world = World::new(encryption).await;
    let thread = world.thread("t").await;
    let first = world.message(thread, "1").await;
    let user = Partition::User(world.db.hash_user(&ann().user));
    for (what, partition) in [
        ("a message", Partition::Thread(thread)),
        ("an edit", Partition::Thread(thread)),
        ("a deletion", Partition::Thread(thread)),
        ("the record of a creation", user),
        ("an erasure", Partition::Thread(thread)),
        ("what is left of an erasure", Partition::Store),
    ] {
        let db = next_version(&world).await;
        let Store::Memory(memory) = db.0.store.clone() else { unreachable!() };
        let (seen, waiting) = (Arc::new(AtomicUsize::new(0)), db.clone());
        let waited = seen.clone();
        memory.meanwhile(partition, move |_| {
            let is_waited_for = waiting.0.format.follow(2).now_or_never().is_none();
            waited.store(1 + usize::from(is_waited_for), Ordering::Relaxed);
        });
        match what {
            "a message" => db.create_message(&ann(), thread, message("2"), plain()).await.map(drop),
            "an edit" => db.update_message(&ann(), thread, first, update("2"), plain()).await.map(drop),
            "a deletion" => db.delete_message(&ann(), thread, first, plain()).await.map(drop),
            "the record of a creation" => db.create_thread(&ann(), super::thread("u"), once("k")).await.map(drop),
            _ => db.erase_thread(&ann(), thread, plain()).await.map(drop),
        }
        .expect("written");
        assert_eq!(seen.load(Ordering::Relaxed), 2, "{what}: 0 is no commit, 1 one that is not waited for");
        assert_eq!(db.0.format.follow(2).now_or_never(), Some(()), "{what}: it is answered");
        assert_eq!(db.health().format, 2);
    }
}

/// Servers of both versions on one store, which the older one made.
async fn both(test: &'static str) -> Option<[Db; 2]> {
    let [first, second] = connect(test).await?;
    let time = Arc::new(Manual::at(START));
    let server = async |store: Store, formats: &Formats| {
        let clock = Clock::manual(time.clone(), 0);
        let opened = Db::open_with_clock(store, IDENTITY, formats, settings(), Encryption::On.crypt(), clock).await;
        opened.expect("the store opens")
    };
    let old = server(first.store(), &Formats::CURRENT).await;
    Some([old, server(second.store(), &NEXT).await])
}

async fn answer(db: &Db, thread: ThreadId) {
    let first = db.create_message(&ann(), thread, message("1"), plain()).await.expect("created").key;
    let answer = NewMessage { parent: Some(first), ..message("2") };
    db.create_message(&ann(), thread, answer, plain()).await.expect("created");
}

async fn answers(db: &Db, thread: ThreadId) -> usize {
    let (mut found, mut rows) = (0, Rows::of(KeyRange::all(Partition::Thread(thread)), 100));
    while let Some(page) = rows.next_page(&db.0.store).await.expect("read") {
        let keys = page.into_iter().filter_map(|row| Key::decode(&row.key));
        found += keys.filter(|key| matches!(key, Key::Thread(_, ThreadRow::Reply(..)))).count();
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_servers_wrote_beside_a_start_migration_is_done_with_the_change_of_format() {
    let test = "what_older_servers_wrote_beside_a_start_migration_is_done_with_the_change_of_format";
    let Some([old, next]) = both(test).await else { return };
    let thread = old.create_thread(&ann(), thread("t"), plain()).await.expect("created").key;
    answer(&old, thread).await;
    next.migrate(&ANSWERS).await.expect("ran");
    answer(&old, thread).await;
    let pending = next.pending_migrations().await.expect("read");
    assert_eq!((pending.start.len(), answers(&next, thread).await), (0, 1), "it counts, and is not whole");

    next.clone().raise_format(&pending).await.expect("raised");
    let pending = next.pending_migrations().await.expect("read");
    let names: Vec<_> = pending.finalize.iter().map(|migration| migration.name).collect();
    assert_eq!((pending.begun, names), (true, vec!["answers", "nothing"]));
    let early = next.migrate(&ANSWERS).await.expect("read");
    assert_eq!((early.rows, answers(&next, thread).await), (0, 1), "not by who writes the former format");
    next.follow_others().await.expect("followed");
    for migration in pending.finalize {
        next.migrate(migration).await.expect("ran");
    }
    assert!(next.pending_migrations().await.expect("read").is_empty());
    assert_eq!(answers(&next, thread).await, 2);
}

/// A server may stand still with a commit that it has drafted, and be counted out meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_drafted_in_the_former_format_is_not_made_once_the_rows_are_rewritten() {
    let test = "a_commit_that_was_drafted_in_the_former_format_is_not_made_once_the_rows_are_rewritten";
    let Some([still, next]) = both(test).await else { return };
    let thread = still.create_thread(&ann(), thread("t"), plain()).await.expect("created").key;
    let drafted = AtomicUsize::new(0);
    let edited = still.edit_thread(thread, async |draft| {
        if drafted.fetch_add(1, Ordering::Relaxed) == 0 {
            let pending = next.pending_migrations().await?;
            next.clone().raise_format(&pending).await?;
            next.follow_others().await?;
            // There is no row that it changes.
            next.migrate(&NOTHING).await?;
        }
        Ok(Edited::Changed(draft, ()))
    });
    assert!(matches!(edited.await, Ok(Some(()))));
    assert_eq!(drafted.into_inner(), 2, "the first attempt was not made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_read_the_format_of_its_store_any_more_stops() {
    let test = "a_server_that_cannot_read_the_format_of_its_store_any_more_stops";
    let Some([old, next]) = both(test).await else { return };
    old.follow_others().await.expect("nothing has changed");
    assert_eq!(old.outdated().now_or_never(), None);
    let pending = next.pending_migrations().await.expect("read");
    next.clone().raise_format(&pending).await.expect("raised");
    assert!(matches!(old.follow_others().await, Err(Error::Stopped)));
    assert_eq!((old.outdated().await, old.health().format), (2, 1));
}
