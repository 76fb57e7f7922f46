//! Commits: one conditional batch in one partition, after the indexes that must not be missing, before those that must not
//! be there any more.
//!
//! The engine decides by consensus among the replicas whether the expected row still holds what was expected. A request
//! that is not answered may have happened: a read at serial consistency ends what is in flight, and only then is the caller
//! told that the outcome is unknown. A request that waits in a node which hangs may still be carried out after that; its
//! condition names the head as it was, so it then changes nothing if anything else was committed since. The creation of a thread
//! names no head, so the removal of one leaves a mark in its place for a day, which only this engine sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::errors::ExecutionError;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;

use super::Cassandra;
use super::layout::{Cell, Place, Span, Value, big, blob};
use super::read::{rows, unreadable, with};
use super::session::{did_nothing, failed, lacks_replicas};
use super::statements::REMOVED;
use crate::clock::{Clock, monotonic};
use crate::keys::{Key, KeyRange, Partition, ThreadRow};
use crate::rows::{EVERY_FORMAT, Number, Row as _};
use crate::store::{Commit, Error, Op, Outcome, Precondition, SecondaryWrite};

/// The most that a commit may carry: a quarter of what the engine takes as it is delivered, half of what it takes with log
/// segments of 16 MiB.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// How long a commit whose outcome is unknown is asked after.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// How long rows beside a commit are tried to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 16;
/// By how much the deletion of a row is dated ahead: more than the clocks of two servers differ. A row that is deleted as a
/// secondary write never comes back under the same name, since its name holds a time.
const AHEAD_US: i64 = 600_000_000;

/// What one commit does to one partition of a table: at most one change of each row, because the rows of a batch have no
/// order.
#[derive(Default)]
struct Changes {
    head: Option<Option<Vec<u8>>>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Changes {
    fn of(ops: &[Op]) -> Result<Self, Error> {
        let mut changes = Self::default();
        for op in ops {
            match op {
                Op::Put(key, value) => changes.set(key, Some(value.clone()))?,
                Op::Delete(key) => changes.set(key, None)?,
                Op::DeleteRange(range) => changes.delete_range(range),
            }
        }
        Ok(changes)
    }

    fn set(&mut self, key: &Key, value: Option<Vec<u8>>) -> Result<(), Error> {
        match Cell::of(key) {
            Cell::Head(_) => self.head = Some(value),
            Cell::Row(_, name) => drop(self.rows.insert(name, value)),
            // The sum of what slots have added cannot be set; one that is not needed any more stays.
            Cell::Counter(_) if value.is_none() => {}
            Cell::Counter(_) => return Err(Error::Unsupported),
        }
        Ok(())
    }

    fn delete_range(&mut self, range: &KeyRange) {
        let Some(span) = Span::of(range) else { return };
        if let Partition::Thread(thread) = span.partition
            && range.contains(&Key::Thread(thread, ThreadRow::Head).encode())
        {
            self.head = Some(None);
        }
        self.rows.retain(|name, _| *name < span.start || *name >= span.end);
        self.ranges.push((span.start, span.end));
    }
}

/// A batch in the making, in one partition.
struct Statements {
    batch: Batch,
    values: Vec<Vec<Value>>,
}

impl Statements {
    fn new() -> Self {
        // A single partition is written as a whole without a log of the batch.
        Self { batch: Batch::new(BatchType::Unlogged), values: Vec::new() }
    }

    fn push(&mut self, statement: &PreparedStatement, values: Vec<Value>) {
        self.batch.append_statement(statement.clone());
        self.values.push(values);
    }
}

impl Cassandra {
    pub(in crate::store) async fn commit(&self, commit: Commit) -> Result<Outcome, Error> {
        check_size(&commit)?;
        self.lease()?.check()?;
        let term = self.lease()?.term();
        self.write_before(&commit).await?;
        let outcome = match commit.partition {
            // Nothing is ever expected of these rows.
            Partition::Expiry(_) => self.commit_plainly(&commit).await?,
            _ => self.commit_on_condition(&commit).await?,
        };
        // While this server stood still, the others may have retired the epoch that a new key is wrapped under, or have gone on
        // to another format.
        let is_late = || self.lease().is_ok_and(|lease| lease.term() != term || lease.check().is_err());
        if !matches!(outcome, Some(Undone::Conflict(_))) && is_late() {
            return Err(Error::Undecided("the slot expired while the commit was made".into()));
        }
        match outcome {
            None => {
                self.write_after(&commit).await;
                Ok(Outcome::Committed)
            }
            Some(Undone::Conflict(current)) => Ok(Outcome::Conflict { current }),
            Some(Undone::Unknown) => Ok(Outcome::Unknown(Box::new(commit))),
        }
    }

