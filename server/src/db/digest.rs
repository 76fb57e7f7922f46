//! What all threads hold, as one number: equal for two copies of the same data, whatever sealed them or stored them.
//!
//! The digest covers every row of every thread, opened and decoded. Rows of a thread are in the order of their keys; threads
//! are in none, because engines list them in orders of their own:
//!
//! ```text
//! root    = SHA-256( "progressdb digest 2" ‖ number of threads ‖ sum )
//! sum     = the sum of SHA-256( thread ‖ digest of the thread ), as a number of 256 bits, over all threads
//! thread  = SHA-256( ( kind ‖ fields )... )
//! kind    a byte: the row's kind in the catalogue of keys
//! fields  numbers as 64 bits, big-endian; texts and bytes after their length; what may be absent after a 0 or 1
//! ```
//!
//! A thread whose keys were destroyed has the digest of nothing. Heads are hashed without the revision, the id of the commit and the state of the keys, because moving or sealing a
//! thread changes these. Answers kept for idempotency, wrapped keys, threads of probe users, and whatever does not belong to a
//! thread are left out. Reactions and read markers, which only a later version writes, are hashed as they are; what it derives
//! from other rows, replies and changes, is left out, so that the root stays when a migration adds it. Another way to count is
//! another version.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::sum::Sum;
use super::walk::{Partitions, Rows};
use super::{Db, Error, decode, decode_key};
use crate::keys::{Key, KeyRange, Partition, PartitionKind, ThreadRow};
use crate::model::{MessageId, ThreadId};
use crate::rows::{DeletedMessage, Head, MessageRow, Participant, Role, ThreadObject};
use crate::store::Row;

/// The version of the digest: two roots compare only if theirs are equal.
pub const DIGEST_VERSION: u32 = 2;

const NAME: &[u8] = b"progressdb digest 2";
const ROWS_A_PAGE: usize = 10_000;

/// The digest of a whole database, and what it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// [`DIGEST_VERSION`].
    pub version: u32,
    /// 64 hexadecimal digits.
    pub root: String,
    /// Threads, deleted ones included; like all counts without those of probe users.
    pub threads: u64,
    /// Live messages.
    pub messages: u64,
    /// Earlier versions of messages.
    pub versions: u64,
    /// Messages that were deleted and are kept.
    pub deleted: u64,
    /// Participants of all threads.
    pub participants: u64,
    /// Bytes of keys and values that were read.
    pub bytes: u64,
}

impl Db {
    /// Reads every row of every thread. `each` is told of each thread and its digest, except for those of probe users.
    pub async fn digest(&self, mut each: impl FnMut(ThreadId, &str)) -> Result<Digest, Error> {
        let mut found = Digest { version: DIGEST_VERSION, ..Digest::default() };
        let mut root = Root::default();
        let mut threads = Partitions::all(&[PartitionKind::Thread]);
        while let Some(page) = threads.next_page(&self.0.store).await? {
            for partition in page {
                let Partition::Thread(thread) = partition else { continue };
                let mut of_thread = Digest::default();
                let digest = match self.digest_of_thread(thread, &mut of_thread).await {
                    // Nobody can say any more what it held; the rows go with the next purge.
                    Err(Error::Erased) => digest_of_nothing(),
                    read => match read? {
                        Some(digest) => digest,
                        None => continue,
                    },
                };
                found.count(&of_thread);
                root = root.with(thread, &digest);
                found.threads += 1;
                each(thread, &hex::encode(digest));
            }
        }
        found.root = root.finish();
        Ok(found)
    }

    /// None for the thread of a probe user.
    async fn digest_of_thread(&self, thread: ThreadId, found: &mut Digest) -> Result<Option<Vec<u8>>, Error> {
        let mut hasher = Hasher::default();
        let mut rows = Rows::of(KeyRange::all(Partition::Thread(thread)), ROWS_A_PAGE);
        while let Some(page) = rows.next_page(&self.0.store).await? {
            found.bytes += page.iter().map(|row| (row.key.len() + row.value.len()) as u64).sum::<u64>();
            let mut counted = Vec::with_capacity(page.len());
            for row in page {
                if !matches!(decode_key(&row.key)?, Key::Thread(_, ThreadRow::DataKey(_) | ThreadRow::Idempotency(_))) {
                    counted.push(row);
                }
            }
            for Row { key, value } in self.open_rows(counted).await? {
                let key = decode_key(&key)?;
                hasher.add(key, &ThreadValue::decode(key, &value)?, found);
            }
        }
        Ok((!hasher.is_of_probe).then(|| hasher.current()))
    }
}

impl Digest {
    /// Adds what one thread holds.
    fn count(&mut self, thread: &Digest) {
        self.messages += thread.messages;
        self.versions += thread.versions;
        self.deleted += thread.deleted;
        self.participants += thread.participants;
        self.bytes += thread.bytes;
    }
}

/// The digest of all threads in the making.
#[derive(Default)]
pub(super) struct Root {
    threads: u64,
    sum: Sum,
}

impl Root {
    /// With one thread more.
    pub(super) fn with(mut self, thread: ThreadId, digest: &[u8]) -> Self {
        self.threads += 1;
        self.sum.add(&[&thread.0.to_be_bytes(), digest]);
        self
    }

