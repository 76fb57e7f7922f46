//! The catalogue of keys: which rows there are, in which partition, and how their names become bytes.
//!
//! A key is a partition followed by a clustering; both are drawn here and nowhere else. Numbers are big-endian and of
//! fixed width, so byte order is the order of the numbers. A kind byte never changes its meaning, and one that is
//! retired or reserved is never given to something else.
//!
//! ```text
//! T thread_ts   00                          head: what every commit to the thread expects
//!               01 user                     participant
//!               02 user                     (reserved) read marker
//!               03 hash                     idempotency record of a write to the thread
//!               04                          thread object: title, slug, metadata, author
//!               05 generation               (reserved) wrapped data key
//!               10 message_ts seq           message
//!               11 message_ts seq revision  what an edited message said before
//!               12 13                       (reserved) reactions, replies
//!               14 message_ts seq           deleted message, out of the way of pages
//!               20 revision                 (reserved) change feed
//! U user        00                          counter: live threads
//!               01 thread_ts                membership, in order of creation
//!               02 updated_ts thread_ts     membership, in order of activity
//!               03 hash                     idempotency record of a thread creation
//!               04 thread_ts                ever wrote here
//!               05 generation               (reserved) wrapped data key
//!               06                          profile: the user's id as text
//! X day         due_ts thread_ts kind       what expires, and when
//! S             00                          format, database id, incarnation
//!               01 counter shard            counters of the whole store
//!               02                          highest time ever used
//!               03                          store secret
//! A D K                                     (reserved) archive, activity still to be moved, key-encryption keys
//! ```
//!
//! `user` and `hash` are the first 16 bytes of an HMAC under the store secret: no key shows what a user typed.

mod range;
mod text;

use crate::model::{MessageId, ThreadId};

pub use range::KeyRange;
pub use text::NotAKey;

/// The keyed hash of a user id, or of another text that must not stand in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash16(pub [u8; 16]);

/// What is committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// Everything of one thread.
    Thread(ThreadId),
    /// The lists of one user.
    User(Hash16),
    /// What expires on one day, counted from 1970-01-01.
    Expiry(u32),
    /// The store itself.
    Store,
}

/// The kinds of partitions that can be enumerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKind {
    /// [`Partition::Thread`].
    Thread,
    /// [`Partition::User`].
    User,
    /// [`Partition::Expiry`].
    Expiry,
    /// [`Partition::Store`].
    Store,
}

/// The name of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A row of a thread.
    Thread(ThreadId, ThreadRow),
    /// A row of a user.
    User(Hash16, UserRow),
    /// Something that expires.
    Expiry {
        /// Unix nanoseconds of the event from which its time is counted.
        due: u64,
        /// The thread concerned.
        thread: ThreadId,
        /// What it is.
        kind: ExpiryKind,
    },
    /// A row of the store itself.
    Store(StoreRow),
}

/// The rows of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadRow {
    /// Counts, times, owner.
    Head,
    /// A participant.
    Participant(Hash16),
    /// The answer to a write that carried an idempotency key.
    Idempotency(Hash16),
    /// Title, slug, metadata, author.
    Object,
    /// A live message.
    Message(MessageId),
    /// What a message said at an earlier revision.
    Version(MessageId, u64),
    /// A deleted message.
    Deleted(MessageId),
}

/// The rows of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserRow {
    /// Counter of live threads.
    LiveThreads,
    /// A thread of the user's, in order of creation.
    Created(ThreadId),
    /// A thread of the user's, in order of activity.
    Active {
        /// The thread's `updated_ts`.
        updated: u64,
        /// The thread.
        thread: ThreadId,
    },
    /// The answer to a thread creation that carried an idempotency key.
    Idempotency(Hash16),
    /// The user wrote to this thread, if only once.
    Wrote(ThreadId),
    /// The user's id as text.
    Profile,
}

/// What expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExpiryKind {
    /// A deleted thread.
    Thread,
    /// A deleted message.
    Message,
    /// An idempotency record of a thread.
    ThreadIdempotency,
    /// An idempotency record of a user.
    UserIdempotency,
}