    async fn commit_plainly(&self, commit: &Commit) -> Result<Option<Undone>, Error> {
        let writes = commit.ops.iter().filter_map(|op| match op {
            Op::Put(key, value) => Some((*key, Some(value.clone()))),
            Op::Delete(key) => Some((*key, None)),
            Op::DeleteRange(_) => None,
        });
        let writes: Vec<_> = writes.collect();
        if writes.len() < commit.ops.len() || commit.precondition.is_some() {
            return Err(Error::Unsupported);
        }
        self.write_rows(writes).await.map(|()| None)
    }

    async fn commit_on_condition(&self, commit: &Commit) -> Result<Option<Undone>, Error> {
        let changes = Changes::of(&commit.ops)?;
        if let Some(Precondition { key, value }) = &commit.precondition {
            return self.compare_and_set(commit.partition, &Cell::of(key), value.as_deref(), &changes).await;
        }
        // A commit that expects nothing expects what it finds: the engine orders only what is conditional.
        let Some(cell) = changed_first(&commit.ops, commit.partition) else { return Ok(None) };
        loop {
            let current = self.get_settled(&cell).await?;
            match self.compare_and_set(commit.partition, &cell, current.as_deref(), &changes).await? {
                Some(Undone::Conflict(_)) => {}
                other => return Ok(other),
            }
        }
    }

    /// None if it was done.
    async fn compare_and_set(
        &self,
        partition: Partition,
        cell: &Cell,
        expected: Option<&[u8]>,
        changes: &Changes,
    ) -> Result<Option<Undone>, Error> {
        let place = Place::of(partition)[0];
        let batch = self.conditional(place, cell, expected, changes)?;
        // What came before may have taken long, and a process may stand still anywhere.
        self.lease()?.check()?;
        let sent = self.session().batch(&batch.batch, &batch.values).await;
        let answer = match sent {
            Ok(answer) => answer.into_rows_result().map_err(unreadable)?,
            Err(error) if did_nothing(&error) => return Err(failed(&error)),
            Err(error) => return self.find_out(cell, &error).await.map(Some),
        };
        let names: Vec<String> = answer.column_specs().iter().map(|column| column.name().to_owned()).collect();
        let row = answer.first_row::<scylla::value::Row>().map_err(unreadable)?;
        let mut columns: HashMap<String, Value> = names.into_iter().zip(row.columns).collect();
        if columns.get("[applied]") == Some(&Some(CqlValue::Boolean(true))) {
            return Ok(None);
        }
        let column = if matches!(cell, Cell::Head(_)) { "head" } else { "v" };
        let current = match columns.remove(column) {
            Some(Some(CqlValue::Blob(value))) => Some(value).filter(|value| value != REMOVED),
            // A partition or row that is not there is answered with nothing but the refusal.
            _ => None,
        };
        Ok(Some(Undone::Conflict(current)))
    }

