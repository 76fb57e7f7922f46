//! What the database promises, on an engine that can die after any effect: without encryption and with it.

/// Makes two tests of each function, which is given whether the world is to be encrypted.
macro_rules! plain_and_sealed {
    ($($name:ident),+ $(,)?) => {
        mod plain {
            $(#[tokio::test] async fn $name() { super::$name($crate::db::tests::Encryption::Off).await })+
        }
        mod sealed {
            $(#[tokio::test] async fn $name() { super::$name($crate::db::tests::Encryption::On).await })+
        }
    };
}

/// Makes the same two tests of each function on a real shared engine, where a machine can have one.
macro_rules! plain_and_sealed_on_shared {
    ($($name:ident),+ $(,)?) => {
        mod on_shared {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    for encryption in [$crate::db::tests::Encryption::Off, $crate::db::tests::Encryption::On] {
                        $crate::db::tests::on_shared(stringify!($name), super::$name(encryption)).await;
                    }
                }
            )+
        }
    };
}

/// Both of the above: on a real shared engine too, but for those that rest on what an engine in memory can be told.
macro_rules! plain_and_sealed_on_every_engine {
    ($($name:ident),+ ; in_memory_only: $($in_memory:ident),+ $(,)?) => {
        plain_and_sealed!($($name,)+ $($in_memory),+);
        plain_and_sealed_on_shared!($($name),+);
    };
}

mod clock;
mod crash;
mod digest;
mod encryption;
mod format_change;
mod formats;
mod integrity;
mod lists;
mod migrations;
mod moving;
mod promises;
mod receipts;
mod reserved;
mod shared;
mod timeouts;

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::value::RawValue;

use super::*;
use crate::clock::Manual;
use crate::crypt::kms::settings::MasterKey;
use crate::crypt::kms::{self, Kms};
use crate::crypt::seal;
use crate::format::{Formats, Identity, Unreadable};
use crate::keys::{KeyRange, Partition, PartitionKind, ThreadRow, UserRow};
use crate::model::{Cursor, Incarnation, MessageContent, MessageId, MessageKey, ThreadContent, ThreadId, ThreadOrder};
use crate::rows::{EVERY_FORMAT, Format, Head, Number};
use crate::store::memory::Memory;

const START: u64 = 1_763_700_000_000_000_000;
const HOUR: u64 = 3_600_000_000_000;
pub(super) const ID: [u8; 16] = [7; 16];
const IDENTITY: Identity = Identity { database_id: ID, incarnation: Incarnation(1) };

/// Whether private rows are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    Off,
    On,
}

impl Encryption {
    fn crypt(self) -> Option<Arc<Crypt>> {
        match self {
            Self::Off => None,
            Self::On => crypt_with([7; 32]),
        }
    }
}

tokio::task_local! {
    /// What the worlds of a test stand on, if not on an engine in memory.
    static SHARED: Store;
}

/// Runs a test on a keyspace of its own; not at all where there is no such engine.
async fn on_shared(test: &'static str, run: impl Future<Output = ()>) {
    if let Some([engine]) = crate::store::contract::connect(test).await {
        SHARED.scope(engine.store(), run).await;
    }
}

pub(super) struct World {
    pub(super) memory: Memory,
    pub(super) time: Arc<Manual>,
    pub(super) db: Db,
    encryption: Encryption,
}

impl World {
    async fn new(encryption: Encryption) -> Self {
        Self::on(Memory::default(), Arc::new(Manual::at(START)), encryption).await
    }

    async fn on(memory: Memory, time: Arc<Manual>, encryption: Encryption) -> Self {
        Self::with(memory, time, encryption.crypt()).await.expect("the store opens")
    }

    async fn with(memory: Memory, time: Arc<Manual>, crypt: Option<Arc<Crypt>>) -> Result<Self, OpenError> {
        Self::of_version(&Formats::CURRENT, memory, time, crypt).await
    }

    /// Opened by a version that knows these formats.
    async fn of_version(
        formats: &Formats,
        memory: Memory,
        time: Arc<Manual>,
        crypt: Option<Arc<Crypt>>,
    ) -> Result<Self, OpenError> {
        // A process goes on where the one before it stopped.
        let store = SHARED.try_with(Clone::clone).unwrap_or_else(|_| Store::Memory(memory.clone()));
        let highest = store.get(&Key::Store(StoreRow::HighestTime)).await.expect("read");
        let highest = highest.map_or(0, |row| Number::decode(&row).expect("a time").0);
        let clock = Clock::manual(time.clone(), highest);
        let encryption = if crypt.is_some() { Encryption::On } else { Encryption::Off };
        let db = Db::open_with_clock(store, IDENTITY, formats, settings(), crypt, clock).await?;
        Ok(Self { memory, time, db, encryption })
    }

