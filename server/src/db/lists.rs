//! Lists of threads: of their owner in two orders, and for the administrator.
//!
//! A row of an index counts only if the head of its thread agrees with it. On one machine the two always do, but for a thread
//! that was deleted a moment ago; where partitions are not changed together, a commit that was refused or interrupted
//! leaves rows that no head agrees with. Those are passed over, the page is filled with what comes next, and what is old
//! enough to be nobody's work in progress is removed.

use std::ops::Range;
use std::time::Duration;

use super::idempotency;
use super::page::{Position, Window, window};
use super::threads::assemble;
use super::{Caller, Db, Error, decode, decode_key};
use crate::keys::{Hash16, Key, KeyRange, ThreadRow, UserRow};
use crate::model::{Cursor, Page, Thread, ThreadId, ThreadOrder, UserId};
use crate::rows::Head;
use crate::store::{Row, SCAN_BYTES};

/// How many threads of a list are read at first, to see how large they are, and at most at once.
const FIRST_THREADS: usize = 8;
const MOST_THREADS: usize = 64;
/// A row that no head agrees with is removed when it is older than this.
const STALE_AFTER: Duration = Duration::from_mins(10);
/// How often a page is asked for with more rows because some were passed over.
const REFILLS: usize = 8;

impl Db {
    /// The caller's threads, newest or most recently active first.
    pub async fn list_threads(
        &self,
        caller: &Caller,
        order: ThreadOrder,
        cursor: Cursor<ThreadId>,
        limit: usize,
    ) -> Result<Page<Thread>, Error> {
        let user = self.hash_user(&caller.user);
        let range = match order {
            ThreadOrder::Created => KeyRange::created_threads(user),
            ThreadOrder::Updated => KeyRange::active_threads(user),
        };
        // Display order is descending: what stands in front of a thread is newer.
        let position = match cursor {
            Cursor::Newest => Position::Top,
            Cursor::Before(thread) => Position::Above(self.place(user, order, thread).await?),
            Cursor::After(thread) => Position::Below(self.place(user, order, thread).await?),
            Cursor::Anchor(thread) => Position::Around(self.place(user, order, thread).await?),
        };
        let window = self.agreed_window(user, &range, position, limit).await?;
        let ids = listed(&window.rows)?;
        let (mut items, read) = self.threads(user, &ids, window.below).await?;
        items.reverse();
        let total = self.live_threads(user).await?;
        let (has_before, has_after) = (window.has_above || read.end < ids.len(), window.has_below || read.start > 0);
        Ok(Page { items, has_before, has_after, total })
    }

    /// A user's live threads for the administrator, oldest first.
    pub async fn list_user_threads(
        &self,
        user: &UserId,
        cursor: Cursor<ThreadId>,
        limit: usize,
    ) -> Result<Page<ThreadId>, Error> {
        let user = self.hash_user(user);
        let row = |thread| KeyRange::only(&Key::User(user, UserRow::Created(thread)));
        let position = match cursor {
            Cursor::Newest => Position::Top,
            Cursor::Before(thread) => Position::Below(row(thread)),
            Cursor::After(thread) => Position::Above(row(thread)),
            Cursor::Anchor(thread) => Position::Around(row(thread)),
        };
        let window = self.agreed_window(user, &KeyRange::created_threads(user), position, limit).await?;
        let total = self.live_threads(user).await?;
        Ok(Page { items: listed(&window.rows)?, has_before: window.has_below, has_after: window.has_above, total })
    }

    /// Where a thread stands in one of the user's orders.
    async fn place(&self, user: Hash16, order: ThreadOrder, thread: ThreadId) -> Result<KeyRange, Error> {
        if order == ThreadOrder::Created {
            return Ok(KeyRange::only(&Key::User(user, UserRow::Created(thread))));
        }
        // A thread of somebody else's must not tell when it was last active.
        let head = self.head(thread).await?.map(|read| read.head).filter(|head| head.owner == user);
        let updated = head.map_or(thread.0, |head| head.updated);
        Ok(KeyRange::only(&Key::User(user, UserRow::Active { updated, thread })))
    }

    /// The threads of an index of the user's, from number `near` outwards and up to about [`SCAN_BYTES`] of them; and
    /// which numbers those are.
    async fn threads(&self, user: Hash16, ids: &[ThreadId], near: usize) -> Result<(Vec<Thread>, Range<usize>), Error> {
        let (mut below, mut above) = (Vec::new(), Vec::new());
        let (mut read, mut used, mut step) = (near..near, 0, FIRST_THREADS);
        while used < SCAN_BYTES && read.len() < ids.len() {
            let up = read.end..ids.len().min(read.end + step);
            let down = read.start.saturating_sub(step)..read.start;
            let (threads, bytes_up) = self.threads_of(user, &ids[up.clone()]).await?;
            above.extend(threads);
            let (threads, bytes_down) = self.threads_of(user, &ids[down.clone()]).await?;
            below.splice(0..0, threads);
            read = down.start..up.end;
            used += bytes_up + bytes_down;
            let fit = SCAN_BYTES.saturating_sub(used) / (used / read.len()).max(1);
            step = fit.clamp(1, MOST_THREADS);
        }
        below.append(&mut above);
        Ok((below, read))
    }

