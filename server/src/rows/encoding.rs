//! Each value as bytes, and back. The layouts are drawn in [`super`].

use serde_json::value::RawValue;

use super::codec::{Reader, Writer};
use super::{
    CounterValue, Damaged, DeletedMessage, EVERY_FORMAT, EpochKey, Erasures, Format, Head, Idempotency, ImportProgress,
    JobProgress, MessageName, MessageRow, MigrationProgress, Names, Number, Participant, Present, Profile, ReceiptRow,
    Role, Row, Secret, ThreadObject,
};
use crate::keys::Hash16;
use crate::model::{Commitment, Incarnation, MessageContent, MessageId, ThreadContent, ThreadId, Wrapped, WrappedKey};

impl Row for Head {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 96)
            .number(self.revision)
            .number(self.commit_id)
            .raw(&self.owner.0)
            .number(self.updated)
            .number(self.last_message)
            .number(self.next_seq)
            .number(self.live)
            .number(self.deleted)
            .small(self.generation)
            .small(self.oldest)
            .number(self.seals)
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
            generation: read.small()?,
            oldest: read.small()?,
            seals: read.number()?,
        };
        read.end(head)
    }
}

impl Row for ThreadObject {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 64 + self.content.title.len())
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
    fn encode(&self, format: u32) -> Vec<u8> {
        let role = match self.role {
            Role::Owner => 1,
        };
        Writer::sized(format, 32).byte(role).number(self.since).text(self.user.as_str()).done()
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
    fn encode(&self, format: u32) -> Vec<u8> {
        self.write(Writer::sized(format, 48 + self.author.as_str().len() + self.content.body.get().len())).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let message = Self::read(&mut read)?;
        read.end(message)
    }
}

impl Row for DeletedMessage {
    fn encode(&self, format: u32) -> Vec<u8> {
        self.message
            .write(Writer::sized(format, 64 + self.message.content.body.get().len()).number(self.deleted))
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let deleted = Self { deleted: read.number()?, message: MessageRow::read(&mut read)? };
        read.end(deleted)
    }
}

impl Row for Idempotency {
    fn encode(&self, format: u32) -> Vec<u8> {
        let (ts, seq_and_one) = self.message.map_or((0, 0), |id| (id.ts, id.seq + 1));
        Writer::sized(format, 80)
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

impl Row for ReceiptRow {
    fn encode(&self, format: u32) -> Vec<u8> {
        let count = u32::try_from(self.key_ids.len()).expect("a thread has a few keys");
        let writer = Writer::sized(format, 128).raw(&self.request).number(self.expires).number(self.thread.0);
        let writer = writer.number(self.erased).number(self.horizon).small(count);
        self.key_ids.iter().chain(&self.checkpoints).fold(writer, |writer, text| writer.text(text)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let mut row = Self {
            request: read.raw()?,
            expires: read.number()?,
            thread: ThreadId(read.number()?),
            erased: read.number()?,
            horizon: read.number()?,
            key_ids: Vec::new(),
            checkpoints: Vec::new(),
        };
        for _ in 0..read.small()? {
            row.key_ids.push(read.text()?.to_owned());
        }
        while !read.is_empty() {
            row.checkpoints.push(read.text()?.to_owned());
        }
        read.end(row)
    }
}

impl Row for Profile {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 32).number(self.since).text(self.user.as_str()).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let profile = Self { since: read.number()?, user: read.user()? };
        read.end(profile)
    }
}

impl Row for Format {
    fn encode(&self, _: u32) -> Vec<u8> {
        Writer::sized(EVERY_FORMAT, 40)
            .number(self.format.into())
            .number(self.incarnation.0)
            .number(self.created)
            .raw(&self.database_id)
            .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let format = Self {
            format: u32::try_from(read.number()?).map_err(|_| Damaged)?,
            incarnation: Incarnation(read.number()?),
            created: read.number()?,
            database_id: read.raw()?,
        };
        read.end(format)
    }
}

impl Row for CounterValue {
    fn encode(&self, _: u32) -> Vec<u8> {
        Writer::sized(EVERY_FORMAT, 9).raw(&self.0.to_be_bytes()).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let counter = Self(i64::from_be_bytes(read.raw()?));
        read.end(counter)
    }
}

impl Row for Number {
    fn encode(&self, _: u32) -> Vec<u8> {
        Writer::sized(EVERY_FORMAT, 9).number(self.0).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let number = Self(read.number()?);
        read.end(number)
    }
}

impl Row for Secret {
    fn encode(&self, _: u32) -> Vec<u8> {
        Writer::sized(EVERY_FORMAT, 34).raw(&self.bytes).byte(u8::from(self.strict)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let secret = Self { bytes: read.raw()?, strict: read.flag()? };
        read.end(secret)
    }
}

impl Row for WrappedKey {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 98).raw(&self.commitment.0).raw(&self.sealed).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let (commitment, sealed) = (Commitment(read.raw()?), read.raw::<65>()?.to_vec());
        read.end(Self { commitment, sealed })
    }
}

