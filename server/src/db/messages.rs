//! Messages: created, read, updated, deleted, listed. What a write does is in [`super::draft`].

use std::sync::Arc;

use super::page::{Position, window};
use super::write::{Answer, Write};
use super::{Caller, Db, Error, MessageUpdate, NewMessage, WriteOptions, Written, decode, decode_key};
use crate::keys::{Key, KeyRange, ThreadRow};
use crate::model::{Cursor, Message, MessageId, MessageKey, Page, ThreadId};
use crate::rows::MessageRow;
use crate::store::{Direction, Row};

impl Db {
    /// Appends a message.
    pub async fn create_message(
        &self,
        caller: &Caller,
        thread: ThreadId,
        message: NewMessage,
        options: WriteOptions,
    ) -> Result<Written<MessageKey>, Error> {
        let answer = self.write(caller, thread, Write::CreateMessage(message), options).await?;
        message_written(thread, answer)
    }

    /// A live message.
    pub async fn get_message(&self, caller: &Caller, thread: ThreadId, message: MessageKey) -> Result<Message, Error> {
        self.readable_head(caller, thread).await?;
        let (id, bytes) = self.find_message(thread, message).await?;
        let row = decode(Key::Thread(thread, ThreadRow::Message(id)), &bytes)?;
        Ok(assemble(thread, id, row))
    }

    /// Replaces a message's body; what it said before is kept as a version.
    pub async fn update_message(
        &self,
        caller: &Caller,
        thread: ThreadId,
        message: MessageKey,
        update: MessageUpdate,
        options: WriteOptions,
    ) -> Result<Written<MessageKey>, Error> {
        let answer = self.write(caller, thread, Write::UpdateMessage(message, update), options).await?;
        message_written(thread, answer)
    }

    /// Deletes a message; it is kept, unseen, until retention purges it.
    pub async fn delete_message(
        &self,
        caller: &Caller,
        thread: ThreadId,
        message: MessageKey,
        options: WriteOptions,
    ) -> Result<Written<MessageKey>, Error> {
        let answer = self.write(caller, thread, Write::DeleteMessage(message), options).await?;
        message_written(thread, answer)
    }

    /// Live messages of a thread, oldest first.
    pub async fn list_messages(
        &self,
        caller: &Caller,
        thread: ThreadId,
        cursor: Cursor<MessageKey>,
        limit: usize,
    ) -> Result<Page<Arc<Message>>, Error> {
        let mark = self.0.recent.mark();
        let head = self.readable_head(caller, thread).await?;
        self.check_readable()?;
        if cursor == Cursor::Newest
            && let Some(items) = self.0.recent.get(thread, &head, limit)
        {
            let has_before = head.live > items.len() as u64;
            return Ok(Page { items, has_before, has_after: false, total: head.live });
        }
        let position = position(thread, cursor, ThreadRow::Message)?;
        let mut window = window(&self.0.store, &KeyRange::messages(thread), position, limit).await?;
        let rows = self.open_rows(std::mem::take(&mut window.rows)).await?;
        // Row by row, so that a large page is not in memory twice for longer than it must.
        let items = rows.into_iter().map(|row| {
            let key = decode_key(&row.key)?;
            Ok(Arc::new(assemble(thread, message_id(key)?, decode(key, &row.value)?)))
        });
        let items = items.collect::<Result<Vec<_>, Error>>()?;
        if cursor == Cursor::Newest && self.head(thread).await?.is_some_and(|read| read.head == head) {
            self.0.recent.keep(mark, thread, &head, &items);
        }
        Ok(Page { items, has_before: window.has_below, has_after: window.has_above, total: head.live })
    }

    /// The keys of a thread's messages for the administrator, deleted ones included, oldest first.
    pub async fn list_thread_keys(
        &self,
        thread: ThreadId,
        cursor: Cursor<MessageKey>,
        limit: usize,
    ) -> Result<Page<MessageKey>, Error> {
        let total = self.head(thread).await?.map_or(0, |read| read.head.next_seq);
        let live = position(thread, cursor, ThreadRow::Message)?;
        let live = window(&self.0.store, &KeyRange::messages(thread), live, limit).await?;
        let gone = position(thread, cursor, ThreadRow::Deleted)?;
        let gone = window(&self.0.store, &KeyRange::deleted_messages(thread), gone, limit).await?;
        let rows = live.rows.iter().chain(&gone.rows);
        let mut ids = rows.map(|row| message_id(decode_key(&row.key)?)).collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        let mut page = Page { items: ids, has_before: live.has_below, has_after: live.has_above, total };
        page.has_before |= gone.has_below;
        page.has_after |= gone.has_above;
        trim(&mut page, cursor, limit);
        let items = page.items.iter().map(|id| MessageKey::new(thread, *id)).collect();
        Ok(Page { items, has_before: page.has_before, has_after: page.has_after, total })
    }

