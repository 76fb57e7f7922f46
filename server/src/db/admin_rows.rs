//! Admin rows: the rows of the store as they are, listed by readable name and decoded one at a time.
//!
//! What users wrote is left out of a row unless the caller asks to open it.

mod show;

use super::{Db, Error, decode_key};
use crate::keys::{Key, KeyRange, Partition, PartitionKind, ThreadRow};
use crate::model::{MessageId, ThreadId};
use crate::store::Direction;

use show::show;
pub use show::{AdminRow, MessageFields};

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStore {
    /// Those of threads.
    Main,
    /// All others.
    Index,
}

/// Which page of them. A cursor that names no row is an exclusive position if it is a well-formed name.
#[derive(Clone, Debug, Default)]
pub struct RowRequest {
    /// Rows whose names start with this.
    pub prefix: String,
    /// The rows just in front of this one, nearest first.
    pub before: Option<String>,
    /// The rows just behind this one.
    pub after: Option<String>,
    /// The rows on either side of this one, and itself.
    pub anchor: Option<String>,
    /// At most this many on a side.
    pub limit: usize,
}

/// Names of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPage {
    /// The names: those in front of a cursor nearest first, all others in key order.
    pub names: Vec<String>,
    /// The lowest of them in key order.
    pub lowest: Option<String>,
    /// The highest of them in key order.
    pub highest: Option<String>,
    /// There are lower ones.
    pub has_before: bool,
    /// There are higher ones.
    pub has_after: bool,
    /// All with the prefix; counting stops at 10 000.
    pub total: u64,
}

/// A row under its name.
#[derive(Clone, Debug)]
pub struct NamedRow {
    /// The readable name.
    pub name: String,
    /// What it holds.
    pub row: AdminRow,
}

/// How many rows one request counts or looks at while it searches for a prefix.
const COUNTED: usize = 10_000;

impl RowStore {
    /// Its kinds of partitions, in key order.
    fn kinds(self) -> &'static [PartitionKind] {
        match self {
            Self::Main => &[PartitionKind::Thread],
            Self::Index => &[PartitionKind::Epoch, PartitionKind::Store, PartitionKind::User, PartitionKind::Expiry],
        }
    }
}

impl Db {
    /// A page of row names in key order. A cursor that is no name of a row yields an empty page.
    pub async fn list_rows(&self, store: RowStore, request: RowRequest) -> Result<RowPage, Error> {
        let parse = |text: &Option<String>| text.as_deref().map(str::parse::<Key>).transpose();
        let cursors = (parse(&request.before), parse(&request.after), parse(&request.anchor));
        let (Ok(before), Ok(after), Ok(anchor)) = cursors else { return Ok(RowPage::default()) };
        let walk = Walk { db: self, store, prefix: &request.prefix };
        let initial = before.is_none() && after.is_none() && anchor.is_none();
        let (mut front, mut behind, mut middle) = (Vec::new(), Vec::new(), None);
        if initial || before.or(anchor).is_some() {
            front = walk.names(before.or(anchor), Direction::Descending, request.limit + 1).await?;
        }
        if let Some(from) = after.or(anchor) {
            behind = walk.names(Some(from), Direction::Ascending, request.limit + 1).await?;
        }
        if let Some(anchor) = anchor {
            let found = self.0.store.get(&anchor).await?;
            middle = found.map(|_| anchor.to_string()).filter(|name| name.starts_with(&request.prefix));
        }
        let (more_front, more_behind) = (front.len() > request.limit, behind.len() > request.limit);
        front.truncate(request.limit);
        behind.truncate(request.limit);
        let total = walk.names(None, Direction::Ascending, COUNTED).await?.len() as u64;
        let bounds = [front.last(), middle.as_ref(), behind.first(), front.first(), behind.last()];
        let [front_end, at, behind_start, front_start, behind_end] = bounds.map(|name| name.cloned());
        let page = RowPage {
            lowest: front_end.or(at.clone()).or(behind_start),
            highest: behind_end.or(at).or(front_start),
            has_before: more_front || (front.is_empty() && after.is_some() && !behind.is_empty()),
            has_after: more_behind || (behind.is_empty() && before.is_some() && !front.is_empty()),
            total,
            names: Vec::new(),
        };
        if initial {
            front.reverse();
        }
        Ok(RowPage { names: front.into_iter().chain(middle).chain(behind).collect(), ..page })
    }

    /// A row, with what users wrote if it is to be opened; none if there is no such row or the name is none.
    pub async fn get_row(&self, name: &str, open: bool) -> Result<Option<NamedRow>, Error> {
        let Ok(key) = name.parse::<Key>() else { return Ok(None) };
        self.row_of(key, open).await
    }

