//! Commits that go to disk as one batch: each is checked against the rows that those before it leave.

use std::collections::HashMap;
use std::sync::Arc;

use rocksdb::{BoundColumnFamily, ReadTier, WriteBatch};

use super::queue::Waiting;
use crate::keys::{Key, KeyRange};
use crate::rows::{CounterValue, EVERY_FORMAT, Number, Row as _};
use crate::store::rocks::database::Database;
use crate::store::rocks::family::Family;
use crate::store::rocks::head_cache::HeadCache;
use crate::store::{Commit, Error, Op, Outcome, SecondaryWrite};

const MAX_BYTES: usize = 4 << 20;
const MAX_COMMITS: usize = 4_096;

/// How many of the waiting commits make the next group: within the limits, and a range deletion by itself, because a
/// group knows the changes to single rows only.
pub(super) fn length(waiting: &[Waiting]) -> usize {
    let deletes_range = |w: &Waiting| w.commit.ops.iter().any(|op| matches!(op, Op::DeleteRange(_)));
    let mut bytes = 0;
    for (index, next) in waiting.iter().enumerate().take(MAX_COMMITS) {
        bytes += next.bytes;
        if deletes_range(next) || bytes > MAX_BYTES {
            return index.max(1);
        }
    }
    waiting.len().min(MAX_COMMITS)
}

/// What the commits of a group change.
pub(super) struct Group<'a> {
    database: &'a Database,
    /// What each changed row holds after the group; absent if none.
    rows: HashMap<Key, Option<Vec<u8>>>,
    /// Goes before the rows.
    deleted: Vec<KeyRange>,
}

impl<'a> Group<'a> {
    pub(super) fn with_capacity(database: &'a Database, commits: usize) -> Self {
        const ROWS_A_COMMIT: usize = 6;
        Self { database, rows: HashMap::with_capacity(commits * ROWS_A_COMMIT), deleted: Vec::new() }
    }

    /// Checks a commit and adds what it changes. One that conflicts or fails adds nothing.
    pub(super) fn add(&mut self, commit: Commit) -> Result<Outcome, Error> {
        if let Some(precondition) = &commit.precondition {
            let current = self.current(&precondition.key)?;
            if current != precondition.value {
                return Ok(Outcome::Conflict { current });
            }
        }
        // Everything that can fail comes before the first change.
        let numbers = self.numbers(&commit.secondary)?;
        for op in commit.ops {
            match op {
                Op::Put(key, value) => drop(self.rows.insert(key, Some(value))),
                Op::Delete(key) => drop(self.rows.insert(key, None)),
                Op::DeleteRange(range) => self.deleted.push(range),
            }
        }
        for write in commit.secondary {
            match write {
                SecondaryWrite::Put(key, value) => drop(self.rows.insert(key, Some(value))),
                SecondaryWrite::Delete(key) => drop(self.rows.insert(key, None)),
                SecondaryWrite::Add(..) | SecondaryWrite::Raise(..) => {}
            }
        }
        self.rows.extend(numbers.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(Outcome::Committed)
    }

    /// What the counters and numbers of a commit will hold.
    fn numbers(&self, writes: &[SecondaryWrite]) -> Result<Vec<(Key, Vec<u8>)>, Error> {
        let mut numbers: Vec<(Key, Vec<u8>)> = Vec::new();
        for write in writes {
            match write {
                SecondaryWrite::Add(key, delta) => {
                    let current =
                        self.current_number(&numbers, key)?.map_or(Ok(CounterValue(0)), |v| CounterValue::decode(&v));
                    let current = current.map_err(|_| Error::Read(format!("counter {key} is damaged")))?;
                    numbers.push((*key, CounterValue(current.0 + delta).encode(EVERY_FORMAT)));
                }
                SecondaryWrite::Raise(key, to) => {
                    let current = self.current_number(&numbers, key)?.map_or(Ok(Number(0)), |v| Number::decode(&v));
                    let current = current.map_err(|_| Error::Read(format!("number {key} is damaged")))?;
                    numbers.push((*key, Number(current.0.max(*to)).encode(EVERY_FORMAT)));
                }
                SecondaryWrite::Put(..) | SecondaryWrite::Delete(_) => {}
            }
        }
        Ok(numbers)
    }

    /// What a counter or number holds after the commits so far and what the same commit has made of it.
    fn current_number(&self, numbers: &[(Key, Vec<u8>)], key: &Key) -> Result<Option<Vec<u8>>, Error> {
        match numbers.iter().rfind(|(changed, _)| changed == key) {
            Some((_, value)) => Ok(Some(value.clone())),
            None => self.current(key),
        }
    }

    /// What a row holds after the commits so far.
    fn current(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.database.get(key, ReadTier::All)?),
        }
    }

    /// All changes as one batch.
    pub(super) fn build(&self, families: &Families<'_>) -> WriteBatch {
        let mut batch = WriteBatch::default();
        for range in &self.deleted {
            families.delete_range(&mut batch, range);
        }
        // In the order in which memtables hold them: neighbours are found where the last row went.
        let mut rows: Vec<_> = self.rows.iter().map(|(key, value)| (key.encode(), value)).collect();
        rows.sort_unstable();
        for (key, value) in rows {
            families.put(&mut batch, &key, value.as_deref());
        }
        batch
    }

    /// Takes note of the heads that were written. Call it when the batch is on disk.
    pub(super) fn note_heads(&self, heads: &HeadCache) {
        for (key, value) in &self.rows {
            heads.update(key, value.as_deref());
        }
    }
}

