//! A store is brought to the next format, whatever interrupts that, and loses nothing.

use super::*;
use crate::format::{Change, Migration, MigrationTime};
use crate::rows::{Damaged, MessageRow, Present, Profile};
use crate::store::{Commit, Op};

plain_and_sealed!(
    an_older_version_reads_the_store_after_start_migrations_and_has_them_run_again,
    a_crash_at_any_effect_is_made_good_by_the_next_run,
    sealed_rows_are_rewritten_sealed_and_counted,
    what_a_migration_would_do_is_said_without_doing_it,
    a_damaged_row_stops_a_migration_and_is_named,
    an_erased_thread_is_passed_over,
    a_change_of_format_is_ended_by_a_version_that_knows_it_only,
);

/// A version that knows format 2, in which replies are indexed and all rows of a thread say the format.
const NEXT: Formats = Formats { version: "next", reads: [1, 2], writes: 2, migrations: &[REPLIES, ROWS, PROFILES] };

const REPLIES: Migration = Migration {
    number: 901,
    name: "replies",
    from: 1,
    to: 2,
    at: MigrationTime::Start,
    kinds: &[PartitionKind::Thread],
    range: KeyRange::all,
    rewrite: index_reply,
};
const ROWS: Migration =
    Migration { number: 902, name: "rows", at: MigrationTime::Finalize, rewrite: rewrite_row, ..REPLIES };
const PROFILES: Migration =
    Migration { number: 903, name: "profiles", kinds: &[PartitionKind::User], rewrite: rewrite_profile, ..ROWS };

fn index_reply(key: Key, value: &[u8], _: u32) -> Result<Vec<Change>, Damaged> {
    let Key::Thread(thread, ThreadRow::Message(reply)) = key else { return Ok(Vec::new()) };
    let parent = MessageRow::decode(value)?.content.reply_to;
    let row = |parent| Key::Thread(thread, ThreadRow::Reply(parent, reply));
    Ok(parent.map(|parent| Change::Put(row(parent), Present.encode(EVERY_FORMAT))).into_iter().collect())
}

fn rewrite_row(key: Key, value: &[u8], format: u32) -> Result<Vec<Change>, Damaged> {
    let Key::Thread(_, row) = key else { return Ok(Vec::new()) };
    let rewritten = match row {
        _ if u32::from(value[0]) == format => return Ok(Vec::new()),
        ThreadRow::Head => Head::decode(value)?.encode(format),
        ThreadRow::Message(_) => MessageRow::decode(value)?.encode(format),
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Change::Put(key, rewritten)])
}

fn rewrite_profile(key: Key, value: &[u8], format: u32) -> Result<Vec<Change>, Damaged> {
    let Key::User(_, UserRow::Profile) = key else { return Ok(Vec::new()) };
    let is_new = u32::from(value[0]) == format;
    Ok(if is_new { Vec::new() } else { vec![Change::Put(key, Profile::decode(value)?.encode(format))] })
}

async fn next_version(world: &World) -> Db {
    let memory = world.memory.restarted();
    let opened = World::of_version(&NEXT, memory, world.time.clone(), world.encryption.crypt()).await;
    opened.expect("it reads both formats").db
}

/// Three threads; in each a message, an answer to it, and an edit. Enough of them for more than one page of partitions
/// would only make the crashes slower.
async fn filled(encryption: Encryption) -> World {
    let world = World::new(encryption).await;
    for n in 0..3 {
        let thread = world.thread(&n.to_string()).await;
        let first = world.message(thread, "1").await;
        answer(&world, thread, first).await;
        world.db.update_message(&ann(), thread, first, update("2"), plain()).await.expect("updated");
    }
    world
}

async fn answer(world: &World, thread: ThreadId, parent: MessageKey) {
    let new = NewMessage { parent: Some(parent), ..super::message("3") };
    world.db.create_message(&ann(), thread, new, plain()).await.expect("created");
}

