//! Limits of what is read at once: rows of a scan, partitions of a list.

use super::Direction;
use crate::keys::Partition;

/// How much a scan may still return.
pub(super) struct Room {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Room {
    pub(super) fn is_used_up(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Of these partitions, which may stand there in any order and repeatedly, up to `limit` beyond `from`.
pub(super) fn page_of(
    mut partitions: Vec<Partition>,
    from: Option<Partition>,
    direction: Direction,
    limit: usize,
) -> Vec<Partition> {
    partitions.sort_unstable();
    partitions.dedup();
    match direction {
        Direction::Ascending => partitions.retain(|partition| from.is_none_or(|from| *partition > from)),
        Direction::Descending => {
            partitions.reverse();
            partitions.retain(|partition| from.is_none_or(|from| *partition < from));
        }
    }
    partitions.truncate(limit);
    partitions
}
