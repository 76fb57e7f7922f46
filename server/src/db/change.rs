//! Changes to a thread: what one commit does to it, and the changes that go alone.

use super::access::{ReadHead, check_access, check_alive};
use super::append::{Answer, Job, replay};
use super::sealing::Seal;
use super::{Caller, Db, Error, MessageUpdate, NewMessage, ThreadUpdate, Written, decode, idempotency};
use crate::keys::{Counter, ExpiryKind, Key, Partition, StoreRow, ThreadRow, UserRow};
use crate::model::{MessageContent, MessageId, MessageKey, ThreadId};
use crate::rows::{DeletedMessage, Head, MessageName, MessageRow, Present, Row, ThreadObject};
use crate::store::{Commit, Op, Outcome, Precondition, SecondaryWrite, Store};

/// A write to a thread that exists.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Append(NewMessage),
    UpdateMessage(MessageKey, MessageUpdate),
    DeleteMessage(MessageKey),
    UpdateThread(ThreadUpdate),
    DeleteThread,
}

/// A commit in the making: the head as it will be, and the rows that go with it.
pub(super) struct Draft<'a> {
    db: &'a Db,
    pub(super) thread: ThreadId,
    expected: Vec<u8>,
    before: Head,
    pub(super) head: Head,
    pub(super) ops: Vec<Op>,
    pub(super) secondary: Vec<SecondaryWrite>,
    pub(super) created_messages: i64,
    /// Data keys whose rows the commit removes.
    pub(super) forgotten: Vec<Key>,
    /// None until a row is to be written.
    seal: Option<Seal>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(db: &'a Db, thread: ThreadId, read: &ReadHead) -> Self {
        let head = Head { revision: read.head.revision + 1, commit_id: db.next_commit_id(), ..read.head };
        let (expected, before) = (read.bytes.clone(), read.head);
        let (ops, secondary, forgotten) = (Vec::new(), Vec::new(), Vec::new());
        Self { db, thread, expected, before, head, ops, secondary, created_messages: 0, forgotten, seal: None }
    }

    /// Gets a key to seal with, before the first private row.
    pub(super) async fn prepare(&mut self) -> Result<(), Error> {
        if self.seal.is_none() {
            let seal = self.db.seal_for_thread(self.thread, &self.head).await?;
            self.seal_with(seal);
        }
        Ok(())
    }

    /// Seals with a key that the thread does not have yet.
    pub(super) async fn renew_key(&mut self) -> Result<(), Error> {
        let seal = self.db.new_seal_for_thread(self.thread, self.head.generation + 1).await?;
        self.seal_with(seal);
        Ok(())
    }

    fn seal_with(&mut self, seal: Seal) {
        if let Some(row) = seal.new_row(self.db.0.format) {
            self.ops.push(row);
            self.head.generation = seal.generation();
            self.head.seals = 0;
        }
        self.seal = Some(seal);
    }

    /// Sets a row of the thread.
    pub(super) fn put(&mut self, row: ThreadRow, value: &impl Row) {
        let (key, seal) = (Key::Thread(self.thread, row), self.seal.as_ref().expect("prepared before the first row"));
        self.ops.push(Op::Put(key, seal.value(key, value.encode(self.db.0.format))));
        self.head.seals += u64::from(seal.generation() != 0);
    }

    /// The format of the store.
    pub(super) fn format(&self) -> u32 {
        self.db.0.format
    }

    pub(super) fn store(&self) -> &Store {
        &self.db.0.store
    }

    /// A time above every one that the thread has seen.
    pub(super) fn next_message_timestamp(&self) -> Result<u64, Error> {
        Ok(self.db.next_timestamp()?.max(self.head.last_message + 1).max(self.head.updated + 1))
    }

    /// Commits, if the head is still what the draft was made from. `writes` are the client writes in it.
    pub(super) async fn commit(mut self, writes: usize) -> Result<Outcome, Error> {
        self.move_activity();
        if self.created_messages > 0 {
            self.secondary
                .push(SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Messages)), self.created_messages));
        }
        self.secondary.extend(self.db.progress(writes));
        let key = Key::Thread(self.thread, ThreadRow::Head);
        self.ops.push(Op::Put(key, self.head.encode(self.db.0.format)));
        let commit = Commit {
            partition: Partition::Thread(self.thread),
            precondition: Some(Precondition { key, value: Some(self.expected) }),
            ops: self.ops,
            secondary: self.secondary,
        };
        let outcome = self.db.0.store.commit(commit).await?;
        if outcome == Outcome::Committed {
            self.db.note_writes(writes);
            self.db.swap_keys(self.seal.as_ref(), &self.forgotten).await;
        }
        Ok(outcome)
    }

    /// Moves the thread in its owner's order of activity, or takes it out of the lists if it was deleted.
    fn move_activity(&mut self) {
        let active = |updated| Key::User(self.head.owner, UserRow::Active { updated, thread: self.thread });
        if self.head.deleted != 0 {
            self.secondary.push(SecondaryWrite::Delete(active(self.before.updated)));
        } else if self.head.updated != self.before.updated {
            self.secondary.push(SecondaryWrite::Delete(active(self.before.updated)));
            self.secondary.push(SecondaryWrite::Put(active(self.head.updated), Present.encode(self.db.0.format)));
        }
    }

    fn update_message(&mut self, id: MessageId, old: MessageRow, update: &MessageUpdate, ts: u64) -> u64 {
        let content = MessageContent {
            body: update.body.clone(),
            metadata: update.metadata.clone().or(old.content.metadata.clone()),
            ..old.content.clone()
        };
        let new = MessageRow { revision: old.revision + 1, updated: ts, author: old.author.clone(), content };
        self.put(ThreadRow::Version(id, old.revision), &old);
        self.put(ThreadRow::Message(id), &new);
        self.head.updated = ts;
        new.revision
    }

    fn delete_message(&mut self, id: MessageId, old: MessageRow, ts: u64) {
        let deleted = DeletedMessage { deleted: ts, message: old };
        self.ops.push(Op::Delete(Key::Thread(self.thread, ThreadRow::Message(id))));
        self.put(ThreadRow::Deleted(id), &deleted);
        self.secondary.push(SecondaryWrite::Put(
            Key::Expiry { due: ts, thread: self.thread, kind: ExpiryKind::Message },
            MessageName(id).encode(self.db.0.format),
        ));
        self.head.live -= 1;
        self.head.updated = ts;
    }

    fn update_thread(&mut self, mut object: ThreadObject, update: &ThreadUpdate, ts: u64) -> u64 {
        object.revision += 1;
        if let Some(title) = &update.title {
            object.content.title.clone_from(title);
        }
        object.content.slug = update.slug.clone().or(object.content.slug);
        object.content.metadata = update.metadata.clone().or(object.content.metadata);
        self.put(ThreadRow::Object, &object);
        self.head.updated = ts;
        object.revision
    }

    /// Takes the thread out of every list and count; its rows stay.
    pub(super) fn delete_thread(&mut self, ts: u64) {
        let owner = self.head.owner;
        self.head.deleted = ts;
        self.secondary.extend([
            SecondaryWrite::Delete(Key::User(owner, UserRow::Created(self.thread))),
            SecondaryWrite::Add(Key::User(owner, UserRow::LiveThreads), -1),
            SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Threads)), -1),
            SecondaryWrite::Put(
                Key::Expiry { due: ts, thread: self.thread, kind: ExpiryKind::Thread },
                Present.encode(self.db.0.format),
            ),
        ]);
    }
}

