//! The catalogue of keys: which rows there are, in which partition, and how their keys become bytes.
//!
//! A key is a partition followed by a clustering; both are drawn here and nowhere else. Numbers are big-endian and of
//! fixed width, so byte order is the order of the numbers. A kind byte never changes its meaning, and one that is
//! retired or reserved is never given to something else.
//!
//! ```text
//! T thread_ts   00                          head: the precondition of every commit to the thread
//!               01 user                     participant
//!               02 user                     (reserved) read marker
//!               03 hash                     idempotency record of a write to the thread
//!               04                          thread object: title, slug, metadata, author
//!               05 generation               wrapped data key
//!               10 message_ts seq           message
//!               11 message_ts seq revision  what an edited message said before
//!               12 message_ts seq user hash (reserved) reaction
//!               13 parent child             (reserved) reply: message_ts seq of each
//!               14 message_ts seq           deleted message, out of the way of pages
//!               20 revision                 (reserved) change feed
//! U user        00                          counter: live threads
//!               01 thread_ts                membership, in order of creation
//!               02 updated_ts thread_ts     membership, in order of activity
//!               03 hash                     idempotency record of a thread creation
//!               04 thread_ts                has written to this thread
//!               05 generation               wrapped data key
//!               06                          profile: the user's id as text
//!               07                          counter: values sealed with the user's keys
//!               08 hash                     receipt of an erasure that carried an idempotency key
//! X day         due_ts thread_ts kind       what expires, and when
//! K epoch       00                          epoch key, wrapped by a KMS
//! S             00                          format, database id, incarnation
//!               01 counter shard            counters of the whole store
//!               02                          highest time ever used
//!               03                          store secret
//!               04                          progress of the sealing job
//!               05                          erasures that wait for a compaction
//!               06 number                   progress of a migration
//!               07                          an import that has not ended
//! A D                                       (reserved) archive, activity still to be moved
//! ```
//!
//! Rows of a thread that are reserved have names already and no values that this version reads: it carries what a newer one
//! wrote, keeps it readable when keys change, and removes it with the thread.
//!
//! `user` and `hash` are the first 16 bytes of an HMAC under the store secret: no key shows what a user typed.

mod bytes;
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
    /// The key of one epoch.
    Epoch(u32),
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
    /// [`Partition::Epoch`].
    Epoch,
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
    /// The wrapped key of an epoch.
    Epoch(u32),
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
    /// Reserved: how far a user has read.
    ReadMarker(Hash16),
    /// The result of a write that carried an idempotency key.
    Idempotency(Hash16),
    /// Title, slug, metadata, author.
    Object,
    /// A wrapped data key of this generation.
    DataKey(u32),
    /// A live message.
    Message(MessageId),
    /// What a message said at an earlier revision.
    Version(MessageId, u64),
    /// Reserved: a reaction of a user to a message.
    Reaction(MessageId, Hash16, Hash16),
    /// Reserved: a message and a reply to it.
    Reply(MessageId, MessageId),
    /// A deleted message.
    Deleted(MessageId),
    /// Reserved: what the commit of this revision changed.
    Change(u64),
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
    /// The result of a thread creation that carried an idempotency key.
    Idempotency(Hash16),
    /// The user has written to this thread.
    Wrote(ThreadId),
    /// A wrapped data key of this generation.
    DataKey(u32),
    /// The user's id as text.
    Profile,
    /// Counter of the values that were sealed with the user's keys.
    Seals,
    /// The receipt of an erasure that carried an idempotency key.
    Receipt(Hash16),
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
    /// What is left of an erased thread.
    Erasure,
    /// The receipt of an erasure.
    Receipt,
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
    /// Progress of the sealing job.
    Sealing,
    /// Erasures that wait for a compaction.
    Erasures,
    /// Progress of the migration of this number.
    Migration(u32),
    /// An import that has not ended: whoever finds it serves nothing.
    Import,
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

const NANOS_A_DAY: u64 = 86_400_000_000_000;

/// The day on which something due at `due` is filed.
pub fn day_of(due: u64) -> u32 {
    u32::try_from(due / NANOS_A_DAY).expect("2^64 ns are 213 504 days")
}

impl Partition {
    /// Its kind.
    pub fn kind(&self) -> PartitionKind {
        match self {
            Self::Thread(_) => PartitionKind::Thread,
            Self::User(_) => PartitionKind::User,
            Self::Expiry(_) => PartitionKind::Expiry,
            Self::Epoch(_) => PartitionKind::Epoch,
            Self::Store => PartitionKind::Store,
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
            Self::Epoch(epoch) => Partition::Epoch(*epoch),
            Self::Store(_) => Partition::Store,
        }
    }

    /// A newer version writes such rows: their values are opaque, and sealed or not as that version chose.
    pub fn is_reserved(&self) -> bool {
        let Self::Thread(_, row) = self else { return false };
        matches!(row, ThreadRow::ReadMarker(_) | ThreadRow::Reaction(..) | ThreadRow::Reply(..) | ThreadRow::Change(_))
    }

    /// The row holds what a user wrote, or who the user is: sealed when encryption is on.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Thread(_, row) => match row {
                ThreadRow::Participant(_) | ThreadRow::Idempotency(_) | ThreadRow::Object => true,
                ThreadRow::Message(_) | ThreadRow::Version(..) | ThreadRow::Deleted(_) => true,
                ThreadRow::Head | ThreadRow::DataKey(_) => false,
                // Only the version that writes them knows whether they are; see `is_reserved`.
                ThreadRow::ReadMarker(_) | ThreadRow::Reaction(..) | ThreadRow::Reply(..) | ThreadRow::Change(_) => {
                    false
                }
            },
            Self::User(_, row) => matches!(row, UserRow::Idempotency(_) | UserRow::Profile | UserRow::Receipt(_)),
            Self::Expiry { .. } | Self::Epoch(_) => false,
            Self::Store(row) => *row == StoreRow::Secret,
        }
    }
}

#[cfg(test)]
mod tests;
