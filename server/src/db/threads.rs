//! Threads: create, read, update, delete, list.

use std::ops::Range;

use super::detached::Detached;
use super::edit::{Settled, repeat};
use super::idempotency::{self, Token};
use super::page::{Position, Window, window};
use super::write::{Answer, Write};
use super::{Caller, Db, Error, ThreadUpdate, WriteOptions, Written, decode, decode_key};
use crate::keys::{Counter, Hash16, Key, KeyRange, StoreRow, ThreadRow, UserRow};
use crate::model::{Cursor, Page, Thread, ThreadContent, ThreadId, ThreadOrder, UserId};
use crate::rows::{Head, Participant, Present, Role, Row, ThreadObject};
use crate::store::{Commit, Op, SCAN_BYTES, SecondaryWrite};

/// How many threads of a list are read at first, to see how large they are, and at most at once.
const FIRST_THREADS: usize = 8;
const MOST_THREADS: usize = 64;

impl Db {
    /// Creates a thread that the caller owns.
    pub async fn create_thread(
        &self,
        caller: &Caller,
        content: ThreadContent,
        options: WriteOptions,
    ) -> Result<Written<ThreadId>, Error> {
        let (db, caller) = (self.clone(), caller.clone());
        // A client that hangs up must not leave a half of it undone.
        Detached::new(async move {
            let user = db.hash_user(&caller.user);
            db.ensure_user(&caller, user).await?;
            match db.token(&caller, options.idempotency.as_ref()) {
                None => db.create_fresh_thread(&caller, user, &content).await,
                Some(token) => db.create_thread_once(&caller, user, &content, &token).await,
            }
        })
        .await
    }

    async fn create_fresh_thread(
        &self,
        caller: &Caller,
        user: Hash16,
        content: &ThreadContent,
    ) -> Result<Written<ThreadId>, Error> {
        repeat(|| async {
            let thread = ThreadId(self.next_timestamp()?);
            let created = self.commit_thread(caller, user, thread, content).await?;
            Ok(created.then_some(Written { key: thread, revision: 1, replayed: false }))
        })
        .await
    }

    /// Records which thread the request stands for, then creates that thread.
    ///
    /// A repetition that finds the record creates the same thread if a crash came between the two, and otherwise
    /// finds it there: either way there is one. A thread that was removed for good since is not created again.
    async fn create_thread_once(
        &self,
        caller: &Caller,
        user: Hash16,
        content: &ThreadContent,
        token: &Token,
    ) -> Result<Written<ThreadId>, Error> {
        let Creation { thread, found, removed } = self.record_creation(user, token).await?;
        let created = !removed && self.commit_thread(caller, user, thread, content).await?;
        Ok(Written { key: thread, revision: 1, replayed: found || !created })
    }

    async fn record_creation(&self, user: Hash16, token: &Token) -> Result<Creation, Error> {
        let key = Key::User(user, UserRow::Idempotency(token.name));
        repeat(|| async {
            let before = self.0.store.get(&key).await?;
            let record = match &before {
                Some(bytes) => Some(decode(key, &self.open_value(key, bytes.clone()).await?)?),
                None => None,
            };
            if let Some(record) = self.check_record(record, token)? {
                return Ok(Some(Creation { thread: record.thread, found: true, removed: record.revision == 0 }));
            }
            let thread = ThreadId(self.next_timestamp()?);
            let record = token.record(thread, None, 1, thread.0);
            let seal = self.seal_for_user(user).await?;
            let seals = seal.count_for_user(user);
            let expiry = idempotency::expire_of_user(self.0.format, user, thread, token.name);
            let commit =
                Commit::replace(key, before, seal.value(key, record.encode(self.0.format))).with(seals.chain([expiry]));
            let committed = self.commit(commit).await? == Settled::Committed;
            Ok(committed.then_some(Creation { thread, found: false, removed: false }))
        })
        .await
    }