/// Runs all that is pending, as a server does.
async fn run(memory: &Memory, world: &World) -> Result<(), Error> {
    let reopen = async || {
        let opened = World::of_version(&NEXT, memory.clone(), world.time.clone(), world.encryption.crypt()).await;
        opened.map_err(|error| match error {
            OpenError::Unreadable(error) => error,
            OpenError::Keys(error) => error.into(),
            other => panic!("{other}"),
        })
    };
    let mut db = reopen().await?.db;
    let pending = db.pending_migrations().await?;
    for migration in &pending.start {
        db.migrate(migration).await?;
    }
    if pending.raise_to.is_some() {
        db.raise_format(&pending).await?;
        db = reopen().await?.db;
    }
    for migration in &pending.finalize {
        db.migrate(migration).await?;
    }
    Ok(())
}

fn replies(memory: &Memory) -> usize {
    let keys = memory.rows().into_keys().filter_map(|key| Key::decode(&key));
    keys.filter(|key| matches!(key, Key::Thread(_, ThreadRow::Reply(..)))).count()
}

async fn root(db: &Db) -> String {
    db.digest(|_, _| {}).await.expect("every row is read").root
}

async fn an_older_version_reads_the_store_after_start_migrations_and_has_them_run_again(encryption: Encryption) {
    let world = filled(encryption).await;
    let before = root(&world.db).await;
    let next = next_version(&world).await;
    let Store::Memory(memory) = next.0.store.clone() else { unreachable!() };
    let done = next.migrate(&REPLIES).await.expect("ran");
    assert_eq!((done.changed, replies(&memory)), (3, 3));
    assert_eq!(next.pending_migrations().await.expect("read").start.len(), 0);
    let newer = World::of_version(&NEXT, memory.restarted(), world.time.clone(), encryption.crypt()).await;
    assert!(newer.expect("opens").db.pending_migrations().await.expect("read").start.is_empty(), "it is remembered");

    let back = World::on(memory.restarted(), world.time.clone(), encryption).await;
    assert_eq!(root(&back.db).await, before, "what is added is no content");
    let thread = back.thread("3").await;
    let parent = back.message(thread, "1").await;
    answer(&back, thread, parent).await;
    run(&back.memory, &back).await.expect("ran");
    assert_eq!(replies(&back.memory), 4, "what the older version wrote is indexed as well");
}

/// Dies after each effect in turn, of the migrations and of the raise between them.
async fn a_crash_at_any_effect_is_made_good_by_the_next_run(encryption: Encryption) {
    let world = filled(encryption).await;
    let before = root(&world.db).await;
    let (mut died, mut refused) = (0, 0);
    for effects in 0.. {
        let memory = world.memory.restarted();
        memory.die_after(effects);
        let first = run(&memory, &world).await;
        let memory = memory.restarted();
        match World::with(memory.clone(), world.time.clone(), encryption.crypt()).await {
            Ok(old) => assert_eq!(root(&old.db).await, before, "after {effects} effects"),
            Err(OpenError::Format(unreadable)) => {
                assert_eq!(unreadable.found, 2);
                refused += 1;
            }
            Err(other) => panic!("after {effects} effects: {other}"),
        }
        let memory = memory.restarted();
        run(&memory, &world).await.expect("the next run ends it");
        let all = World::of_version(&NEXT, memory.clone(), world.time.clone(), encryption.crypt()).await;
        let db = all.expect("opens").db;
        assert!(db.pending_migrations().await.expect("read").is_empty());
        assert_eq!((root(&db).await, replies(&memory), db.health().format), (before.clone(), 3, 2));
        if first.is_ok() {
            break;
        }
        died += 1;
    }
    assert!(died > 10 && refused > 5, "{died} crashes, {refused} of them behind the raise");
}

