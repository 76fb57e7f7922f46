//! Where a row lies: in which table, in which partition of it, under which name.
//!
//! ```text
//! thread       (id), ck desc            rows of a thread; its head is a static column, which every commit expects
//! user         (id), ck desc            rows of a user
//! expiry       (day, bucket), ck        what expires on a day, in buckets so that no partition takes a day's writes
//! meta         (kind), ck               `store`: rows of the store; `key`: epoch keys; `schema`: the version of the tables
//! slot_counter (counter), slot          what each slot has added to a counter
//! slot         (id)                     which process has the slot, for as long as it renews it
//! ```
//!
//! `ck` is what follows the partition in the key's bytes, so the order of both is the same.

use scylla::value::CqlValue;

use crate::keys::{Counter, Key, KeyRange, Partition, PartitionKind, StoreRow, ThreadRow, UserRow};

/// Into how many partitions the entries of a day are spread.
pub(super) const BUCKETS: i8 = 8;
/// The partition of `meta` that holds rows of the store.
const STORE: &str = "store";
/// The one that holds epoch keys.
const KEYS: &str = "key";

/// A table whose rows are named by a partition and a `ck`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Thread,
    User,
    Expiry,
    Meta,
}

impl Table {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Thread, Self::User, Self::Expiry, Self::Meta];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::User => "user",
            Self::Expiry => "expiry",
            Self::Meta => "meta",
        }
    }

    /// What a statement says to name a partition.
    pub(super) fn is_partition(self) -> &'static str {
        match self {
            Self::Thread | Self::User => "id = ?",
            Self::Expiry => "day = ? AND bucket = ?",
            Self::Meta => "kind = ?",
        }
    }
}

/// A partition of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Thread(i64),
    User([u8; 16]),
    Expiry(i32, i8),
    Meta(&'static str),
}

impl Place {
    pub(super) fn table(self) -> Table {
        match self {
            Self::Thread(_) => Table::Thread,
            Self::User(_) => Table::User,
            Self::Expiry(..) => Table::Expiry,
            Self::Meta(_) => Table::Meta,
        }
    }

    /// The values that name it in a statement.
    pub(super) fn values(self) -> Vec<Value> {
        match self {
            Self::Thread(id) => vec![big(id)],
            Self::User(id) => vec![blob(id)],
            Self::Expiry(day, bucket) => vec![Some(CqlValue::Int(day)), Some(CqlValue::TinyInt(bucket))],
            Self::Meta(kind) => vec![Some(CqlValue::Text(kind.to_owned()))],
        }
    }

    /// All that a partition of the seam lies in.
    pub(super) fn of(partition: Partition) -> Vec<Self> {
        match partition {
            Partition::Thread(thread) => vec![Self::Thread(thread.0.cast_signed())],
            Partition::User(user) => vec![Self::User(user.0)],
            Partition::Expiry(day) => (0..BUCKETS).map(|bucket| Self::Expiry(day.cast_signed(), bucket)).collect(),
            Partition::Epoch(_) => vec![Self::Meta(KEYS)],
            Partition::Store => vec![Self::Meta(STORE)],
        }
    }
}

/// What a statement is given for one of its marks.
pub(super) type Value = Option<CqlValue>;

pub(super) fn big(number: i64) -> Value {
    Some(CqlValue::BigInt(number))
}

pub(super) fn blob(bytes: impl Into<Vec<u8>>) -> Value {
    Some(CqlValue::Blob(bytes.into()))
}

/// Where the value of a key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// In the static column of a thread.
    Head(Place),
    /// In the row of this name.
    Row(Place, Vec<u8>),
    /// As the sum of what the slots have added under this name.
    Counter(Vec<u8>),
}

impl Cell {
    pub(super) fn of(key: &Key) -> Self {
        let partition = key.partition();
        match key {
            Key::Store(StoreRow::Counter(_)) | Key::User(_, UserRow::LiveThreads | UserRow::Seals) => {
                Self::Counter(key.encode())
            }
            Key::Thread(thread, ThreadRow::Head) => Self::Head(Place::Thread(thread.0.cast_signed())),
            Key::Expiry { due, thread, .. } => {
                // The high bits of a product depend on every bit of its factors.
                let spread = (due ^ thread.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
                let bucket = i8::try_from(spread).expect("three bits");
                let Partition::Expiry(day) = partition else { unreachable!("what expires lies in a day") };
                Self::Row(Place::Expiry(day.cast_signed(), bucket), name(partition, &key.encode()))
            }
            _ => Self::Row(Place::of(partition)[0], name(partition, &key.encode())),
        }
    }
}

/// How many bytes of a key name its partition of a table.
fn prefix(partition: Partition) -> usize {
    match partition {
        // One partition of the table holds them all.
        Partition::Epoch(_) | Partition::Store => 1,
        other => other.encode().len(),
    }
}

fn name(partition: Partition, key: &[u8]) -> Vec<u8> {
    key[prefix(partition)..].to_vec()
}

/// A range of keys as a table sees it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) partition: Partition,
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl Span {
    /// None if no key lies in the range.
    pub(super) fn of(range: &KeyRange) -> Option<Self> {
        if range.is_empty() {
            return None;
        }
        let partition = Partition::decode(&range.start)?;
        let name = |key: &[u8]| key.get(prefix(partition)..).unwrap_or_default().to_vec();
        Some(Self { partition, start: name(&range.start), end: name(&range.end) })
    }

    /// The key whose name within the partition this is, as bytes.
    pub(super) fn key(&self, name: &[u8]) -> Vec<u8> {
        [&self.partition.encode()[..prefix(self.partition)], name].concat()
    }
}

/// The keys of a partition whose values do not lie in the rows of its table.
pub(super) fn apart(partition: Partition) -> Vec<Key> {
    let store = |counter| Key::Store(StoreRow::Counter(counter));
    match partition {
        Partition::Thread(thread) => vec![Key::Thread(thread, ThreadRow::Head)],
        Partition::User(user) => {
            [UserRow::LiveThreads, UserRow::Seals].map(|counter| Key::User(user, counter)).to_vec()
        }
        Partition::Store => {
            [Counter::Threads, Counter::Messages, Counter::Sequence, Counter::Users].map(store).to_vec()
        }
        Partition::Expiry(_) | Partition::Epoch(_) => Vec::new(),
    }
}

/// How the partitions of a kind are listed.
pub(super) fn listed_in(kind: PartitionKind) -> Table {
    match kind {
        PartitionKind::Thread => Table::Thread,
        PartitionKind::User => Table::User,
        PartitionKind::Expiry => Table::Expiry,
        PartitionKind::Epoch | PartitionKind::Store => Table::Meta,
    }
}
