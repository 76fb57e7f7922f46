//! A next version of the server, for the tests of upgrades: this version's library, and formats that it does not have.
//!
//! Format 2 has an index of replies, which a start migration makes: rows of a kind that format 1 reserves and carries. Its
//! heads say that they are of format 2, which a finalize migration sees to. It is never published.

use std::process::ExitCode;

use progressdb_server::format::{Change, Formats, Migration, MigrationTime};
use progressdb_server::keys::{Key, KeyRange, Partition, PartitionKind, ThreadRow};
use progressdb_server::rows::{Damaged, Head, MessageRow, Present, Row as _};
use progressdb_server::{commands, rows};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const FORMATS: Formats = Formats { reads: [1, 2], writes: 2, migrations: &[REPLIES, HEADS] };

const REPLIES: Migration = Migration {
    number: 1_000_001,
    name: "index-of-replies",
    from: 1,
    to: 2,
    at: MigrationTime::Start,
    kinds: &[PartitionKind::Thread],
    range: messages,
    rewrite: index_reply,
};

const HEADS: Migration = Migration {
    number: 1_000_002,
    name: "heads-of-format-2",
    at: MigrationTime::Finalize,
    range: head,
    rewrite: rewrite_head,
    ..REPLIES
};

fn main() -> ExitCode {
    commands::main(&FORMATS)
}

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
    Ok(vec![Change::Put(row, Present.encode(rows::EVERY_FORMAT))])
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
