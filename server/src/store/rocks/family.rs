//! Column families: which rows lie together, and which family a key belongs to.
//!
//! Rows lie together by lifetime, not by partition: small hot rows apart from messages, so that a flush of one does not
//! rewrite the other. One write batch spans them all.

use std::ops::Range;

use crate::keys::{KeyRange, PartitionKind};

/// The column families. An older version refuses a store that has one more than it knows, so all have been there from the
/// first version on, also those that nothing is written to yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Rows of the store itself, and what expires.
    Store,
    /// Heads, participants, idempotency records, thread objects: small and hot.
    Head,
    /// Wrapped data keys.
    Key,
    /// Live messages.
    Message,
    /// Versions, reactions, deleted messages: written once, rarely read.
    Version,
    /// The lists of users.
    Index,
    /// The change feed.
    Log,
}

impl Family {
    pub(super) const ALL: [Self; 7] =
        [Self::Store, Self::Head, Self::Key, Self::Message, Self::Version, Self::Index, Self::Log];
    /// The families of a thread's rows, each with its kind bytes; in key order.
    const OF_THREAD: [(Self, Range<u8>); 5] = [
        (Self::Head, 0x00..0x05),
        (Self::Key, 0x05..0x10),
        (Self::Message, 0x10..0x11),
        (Self::Version, 0x11..0x20),
        (Self::Log, 0x20..0xff),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            // Every database has a family of this name.
            Self::Store => "default",
            Self::Head => "head",
            Self::Key => "key",
            Self::Message => "message",
            Self::Version => "version",
            Self::Index => "index",
            Self::Log => "log",
        }
    }

    /// It holds wrapped keys, perhaps among other rows.
    pub(super) fn holds_keys(self) -> bool {
        matches!(self, Self::Store | Self::Key | Self::Index)
    }

    pub(super) fn of(key: &[u8]) -> Self {
        match (key.first(), key.get(PREFIX_OF_THREAD)) {
            (Some(b'T'), kind) => {
                let kind = kind.copied().unwrap_or(0);
                let found = Self::OF_THREAD.into_iter().find(|(_, kinds)| kinds.contains(&kind));
                found.map_or(Self::Log, |(family, _)| family)
            }
            (Some(b'U'), _) => Self::Index,
            _ => Self::Store,
        }
    }

    /// The family that has a row of every partition of `kind`.
    pub(super) fn of_every(kind: PartitionKind) -> Self {
        match kind {
            PartitionKind::Thread => Self::Head,
            PartitionKind::User => Self::Index,
            PartitionKind::Expiry | PartitionKind::Epoch | PartitionKind::Store => Self::Store,
        }
    }

    /// The families that rows of `range` lie in, each with its part, in key order.
    pub(super) fn split(range: &KeyRange) -> Vec<(Self, KeyRange)> {
        if range.start.first() != Some(&b'T') {
            return vec![(Self::of(&range.start), range.clone())];
        }
        let bound = |kind: u8| [&range.start[..PREFIX_OF_THREAD], &[kind]].concat();
        let part = |kinds: Range<u8>| KeyRange {
            start: bound(kinds.start).max(range.start.clone()),
            end: bound(kinds.end).min(range.end.clone()),
        };
        let parts = Self::OF_THREAD.into_iter().map(|(family, kinds)| (family, part(kinds)));
        parts.filter(|(_, part)| !part.is_empty()).collect()
    }

    /// The length of the partition, with which its keys begin; none if its partitions differ in length.
    pub(super) fn prefix(self) -> Option<usize> {
        match self {
            Self::Store => None,
            Self::Index => Some(PREFIX_OF_USER),
            _ => Some(PREFIX_OF_THREAD),
        }
    }
}

const PREFIX_OF_THREAD: usize = 9;
const PREFIX_OF_USER: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Key, Partition, ThreadRow, UserRow};
    use crate::model::{MessageId, ThreadId};

    #[test]
    fn a_thread_s_rows_are_split_by_family_without_gap_or_overlap() {
        let thread = ThreadId(7);
        let parts = Family::split(&KeyRange::all(Partition::Thread(thread)));
        assert_eq!(parts.iter().map(|(family, _)| *family).collect::<Vec<_>>(), Family::OF_THREAD.map(|(f, _)| f));
        assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start));
        for row in [ThreadRow::Head, ThreadRow::Message(MessageId { ts: 1, seq: 2 }), ThreadRow::Object] {
            let key = Key::Thread(thread, row).encode();
            let holder = parts.iter().find(|(_, part)| part.contains(&key)).map(|(family, _)| *family);
            assert_eq!(holder, Some(Family::of(&key)));
        }
    }

    #[test]
    fn a_range_of_one_kind_lies_in_one_family() {
        let hash = crate::keys::Hash16([1; 16]);
        assert_eq!(Family::split(&KeyRange::messages(ThreadId(1))).len(), 1);
        assert_eq!(Family::split(&KeyRange::created_threads(hash))[0].0, Family::Index);
        assert_eq!(Family::of(&Key::User(hash, UserRow::Profile).encode()), Family::Index);
    }
}
