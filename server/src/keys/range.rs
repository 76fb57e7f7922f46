//! Ranges of keys, all within one partition.

use super::{Hash16, Key, Partition, ThreadRow};
use crate::model::{MessageId, ThreadId};

/// A half-open range of keys within one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key in it.
    pub start: Vec<u8>,
    /// The first key behind it.
    pub end: Vec<u8>,
}

impl KeyRange {
    /// The row `key` and nothing else.
    pub fn only(key: &Key) -> Self {
        let start = key.encode();
        let mut end = start.clone();
        end.push(0);
        Self { start, end }
    }

    /// From `first` to `last`, both included.
    pub fn inclusive(first: &Key, last: &Key) -> Self {
        Self { start: first.encode(), end: Self::only(last).end }
    }

    /// Every row of the partition.
    pub fn all(partition: Partition) -> Self {
        let start = partition.encode();
        let mut end = start.clone();
        // Kind bytes stop at 0x20, and no timestamp before the year 2514 begins with 0xff.
        end.push(0xff);
        Self { start, end }
    }

    /// The rows of the partition of `kind`.
    fn of_kind(partition: Partition, kind: u8) -> Self {
        let mut start = partition.encode();
        let mut end = start.clone();
        start.push(kind);
        end.push(kind + 1);
        Self { start, end }
    }

    /// Every row of a thread but its head.
    pub fn thread_without_head(thread: ThreadId) -> Self {
        let all = Self::all(Partition::Thread(thread));
        let head = Self::only(&Key::Thread(thread, ThreadRow::Head));
        Self { start: head.end, end: all.end }
    }

    /// The wrapped data keys of a thread or a user, oldest first.
    pub fn data_keys(owner: Partition) -> Self {
        Self::of_kind(owner, 0x05)
    }

    /// The live messages of a thread, oldest first.
    pub fn messages(thread: ThreadId) -> Self {
        Self::of_kind(Partition::Thread(thread), 0x10)
    }

    /// The deleted messages of a thread, oldest first.
    pub fn deleted_messages(thread: ThreadId) -> Self {
        Self::of_kind(Partition::Thread(thread), 0x14)
    }

    /// The earlier contents of a message, oldest first.
    pub fn versions(thread: ThreadId, id: MessageId) -> Self {
        let row = |revision| Key::Thread(thread, ThreadRow::Version(id, revision));
        Self::inclusive(&row(0), &row(u64::MAX))
    }

    /// The idempotency records of a user.
    pub fn idempotency_of_user(user: Hash16) -> Self {
        Self::of_kind(Partition::User(user), 0x03)
    }

    /// The receipts that a user was given for erasures.
    pub fn receipts_of_user(user: Hash16) -> Self {
        Self::of_kind(Partition::User(user), 0x08)
    }

    /// The progress of all migrations.
    pub fn migrations() -> Self {
        Self::of_kind(Partition::Store, 0x06)
    }

    /// A user's threads, oldest first.
    pub fn created_threads(user: Hash16) -> Self {
        Self::of_kind(Partition::User(user), 0x01)
    }

    /// A user's threads, longest idle first.
    pub fn active_threads(user: Hash16) -> Self {
        Self::of_kind(Partition::User(user), 0x02)
    }

    /// The part of this range in front of `other`.
    pub fn below(&self, other: &Self) -> Self {
        Self { start: self.start.clone(), end: other.start.clone().clamp(self.start.clone(), self.end.clone()) }
    }

    /// The part of this range behind `other`.
    pub fn above(&self, other: &Self) -> Self {
        Self { start: other.end.clone().clamp(self.start.clone(), self.end.clone()), end: self.end.clone() }
    }

    /// No key lies in it.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// `bytes` lie in it.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.start.as_slice() <= bytes && bytes < self.end.as_slice()
    }
}