/// Commits a change that goes alone.
pub(super) async fn commit_change(db: &Db, thread: ThreadId, job: &Job) -> Result<Answer, Error> {
    loop {
        let read = db.head(thread).await?.ok_or(Error::AccessDenied)?;
        check_access(&read.head, job.user)?;
        let name = job.options.idempotency.as_ref().map(|wanted| db.hash_idempotency(&job.caller, wanted));
        if let Some((wanted, name)) = job.options.idempotency.as_ref().zip(name) {
            let record = db.row(Key::Thread(thread, ThreadRow::Idempotency(name))).await?;
            if let Some(record) = db.check_record(record, wanted)? {
                return Ok(replay(&record));
            }
        }
        check_alive(&read.head)?;
        let mut draft = Draft::new(db, thread, &read);
        draft.prepare().await?;
        let ts = draft.next_message_timestamp()?;
        let (message, revision) = apply(db, &mut draft, job, ts).await?;
        if let Some((wanted, name)) = job.options.idempotency.as_ref().zip(name) {
            draft.record(name, &idempotency::record(wanted, thread, message, revision, ts), ts);
        }
        match draft.commit(1).await? {
            Outcome::Committed => return Ok(Written { key: message, revision, replayed: false }),
            Outcome::Conflict { .. } => {}
            Outcome::Unknown => return Err(Error::Unavailable),
        }
    }
}

/// Writes the change into the draft; which message it concerned, and the revision after it.
async fn apply(db: &Db, draft: &mut Draft<'_>, job: &Job, ts: u64) -> Result<(Option<MessageId>, u64), Error> {
    let thread = draft.thread;
    match &job.change {
        Change::Append(_) => unreachable!("appends go in batches"),
        Change::UpdateMessage(key, update) => {
            let (id, old) = editable_message(db, draft, job, *key).await?;
            let revision = draft.update_message(id, old, update, ts);
            Ok((Some(id), revision))
        }
        Change::DeleteMessage(key) => {
            let (id, old) = editable_message(db, draft, job, *key).await?;
            draft.delete_message(id, old, ts);
            Ok((Some(id), 0))
        }
        Change::UpdateThread(update) => {
            let object = thread_object(db, thread).await?;
            job.options.check_revision(object.revision)?;
            Ok((None, draft.update_thread(object, update, ts)))
        }
        Change::DeleteThread => {
            job.options.check_revision(thread_object(db, thread).await?.revision)?;
            draft.delete_thread(ts);
            Ok((None, 0))
        }
    }
}

/// The object of a thread whose head is there; the two are committed together.
pub(super) async fn thread_object(db: &Db, thread: ThreadId) -> Result<ThreadObject, Error> {
    let key = Key::Thread(thread, ThreadRow::Object);
    db.row(key).await?.ok_or_else(|| Error::Corrupt { key: key.to_string() })
}

/// The message, if the caller may change it: its author, or the owner of the thread.
async fn editable_message(
    db: &Db,
    draft: &Draft<'_>,
    job: &Job,
    key: MessageKey,
) -> Result<(MessageId, MessageRow), Error> {
    let (id, bytes) = db.find_message(draft.thread, key).await?;
    let row: MessageRow = decode(Key::Thread(draft.thread, ThreadRow::Message(id)), &bytes)?;
    let Caller { user } = &job.caller;
    if row.author != *user && draft.head.owner != job.user {
        return Err(Error::AccessDenied);
    }
    job.options.check_revision(row.revision)?;
    Ok((id, row))
}