/// The rows of the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreRow {
    /// Format, database id, incarnation.
    Format,
    /// A counter.
    Counter(Counter),
    /// Highest time ever used.
    HighestTime,
    /// The secret under which ids are hashed.
    Secret,
}

/// The counters of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Live threads.
    Threads,
    /// Messages ever created.
    Messages,
    /// Client writes ever committed.
    Sequence,
    /// Users ever seen.
    Users,
}

/// The only shard of store counters that a single writer needs.
const SHARD: u8 = 0;
const NANOS_A_DAY: u64 = 86_400_000_000_000;

/// The day on which something due at `due` is filed.
pub fn day_of(due: u64) -> u32 {
    u32::try_from(due / NANOS_A_DAY).expect("2^64 ns are 213 504 days")
}

impl Partition {
    /// The partition as bytes; a prefix of every key in it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        match self {
            Self::Thread(thread) => push(&mut bytes, b'T', &[&thread.0.to_be_bytes()]),
            Self::User(user) => push(&mut bytes, b'U', &[&user.0]),
            Self::Expiry(day) => push(&mut bytes, b'X', &[&day.to_be_bytes()]),
            Self::Store => bytes.push(b'S'),
        }
        bytes
    }

    /// The partition that a key's bytes begin with.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'T' => Some(Self::Thread(ThreadId(u64_at(rest, 0)?))),
            b'U' => Some(Self::User(hash_at(rest, 0)?)),
            b'X' => Some(Self::Expiry(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?))),
            b'S' => Some(Self::Store),
            _ => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> PartitionKind {
        match self {
            Self::Thread(_) => PartitionKind::Thread,
            Self::User(_) => PartitionKind::User,
            Self::Expiry(_) => PartitionKind::Expiry,
            Self::Store => PartitionKind::Store,
        }
    }
}

impl PartitionKind {
    /// The first byte of its partitions.
    pub fn byte(self) -> u8 {
        match self {
            Self::Thread => b'T',
            Self::User => b'U',
            Self::Expiry => b'X',
            Self::Store => b'S',
        }
    }
}

impl ThreadRow {
    fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Head => bytes.push(0x00),
            Self::Participant(user) => push(bytes, 0x01, &[&user.0]),
            Self::Idempotency(hash) => push(bytes, 0x03, &[&hash.0]),
            Self::Object => bytes.push(0x04),
            Self::Message(id) => push(bytes, 0x10, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes()]),
            Self::Version(id, revision) => {
                push(bytes, 0x11, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes(), &revision.to_be_bytes()]);
            }
            Self::Deleted(id) => push(bytes, 0x14, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes()]),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let row = match (kind, rest.len()) {
            (0x00, 0) => Self::Head,
            (0x01, 16) => Self::Participant(hash_at(rest, 0)?),
            (0x03, 16) => Self::Idempotency(hash_at(rest, 0)?),
            (0x04, 0) => Self::Object,
            (0x10, 16) => Self::Message(message_at(rest)?),
            (0x11, 24) => Self::Version(message_at(rest)?, u64_at(rest, 16)?),
            (0x14, 16) => Self::Deleted(message_at(rest)?),
            _ => return None,
        };
        Some(row)
    }
}

impl UserRow {
    fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::LiveThreads => bytes.push(0x00),
            Self::Created(thread) => push(bytes, 0x01, &[&thread.0.to_be_bytes()]),
            Self::Active { updated, thread } => {
                push(bytes, 0x02, &[&updated.to_be_bytes(), &thread.0.to_be_bytes()]);
            }
            Self::Idempotency(hash) => push(bytes, 0x03, &[&hash.0]),
            Self::Wrote(thread) => push(bytes, 0x04, &[&thread.0.to_be_bytes()]),
            Self::Profile => bytes.push(0x06),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let row = match (kind, rest.len()) {
            (0x00, 0) => Self::LiveThreads,
            (0x01, 8) => Self::Created(ThreadId(u64_at(rest, 0)?)),
            (0x02, 16) => Self::Active { updated: u64_at(rest, 0)?, thread: ThreadId(u64_at(rest, 8)?) },
            (0x03, 16) => Self::Idempotency(hash_at(rest, 0)?),
            (0x04, 8) => Self::Wrote(ThreadId(u64_at(rest, 0)?)),
            (0x06, 0) => Self::Profile,
            _ => return None,
        };
        Some(row)
    }
}

