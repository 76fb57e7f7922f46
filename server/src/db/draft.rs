//! Drafts: what one commit does to a thread.
//!
//! A draft is made from a head and commits only if the thread is still there. Each write is checked in it, permission
//! first, then idempotency, then preconditions, and is applied or refused; a refused one leaves nothing in the draft.
//! What a later write of the same commit must see of an earlier one, it sees in the draft.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::{ReadHead, check_access, check_alive};
use super::edit::Settled;
use super::idempotency;
use super::messages;
use super::sealing::Seal;
use super::write::{Answer, MessageUpdate, NewMessage, ThreadUpdate, Write, Written};
use super::write_queue::PendingWrite;
use super::written_format::Writing;
use super::{Db, Error, decode};
use crate::forgetting_cache::Mark;
use crate::format::Change;
use crate::keys::{Counter, ExpiryKind, Hash16, Key, Partition, StoreRow, ThreadRow, UserRow};
use crate::model::{Message, MessageContent, MessageId, MessageKey, ThreadId};
use crate::rows::{self, DeletedMessage, Head, MessageName, MessageRow, Present, Row, ThreadObject};
use crate::store::{Commit, Op, Precondition, SecondaryWrite, Store};

/// A commit in the making: the head as it will be, and the rows that go with it.
pub(super) struct Draft<'a> {
    db: &'a Db,
    pub(super) thread: ThreadId,
    /// The head that the commit expects.
    before: ReadHead,
    pub(super) head: Head,
    pub(super) ops: Vec<Op>,
    pub(super) secondary: Vec<SecondaryWrite>,
    /// How many writes of clients the commit carries.
    pub(super) client_writes: usize,
    /// Data keys whose rows the commit removes.
    pub(super) forgotten: Vec<Key>,
    /// The messages that it creates, in order.
    created: Vec<Arc<Message>>,
    /// The idempotency records that it writes.
    records: HashMap<Hash16, rows::Idempotency>,
    /// None until a row is to be written.
    seal: Option<Seal>,
    /// When the draft was begun.
    mark: Mark,
    writing: Writing,
}

impl<'a> Draft<'a> {
    pub(super) fn new(db: &'a Db, thread: ThreadId, before: ReadHead) -> Self {
        let head = Head { revision: before.head.revision + 1, commit_id: db.next_commit_id(), ..before.head };
        Self {
            db,
            thread,
            before,
            head,
            ops: Vec::new(),
            secondary: Vec::new(),
            client_writes: 0,
            forgotten: Vec::new(),
            created: Vec::new(),
            records: HashMap::new(),
            seal: None,
            mark: db.0.recent.mark(),
            writing: db.begin_write(),
        }
    }

    /// The head that the draft was made from.
    pub(super) fn before(&self) -> &Head {
        &self.before.head
    }

    /// The format in which its rows are encoded.
    pub(super) fn format(&self) -> u32 {
        self.writing.format()
    }

    /// The thread was last written in an older format.
    pub(super) fn is_of_former_format(&self) -> bool {
        self.before.bytes.first().is_none_or(|version| u32::from(*version) < self.format())
    }