    /// The window of an index of the user's, without rows that no head agrees with.
    async fn agreed_window(
        &self,
        user: Hash16,
        range: &KeyRange,
        position: Position,
        limit: usize,
    ) -> Result<Window, Error> {
        if !self.0.store.is_shared() {
            return window(&self.0.store, range, position, limit).await;
        }
        let mut asked = limit;
        for _ in 0..REFILLS {
            let mut found = window(&self.0.store, range, position.clone(), asked).await?;
            let stale = self.take_stale(user, &mut found).await?;
            let more = match position {
                Position::Top | Position::Below(_) => found.has_below,
                Position::Above(_) => found.has_above,
                Position::Around(_) => found.has_below || found.has_above,
            };
            let is_whole = stale == 0 || !more || found.rows.len() >= limit;
            if is_whole {
                found.cut(&position, limit);
                return Ok(found);
            }
            asked += stale + limit;
        }
        Err(Error::Busy)
    }

    /// Takes out of the window the rows that no head agrees with, and removes the old ones of them. How many there were.
    async fn take_stale(&self, user: Hash16, window: &mut Window) -> Result<usize, Error> {
        let named = window.rows.iter().map(Indexed::of).collect::<Result<Vec<_>, _>>()?;
        let heads = self.heads(&named.iter().map(|row| row.thread).collect::<Vec<_>>()).await?;
        let (mut agreed, mut below, mut old, before) = (Vec::new(), 0, Vec::new(), window.rows.len());
        let rows = std::mem::take(&mut window.rows).into_iter().zip(named).zip(heads);
        for (index, ((row, named), head)) in rows.enumerate() {
            if head.is_some_and(|head| named.agrees(user, &head)) {
                below += usize::from(index < window.below);
                agreed.push(row);
            } else if self.0.clock.is_over(named.dated, named.stale_after()) {
                old.push(named);
            }
        }
        (window.rows, window.below) = (agreed, below);
        self.remove_stale(user, old).await?;
        Ok(before - window.rows.len())
    }

    /// Removes rows that were stale when they were read, if they still are.
    async fn remove_stale(&self, user: Hash16, old: Vec<Indexed>) -> Result<(), Error> {
        let mut removed = Vec::new();
        for named in old {
            if !self.head(named.thread).await?.is_some_and(|read| named.agrees(user, &read.head)) {
                removed.push(named.key);
            }
        }
        Ok(self.0.store.withdraw(removed).await?)
    }

    /// These threads, and what their objects take; a row of an index counts only if the head agrees with it.
    async fn threads_of(&self, user: Hash16, ids: &[ThreadId]) -> Result<(Vec<Thread>, usize), Error> {
        let heads = ids.iter().map(|thread| Key::Thread(*thread, ThreadRow::Head));
        let objects = ids.iter().map(|thread| Key::Thread(*thread, ThreadRow::Object));
        let keys: Vec<Key> = heads.chain(objects).collect();
        let mut values = self.0.store.get_many(keys.clone()).await?;
        let objects = values.split_off(ids.len());
        let bytes = objects.iter().flatten().map(Vec::len).sum();
        let mut threads = Vec::with_capacity(ids.len());
        for (index, (head, object)) in values.into_iter().zip(objects).enumerate() {
            let (Some(head), Some(object)) = (head, object) else { continue };
            let head: Head = decode(keys[index], &head)?;
            if head.owner == user && head.deleted == 0 {
                let key = keys[ids.len() + index];
                let object = decode(key, &self.open_value(key, object).await?)?;
                threads.push(assemble(ids[index], &head, object));
            }
        }
        Ok((threads, bytes))
    }
}

/// What a row of an index says.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    key: Key,
    thread: ThreadId,
    /// The activity that it stands for; none in the order of creation.
    updated: Option<u64>,
    /// When it was made.
    dated: u64,
}

impl Indexed {
    fn of(row: &Row) -> Result<Self, Error> {
        match decode_key(&row.key)? {
            key @ Key::User(_, UserRow::Created(thread)) => Ok(Self { key, thread, updated: None, dated: thread.0 }),
            key @ Key::User(_, UserRow::Active { updated, thread }) => {
                Ok(Self { key, thread, updated: Some(updated), dated: updated })
            }
            other => Err(Error::Corrupt { key: other.to_string() }),
        }
    }

    /// A creation that carried an idempotency key may be repeated, and then stands under the same name.
    fn stale_after(&self) -> Duration {
        let of_creation = self.updated.is_none_or(|updated| updated == self.thread.0);
        if of_creation { idempotency::KEPT + 2 * STALE_AFTER } else { STALE_AFTER }
    }

    fn agrees(&self, user: Hash16, head: &Head) -> bool {
        head.owner == user && head.deleted == 0 && self.updated.is_none_or(|updated| updated == head.updated)
    }
}

/// The threads that index rows name.
pub(super) fn listed(rows: &[Row]) -> Result<Vec<ThreadId>, Error> {
    rows.iter().map(|row| Indexed::of(row).map(|row| row.thread)).collect()
}
