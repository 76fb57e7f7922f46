//! What lies behind each key: values as bytes.
//!
//! Every value starts with a version byte; this file reads every version that a release ever wrote, and writes the
//! newest. Numbers are big-endian; texts are a 32-bit length and UTF-8; an optional value is a presence byte first.
//!
//! ```text
//! head          1 revision commit_id owner:16 updated last_message next_seq live deleted      0 stands for never
//! thread object 1 revision author title slug? metadata?
//! participant   1 role since user
//! message       1 revision updated author body role? reply_to(ts seq)? metadata?
//! deleted       1 deleted_ts message
//! idempotency   1 request:32 expires thread ts seq+1 revision                                 ts, seq 0 for a thread
//! profile       1 since user
//! counter       1 signed 64-bit
//! format        1 format incarnation created database_id:16
//! number        1 unsigned 64-bit
//! secret        1 bytes:32
//! names         1 hash:16...
//! message name  1 ts seq
//! ```

mod codec;

use serde_json::value::RawValue;

use crate::keys::Hash16;
use crate::model::{MessageContent, MessageId, ThreadContent, ThreadId, UserId};

use codec::{Reader, Writer};

/// The store formats that this version reads, first and last.
pub const FORMATS_READ: [u32; 2] = [1, 1];
/// The newest store format that this version writes.
pub const FORMAT_WRITTEN: u32 = 1;

/// The bytes are not a value of the kind that their key promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged value")]
pub struct Damaged;

/// A value that lies behind a key.
pub trait Row: Sized {
    /// As bytes.
    fn encode(&self) -> Vec<u8>;
    /// From bytes of any version ever written.
    fn decode(bytes: &[u8]) -> Result<Self, Damaged>;
}

/// A thread's small, hot row: what every commit to the thread expects and replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// One more with every commit to the thread.
    pub revision: u64,
    /// Distinguishes two commits that claim the same revision.
    pub commit_id: u64,
    /// The creator.
    pub owner: Hash16,
    /// Unix nanoseconds of the last change to the thread or one of its messages.
    pub updated: u64,
    /// Unix nanoseconds of the newest message; 0 before the first.
    pub last_message: u64,
    /// The sequence number of the next message.
    pub next_seq: u64,
    /// Live messages.
    pub live: u64,
    /// Unix nanoseconds of the deletion; 0 while the thread lives.
    pub deleted: u64,
}

/// What a user wrote about a thread.
#[derive(Clone, Debug)]
pub struct ThreadObject {
    /// One more with every change: the thread's `ETag`.
    pub revision: u64,
    /// The creator.
    pub author: UserId,
    /// Title, slug, metadata.
    pub content: ThreadContent,
}

/// What someone may do in a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Created it.
    Owner,
}

/// Someone who takes part in a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// What they may do.
    pub role: Role,
    /// Unix nanoseconds since when.
    pub since: u64,
    /// Who.
    pub user: UserId,
}

/// A message, live or in an earlier version.
#[derive(Clone, Debug)]
pub struct MessageRow {
    /// 1 when created, one more with every edit: the message's `ETag`.
    pub revision: u64,
    /// Unix nanoseconds when this revision was written.
    pub updated: u64,
    /// Who wrote it.
    pub author: UserId,
    /// What it says.
    pub content: MessageContent,
}

/// A message that was deleted.
#[derive(Clone, Debug)]
pub struct DeletedMessage {
    /// Unix nanoseconds of the deletion.
    pub deleted: u64,
    /// What it was.
    pub message: MessageRow,
}

/// The answer to a write that carried an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// Unix nanoseconds from which the key may be used again.
    pub expires: u64,
    /// The thread written to.
    pub thread: ThreadId,
    /// The message written to, if it was one.
    pub message: Option<MessageId>,
    /// The revision answered.
    pub revision: u64,
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Unix nanoseconds of the first write.
    pub since: u64,
    /// The id as text.
    pub user: UserId,
}

/// The identity of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The format of everything else in the store.
    pub format: u32,
    /// Changes when the store is restored from a backup.
    pub incarnation: u64,
    /// Unix nanoseconds of the creation.
    pub created: u64,
    /// Random, for good.
    pub database_id: [u8; 16],
}

/// A maintained count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValue(pub i64);

/// A plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u64);

/// The store secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// Which row an entry among what expires is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<Hash16>);

/// A message that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageName(pub MessageId);

/// A row that says all by being there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present;

impl Row for Head {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(80)
            .number(self.revision)
            .number(self.commit_id)
            .raw(&self.owner.0)
            .number(self.updated)
            .number(self.last_message)
            .number(self.next_seq)
            .number(self.live)
            .number(self.deleted)
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let head = Self {
            revision: read.number()?,
            commit_id: read.number()?,
            owner: Hash16(read.raw()?),
            updated: read.number()?,
            last_message: read.number()?,
            next_seq: read.number()?,
            live: read.number()?,
            deleted: read.number()?,
        };
        read.end(head)
    }
}