    /// Ends what is in flight in the partition, so that a read that follows is final.
    async fn find_out(&self, cell: &Cell, error: &ExecutionError) -> Result<Undone, Error> {
        metrics::counter!("progressdb_cassandra_unknown_commits_total").increment(1);
        tracing::warn!(event = "storage.unknown_commit", %error, "asking what became of it");
        let (began, (statement, values)) = (monotonic(), self.settling(cell)?);
        loop {
            match rows(self.session(), statement, values.clone()).await {
                Ok(_) => return Ok(Undone::Unknown),
                // Without a majority it fails at once: who waits for the answer has to ask again later.
                Err(error) if lacks_replicas(&error) || began.elapsed() >= SETTLED_WITHIN => {
                    return Err(Error::Undecided(error.to_string()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn conditional(
        &self,
        place: Place,
        cell: &Cell,
        expected: Option<&[u8]>,
        changes: &Changes,
    ) -> Result<Statements, Error> {
        let (statements, head) = (self.statements().of(place.table()), &self.statements().head);
        let is_removed = changes.head == Some(None) || (changes.head.is_none() && expected == Some(REMOVED));
        let expected = expected.map(|value| CqlValue::Blob(value.to_vec()));
        let mut batch = Statements::new();
        // Sent twice, it would be refused because of its own first time.
        batch.batch.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
        // The condition is part of the change of the row that it is about, or of one that leaves the row as it is.
        let condition = match cell {
            Cell::Counter(_) => return Err(Error::Unsupported),
            Cell::Head(_) => changes.head.clone(),
            Cell::Row(_, name) => changes.rows.get(name).cloned(),
        };
        let after = condition.map_or_else(|| expected.clone(), |value| value.map(CqlValue::Blob));
        match (cell, after) {
            (Cell::Head(_), _) if is_removed => batch.push(&head.remove_if, with(place, [expected])),
            (Cell::Head(_), Some(value)) => {
                batch.push(&head.put_if, [vec![Some(value)], place.values(), vec![expected]].concat());
            }
            (Cell::Head(_), None) => batch.push(&head.absent_if, with(place, [expected])),
            (Cell::Row(_, name), Some(value)) => {
                let values = [vec![Some(value)], with(place, [blob(name.clone()), expected])].concat();
                batch.push(&statements.put_if, values);
            }
            (Cell::Row(_, name), None) => {
                batch.push(&statements.delete_if, with(place, [blob(name.clone()), expected]));
            }
            (Cell::Counter(_), _) => return Err(Error::Unsupported),
        }
        match (&changes.head, cell) {
            (None, _) | (_, Cell::Head(_)) => {}
            (Some(Some(value)), _) => batch.push(&head.put, [vec![blob(value.clone())], place.values()].concat()),
            (Some(None), _) => batch.push(&head.remove, place.values()),
        }
        for (name, value) in &changes.rows {
            match value {
                _ if matches!(cell, Cell::Row(_, expected) if expected == name) => {}
                Some(value) => {
                    let values = [vec![blob(value.clone())], with(place, [blob(name.clone())])].concat();
                    batch.push(&statements.put, values);
                }
                None => batch.push(&statements.delete, with(place, [blob(name.clone())])),
            }
        }
        for (start, end) in &changes.ranges {
            batch.push(&statements.delete_range, with(place, [blob(start.clone()), blob(end.clone())]));
        }
        Ok(batch)
    }

    /// What must be there no later than the commit.
    async fn write_before(&self, commit: &Commit) -> Result<(), Error> {
        let puts = commit.secondary.iter().filter_map(|write| match write {
            SecondaryWrite::Put(key, value) => Some((key, value)),
            _ => None,
        });
        // What is sealed is sealed anew one day, under a condition.
        let (ordered, plain): (Vec<_>, Vec<_>) = puts.partition(|(key, _)| key.is_private());
        let ordered = async {
            for (key, value) in ordered {
                self.put_in_order(*key, value).await?;
            }
            Ok(())
        };
        let plain = plain.into_iter().map(|(key, value)| (*key, Some(value.clone())));
        let raises = commit.secondary.iter().filter_map(|write| match write {
            SecondaryWrite::Raise(key, to) => Some((*key, *to)),
            _ => None,
        });
        let raised = async {
            match raises.max_by_key(|(_, to)| *to) {
                Some((key, to)) => self.raise(&key, to).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(ordered, self.write_rows(plain.collect()), raised).map(|_| ())
    }

    /// Writes a row that is also changed by commits of its own: the engine orders only what is conditional.
    async fn put_in_order(&self, key: Key, value: &[u8]) -> Result<(), Error> {
        let commit = Commit::of(key.partition(), vec![Op::Put(key, value.to_vec())]);
        match self.commit_on_condition(&commit).await? {
            Some(Undone::Unknown) if self.get_settled(&Cell::of(&key)).await?.as_deref() != Some(value) => {
                Err(Error::Unavailable("a row beside the commit was not written".into()))
            }
            _ => Ok(()),
        }
    }

    /// What may be there no longer, and what is counted, once the commit is made. A failure leaves an index row that no head
    /// agrees with, or a counter that is put right by the next recount.
    pub(in crate::store) async fn write_after(&self, commit: &Commit) {
        let deletions = commit.secondary.iter().filter_map(|write| match write {
            SecondaryWrite::Delete(key) => Some((*key, None)),
            _ => None,
        });
        let additions = commit.secondary.iter().filter_map(|write| match write {
            SecondaryWrite::Add(key, by) => Some((*key, *by)),
            _ => None,
        });
        let added = async {
            match self.lease() {
                Ok(lease) => lease.add(additions.collect()).await,
                Err(error) => Err(error),
            }
        };
        let (deleted, added) = tokio::join!(self.write_rows(deletions.collect()), added);
        for error in [deleted.err(), added.err()].into_iter().flatten() {
            metrics::counter!("progressdb_cassandra_late_writes_failed_total").increment(1);
            tracing::warn!(event = "storage.late_write_failed", %error, "the commit itself is made");
        }
    }

    /// Removes rows of which nothing is expected.
    pub(in crate::store) async fn withdraw(&self, keys: Vec<Key>) -> Result<(), Error> {
        self.lease()?.check()?;
        self.write_rows(keys.into_iter().map(|key| (key, None)).collect()).await
    }

    /// Writes rows of which nothing is expected, those of a partition together.
    async fn write_rows(&self, writes: Vec<(Key, Option<Vec<u8>>)>) -> Result<(), Error> {
        let mut batches: HashMap<(Place, bool), Statements> = HashMap::new();
        for (key, value) in writes {
            let Cell::Row(place, name) = Cell::of(&key) else { return Err(Error::Unsupported) };
            let statements = self.statements().of(place.table());
            let batch = batches.entry((place, value.is_some())).or_insert_with(Statements::new);
            match value {
                Some(value) => {
                    batch.push(&statements.put, [vec![blob(value)], with(place, [blob(name)])].concat());
                }
                None => batch.push(&statements.delete, with(place, [blob(name)])),
            }
        }
        let now = i64::try_from(Clock::wall() / 1_000).unwrap_or(i64::MAX / 2);
        let written = batches.into_iter().map(|((_, is_put), mut batch)| {
            batch.batch.set_timestamp(Some(if is_put { now } else { now + AHEAD_US }));
            batch.batch.set_is_idempotent(true);
            async move { self.until_written(|| self.session().batch(&batch.batch, &batch.values)).await }
        });
        stream::iter(written).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(|_| ())
    }

    /// Repeats what may be repeated, for a while.
    async fn until_written<F>(&self, write: impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<QueryResult, ExecutionError>>,
    {
        let began = monotonic();
        loop {
            match write().await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let what = failed(&error);
                    let may_pass = matches!(what, Error::Unavailable(_)) && !lacks_replicas(&error);
                    if !may_pass || began.elapsed() >= WRITTEN_WITHIN {
                        return Err(what);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sets a number dated by itself: of all that were ever written, the engine keeps the highest.
    async fn raise(&self, key: &Key, to: u64) -> Result<(), Error> {
        let Cell::Row(place, name) = Cell::of(key) else { return Err(Error::Unsupported) };
        let (dated, value) = (i64::try_from(to).unwrap_or(i64::MAX), Number(to).encode(EVERY_FORMAT));
        let values = [vec![big(dated), blob(value)], with(place, [blob(name)])].concat();
        self.until_written(|| self.session().execute_unpaged(&self.statements().raise, &values)).await
    }
}

/// Why a commit was not made, as far as is known.
enum Undone {
    /// The expected row holds something else.
    Conflict(Option<Vec<u8>>),
    /// It may have been made; nothing of it is in flight any more.
    Unknown,
}

/// The row that stands for the whole commit if it expects nothing.
fn changed_first(ops: &[Op], partition: Partition) -> Option<Cell> {
    if ops.is_empty() {
        return None;
    }
    if let Partition::Thread(thread) = partition {
        return Some(Cell::of(&Key::Thread(thread, ThreadRow::Head)));
    }
    ops.iter().find_map(|op| match op {
        Op::Put(key, _) | Op::Delete(key) => Some(Cell::of(key)),
        Op::DeleteRange(_) => None,
    })
}

/// Refuses what the engine would refuse, before anything is written.
fn check_size(commit: &Commit) -> Result<(), Error> {
    // What a row takes beside its value.
    const ROW: usize = 64;
    let size = |op: &Op| match op {
        Op::Put(_, value) => ROW + value.len(),
        Op::Delete(_) | Op::DeleteRange(_) => ROW,
    };
    let bytes = commit.ops.iter().map(size).sum();
    if bytes > MOST_BYTES { Err(Error::TooLarge { bytes, most: MOST_BYTES }) } else { Ok(()) }
}
