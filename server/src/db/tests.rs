//! What the database promises, on an engine that can die after any effect.

mod crash;
mod lists;
mod promises;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

use super::*;
use crate::keys::{KeyRange, Partition, ThreadRow, UserRow};
use crate::model::{Cursor, MessageContent, MessageKey, ThreadContent, ThreadId, ThreadOrder};
use crate::rows::{Format, Head};
use crate::store::memory::Memory;

const START: u64 = 1_763_700_000_000_000_000;
const HOUR: u64 = 3_600_000_000_000;
const ID: [u8; 16] = [7; 16];

struct World {
    memory: Memory,
    now: Arc<AtomicU64>,
    db: Db,
}

impl World {
    async fn new() -> Self {
        Self::on(Memory::default(), Arc::new(AtomicU64::new(START))).await
    }

    async fn on(memory: Memory, now: Arc<AtomicU64>) -> Self {
        let clock = Clock::manual(now.clone());
        let db = Db::open_with_clock(Store::Memory(memory.clone()), ID, settings(), clock).await;
        Self { memory, now, db: db.expect("the store opens") }
    }

    /// What the next process finds after this one died.
    async fn restarted(&self) -> Self {
        Self::on(self.memory.restarted(), self.now.clone()).await
    }

    fn pass(&self, nanoseconds: u64) {
        self.now.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    async fn thread(&self, title: &str) -> ThreadId {
        self.db.create_thread(&ann(), thread(title), plain()).await.expect("created").key
    }

    async fn message(&self, thread: ThreadId, body: &str) -> MessageKey {
        self.db.create_message(&ann(), thread, message(body), plain()).await.expect("created").key
    }

    async fn bodies(&self, thread: ThreadId) -> Vec<String> {
        let page = self.db.list_messages(&ann(), thread, Cursor::Newest, 1_000).await.expect("listed");
        assert_eq!(page.total, page.items.len() as u64);
        page.items.iter().map(|message| message.content.body.get().to_owned()).collect()
    }

    async fn titles(&self, order: ThreadOrder) -> Vec<String> {
        let page = self.db.list_threads(&ann(), order, Cursor::Newest, 1_000).await.expect("listed");
        page.items.into_iter().map(|thread| thread.content.title).collect()
    }
}

fn settings() -> Settings {
    Settings {
        max_clock_jump: Duration::from_hours(24),
        tail_bytes: 1 << 20,
        retention: true,
        message_ttl: Duration::from_hours(48),
        thread_ttl: Duration::from_hours(72),
    }
}

fn caller(user: &str) -> Caller {
    Caller { user: UserId::parse(user).expect("a valid id") }
}

fn ann() -> Caller {
    caller("ann")
}

fn thread(title: &str) -> ThreadContent {
    ThreadContent { title: title.into(), slug: None, metadata: None }
}

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("valid JSON")
}

fn message(body: &str) -> NewMessage {
    let content = MessageContent { body: json(body), role: None, reply_to: None, metadata: None };
    NewMessage { content, parent: None }
}

fn update(body: &str) -> MessageUpdate {
    MessageUpdate { body: json(body), metadata: None }
}

fn plain() -> WriteOptions {
    WriteOptions::default()
}

fn once(key: &str) -> WriteOptions {
    WriteOptions { idempotency: Some(Idempotency { key: key.into(), request: [1; 32] }), if_match: None }
}