    pub(super) fn store(&self) -> &'a Store {
        &self.db.0.store
    }

    /// Commits; false if the head is not what the draft was made from any more.
    pub(super) async fn commit(mut self) -> Result<bool, Error> {
        self.move_activity();
        let created = i64::try_from(self.created.len()).expect("a commit holds a few hundred messages");
        if created > 0 {
            self.secondary.push(SecondaryWrite::Add(Key::Store(StoreRow::Counter(Counter::Messages)), created));
        }
        self.secondary.extend(
            self.db.progress(self.client_writes, self.head.updated.max(self.head.last_message).max(self.head.deleted)),
        );
        let index: Vec<Key> = match self.store().is_shared() {
            true => self.index_rows().collect(),
            false => Vec::new(),
        };
        let key = Key::Thread(self.thread, ThreadRow::Head);
        self.ops.push(Op::Put(key, self.head.encode(self.format())));
        let commit = Commit {
            partition: Partition::Thread(self.thread),
            precondition: Some(Precondition { key, value: Some(self.before.bytes) }),
            ops: self.ops,
            secondary: self.secondary,
        };
        let settled = self.db.commit(commit).await;
        match &settled {
            Ok(Settled::Conflict { .. }) => {
                // The name of the row is this attempt's own. One that cannot be removed now is when somebody lists it.
                let _ = self.db.0.store.withdraw(index).await;
                return Ok(false);
            }
            Ok(Settled::Committed) => self.db.swap_keys(self.seal.as_ref(), &self.forgotten),
            // Nobody knows what became of it, so the keys may be gone.
            Err(_) => self.db.swap_keys(None, &self.forgotten),
        }
        if self.head.deleted != 0 {
            self.db.0.recent.forget(self.thread);
        }
        settled?;
        self.db.note_writes(self.client_writes);
        if !self.created.is_empty() {
            self.db.0.recent.append(self.mark, self.thread, &self.before.head, &self.head, self.created);
        }
        Ok(true)
    }

    /// Makes the write part of the commit, or says why not. Nothing of it is in the draft if it is refused, or if it was
    /// answered before.
    pub(super) async fn apply(&mut self, pending: &PendingWrite) -> Result<Answer, Error> {
        check_access(&self.head, pending.user)?;
        if let Some(record) = self.find_record(pending).await? {
            return Ok(Written { key: record.message, revision: record.revision, replayed: true });
        }
        check_alive(&self.head)?;
        self.prepare().await?;
        let ts = self.next_message_timestamp()?;
        let (message, revision) = match &pending.write {
            Write::CreateMessage(new) => (Some(self.create_message(pending, new, ts).await?), 1),
            Write::UpdateMessage(key, update) => {
                let (id, old) = self.editable_message(pending, *key).await?;
                let revision = self.update_message(id, old, update, ts);
                (Some(id), revision)
            }
            Write::DeleteMessage(key) => {
                let (id, old) = self.editable_message(pending, *key).await?;
                self.delete_message(id, old, ts);
                (Some(id), 0)
            }
            Write::UpdateThread(update) => {
                let object = self.db.thread_object(self.thread).await?;
                pending.options.check_revision(object.revision)?;
                (None, self.update_thread(object, update, ts))
            }
            Write::DeleteThread => {
                pending.options.check_revision(self.db.thread_object(self.thread).await?.revision)?;
                self.delete_thread(ts);
                (None, 0)
            }
        };
        self.client_writes += 1;
        if let Some(token) = &pending.idempotency {
            self.keep_record(token.name, token.record(self.thread, message, revision, ts), ts);
        }
        Ok(Written { key: message, revision, replayed: false })
    }

    /// The record of the same request, in this commit or in an earlier one.
    async fn find_record(&self, pending: &PendingWrite) -> Result<Option<rows::Idempotency>, Error> {
        let Some(token) = &pending.idempotency else { return Ok(None) };
        let record = match self.records.get(&token.name) {
            Some(record) => Some(*record),
            None => self.db.row(Key::Thread(self.thread, ThreadRow::Idempotency(token.name))).await?,
        };
        self.db.check_record(record, token)
    }

    fn keep_record(&mut self, name: Hash16, record: rows::Idempotency, ts: u64) {
        self.put(ThreadRow::Idempotency(name), &record);
        self.secondary.push(idempotency::expire_in_thread(self.format(), self.thread, ts, name));
        self.records.insert(name, record);
    }

    async fn create_message(&mut self, pending: &PendingWrite, new: &NewMessage, ts: u64) -> Result<MessageId, Error> {
        let reply_to = self.find_parent(new.parent).await?;
        let id = MessageId { ts, seq: self.head.next_seq };
        let content = MessageContent { reply_to, ..new.content.clone() };
        let row = MessageRow { revision: 1, updated: ts, author: pending.caller.user.clone(), content };
        self.put(ThreadRow::Message(id), &row);
        self.head.next_seq += 1;
        self.head.live += 1;
        self.head.last_message = ts;
        self.head.updated = ts;
        self.created.push(Arc::new(messages::assemble(self.thread, id, row)));
        Ok(id)
    }

    /// The message that `parent` names; it may have been deleted since.
    async fn find_parent(&self, parent: Option<MessageKey>) -> Result<Option<MessageId>, Error> {
        let Some(parent) = parent else { return Ok(None) };
        if parent.thread != self.thread {
            return Err(Error::ParentNotFound);
        }
        for kind in [ThreadRow::Message, ThreadRow::Deleted] {
            if let Some((id, _)) = self.db.find_row(parent, kind).await? {
                return Ok(Some(id));
            }
        }
        Err(Error::ParentNotFound)
    }

    /// The message, if the caller may change it: its author, or the owner of the thread.
    async fn editable_message(
        &self,
        pending: &PendingWrite,
        key: MessageKey,
    ) -> Result<(MessageId, MessageRow), Error> {
        let (id, bytes) = self.db.find_message(self.thread, key).await?;
        let row: MessageRow = decode(Key::Thread(self.thread, ThreadRow::Message(id)), &bytes)?;
        if row.author != pending.caller.user && self.head.owner != pending.user {
            return Err(Error::AccessDenied);
        }
        pending.options.check_revision(row.revision)?;
        Ok((id, row))
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
            MessageName(id).encode(self.format()),
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
                Present.encode(self.format()),
            ),
        ]);
    }

    /// Gets a key to seal with, before the first private row.
    async fn prepare(&mut self) -> Result<(), Error> {
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
        if let Some(row) = seal.new_row(self.format()) {
            self.ops.push(row);
            self.head.generation = seal.generation();
            self.head.seals = 0;
        }
        self.seal = Some(seal);
    }

    /// Sets a row of the thread.
    fn put(&mut self, row: ThreadRow, value: &impl Row) {
        self.put_value(Key::Thread(self.thread, row), value.encode(self.format()));
    }

    fn put_value(&mut self, key: Key, value: Vec<u8>) {
        let seal = self.seal.as_ref().expect("prepared before the first row");
        self.ops.push(Op::Put(key, seal.value(key, value)));
        self.head.seals += u64::from(seal.generation() != 0);
    }

    /// Makes the changes of a migration. The head keeps what belongs to its commits and its keys.
    pub(super) async fn rewrite(&mut self, changes: &[Change]) -> Result<(), Error> {
        for change in changes.iter().cloned() {
            match change {
                Change::Put(key @ Key::Thread(_, ThreadRow::Head), value) => {
                    let Head { revision, commit_id, generation, oldest, seals, .. } = self.head;
                    self.head = Head { revision, commit_id, generation, oldest, seals, ..decode(key, &value)? };
                }
                Change::Put(key, value) if key.is_private() || key.is_reserved() => {
                    self.prepare().await?;
                    self.put_value(key, value);
                }
                Change::Put(key, value) => self.ops.push(Op::Put(key, value)),
                Change::Delete(key) => self.ops.push(Op::Delete(key)),
            }
        }
        Ok(())
    }

    /// A time above every one that the thread has seen.
    pub(super) fn next_message_timestamp(&self) -> Result<u64, Error> {
        // Unique also among the servers of a shared store: indexes are named by it.
        self.db.timestamp_above(self.head.last_message.max(self.head.updated))
    }

    /// The rows of indexes that the commit puts.
    fn index_rows(&self) -> impl Iterator<Item = Key> + '_ {
        self.secondary.iter().filter_map(|write| match write {
            SecondaryWrite::Put(key @ Key::User(_, UserRow::Active { .. }), _) => Some(*key),
            _ => None,
        })
    }

    /// Moves the thread in its owner's order of activity, or takes it out of the lists if it was deleted.
    fn move_activity(&mut self) {
        let (before, head) = (self.before.head.updated, &self.head);
        let active = |updated| Key::User(head.owner, UserRow::Active { updated, thread: self.thread });
        if head.deleted != 0 {
            self.secondary.push(SecondaryWrite::Delete(active(before)));
        } else if head.updated != before {
            self.secondary.push(SecondaryWrite::Delete(active(before)));
            self.secondary.push(SecondaryWrite::Put(active(head.updated), Present.encode(self.format())));
        }
    }
}