impl Row for EpochKey {
    fn encode(&self, _: u32) -> Vec<u8> {
        let writer = Writer::sized(EVERY_FORMAT, 512).number(self.created).raw(&self.commitment.0);
        let wraps = self.wraps.iter();
        wraps.fold(writer, |w, wrap| w.text(wrap.provider.as_str()).text(&wrap.key_id).blob(&wrap.blob)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let (created, commitment, mut wraps) = (read.number()?, Commitment(read.raw()?), Vec::new());
        while !read.is_empty() {
            let provider = read.text()?.parse().map_err(|_| Damaged)?;
            wraps.push(Wrapped { provider, key_id: read.text()?.to_owned(), blob: read.blob()?.to_vec() });
        }
        read.end(Self { created, commitment, wraps })
    }
}

impl Row for Erasures {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 18).number(self.oldest).number(self.latest).byte(u8::from(self.plain)).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let erasures = Self { oldest: read.number()?, latest: read.number()?, plain: read.flag()? };
        read.end(erasures)
    }
}

impl Row for JobProgress {
    fn encode(&self, format: u32) -> Vec<u8> {
        let writer = Writer::sized(format, 96).small(self.epoch);
        let writer = match &self.position {
            Some(position) => writer.byte(1).blob(position),
            None => writer.byte(0),
        };
        let numbers = [self.started, self.finished, self.threads, self.users, self.values, self.keys, self.failed];
        numbers.into_iter().fold(writer, Writer::number).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let progress = Self {
            epoch: read.small()?,
            position: read.optional(|r| r.blob().map(<[u8]>::to_vec))?,
            started: read.number()?,
            finished: read.number()?,
            threads: read.number()?,
            users: read.number()?,
            values: read.number()?,
            keys: read.number()?,
            failed: read.number()?,
        };
        read.end(progress)
    }
}

impl Row for MigrationProgress {
    fn encode(&self, _: u32) -> Vec<u8> {
        let writer = Writer::sized(EVERY_FORMAT, 96).byte(u8::from(self.finalizes)).small(self.to).text(&self.version);
        let writer = match &self.position {
            Some(position) => writer.byte(1).blob(position),
            None => writer.byte(0),
        };
        [self.started, self.finished, self.rows, self.changed].into_iter().fold(writer, Writer::number).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let progress = Self {
            finalizes: read.flag()?,
            to: read.small()?,
            version: read.text()?.to_owned(),
            position: read.optional(|r| r.blob().map(<[u8]>::to_vec))?,
            started: read.number()?,
            finished: read.number()?,
            rows: read.number()?,
            changed: read.number()?,
        };
        read.end(progress)
    }
}

impl Row for ImportProgress {
    fn encode(&self, _: u32) -> Vec<u8> {
        let writer = Writer::sized(EVERY_FORMAT, 64).raw(&self.database_id).raw(&self.export);
        match &self.position {
            Some(position) => writer.byte(1).blob(position).done(),
            None => writer.byte(0).done(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let progress = Self {
            database_id: read.raw()?,
            export: read.raw()?,
            position: read.optional(|r| r.blob().map(<[u8]>::to_vec))?,
        };
        read.end(progress)
    }
}

impl Row for Names {
    fn encode(&self, format: u32) -> Vec<u8> {
        self.0.iter().fold(Writer::sized(format, 33), |writer, name| writer.raw(&name.0)).done()
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
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 17).number(self.0.ts).number(self.0.seq).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut read = Reader::open(bytes)?;
        let name = Self(MessageId { ts: read.number()?, seq: read.number()? });
        read.end(name)
    }
}

impl Row for Present {
    fn encode(&self, format: u32) -> Vec<u8> {
        Writer::sized(format, 1).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        Reader::open(bytes)?.end(Self)
    }
}