impl ExpiryKind {
    const ALL: [Self; 4] = [Self::Thread, Self::Message, Self::ThreadIdempotency, Self::UserIdempotency];

    fn byte(self) -> u8 {
        match self {
            Self::Thread => 1,
            Self::Message => 2,
            Self::ThreadIdempotency => 3,
            Self::UserIdempotency => 4,
        }
    }
}

impl Counter {
    const ALL: [Self; 4] = [Self::Threads, Self::Messages, Self::Sequence, Self::Users];

    fn byte(self) -> u8 {
        match self {
            Self::Threads => 0,
            Self::Messages => 1,
            Self::Sequence => 2,
            Self::Users => 3,
        }
    }
}

impl StoreRow {
    fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Format => bytes.push(0x00),
            Self::Counter(counter) => bytes.extend_from_slice(&[0x01, counter.byte(), SHARD]),
            Self::HighestTime => bytes.push(0x02),
            Self::Secret => bytes.push(0x03),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x00] => Some(Self::Format),
            [0x01, counter, SHARD] => Counter::ALL.into_iter().find(|c| c.byte() == *counter).map(Self::Counter),
            [0x02] => Some(Self::HighestTime),
            [0x03] => Some(Self::Secret),
            _ => None,
        }
    }
}

impl Key {
    /// The partition that the row lies in.
    pub fn partition(&self) -> Partition {
        match self {
            Self::Thread(thread, _) => Partition::Thread(*thread),
            Self::User(user, _) => Partition::User(*user),
            Self::Expiry { due, .. } => Partition::Expiry(day_of(*due)),
            Self::Store(_) => Partition::Store,
        }
    }

    /// Partition and clustering as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.partition().encode();
        match self {
            Self::Thread(_, row) => row.push_to(&mut bytes),
            Self::User(_, row) => row.push_to(&mut bytes),
            Self::Expiry { due, thread, kind } => {
                bytes.extend_from_slice(&due.to_be_bytes());
                bytes.extend_from_slice(&thread.0.to_be_bytes());
                bytes.push(kind.byte());
            }
            Self::Store(row) => row.push_to(&mut bytes),
        }
        bytes
    }

    /// The key that `bytes` name; none if they are not in this catalogue.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match Partition::decode(bytes)? {
            Partition::Thread(thread) => Some(Self::Thread(thread, ThreadRow::decode(&bytes[9..])?)),
            Partition::User(user) => Some(Self::User(user, UserRow::decode(&bytes[17..])?)),
            Partition::Expiry(day) => {
                let rest = &bytes[5..];
                let (due, thread) = (u64_at(rest, 0)?, ThreadId(u64_at(rest, 8)?));
                let kind = ExpiryKind::ALL.into_iter().find(|k| rest.get(16) == Some(&k.byte()))?;
                (rest.len() == 17 && day_of(due) == day).then_some(Self::Expiry { due, thread, kind })
            }
            Partition::Store => StoreRow::decode(&bytes[1..]).map(Self::Store),
        }
    }
}

fn push(bytes: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    bytes.push(kind);
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn hash_at(bytes: &[u8], at: usize) -> Option<Hash16> {
    Some(Hash16(bytes.get(at..at + 16)?.try_into().ok()?))
}

fn message_at(bytes: &[u8]) -> Option<MessageId> {
    Some(MessageId { ts: u64_at(bytes, 0)?, seq: u64_at(bytes, 8)? })
}

#[cfg(test)]
mod tests;