/// The handles of the families, looked up once.
pub(super) struct Families<'a>(Vec<Arc<BoundColumnFamily<'a>>>);

impl<'a> Families<'a> {
    pub(super) fn of(database: &'a Database) -> Self {
        Self(Family::ALL.map(|family| database.family(family)).into())
    }

    fn handle(&self, family: Family) -> &Arc<BoundColumnFamily<'a>> {
        &self.0[family as usize]
    }

    fn put(&self, batch: &mut WriteBatch, key: &[u8], value: Option<&[u8]>) {
        let handle = self.handle(Family::of(key));
        match value {
            Some(value) => batch.put_cf(handle, key, value),
            None => batch.delete_cf(handle, key),
        }
    }

    fn delete_range(&self, batch: &mut WriteBatch, range: &KeyRange) {
        for (family, part) in Family::split(range) {
            batch.delete_range_cf(self.handle(family), part.start, part.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Queue;
    use super::*;
    use crate::keys::{Partition, ThreadRow};
    use crate::model::ThreadId;

    const THREAD: ThreadId = ThreadId(1);

    fn put(bytes: usize) -> Op {
        Op::Put(Key::Thread(THREAD, ThreadRow::Head), vec![0; bytes])
    }

    fn delete_range() -> Op {
        Op::DeleteRange(KeyRange::messages(THREAD))
    }

    /// The lengths of the groups that commits of one change each are cut into.
    #[track_caller]
    fn check(ops: Vec<Op>, lengths: &[usize]) {
        let queue = Queue::default();
        let commit = |op| Commit::of(Partition::Thread(THREAD), vec![op]);
        let _answers: Vec<_> = ops.into_iter().map(|op| queue.push(commit(op)).expect("there is room")).collect();
        let (mut rest, mut cut) = (queue.drain().expect("some wait").waiting, Vec::new());
        while !rest.is_empty() {
            cut.push(length(&rest));
            rest.drain(..length(&rest));
        }
        assert_eq!(cut, lengths);
    }

    #[test]
    fn a_group_ends_at_its_bounds_and_a_range_deletion_is_alone() {
        check(vec![put(1), put(1), put(1)], &[3]);
        check((0..=MAX_COMMITS).map(|_| put(1)).collect(), &[MAX_COMMITS, 1]);
        check(vec![put(MAX_BYTES / 2), put(MAX_BYTES / 4), put(MAX_BYTES / 2)], &[2, 1]);
        check(vec![put(MAX_BYTES + 1), put(MAX_BYTES + 1)], &[1, 1]);
        check(vec![put(1), put(1), delete_range(), put(1), put(1)], &[2, 1, 2]);
        check(vec![delete_range(), delete_range(), put(1)], &[1, 1, 1]);
    }
}