async fn sealed_rows_are_rewritten_sealed_and_counted(encryption: Encryption) {
    let world = filled(encryption).await;
    let memory = world.memory.restarted();
    run(&memory, &world).await.expect("ran");
    let opened = World::of_version(&NEXT, memory.clone(), world.time.clone(), encryption.crypt()).await;
    let db = opened.expect("opens").db;
    let (mut heads, mut messages, mut profiles) = (0, 0, 0);
    for (key, value) in memory.rows() {
        let key = Key::decode(&key).expect("a key");
        let sealed = seal::generation(&value).is_some();
        let version = match key {
            Key::Thread(_, ThreadRow::Head) => &mut heads,
            Key::Thread(_, ThreadRow::Message(_)) => &mut messages,
            Key::User(_, UserRow::Profile) => &mut profiles,
            _ => continue,
        };
        assert_eq!(sealed, encryption == Encryption::On && key.is_private(), "{key}");
        assert_eq!(db.open_value(key, value).await.expect("opens")[0], 2, "{key}");
        *version += 1;
    }
    assert_eq!((heads, messages, profiles), (3, 6, 1));
    // The object, the owner, two messages twice, an edit that wrote two rows, an entry of the index.
    for thread in db.threads_of_everyone().await {
        let head = db.head(thread).await.expect("read").expect("there").head;
        assert_eq!(head.seals, if encryption == Encryption::On { 9 } else { 0 });
    }
}

impl Db {
    async fn threads_of_everyone(&self) -> Vec<ThreadId> {
        let mut walk = Partitions::all(&[PartitionKind::Thread]);
        let page = walk.next_page(&self.0.store).await.expect("read").unwrap_or_default();
        page.into_iter().filter_map(|p| if let Partition::Thread(thread) = p { Some(thread) } else { None }).collect()
    }
}

async fn what_a_migration_would_do_is_said_without_doing_it(encryption: Encryption) {
    let world = filled(encryption).await;
    let next = next_version(&world).await;
    let Store::Memory(memory) = next.0.store.clone() else { unreachable!() };
    let before = memory.rows();
    let [replies, rows] = [&REPLIES, &ROWS].map(|migration| next.foresee(migration));
    let (replies, rows) = (replies.await.expect("read"), rows.await.expect("read"));
    assert_eq!((replies.changes, rows.changes), (3, 9), "replies; heads and messages");
    assert!(replies.rows >= 15 && replies.sample_rows == replies.rows, "{replies:?}");
    assert_eq!(memory.rows(), before);
}

async fn a_damaged_row_stops_a_migration_and_is_named(encryption: Encryption) {
    let world = filled(encryption).await;
    let thread = world.thread("damaged").await;
    let key = Key::Thread(thread, ThreadRow::Message(MessageId { ts: START, seq: 9 }));
    let commit = Commit::of(key.partition(), vec![Op::Put(key, vec![1, 2, 3])]);
    world.memory.commit(commit).expect("written");
    let stopped = run(&world.memory.restarted(), &world).await;
    assert!(matches!(&stopped, Err(Error::Corrupt { key: named }) if *named == key.to_string()), "{stopped:?}");
}

async fn an_erased_thread_is_passed_over(encryption: Encryption) {
    let world = filled(encryption).await;
    let thread = world.thread("erased").await;
    world.message(thread, "1").await;
    // As between the two commits of an erasure.
    let key = Op::Delete(Key::Thread(thread, ThreadRow::DataKey(1)));
    world.memory.commit(Commit::of(Partition::Thread(thread), vec![key])).expect("written");
    run(&world.memory.restarted(), &world).await.expect("ran");
}

async fn a_change_of_format_is_ended_by_a_version_that_knows_it_only(encryption: Encryption) {
    const OTHER: Formats = Formats { reads: [1, 2], writes: 2, ..Formats::CURRENT };
    let world = filled(encryption).await;
    let next = next_version(&world).await;
    let Store::Memory(memory) = next.0.store.clone() else { unreachable!() };
    let pending = next.pending_migrations().await.expect("read");
    assert_eq!((pending.raise_to, pending.begun, pending.finalize.len()), (Some(2), false, 2));
    next.raise_format(&pending).await.expect("raised");
    let other = World::of_version(&OTHER, memory.restarted(), world.time.clone(), encryption.crypt()).await.err();
    assert!(matches!(&other, Some(OpenError::Unfinished { version }) if version == NEXT.version));
    let same = World::of_version(&NEXT, memory.restarted(), world.time.clone(), encryption.crypt()).await;
    let pending = same.expect("opens").db.pending_migrations().await.expect("read");
    assert_eq!((pending.raise_to, pending.begun, pending.finalize.len()), (None, true, 2));
    run(&memory, &world).await.expect("ran");
    World::of_version(&OTHER, memory.restarted(), world.time.clone(), encryption.crypt()).await.expect("it is done");
}
