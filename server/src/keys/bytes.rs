//! The names of rows as bytes, and back. What does not come back exactly is no key.

use super::{Counter, ExpiryKind, Hash16, Key, Partition, PartitionKind, StoreRow, ThreadRow, UserRow, day_of};
use crate::model::{MessageId, ThreadId};

/// The only shard of store counters that a single writer needs.
const SHARD: u8 = 0;

impl Partition {
    /// The partition as bytes; a prefix of every key in it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        match self {
            Self::Thread(thread) => push(&mut bytes, b'T', &[&thread.0.to_be_bytes()]),
            Self::User(user) => push(&mut bytes, b'U', &[&user.0]),
            Self::Expiry(day) => push(&mut bytes, b'X', &[&day.to_be_bytes()]),
            Self::Epoch(epoch) => push(&mut bytes, b'K', &[&epoch.to_be_bytes()]),
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
            b'X' => Some(Self::Expiry(u32_at(rest)?)),
            b'K' => Some(Self::Epoch(u32_at(rest)?)),
            b'S' => Some(Self::Store),
            _ => None,
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
            Self::Epoch => b'K',
            Self::Store => b'S',
        }
    }
}

impl ThreadRow {
    fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Head => bytes.push(0x00),
            Self::Participant(user) => push(bytes, 0x01, &[&user.0]),
            Self::ReadMarker(user) => push(bytes, 0x02, &[&user.0]),
            Self::Idempotency(hash) => push(bytes, 0x03, &[&hash.0]),
            Self::Object => bytes.push(0x04),
            Self::DataKey(generation) => push(bytes, 0x05, &[&generation.to_be_bytes()]),
            Self::Message(id) => push(bytes, 0x10, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes()]),
            Self::Version(id, revision) => {
                push(bytes, 0x11, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes(), &revision.to_be_bytes()]);
            }
            Self::Reaction(id, user, reaction) => {
                push(bytes, 0x12, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes(), &user.0, &reaction.0]);
            }
            Self::Reply(parent, child) => {
                let [parent, child] = [parent, child].map(|id| [id.ts.to_be_bytes(), id.seq.to_be_bytes()].concat());
                push(bytes, 0x13, &[&parent, &child]);
            }
            Self::Change(revision) => push(bytes, 0x20, &[&revision.to_be_bytes()]),
            Self::Deleted(id) => push(bytes, 0x14, &[&id.ts.to_be_bytes(), &id.seq.to_be_bytes()]),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let row = match (kind, rest.len()) {
            (0x00, 0) => Self::Head,
            (0x01, 16) => Self::Participant(hash_at(rest, 0)?),
            (0x02, 16) => Self::ReadMarker(hash_at(rest, 0)?),
            (0x03, 16) => Self::Idempotency(hash_at(rest, 0)?),
            (0x04, 0) => Self::Object,
            (0x05, 4) => Self::DataKey(u32_at(rest)?),
            (0x10, 16) => Self::Message(message_at(rest)?),
            (0x11, 24) => Self::Version(message_at(rest)?, u64_at(rest, 16)?),
            (0x12, 48) => Self::Reaction(message_at(rest)?, hash_at(rest, 16)?, hash_at(rest, 32)?),
            (0x13, 32) => Self::Reply(message_at(rest)?, message_at(&rest[16..])?),
            (0x14, 16) => Self::Deleted(message_at(rest)?),
            (0x20, 8) => Self::Change(u64_at(rest, 0)?),
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
            Self::DataKey(generation) => push(bytes, 0x05, &[&generation.to_be_bytes()]),
            Self::Profile => bytes.push(0x06),
            Self::Seals => bytes.push(0x07),
            Self::Receipt(hash) => push(bytes, 0x08, &[&hash.0]),
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
            (0x05, 4) => Self::DataKey(u32_at(rest)?),
            (0x06, 0) => Self::Profile,
            (0x07, 0) => Self::Seals,
            (0x08, 16) => Self::Receipt(hash_at(rest, 0)?),
            _ => return None,
        };
        Some(row)
    }
}

impl ExpiryKind {
    pub(super) const ALL: [Self; 6] =
        [Self::Thread, Self::Message, Self::ThreadIdempotency, Self::UserIdempotency, Self::Erasure, Self::Receipt];

    fn byte(self) -> u8 {
        match self {
            Self::Thread => 1,
            Self::Message => 2,
            Self::ThreadIdempotency => 3,
            Self::UserIdempotency => 4,
            Self::Erasure => 5,
            Self::Receipt => 6,
        }
    }
}

impl Counter {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Threads, Self::Messages, Self::Sequence, Self::Users];

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
            Self::Sealing => bytes.push(0x04),
            Self::Erasures => bytes.push(0x05),
            Self::Migration(number) => push(bytes, 0x06, &[&number.to_be_bytes()]),
            Self::Import => bytes.push(0x07),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x00] => Some(Self::Format),
            [0x01, counter, SHARD] => Counter::ALL.into_iter().find(|c| c.byte() == *counter).map(Self::Counter),
            [0x02] => Some(Self::HighestTime),
            [0x03] => Some(Self::Secret),
            [0x04] => Some(Self::Sealing),
            [0x05] => Some(Self::Erasures),
            [0x06, number @ ..] if number.len() == 4 => u32_at(number).map(Self::Migration),
            [0x07] => Some(Self::Import),
            _ => None,
        }
    }
}

impl Key {
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
            Self::Epoch(_) => bytes.push(0x00),
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
            Partition::Epoch(epoch) => (bytes[5..] == [0x00]).then_some(Self::Epoch(epoch)),
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

fn u32_at(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
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