    pub(super) async fn open(memory: Memory, crypt: Option<Arc<Crypt>>) -> Self {
        Self::with(memory, Arc::new(Manual::at(START)), crypt).await.expect("the store opens")
    }

    pub(super) async fn try_open(memory: Memory, crypt: Option<Arc<Crypt>>) -> Result<Db, OpenError> {
        Self::with(memory, Arc::new(Manual::at(START)), crypt).await.map(|world| world.db)
    }

    /// What the next process finds after this one died.
    pub(super) async fn restarted(&self) -> Self {
        Self::on(self.memory.restarted(), self.time.clone(), self.encryption).await
    }

    pub(super) fn pass(&self, nanoseconds: u64) {
        self.time.pass(nanoseconds);
    }

    pub(super) async fn thread(&self, title: &str) -> ThreadId {
        self.db.create_thread(&ann(), thread(title), plain()).await.expect("created").key
    }

    pub(super) async fn message(&self, thread: ThreadId, body: &str) -> MessageKey {
        self.db.create_message(&ann(), thread, message(body), plain()).await.expect("created").key
    }

    pub(super) async fn erase(&self, thread: ThreadId) -> Result<Receipt, Error> {
        self.db.erase_thread(&ann(), thread, plain()).await.map(|(receipt, _)| receipt)
    }

    pub(super) async fn bodies(&self, thread: ThreadId) -> Vec<String> {
        let page = self.db.list_messages(&ann(), thread, Cursor::Newest, 1_000).await.expect("listed");
        assert_eq!(page.total, page.items.len() as u64);
        page.items.iter().map(|message| message.content.body.get().to_owned()).collect()
    }

    pub(super) async fn titles(&self, order: ThreadOrder) -> Vec<String> {
        let page = self.db.list_threads(&ann(), order, Cursor::Newest, 1_000).await.expect("listed");
        page.items.into_iter().map(|thread| thread.content.title).collect()
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        max_clock_jump: Duration::from_hours(24),
        accept_clock: false,
        read_only: false,
        makes_epochs: true,
        recent_bytes: 1 << 20,
        retention: true,
        message_ttl: Duration::from_hours(48),
        thread_ttl: Duration::from_hours(72),
        epoch_age: Duration::from_hours(2_160),
        rewrap_rate: 1_000_000,
        erasure_horizon: Duration::from_hours(24),
    }
}

pub(super) fn crypt_with(master_key: [u8; 32]) -> Option<Arc<Crypt>> {
    Some(Arc::new(Crypt::new(kms(master_key), 100)))
}

/// A KMS with one master key.
fn kms(key: [u8; 32]) -> Kms {
    let keys = vec![MasterKey::Hex(SecretString::from(hex::encode(key)))];
    let settings = kms::Settings {
        provider: kms::settings::Provider::Local(kms::settings::Local { keys }),
        timeout: Duration::from_secs(5),
        grace: Duration::from_hours(1),
        seal_grace: Duration::from_mins(3),
        proxies: crate::outgoing::Proxies::default(),
    };
    Kms::new(settings).expect("a valid key")
}

fn caller(user: &str) -> Caller {
    Caller { user: UserId::parse(user).expect("a valid id") }
}

pub(super) fn ann() -> Caller {
    caller("ann")
}

pub(super) fn thread(title: &str) -> ThreadContent {
    ThreadContent { title: title.into(), slug: None, metadata: None }
}

pub(super) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("valid JSON")
}

pub(super) fn message(body: &str) -> NewMessage {
    let content = MessageContent { body: json(body), role: None, reply_to: None, metadata: None };
    NewMessage { content, parent: None }
}

pub(super) fn update(body: &str) -> MessageUpdate {
    MessageUpdate { body: json(body), metadata: None }
}

pub(super) fn plain() -> WriteOptions {
    WriteOptions::default()
}

pub(super) fn once(key: &str) -> WriteOptions {
    WriteOptions { idempotency: Some(Idempotency { key: key.into(), request: [1; 32] }), ..plain() }
}