    /// The row of a message, deleted or not.
    pub async fn get_message_row(
        &self,
        thread: ThreadId,
        id: MessageId,
        open: bool,
    ) -> Result<Option<NamedRow>, Error> {
        match self.row_of(Key::Thread(thread, ThreadRow::Message(id)), open).await? {
            Some(row) => Ok(Some(row)),
            None => self.row_of(Key::Thread(thread, ThreadRow::Deleted(id)), open).await,
        }
    }

    async fn row_of(&self, key: Key, open: bool) -> Result<Option<NamedRow>, Error> {
        let Some(value) = self.0.store.get(&key).await? else { return Ok(None) };
        let value = if matches!(key, Key::Store(_)) { value } else { self.open_value(key, value).await? };
        Ok(Some(NamedRow { name: key.to_string(), row: show(key, &value, open)? }))
    }
}

/// A walk over the rows of a store whose names have a prefix.
struct Walk<'a> {
    db: &'a Db,
    store: RowStore,
    prefix: &'a str,
}

impl Walk<'_> {
    /// Up to `limit` names in one direction from `from`, which is left out, over all partitions of the store.
    async fn names(&self, from: Option<Key>, direction: Direction, limit: usize) -> Result<Vec<String>, Error> {
        let mut kinds = self.store.kinds().to_vec();
        if direction == Direction::Descending {
            kinds.reverse();
        }
        let (mut found, mut looked_at) = (Vec::new(), 0);
        if let Some(from) = from {
            let own = from.partition().kind();
            let Some(place) = kinds.iter().position(|kind| *kind == own) else { return Ok(found) };
            kinds.drain(..place);
            let (all, at) = (KeyRange::all(from.partition()), KeyRange::only(&from));
            let rest = if direction == Direction::Ascending { all.above(&at) } else { all.below(&at) };
            self.collect(rest, direction, limit, &mut found, &mut looked_at).await?;
        }
        let mut after = from.map(|key| key.partition());
        for kind in kinds {
            let narrowed = self.narrow(kind, direction);
            after = match direction {
                Direction::Ascending => after.max(narrowed),
                Direction::Descending => [after, narrowed].into_iter().flatten().min(),
            };
            while found.len() < limit && looked_at < COUNTED {
                let next = self.db.0.store.partitions(kind, after, direction, 1).await?;
                let Some(partition) = next.first() else { break };
                after = Some(*partition);
                let (before, seen) = (found.len(), looked_at);
                self.collect(KeyRange::all(*partition), direction, limit, &mut found, &mut looked_at).await?;
                if narrowed.is_some() && looked_at > seen && found.len() == before {
                    // Names with one prefix lie together; this partition is behind them.
                    break;
                }
            }
            after = None;
        }
        Ok(found)
    }

    /// The partition just outside of those whose names can have the prefix; none if that is not known.
    fn narrow(&self, kind: PartitionKind, direction: Direction) -> Option<Partition> {
        // A thread's name is its creation time, which has 19 digits until the year 2286.
        const DIGITS: usize = 19;
        let digits = self.prefix.strip_prefix("t:").filter(|_| kind == PartitionKind::Thread)?;
        let digits = digits.split(':').next().filter(|digits| !digits.is_empty() && digits.len() <= DIGITS)?;
        let bound = match direction {
            Direction::Ascending => format!("{digits:0<DIGITS$}").parse::<u64>().ok()?.checked_sub(1)?,
            Direction::Descending => format!("{digits:9<DIGITS$}").parse::<u64>().ok()?.checked_add(1)?,
        };
        Some(Partition::Thread(ThreadId(bound)))
    }

    async fn collect(
        &self,
        mut range: KeyRange,
        direction: Direction,
        limit: usize,
        found: &mut Vec<String>,
        looked_at: &mut usize,
    ) -> Result<(), Error> {
        while found.len() < limit && *looked_at < COUNTED {
            let scan = self.db.0.store.scan(range.clone(), direction, limit.min(1_000)).await;
            let rows = scan?.rows;
            let Some(last) = rows.last() else { return Ok(()) };
            let at = KeyRange { start: last.key.clone(), end: [last.key.as_slice(), &[0]].concat() };
            range = if direction == Direction::Ascending { range.above(&at) } else { range.below(&at) };
            *looked_at += rows.len();
            for row in &rows {
                let name = decode_key(&row.key)?.to_string();
                if name.starts_with(self.prefix) && found.len() < limit {
                    found.push(name);
                }
            }
        }
        Ok(())
    }
}