    /// The message that a final or provisional key names.
    pub(super) async fn find_message(&self, thread: ThreadId, key: MessageKey) -> Result<(MessageId, Vec<u8>), Error> {
        if key.thread != thread {
            return Err(Error::MessageNotInThread);
        }
        self.find_row(key, ThreadRow::Message).await?.ok_or(Error::MessageNotFound)
    }

    /// The row of one kind that the key names.
    pub(super) async fn find_row(
        &self,
        key: MessageKey,
        kind: impl Fn(MessageId) -> ThreadRow,
    ) -> Result<Option<(MessageId, Vec<u8>)>, Error> {
        let scan = self.0.store.scan(keys_of(key, kind), Direction::Ascending, 1).await?;
        let Some(Row { key, value }) = scan.rows.into_iter().next() else { return Ok(None) };
        let key = decode_key(&key)?;
        Ok(Some((message_id(key)?, self.open_value(key, value).await?)))
    }
}

/// The answer to a write that concerned a message.
fn message_written(thread: ThreadId, answer: Answer) -> Result<Written<MessageKey>, Error> {
    // The record of a thread's own update carries none: the key was used for that.
    let id = answer.key.ok_or(Error::IdempotencyMismatch)?;
    Ok(Written { key: MessageKey::new(thread, id), revision: answer.revision, replayed: answer.replayed })
}

/// Two indexes were read for one page: keeps the part next to the cursor.
fn trim(page: &mut Page<MessageId>, cursor: Cursor<MessageKey>, limit: usize) {
    let surplus = page.items.len().saturating_sub(limit);
    match cursor {
        Cursor::Newest | Cursor::Before(_) => {
            page.has_before |= surplus > 0;
            page.items.drain(..surplus);
        }
        Cursor::After(_) => {
            page.has_after |= surplus > 0;
            page.items.truncate(limit);
        }
        Cursor::Anchor(key) => {
            let before = page.items.iter().filter(|id| id.ts < key.ts).count();
            let behind = page.items.iter().filter(|id| id.ts > key.ts).count();
            let (front, back) = (before.saturating_sub(limit), behind.saturating_sub(limit));
            page.has_before |= front > 0;
            page.has_after |= back > 0;
            page.items.truncate(page.items.len() - back);
            page.items.drain(..front);
        }
    }
}

/// Where the cursor points, among rows of one kind.
fn position(
    thread: ThreadId,
    cursor: Cursor<MessageKey>,
    row: impl Fn(MessageId) -> ThreadRow,
) -> Result<Position, Error> {
    let at = |key: MessageKey| {
        if key.thread == thread { Ok(keys_of(key, &row)) } else { Err(Error::MessageNotInThread) }
    };
    Ok(match cursor {
        Cursor::Newest => Position::Top,
        Cursor::Before(key) => Position::Below(at(key)?),
        Cursor::After(key) => Position::Above(at(key)?),
        Cursor::Anchor(key) => Position::Around(at(key)?),
    })
}

/// The keys that would be this message: one, or any sequence number if the key is provisional.
fn keys_of(key: MessageKey, row: impl Fn(MessageId) -> ThreadRow) -> KeyRange {
    let row = |seq| Key::Thread(key.thread, row(MessageId { ts: key.ts, seq }));
    KeyRange::inclusive(&row(key.seq.unwrap_or(0)), &row(key.seq.unwrap_or(u64::MAX)))
}

fn message_id(key: Key) -> Result<MessageId, Error> {
    match key {
        Key::Thread(_, ThreadRow::Message(id) | ThreadRow::Deleted(id)) => Ok(id),
        other => Err(Error::Corrupt { key: other.to_string() }),
    }
}

pub(super) fn assemble(thread: ThreadId, id: MessageId, row: MessageRow) -> Message {
    Message { thread, id, content: row.content, author: row.author, updated_ts: row.updated, revision: row.revision }
}
