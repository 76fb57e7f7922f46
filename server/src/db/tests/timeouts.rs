//! A distributed engine that does not say in time what became of a commit: whatever it was, the write happens once.

use super::*;
use crate::store::memory::Timeout;

plain_and_sealed!(
    a_write_whose_commit_timed_out_happens_once,
    a_write_that_the_engine_refused_can_be_repeated,
    an_append_in_a_run_whose_commit_timed_out_is_there_once,
);

const WRITES: [&str; 8] =
    ["create thread", "create thread once", "append", "edit", "delete message", "rename", "delete thread", "erase"];

/// A thread with two messages, of which `key` is the first.
struct Before {
    world: World,
    thread: ThreadId,
    key: MessageKey,
}

impl Before {
    async fn new(encryption: Encryption) -> Self {
        let world = World::new(encryption).await;
        let thread = world.thread("old").await;
        let key = world.message(thread, "1").await;
        world.message(thread, "2").await;
        Self { world, thread, key }
    }

    async fn write(&self, write: &str) -> Result<(), Error> {
        let (db, thread, key) = (&self.world.db, self.thread, self.key);
        let renamed = ThreadUpdate { title: Some("new".into()), ..ThreadUpdate::default() };
        match write {
            // A user who was never seen, so that there is more to commit.
            "create thread" => db.create_thread(&caller("eve"), super::thread("t"), plain()).await.map(drop),
            "create thread once" => db.create_thread(&caller("eve"), super::thread("t"), once("k")).await.map(drop),
            "append" => db.create_message(&ann(), thread, message("3"), once("k")).await.map(drop),
            "edit" => db.update_message(&ann(), thread, key, update("3"), once("k")).await.map(drop),
            "delete message" => db.delete_message(&ann(), thread, key, once("k")).await.map(drop),
            "rename" => db.update_thread(&ann(), thread, renamed, once("k")).await.map(drop),
            "delete thread" => db.delete_thread(&ann(), thread, once("k")).await.map(drop),
            _ => db.erase_thread(&ann(), thread, once("k")).await.map(drop),
        }
    }

    /// All that a client can see of it, by user.
    async fn seen(&self) -> (Vec<String>, Vec<String>, Vec<String>, u64) {
        let db = &self.world.db;
        let page = db.list_threads(&caller("eve"), ThreadOrder::Updated, Cursor::Newest, 100).await.expect("listed");
        let messages = db.list_messages(&ann(), self.thread, Cursor::Newest, 100).await;
        let messages = messages.map(|page| page.items).unwrap_or_default();
        let shown = |message: &Arc<crate::model::Message>| {
            format!("{} {} {}", message.id.seq, message.revision, message.content.body.get())
        };
        let messages = messages.iter().map(shown).collect();
        let eves = page.items.into_iter().map(|thread| thread.content.title).collect();
        let stats = db.stats().await.expect("counted");
        (self.world.titles(ThreadOrder::Created).await, messages, eves, stats.threads * 1_000 + stats.messages)
    }
}

/// Each commit of each write times out in turn.
async fn a_write_whose_commit_timed_out_happens_once(encryption: Encryption) {
    for write in WRITES {
        let whole = Before::new(encryption).await;
        whole.write(write).await.expect("nothing is in the way");
        let expected = whole.seen().await;
        for timeout in [Timeout::Applied, Timeout::Lost] {
            for commits in 0.. {
                let before = Before::new(encryption).await;
                before.world.memory.time_out((0..commits).map(|_| Timeout::Never).chain([timeout]));
                before.write(write).await.unwrap_or_else(|error| panic!("{write}, {timeout:?}, {commits}: {error}"));
                let reached = before.world.memory.timeouts_left() == 0;
                assert_eq!(before.seen().await, expected, "{write}, {timeout:?} at commit {commits}");
                if !reached {
                    assert!(commits > 0, "{write} commits nothing");
                    break;
                }
            }
        }
    }
}

