//! Reads: of a majority of the replicas, so that they see every commit that was acknowledged by anybody.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;

use super::Cassandra;
use super::layout::{self, Cell, Place, Span, Table, Value, big, blob};
use super::session::failed;
use super::statements::REMOVED;
use crate::keys::{Hash16, Key, KeyRange, Partition, PartitionKind};
use crate::model::ThreadId;
use crate::rows::{CounterValue, EVERY_FORMAT, Row as _};
use crate::store::{Direction, Error, Room, Row, SCAN_BYTES, Scan, page_of};

/// Requests of one read that are in flight at one time.
const AT_ONCE: usize = 32;
/// Rows that the first page of a scan asks for; those after it by how large these were.
const FIRST_ROWS: usize = 64;

/// One row of an answer: a name and a value.
type Named = (Vec<u8>, Option<Vec<u8>>);

impl Cassandra {
    pub(in crate::store) async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        match Cell::of(key) {
            Cell::Head(place) => Ok(there(self.value(&self.statements().head.get, place.values()).await?)),
            Cell::Row(place, name) => {
                self.value(&self.statements().of(place.table()).get, with(place, [blob(name)])).await
            }
            Cell::Counter(name) => self.counter(name).await,
        }
    }

    /// The value once every commit that is in flight in its partition has come to its end: what it does not show will not
    /// happen any more. In place of a head that was removed it shows [`REMOVED`].
    pub(super) async fn get_settled(&self, cell: &Cell) -> Result<Option<Vec<u8>>, Error> {
        let (statement, values) = self.settling(cell)?;
        self.value(statement, values).await
    }

    /// What brings that about.
    pub(super) fn settling(&self, cell: &Cell) -> Result<(&PreparedStatement, Vec<Value>), Error> {
        match cell {
            Cell::Head(place) => Ok((&self.statements().head.get_settled, place.values())),
            Cell::Row(place, name) => {
                let statement = &self.statements().of(place.table()).get_settled;
                Ok((statement, with(*place, [blob(name.clone())])))
            }
            // Nothing of them is ever in flight: they are no part of a commit.
            Cell::Counter(_) => Err(Error::Unsupported),
        }
    }

    /// The sum of what all slots have added; none if none has.
    async fn counter(&self, name: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        let rows = self.rows(&self.statements().slots.counter_sum, vec![blob(name)]).await?;
        let mut sum = None;
        for row in rows.rows::<(Option<i64>,)>().map_err(unreadable)? {
            let (value,) = row.map_err(unreadable)?;
            sum = Some(sum.unwrap_or(0) + value.unwrap_or(0));
        }
        Ok(sum.map(|sum| CounterValue(sum).encode(EVERY_FORMAT)))
    }

    /// Rows of one thread are asked for together: a list reads head and object of each of its threads.
    pub(in crate::store) async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut threads: HashMap<ThreadId, Vec<usize>> = HashMap::new();
        let mut others = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match key {
                Key::Thread(thread, _) => threads.entry(*thread).or_default().push(index),
                _ => others.push(index),
            }
        }
        let keys = &keys;
        let of_threads = threads.into_iter().map(|(thread, indices)| self.get_of_thread(thread, keys, indices));
        let of_threads = stream::iter(of_threads).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>();
        let others = others.into_iter().map(async |index| Ok((index, self.get(&keys[index]).await?)));
        let others = stream::iter(others).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>();
        let (of_threads, others) = tokio::try_join!(of_threads, others)?;
        let mut values = vec![None; keys.len()];
        for (index, value) in of_threads.into_iter().flatten().chain(others) {
            values[index] = value;
        }
        Ok(values)
    }

    async fn get_of_thread(
        &self,
        thread: ThreadId,
        keys: &[Key],
        indices: Vec<usize>,
    ) -> Result<Vec<(usize, Option<Vec<u8>>)>, Error> {
        if let [index] = *indices {
            return Ok(vec![(index, self.get(&keys[index]).await?)]);
        }
        let cells: Vec<_> = indices.iter().map(|index| Cell::of(&keys[*index])).collect();
        let names = cells.iter().filter_map(|cell| match cell {
            Cell::Row(_, name) => Some(CqlValue::Blob(name.clone())),
            Cell::Head(_) | Cell::Counter(_) => None,
        });
        let values = vec![big(thread.0.cast_signed()), Some(CqlValue::List(names.collect()))];
        let rows = self.rows(&self.statements().head.get_with, values).await?;
        let (mut head, mut found) = (None, HashMap::new());
        for row in rows.rows::<(Option<Vec<u8>>, Vec<u8>, Option<Vec<u8>>)>().map_err(unreadable)? {
            let (of_row, name, value) = row.map_err(unreadable)?;
            head = of_row;
            found.insert(name, value);
        }
        let mut values = Vec::with_capacity(indices.len());
        for (index, cell) in indices.into_iter().zip(cells) {
            let value = match cell {
                // Without a row there is no answer that the head could stand in.
                Cell::Head(_) if found.is_empty() => self.get(&keys[index]).await?,
                Cell::Head(_) => there(head.clone()),
                Cell::Row(_, name) => found.remove(&name).flatten(),
                Cell::Counter(_) => None,
            };
            values.push((index, value));
        }
        Ok(values)
    }

    pub(in crate::store) async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Scan, Error> {
        let Some(span) = Span::of(&range) else { return Ok(Scan::default()) };
        // One more than asked for, to know whether there is one.
        let wanted = limit.saturating_add(1);
        let places = Place::of(span.partition).into_iter();
        let parts = places.map(|place| self.scan_place(&span, place, direction, wanted));
        let mut rows: Vec<Row> =
            stream::iter(parts).buffered(AT_ONCE).try_collect::<Vec<_>>().await?.into_iter().flatten().collect();
        for key in layout::apart(span.partition) {
            let name = key.encode();
            if range.contains(&name)
                && let Some(value) = self.get(&key).await?
            {
                rows.push(Row { key: name, value });
            }
        }
        rows.sort_by(|a, b| match direction {
            Direction::Ascending => a.key.cmp(&b.key),
            Direction::Descending => b.key.cmp(&a.key),
        });
        let (mut scan, mut room) = (Scan::default(), Room { rows: limit, bytes: SCAN_BYTES });
        for row in rows {
            if room.is_used_up() {
                scan.more = true;
                break;
            }
            room.take(row.value.len());
            scan.rows.push(row);
        }
        Ok(scan)
    }

    /// The rows of one partition of a table: as many as wanted, or one more than fill a scan.
    async fn scan_place(
        &self,
        span: &Span,
        place: Place,
        direction: Direction,
        wanted: usize,
    ) -> Result<Vec<Row>, Error> {
        let statement = self.statements().of(place.table()).scan(direction);
        let (mut start, mut end) = (span.start.clone(), span.end.clone());
        let (mut rows, mut bytes, mut page) = (Vec::new(), 0, FIRST_ROWS.min(wanted));
        loop {
            let limit = CqlValue::Int(i32::try_from(page).unwrap_or(i32::MAX));
            let values = with(place, [blob(start.clone()), blob(end.clone()), Some(limit)]);
            let found = self.all_pages::<Named>(statement, values).await?;
            let is_last = found.len() < page;
            if let Some((last, _)) = found.last() {
                match direction {
                    Direction::Ascending => start = [last.as_slice(), &[0]].concat(),
                    Direction::Descending => end.clone_from(last),
                }
            }
            for (name, value) in found {
                let value = value.unwrap_or_default();
                bytes += value.len();
                rows.push(Row { key: span.key(&name), value });
            }
            if is_last || rows.len() >= wanted || bytes > SCAN_BYTES + rows.last().map_or(0, |row| row.value.len()) {
                return Ok(rows);
            }
            let average = (bytes / rows.len()).max(1);
            page = (SCAN_BYTES.saturating_sub(bytes) / average + 2).clamp(2, 4_096).min(wanted - rows.len());
        }
    }

    /// Every row of the answer, however many pages it has.
    async fn all_pages<R>(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<Vec<R>, Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let (mut rows, mut paging) = (Vec::new(), PagingState::start());
        loop {
            let page = self.session().execute_single_page(statement, &values, paging).await;
            let (page, next) = page.map_err(|error| failed(&error))?;
            let page = page.into_rows_result().map_err(unreadable)?;
            for row in page.rows::<R>().map_err(unreadable)? {
                rows.push(row.map_err(unreadable)?);
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Break(()) => return Ok(rows),
                std::ops::ControlFlow::Continue(state) => paging = state,
            }
        }
    }

    /// In the order of their tokens, which is the engine's own; days in order of time. There is no way back.
    pub(in crate::store) async fn partitions(
        &self,
        kind: PartitionKind,
        from: Option<Partition>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        let found = match layout::listed_in(kind) {
            Table::Thread | Table::User if direction == Direction::Descending => return Err(Error::Unsupported),
            Table::Thread | Table::User => return self.partitions_by_token(from, kind, limit).await,
            Table::Expiry => self.days().await?,
            Table::Meta => self.partitions_of_meta(kind).await?,
        };
        Ok(page_of(found, from, direction, limit))
    }

    async fn partitions_by_token(
        &self,
        from: Option<Partition>,
        kind: PartitionKind,
        limit: usize,
    ) -> Result<Vec<Partition>, Error> {
        let statements = &self.statements().partitions;
        let values = |from: Option<Partition>| {
            let limit = Some(CqlValue::Int(i32::try_from(limit).unwrap_or(i32::MAX)));
            [from.map_or_else(Vec::new, |from| Place::of(from)[0].values()), vec![limit]].concat()
        };
        if kind == PartitionKind::User {
            let statement = from.map_or(&statements.first_users, |_| &statements.users_after);
            let users = self.all_pages::<(Vec<u8>,)>(statement, values(from)).await?.into_iter();
            let user = |(id,): (Vec<u8>,)| Ok(Partition::User(Hash16(id.try_into().map_err(|_| unreadable("an id"))?)));
            return users.map(user).collect();
        }
        let (mut from, mut found) = (from, Vec::new());
        loop {
            let statement = from.map_or(&statements.first_threads, |_| &statements.threads_after);
            let page = self.all_pages::<(i64, Option<Vec<u8>>)>(statement, values(from)).await?;
            let is_last = page.len() < limit;
            for (id, head) in page {
                let thread = Partition::Thread(ThreadId(id.cast_unsigned()));
                from = Some(thread);
                if head.as_deref() != Some(REMOVED) {
                    found.push(thread);
                }
            }
            // Nothing means the end.
            if is_last || !found.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn days(&self) -> Result<Vec<Partition>, Error> {
        let days = self.all_pages::<(i32, i8)>(&self.statements().partitions.days, Vec::new()).await?;
        Ok(days.into_iter().map(|(day, _)| Partition::Expiry(day.cast_unsigned())).collect())
    }

    async fn partitions_of_meta(&self, kind: PartitionKind) -> Result<Vec<Partition>, Error> {
        let all = match kind {
            PartitionKind::Epoch => Span { partition: Partition::Epoch(0), start: vec![0], end: vec![0xff; 5] },
            _ => Span { partition: Partition::Store, start: vec![0], end: vec![0xff] },
        };
        let place = Place::of(all.partition)[0];
        let rows = self.scan_place(&all, place, Direction::Ascending, usize::MAX).await?;
        Ok(rows.iter().filter_map(|row| Partition::decode(&row.key)).collect())
    }

    async fn value(&self, statement: &PreparedStatement, values: Vec<Value>) -> Result<Option<Vec<u8>>, Error> {
        let rows = self.rows(statement, values).await?;
        let row = rows.maybe_first_row::<(Option<Vec<u8>>,)>().map_err(unreadable)?;
        Ok(row.and_then(|(value,)| value))
    }

    pub(super) async fn rows(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value>,
    ) -> Result<QueryRowsResult, Error> {
        rows(self.session(), statement, values).await.map_err(|error| failed(&error))
    }
}

/// The rows that a request was answered with, all of them.
pub(super) async fn rows(
    session: &Session,
    statement: &PreparedStatement,
    values: Vec<Value>,
) -> Result<QueryRowsResult, ExecutionError> {
    let answer = session.execute_unpaged(statement, values).await?;
    Ok(answer.into_rows_result().expect("the statement asks for rows"))
}

/// The values that name a partition, and these.
pub(super) fn with<const N: usize>(place: Place, values: [Value; N]) -> Vec<Value> {
    let mut all = place.values();
    all.extend(values);
    all
}

/// A head, if the thread was not removed.
fn there(head: Option<Vec<u8>>) -> Option<Vec<u8>> {
    head.filter(|head| head != REMOVED)
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Read(error.to_string())
}
