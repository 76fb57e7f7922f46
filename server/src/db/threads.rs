//! Threads: create, read, update, delete.

use super::detached::Detached;
use super::edit::{Settled, repeat};
use super::idempotency::{self, Token};
use super::write::{Answer, Write};
use super::{Caller, Db, Error, ThreadUpdate, WriteOptions, Written, decode};
use crate::keys::{Counter, Hash16, Key, StoreRow, ThreadRow, UserRow};
use crate::model::{Thread, ThreadContent, ThreadId};
use crate::rows::{Head, Participant, Present, Role, Row, ThreadObject};
use crate::store::{Commit, Op, SecondaryWrite};

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
        // Two servers give out the same time only if one of them went on with a slot that it had lost.
        if !created && !removed && self.head(thread).await?.is_some_and(|read| read.head.owner != user) {
            return Err(Error::Busy);
        }
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
            let (seals, writing) = (seal.count_for_user(user), self.begin_write());
            let expiry = idempotency::expire_of_user(writing.format(), user, thread, token.name);
            let record = record.encode(writing.format());
            let commit = Commit::replace(key, before, seal.value(key, record)).with(seals.chain([expiry]));
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
        let writing = self.begin_write();
        let format = writing.format();
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
            SecondaryWrite::Put(Key::User(user, UserRow::Created(thread)), Present.encode(format)),
            SecondaryWrite::Put(Key::User(user, UserRow::Active { updated: thread.0, thread }), Present.encode(format)),
            SecondaryWrite::Put(Key::User(user, UserRow::Wrote(thread)), Present.encode(format)),
            SecondaryWrite::Add(Key::User(user, UserRow::LiveThreads), 1),
            SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Threads)), 1),
        ];
        secondary.extend(self.progress(1, thread.0));
        let key = Key::Thread(thread, ThreadRow::Head);
        let (object_key, owner_key) =
            (Key::Thread(thread, ThreadRow::Object), Key::Thread(thread, ThreadRow::Participant(user)));
        let rows = [
            Op::Put(object_key, seal.value(object_key, object.encode(format))),
            Op::Put(owner_key, seal.value(owner_key, owner.encode(format))),
        ];
        let mut commit = Commit::replace(key, None, head.encode(format)).with(secondary);
        commit.ops.extend(rows.into_iter().chain(seal.new_row(format)));
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
}

/// The thread that a creation with an idempotency key stands for.
struct Creation {
    thread: ThreadId,
    /// It was recorded before.
    found: bool,
    /// It was there, and was removed for good.
    removed: bool,
}

fn thread_written(thread: ThreadId, answer: &Answer) -> Written<ThreadId> {
    Written { key: thread, revision: answer.revision, replayed: answer.replayed }
}

pub(super) fn assemble(id: ThreadId, head: &Head, object: ThreadObject) -> Thread {
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
