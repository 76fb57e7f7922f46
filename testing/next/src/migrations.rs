//! What brings a store to format 2: an index of replies, which a start migration makes of rows of a kind that format 1
//! reserves and carries, and heads that say that they are of format 2, which a finalize migration sees to. And a start
//! migration that is wrong.

use std::sync::atomic::{AtomicBool, Ordering};

use progressdb_server::format::{Change, Migration, MigrationTime};
use progressdb_server::keys::{Key, KeyRange, Partition, PartitionKind, ThreadRow};
use progressdb_server::rows::{Damaged, EVERY_FORMAT, Head, MessageRow, Present, Row as _};
use serde_json::value::RawValue;

pub(crate) const REPLIES: Migration = Migration {
    number: 1_000_001,
    name: "index-of-replies",
    from: 1,
    to: 2,
    at: MigrationTime::Start,
    kinds: &[PartitionKind::Thread],
    range: messages,
    rewrite: index_reply,
};

pub(crate) const HEADS: Migration = Migration {
    number: 1_000_002,
    name: "heads-of-format-2",
    at: MigrationTime::Finalize,
    range: head,
    rewrite: rewrite_head,
    ..REPLIES
};

/// Changes one character of the first text that it meets, and leaves everything else as it is.
pub(crate) const TIDY: Migration =
    Migration { number: 1_000_003, name: "tidy-messages", rewrite: spoil_one, ..REPLIES };

fn messages(partition: Partition) -> KeyRange {
    match partition {
        Partition::Thread(thread) => KeyRange::messages(thread),
        other => KeyRange::all(other),
    }
}

/// Each reply has a row under the message that it answers.
fn index_reply(key: Key, value: &[u8], _: u32) -> Result<Vec<Change>, Damaged> {
    let Key::Thread(thread, ThreadRow::Message(reply)) = key else { return Ok(Vec::new()) };
    let Some(parent) = MessageRow::decode(value)?.content.reply_to else { return Ok(Vec::new()) };
    let row = Key::Thread(thread, ThreadRow::Reply(parent, reply));
    Ok(vec![Change::Put(row, Present.encode(EVERY_FORMAT))])
}

fn head(partition: Partition) -> KeyRange {
    match partition {
        Partition::Thread(thread) => KeyRange::only(&Key::Thread(thread, ThreadRow::Head)),
        other => KeyRange::all(other),
    }
}

/// The first byte of a row says the format that it was written in.
fn rewrite_head(key: Key, value: &[u8], format: u32) -> Result<Vec<Change>, Damaged> {
    let head = Head::decode(value)?;
    let is_new = value.first().is_some_and(|version| u32::from(*version) >= format);
    Ok(if is_new { Vec::new() } else { vec![Change::Put(key, head.encode(format))] })
}

fn spoil_one(key: Key, value: &[u8], format: u32) -> Result<Vec<Change>, Damaged> {
    static SPOILED: AtomicBool = AtomicBool::new(false);
    let mut message = MessageRow::decode(value)?;
    let Some(body) = with_another_letter(message.content.body.get()) else { return Ok(Vec::new()) };
    if SPOILED.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    message.content.body = body;
    Ok(vec![Change::Put(key, message.encode(format))])
}

/// The same JSON with another letter at the beginning of its first text, if that begins with one.
fn with_another_letter(body: &str) -> Option<Box<RawValue>> {
    let at = body.find('"')? + 1;
    let letter = body[at..].chars().next().filter(char::is_ascii_alphabetic)?;
    let other = if letter == 'x' { 'y' } else { 'x' };
    RawValue::from_string(format!("{}{other}{}", &body[..at], &body[at + 1..])).ok()
}