    pub(super) fn finish(self) -> String {
        let mut root = Context::new(&SHA256);
        root.update(NAME);
        root.update(&self.threads.to_be_bytes());
        root.update(&self.sum.bytes());
        hex::encode(root.finish())
    }
}

/// That of a thread whose keys were destroyed.
pub(super) fn digest_of_nothing() -> Vec<u8> {
    Context::new(&SHA256).finish().as_ref().to_vec()
}

/// The value of a row of a thread.
pub(super) enum ThreadValue {
    Head(Head),
    Participant(Participant),
    Object(ThreadObject),
    /// Also an earlier version.
    Message(MessageRow),
    Deleted(DeletedMessage),
    /// What only a later version reads.
    Opaque(Vec<u8>),
    /// Not covered by the digest.
    Other,
}

impl ThreadValue {
    pub(super) fn decode(key: Key, value: &[u8]) -> Result<Self, Error> {
        let Key::Thread(_, row) = key else { return Ok(Self::Other) };
        Ok(match row {
            ThreadRow::Head => Self::Head(decode(key, value)?),
            ThreadRow::Participant(_) => Self::Participant(decode(key, value)?),
            ThreadRow::Object => Self::Object(decode(key, value)?),
            ThreadRow::Message(_) | ThreadRow::Version(..) => Self::Message(decode(key, value)?),
            ThreadRow::Deleted(_) => Self::Deleted(decode(key, value)?),
            ThreadRow::ReadMarker(_) | ThreadRow::Reaction(..) => Self::Opaque(value.to_vec()),
            ThreadRow::Reply(..) | ThreadRow::Change(_) | ThreadRow::DataKey(_) | ThreadRow::Idempotency(_) => {
                Self::Other
            }
        })
    }
}

/// The digest of a thread in the making.
pub(super) struct Hasher {
    context: Context,
    /// A probe user made the thread, so that it is left out of the root.
    pub(super) is_of_probe: bool,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), is_of_probe: false }
    }
}

impl Hasher {
    /// The digest of the rows so far.
    pub(super) fn current(&self) -> Vec<u8> {
        self.context.clone().finish().as_ref().to_vec()
    }

    /// The next row, by the order of the keys, with its value.
    pub(super) fn add(&mut self, key: Key, value: &ThreadValue, found: &mut Digest) {
        let Key::Thread(_, row) = key else { return };
        match (value, row) {
            (ThreadValue::Head(head), _) => self.head(head),
            (ThreadValue::Participant(participant), _) => {
                found.participants += 1;
                self.participant(participant);
            }
            (ThreadValue::Object(object), _) => self.object(object),
            (ThreadValue::Message(message), ThreadRow::Version(id, revision)) => {
                found.versions += 1;
                self.kind(0x11);
                self.number(revision);
                self.message(id, message);
            }
            (ThreadValue::Message(message), ThreadRow::Message(id)) => {
                found.messages += 1;
                self.kind(0x10);
                self.message(id, message);
            }
            (ThreadValue::Deleted(DeletedMessage { deleted, message }), ThreadRow::Deleted(id)) => {
                found.deleted += 1;
                self.kind(0x14);
                self.number(*deleted);
                self.message(id, message);
            }
            (ThreadValue::Opaque(bytes), _) => {
                self.kind(0xff);
                self.bytes(&key.encode());
                self.bytes(bytes);
            }
            _ => {}
        }
    }

    fn head(&mut self, head: &Head) {
        self.kind(0x00);
        self.bytes(&head.owner.0);
        for number in [head.updated, head.last_message, head.next_seq, head.live, head.deleted] {
            self.number(number);
        }
    }

    fn participant(&mut self, participant: &Participant) {
        self.kind(0x01);
        let Role::Owner = participant.role;
        self.number(1);
        self.number(participant.since);
        self.bytes(participant.user.as_str().as_bytes());
    }

    fn object(&mut self, object: &ThreadObject) {
        self.is_of_probe = object.author.is_probe();
        self.kind(0x04);
        self.number(object.revision);
        self.bytes(object.author.as_str().as_bytes());
        self.bytes(object.content.title.as_bytes());
        self.optional(object.content.slug.as_deref());
        self.optional(object.content.metadata.as_deref().map(serde_json::value::RawValue::get));
    }

    fn message(&mut self, id: MessageId, message: &MessageRow) {
        for number in [id.ts, id.seq, message.revision, message.updated] {
            self.number(number);
        }
        self.bytes(message.author.as_str().as_bytes());
        self.bytes(message.content.body.get().as_bytes());
        self.optional(message.content.role.as_deref());
        self.kind(u8::from(message.content.reply_to.is_some()));
        if let Some(parent) = message.content.reply_to {
            self.number(parent.ts);
            self.number(parent.seq);
        }
        self.optional(message.content.metadata.as_deref().map(serde_json::value::RawValue::get));
    }

    fn kind(&mut self, kind: u8) {
        self.context.update(&[kind]);
    }

    fn number(&mut self, number: u64) {
        self.context.update(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.context.update(bytes);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.kind(u8::from(text.is_some()));
        if let Some(text) = text {
            self.bytes(text.as_bytes());
        }
    }
}
