//! Reads of many rows: a range within one partition, and the partitions of one kind.

use rocksdb::{DBRawIterator, ReadTier};

use super::database::{Database, ReadFailure, read_options};
use super::family::Family;
use crate::keys::{KeyRange, Partition, PartitionKind};
use crate::store::{Direction, Room, Row, SCAN_BYTES, Scan};

impl Database {
    pub(super) fn scan(
        &self,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        tier: ReadTier,
    ) -> Result<Scan, ReadFailure> {
        let mut parts = Family::split(range);
        if direction == Direction::Descending {
            parts.reverse();
        }
        let mut scan = Scan::default();
        let mut room = Room { rows: limit, bytes: SCAN_BYTES };
        for (family, part) in parts {
            if !part.is_empty() && !scan.more {
                self.scan_family(family, part, direction, tier, &mut room, &mut scan)?;
            }
        }
        Ok(scan)
    }

    fn scan_family(
        &self,
        family: Family,
        range: KeyRange,
        direction: Direction,
        tier: ReadTier,
        room: &mut Room,
        scan: &mut Scan,
    ) -> Result<(), ReadFailure> {
        let mut options = read_options(tier);
        options.set_prefix_same_as_start(family.prefix().is_some());
        options.set_iterate_lower_bound(range.start.clone());
        options.set_iterate_upper_bound(range.end.clone());
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family(family), options);
        match direction {
            Direction::Ascending => iterator.seek(&range.start),
            Direction::Descending => iterator.seek_for_prev(&range.end),
        }
        while let Some((key, value)) = iterator.item() {
            if room.is_used_up() {
                scan.more = true;
                break;
            }
            room.take(value.len());
            scan.rows.push(Row { key: key.to_vec(), value: value.to_vec() });
            match direction {
                Direction::Ascending => iterator.next(),
                Direction::Descending => iterator.prev(),
            }
        }
        Ok(iterator.status()?)
    }

    pub(super) fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
        tier: ReadTier,
    ) -> Result<Vec<Partition>, ReadFailure> {
        let mut options = read_options(tier);
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(vec![kind.byte()]);
        options.set_iterate_upper_bound(vec![kind.byte() + 1]);
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family(Family::of_every(kind)), options);
        match (direction, from) {
            (Direction::Ascending, None) => iterator.seek_to_first(),
            (Direction::Descending, None) => iterator.seek_to_last(),
            (_, Some(from)) => seek_beyond(&mut iterator, from, direction),
        }
        let mut partitions = Vec::new();
        while partitions.len() < limit
            && let Some(partition) = iterator.key().and_then(Partition::decode)
        {
            partitions.push(partition);
            seek_beyond(&mut iterator, partition, direction);
        }
        iterator.status()?;
        Ok(partitions)
    }
}

/// To the first row behind the partition, or to the last one in front of it.
fn seek_beyond(iterator: &mut DBRawIterator<'_>, partition: Partition, direction: Direction) {
    let range = KeyRange::all(partition);
    match direction {
        Direction::Ascending => iterator.seek(range.end),
        // No key equals a bare partition, so the last key at or below it lies in front of it.
        Direction::Descending => iterator.seek_for_prev(range.start),
    }
}

#[cfg(test)]
mod tests {
    use rocksdb::WriteBatch;

    use super::*;
    use crate::store::Compaction;
    use crate::store::rocks::Settings;

    /// A database that holds one row of each of these keys in the family of what belongs to no thread and no user.
    fn with_rows(path: &std::path::Path, keys: &[&[u8]]) -> Database {
        let settings = Settings {
            path: path.join("store-1"),
            create: true,
            memory_bytes: 16 << 20,
            reserve_bytes: 0,
            max_tables: 64,
            read_only: false,
        };
        let database = Database::open(settings).expect("a new one");
        let mut batch = WriteBatch::default();
        for key in keys {
            batch.put_cf(&database.family(Family::of(key)), key, b"row");
        }
        database.write_and_sync(batch).expect("written");
        database
    }

    #[test]
    fn partitions_of_reserved_kinds_are_in_no_list_and_outlive_a_compaction() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let reserved: [&[u8]; 3] = [b"A\0\0\0\0\0\0\0\x01\0", b"D\x05\0\0\0\0\0\0\0\x01", b"A"];
        let known = [Partition::Expiry(7), Partition::Epoch(1), Partition::Store];
        let rows = known.map(|partition| [partition.encode().as_slice(), &[0]].concat());
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).chain(reserved).collect();
        let database = with_rows(directory.path(), &rows);
        database.compact(Compaction::Everything).expect("compacted");
        for direction in [Direction::Ascending, Direction::Descending] {
            let kinds = known.map(|partition| partition.kind()).into_iter();
            let kinds = kinds.chain([PartitionKind::Thread, PartitionKind::User]);
            let listed = kinds.map(|kind| database.partitions(kind, None, direction, 9, ReadTier::All).ok());
            let listed: Vec<_> = listed.map(|listed| listed.expect("read")).collect();
            assert_eq!(listed, [vec![known[0]], vec![known[1]], vec![known[2]], vec![], vec![]]);
        }
        for key in reserved {
            let found = database.db.get_cf(&database.family(Family::of(key)), key);
            assert_eq!(found.expect("read").as_deref(), Some(&b"row"[..]), "{key:?}");
        }
    }
}
