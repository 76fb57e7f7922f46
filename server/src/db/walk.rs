//! Walks over the whole store: partitions of some kinds in pages, and the rows of one partition in pages.
//!
//! Neither holds more than one page, and neither holds an iterator between two: whoever walks may write meanwhile. What
//! is created behind the position is met, what is created before it is not. A walk over partitions goes on from any
//! position, so a job that remembers the last partition that it finished loses nothing to a restart.

use super::{Error, decode_key};
use crate::keys::{Key, KeyRange, Partition, PartitionKind};
use crate::store::{Direction, Row, Scan, Store};

const PARTITIONS_A_PAGE: usize = 64;
const KEYS_A_PAGE: usize = 1_000;

/// What belongs to somebody and may be sealed: threads first, then users.
pub const OWNERS: &[PartitionKind] = &[PartitionKind::Thread, PartitionKind::User];

/// A walk over the partitions of some kinds, one kind after the other, each in the engine's order.
#[derive(Clone, Debug)]
pub struct Partitions {
    kinds: &'static [PartitionKind],
    after: Option<Partition>,
}

impl Partitions {
    /// From the first partition on.
    pub fn all(kinds: &'static [PartitionKind]) -> Self {
        Self { kinds, after: None }
    }

    /// From behind a partition of one of the kinds, which need not exist any more; from the first if there is none.
    pub fn behind(kinds: &'static [PartitionKind], position: Option<Partition>) -> Self {
        let reached = position.and_then(|position| kinds.iter().position(|kind| *kind == position.kind()));
        match reached {
            Some(done) => Self { kinds: &kinds[done..], after: position },
            None => Self::all(kinds),
        }
    }

    /// The next partitions, all of one kind; none at the end.
    pub async fn next_page(&mut self, store: &Store) -> Result<Option<Vec<Partition>>, Error> {
        while let Some((kind, rest)) = self.kinds.split_first() {
            let page = store.partitions(*kind, self.after, Direction::Ascending, PARTITIONS_A_PAGE).await?;
            self.after = page.last().copied();
            if self.after.is_some() {
                return Ok(Some(page));
            }
            self.kinds = rest;
        }
        Ok(None)
    }
}

/// A walk over the rows of a range within one partition, in the order of their keys.
#[derive(Clone, Debug)]
pub struct Rows {
    rest: KeyRange,
    page: usize,
    /// The last page left nothing behind it.
    ended: bool,
}

impl Rows {
    /// Over `range`, at most `page` rows at a time and about [`crate::store::SCAN_BYTES`] of them.
    pub fn of(range: KeyRange, page: usize) -> Self {
        Self { rest: range, page, ended: false }
    }

    /// The next rows, as the store holds them; none at the end.
    pub async fn next_page(&mut self, store: &Store) -> Result<Option<Vec<Row>>, Error> {
        let Scan { rows, more } = store.scan(self.rest.clone(), Direction::Ascending, self.page).await?;
        self.ended = !more;
        let Some(last) = rows.last() else { return Ok(None) };
        let end = [last.key.as_slice(), &[0]].concat();
        self.rest = self.rest.above(&KeyRange { start: last.key.clone(), end });
        Ok(Some(rows))
    }

    /// Every row was met that there was when the last page was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.ended
    }
}

/// The rows of all wrapped data keys of a thread or a user, oldest first.
pub(super) async fn data_keys(store: &Store, owner: Partition) -> Result<Vec<(Key, Vec<u8>)>, Error> {
    let (mut keys, mut rows) = (Vec::new(), Rows::of(KeyRange::data_keys(owner), KEYS_A_PAGE));
    while let Some(page) = rows.next_page(store).await? {
        for row in page {
            keys.push((decode_key(&row.key)?, row.value));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Hash16, ThreadRow, UserRow};
    use crate::model::{MessageId, ThreadId};
    use crate::store::memory::Memory;
    use crate::store::{Commit, Op};

    async fn put(store: &Store, key: Key) {
        let ops = vec![Op::Put(key, b"row".to_vec())];
        let commit = Commit::of(key.partition(), ops);
        store.commit(commit).await.expect("committed");
    }

    fn thread(n: usize) -> Partition {
        Partition::Thread(ThreadId(n as u64))
    }

    fn user(n: u8) -> Partition {
        Partition::User(Hash16([n; 16]))
    }

    /// Threads 1 to 100 and users 1 to 3.
    async fn store() -> Store {
        let store = Store::Memory(Memory::default());
        for n in 1..=100 {
            put(&store, Key::Thread(ThreadId(n), ThreadRow::Head)).await;
        }
        for n in 1..=3 {
            put(&store, Key::User(Hash16([n; 16]), UserRow::Profile)).await;
        }
        store
    }

    async fn rest(mut walk: Partitions, store: &Store) -> Vec<Partition> {
        let mut met = Vec::new();
        while let Some(page) = walk.next_page(store).await.expect("the engine reads") {
            assert!(!page.is_empty() && page.len() <= PARTITIONS_A_PAGE);
            met.extend(page);
        }
        met
    }

    #[tokio::test]
    async fn every_partition_is_met_once_kind_after_kind() {
        let store = store().await;
        let all: Vec<_> = (1..=100).map(thread).chain((1..=3).map(user)).collect();
        assert_eq!(rest(Partitions::all(OWNERS), &store).await, all);
        assert_eq!(rest(Partitions::all(&[PartitionKind::User]), &store).await, all[100..]);
    }

    #[tokio::test]
    async fn a_walk_goes_on_behind_any_position() {
        let store = store().await;
        let all = rest(Partitions::all(OWNERS), &store).await;
        for (n, position) in all.iter().enumerate() {
            assert_eq!(rest(Partitions::behind(OWNERS, Some(*position)), &store).await, all[n + 1..]);
        }
        assert_eq!(rest(Partitions::behind(OWNERS, None), &store).await, all);
        // One that was removed since.
        assert_eq!(rest(Partitions::behind(OWNERS, Some(thread(500))), &store).await, all[100..]);
    }

    #[tokio::test]
    async fn every_row_of_a_range_is_met_once_and_in_order() {
        let (store, id) = (Store::Memory(Memory::default()), ThreadId(1));
        let keys = (0..10).map(|seq| Key::Thread(id, ThreadRow::Message(MessageId { ts: seq + 1, seq })));
        let keys: Vec<Key> = keys.collect();
        for key in &keys {
            put(&store, *key).await;
        }
        put(&store, Key::Thread(id, ThreadRow::Head)).await;
        for page in 1..=11 {
            let (mut walk, mut met) = (Rows::of(KeyRange::messages(id), page), Vec::new());
            while let Some(rows) = walk.next_page(&store).await.expect("the engine reads") {
                assert!(!rows.is_empty() && rows.len() <= page);
                met.extend(rows.into_iter().map(|row| row.key));
            }
            assert_eq!(met, keys.iter().map(Key::encode).collect::<Vec<_>>());
        }
    }
}