    /// Creates the thread if there is none of this id; false if there is.
    async fn commit_thread(
        &self,
        caller: &Caller,
        user: Hash16,
        thread: ThreadId,
        content: &ThreadContent,
    ) -> Result<bool, Error> {
        let seal = self.new_seal_for_thread(thread, 1).await?;
        let head = Head {
            revision: 1,
            commit_id: self.next_commit_id(),
            owner: user,
            updated: thread.0,
            last_message: 0,
            next_seq: 0,
            live: 0,
            deleted: 0,
            generation: seal.generation(),
            oldest: seal.generation(),
            seals: 2 * u64::from(seal.generation() != 0),
        };
        let object = ThreadObject { revision: 1, author: caller.user.clone(), content: content.clone() };
        let owner = Participant { role: Role::Owner, since: thread.0, user: caller.user.clone() };
        let mut secondary = vec![
            SecondaryWrite::Put(Key::User(user, UserRow::Created(thread)), Present.encode(self.0.format)),
            SecondaryWrite::Put(
                Key::User(user, UserRow::Active { updated: thread.0, thread }),
                Present.encode(self.0.format),
            ),
            SecondaryWrite::Put(Key::User(user, UserRow::Wrote(thread)), Present.encode(self.0.format)),
            SecondaryWrite::Add(Key::User(user, UserRow::LiveThreads), 1),
            SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Threads)), 1),
        ];
        secondary.extend(self.progress(1));
        let key = Key::Thread(thread, ThreadRow::Head);
        let (object_key, owner_key) =
            (Key::Thread(thread, ThreadRow::Object), Key::Thread(thread, ThreadRow::Participant(user)));
        let rows = [
            Op::Put(object_key, seal.value(object_key, object.encode(self.0.format))),
            Op::Put(owner_key, seal.value(owner_key, owner.encode(self.0.format))),
        ];
        let mut commit = Commit::replace(key, None, head.encode(self.0.format)).with(secondary);
        commit.ops.extend(rows.into_iter().chain(seal.new_row(self.0.format)));
        let committed = self.commit(commit).await? == Settled::Committed;
        if committed {
            self.note_writes(1);
            self.swap_keys(Some(&seal), &[]);
        }
        Ok(committed)
    }

    /// A live thread.
    pub async fn get_thread(&self, caller: &Caller, thread: ThreadId) -> Result<Thread, Error> {
        let head = self.readable_head(caller, thread).await?;
        Ok(assemble(thread, &head, self.thread_object(thread).await?))
    }

    /// The object of a thread whose head is there; the two are committed together.
    pub(super) async fn thread_object(&self, thread: ThreadId) -> Result<ThreadObject, Error> {
        let key = Key::Thread(thread, ThreadRow::Object);
        self.row(key).await?.ok_or_else(|| Error::Corrupt { key: key.to_string() })
    }

    /// Changes title, slug or metadata.
    pub async fn update_thread(
        &self,
        caller: &Caller,
        thread: ThreadId,
        update: ThreadUpdate,
        options: WriteOptions,
    ) -> Result<Written<ThreadId>, Error> {
        let answer = self.write(caller, thread, Write::UpdateThread(update), options).await?;
        Ok(thread_written(thread, &answer))
    }

    /// Deletes a thread; it is kept, unseen, until retention purges it.
    pub async fn delete_thread(
        &self,
        caller: &Caller,
        thread: ThreadId,
        options: WriteOptions,
    ) -> Result<Written<ThreadId>, Error> {
        let answer = self.write(caller, thread, Write::DeleteThread, options).await?;
        Ok(thread_written(thread, &answer))
    }

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
        let window = window(&self.0.store, &range, position, limit).await?;
        let ids = listed(&window)?;
        let (mut items, read) = self.threads(user, &ids, window.below).await?;
        items.reverse();
        let total = self.counter(Key::User(user, UserRow::LiveThreads)).await?;
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
        let window = window(&self.0.store, &KeyRange::created_threads(user), position, limit).await?;
        let total = self.counter(Key::User(user, UserRow::LiveThreads)).await?;
        Ok(Page { items: listed(&window)?, has_before: window.has_below, has_after: window.has_above, total })
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

/// The thread that a creation with an idempotency key stands for.
struct Creation {
    thread: ThreadId,
    /// It was recorded before.
    found: bool,
    /// It was there, and was removed for good.
    removed: bool,
}

/// The threads that index rows name.
fn listed(window: &Window) -> Result<Vec<ThreadId>, Error> {
    let thread = |key| match decode_key(key)? {
        Key::User(_, UserRow::Created(thread) | UserRow::Active { thread, .. }) => Ok(thread),
        other => Err(Error::Corrupt { key: other.to_string() }),
    };
    window.rows.iter().map(|row| thread(&row.key)).collect()
}

fn thread_written(thread: ThreadId, answer: &Answer) -> Written<ThreadId> {
    Written { key: thread, revision: answer.revision, replayed: answer.replayed }
}

fn assemble(id: ThreadId, head: &Head, object: ThreadObject) -> Thread {
    Thread {
        id,
        content: object.content,
        author: object.author,
        updated_ts: head.updated,
        last_message_ts: (head.last_message != 0).then_some(head.last_message),
        message_count: head.live,
        revision: object.revision,
    }
}