async fn a_write_that_the_engine_refused_can_be_repeated(encryption: Encryption) {
    for write in WRITES.into_iter().filter(|write| *write != "create thread") {
        let whole = Before::new(encryption).await;
        whole.write(write).await.expect("nothing is in the way");
        let expected = whole.seen().await;
        for commits in 0.. {
            let before = Before::new(encryption).await;
            before.world.memory.time_out((0..commits).map(|_| Timeout::Never).chain([Timeout::Unavailable]));
            let first = before.write(write).await;
            if before.world.memory.timeouts_left() > 0 {
                assert!(commits > 0 && first.is_ok(), "{write}: {first:?}");
                break;
            }
            assert!(matches!(first, Err(Error::Unavailable)), "{write} at commit {commits}: {first:?}");
            before.write(write).await.expect("repeated");
            assert_eq!(before.seen().await, expected, "{write}, refused at commit {commits}");
        }
    }
}

/// A run of appends shares one commit, and each of them its outcome.
async fn an_append_in_a_run_whose_commit_timed_out_is_there_once(encryption: Encryption) {
    for timeout in [Timeout::Applied, Timeout::Lost] {
        let world = World::new(encryption).await;
        let thread = world.thread("t").await;
        world.memory.time_out([Timeout::Never, timeout, timeout, timeout]);
        let appends = (0..20).map(|n| {
            let db = world.db.clone();
            tokio::spawn(async move { db.create_message(&ann(), thread, message(&n.to_string()), plain()).await })
        });
        for append in appends.collect::<Vec<_>>() {
            append.await.expect("it runs").expect("appended");
        }
        let mut bodies: Vec<u32> = world.bodies(thread).await.iter().map(|body| body.parse().expect("n")).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, (0..20).collect::<Vec<_>>(), "{timeout:?}");
    }
}

/// The jobs over the whole store come to the same end.
#[tokio::test]
async fn jobs_whose_commits_timed_out_come_to_the_same_end() {
    for timeout in [Timeout::Applied, Timeout::Lost] {
        for commits in 0.. {
            let plain_world = World::new(Encryption::Off).await;
            let kept = plain_world.thread("kept").await;
            let gone = plain_world.thread("gone").await;
            plain_world.message(kept, "1").await;
            plain_world.db.delete_thread(&ann(), gone, once("k")).await.expect("deleted");
            let world = World::open(plain_world.memory.restarted(), Encryption::On.crypt()).await;
            world.memory.time_out((0..commits).map(|_| Timeout::Never).chain([timeout]));
            let sealed = world.db.run_sealing_job().await.expect("sealed");
            assert_eq!((sealed.failed, world.db.is_all_sealed()), (0, true), "{timeout:?} at commit {commits}");
            world.db.begin_epoch().await.expect("begun");
            world.db.run_sealing_job().await.expect("wrapped anew");
            world.db.reencrypt_thread(kept).await.expect("sealed anew");
            world.pass(100 * HOUR);
            world.db.purge(false).await.expect("purged");
            world.db.compact_if_due().await.expect("compacted");
            let reached = world.memory.timeouts_left() == 0;
            let keys = world.memory.rows().keys().filter_map(|key| Key::decode(key)).collect::<Vec<_>>();
            assert!(!keys.iter().any(|key| key.partition() == Partition::Thread(gone)), "{timeout:?} {commits}");
            let data_keys = keys.iter().filter(|key| matches!(key, Key::Thread(_, ThreadRow::DataKey(_)))).count();
            let epochs = keys.iter().filter(|key| matches!(key, Key::Epoch(_))).count();
            assert_eq!((data_keys, epochs), (1, 1), "{timeout:?} at commit {commits}");
            assert_eq!(world.restarted().await.bodies(kept).await, ["1"]);
            if !reached {
                assert!(commits > 10, "the jobs have more commits than {commits}");
                break;
            }
        }
    }
}