impl Row for ThreadObject {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(64 + self.content.title.len())
            .number(self.revision)
            .text(self.author.as_str())
            .text(&self.content.title)
            .optional_text(self.content.slug.as_deref())
            .optional_text(self.content.metadata.as_deref().map(RawValue::get))
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let object = Self {
            revision: read.number()?,
            author: read.user()?,
            content: ThreadContent {
                title: read.text()?.to_owned(),
                slug: read.optional(|r| r.text().map(str::to_owned))?,
                metadata: read.optional(Reader::json)?,
            },
        };
        read.end(object)
    }
}

impl Row for Participant {
    fn encode(&self) -> Vec<u8> {
        let role = match self.role {
            Role::Owner => 1,
        };
        Writer::sized(32).byte(role).number(self.since).text(self.user.as_str()).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let role = match read.byte()? {
            1 => Role::Owner,
            _ => return Err(Damaged),
        };
        let participant = Self { role, since: read.number()?, user: read.user()? };
        read.end(participant)
    }
}

impl MessageRow {
    fn write(&self, writer: Writer) -> Writer {
        let content = &self.content;
        let writer = writer
            .number(self.revision)
            .number(self.updated)
            .text(self.author.as_str())
            .text(content.body.get())
            .optional_text(content.role.as_deref());
        let writer = match content.reply_to {
            Some(parent) => writer.byte(1).number(parent.ts).number(parent.seq),
            None => writer.byte(0),
        };
        writer.optional_text(content.metadata.as_deref().map(RawValue::get))
    }

    fn read(read: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            revision: read.number()?,
            updated: read.number()?,
            author: read.user()?,
            content: MessageContent {
                body: read.json()?,
                role: read.optional(|r| r.text().map(str::to_owned))?,
                reply_to: read.optional(|r| Ok(MessageId { ts: r.number()?, seq: r.number()? }))?,
                metadata: read.optional(Reader::json)?,
            },
        })
    }
}

impl Row for MessageRow {
    fn encode(&self) -> Vec<u8> {
        self.write(Writer::sized(48 + self.author.as_str().len() + self.content.body.get().len())).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let message = Self::read(&mut read)?;
        read.end(message)
    }
}

impl Row for DeletedMessage {
    fn encode(&self) -> Vec<u8> {
        self.message.write(Writer::sized(64 + self.message.content.body.get().len()).number(self.deleted)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let deleted = Self { deleted: read.number()?, message: MessageRow::read(&mut read)? };
        read.end(deleted)
    }
}

impl Row for Idempotency {
    fn encode(&self) -> Vec<u8> {
        let (ts, seq_and_one) = self.message.map_or((0, 0), |id| (id.ts, id.seq + 1));
        Writer::sized(80)
            .raw(&self.request)
            .number(self.expires)
            .number(self.thread.0)
            .number(ts)
            .number(seq_and_one)
            .number(self.revision)
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let (request, expires, thread) = (read.raw()?, read.number()?, ThreadId(read.number()?));
        let (ts, seq_and_one) = (read.number()?, read.number()?);
        let record = Self {
            request,
            expires,
            thread,
            message: seq_and_one.checked_sub(1).map(|seq| MessageId { ts, seq }),
            revision: read.number()?,
        };
        read.end(record)
    }
}

impl Row for Profile {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(32).number(self.since).text(self.user.as_str()).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let profile = Self { since: read.number()?, user: read.user()? };
        read.end(profile)
    }
}

impl Row for Format {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(40)
            .number(self.format.into())
            .number(self.incarnation)
            .number(self.created)
            .raw(&self.database_id)
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let format = Self {
            format: u32::try_from(read.number()?).map_err(|_| Damaged)?,
            incarnation: read.number()?,
            created: read.number()?,
            database_id: read.raw()?,
        };
        read.end(format)
    }
}

impl Row for CounterValue {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(9).raw(&self.0.to_be_bytes()).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let counter = Self(i64::from_be_bytes(read.raw()?));
        read.end(counter)
    }
}

impl Row for Number {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(9).number(self.0).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let number = Self(read.number()?);
        read.end(number)
    }
}

impl Row for Secret {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(33).raw(&self.0).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let secret = Self(read.raw()?);
        read.end(secret)
    }
}

impl Row for Names {
    fn encode(&self) -> Vec<u8> {
        self.0.iter().fold(Writer::sized(33), |writer, name| writer.raw(&name.0)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let mut names = Vec::new();
        while !read.is_empty() {
            names.push(Hash16(read.raw()?));
        }
        read.end(Self(names))
    }
}

impl Row for MessageName {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(17).number(self.0.ts).number(self.0.seq).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let name = Self(MessageId { ts: read.number()?, seq: read.number()? });
        read.end(name)
    }
}

impl Row for Present {
    fn encode(&self) -> Vec<u8> {
        Writer::sized(1).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        Reader::open(bytes)?.end(Self)
    }
}

#[cfg(test)]
mod tests;
