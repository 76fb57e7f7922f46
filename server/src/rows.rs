//! The value of each kind of row, and its encoding as bytes.
//!
//! Every value starts with a version byte: the store format that it was written in, which is that of the store at that
//! time and not the newest that the binary knows. All layouts of formats that a release ever wrote are read; a store of
//! another format is refused as a whole when it is opened. Counters and numbers, which engines change, and the rows
//! that are read before anything else (format, secret, epoch keys, migrations, import) are the same in all formats. Numbers are big-endian;
//! texts are a 32-bit length and UTF-8; an optional value is a presence byte first.
//!
//! ```text
//! head          1 revision commit_id owner:16 updated last_message next_seq live deleted      0 stands for never
//!                 generation:4 oldest:4 seals                                                0 stands for plain
//! thread object 1 revision author title slug? metadata?
//! participant   1 role since user
//! message       1 revision updated author body role? reply_to(ts seq)? metadata?
//! deleted       1 deleted_ts message
//! idempotency   1 request:32 expires thread ts seq+1 revision                                 ts, seq 0 for a thread;
//!                                                                                            revision 0: erased since
//! receipt       1 request:32 expires thread erased horizon count:4 key_id... checkpoint...
//! profile       1 since user
//! counter       1 signed 64-bit
//! format        1 format incarnation created database_id:16
//! number        1 unsigned 64-bit
//! secret        1 bytes:32 strict:1
//! names         1 hash:16...
//! data key      1 commitment:32 sealed:65                                                     see `crypt::seal`
//! epoch key     1 created commitment:32 (provider key_id length:4 blob)...
//! erasures      1 oldest latest plain:1
//! job           1 epoch position? started finished threads users values keys failed
//! migration     1 finalizes:1 to:4 version position? started finished rows changed
//! import        1 database_id:16 export:16 position?
//! message name  1 ts seq
//! ```

mod codec;
mod encoding;

use crate::keys::Hash16;
use crate::model::{Commitment, Incarnation, MessageContent, MessageId, ThreadContent, ThreadId, UserId, Wrapped};

/// The format of values that are the same in every store format.
pub const EVERY_FORMAT: u32 = 1;

/// The bytes are not a value of the kind that their key promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged value")]
pub struct Damaged;

/// The value of a row.
pub trait Row: Sized {
    /// As bytes, for a store of this format; see [`crate::format`].
    fn encode(&self, format: u32) -> Vec<u8>;
    /// From bytes of any version ever written.
    fn decode(bytes: &[u8]) -> Result<Self, Damaged>;
}

/// A thread's small, often used row: every commit to the thread has it as its precondition and replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Grows by one with every commit to the thread.
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
    /// The data key that seals what is written now; 0 if it is written plain.
    pub generation: u32,
    /// No row is older than this data key; 0 if some may be plain.
    pub oldest: u32,
    /// How many values the newest data key has sealed.
    pub seals: u64,
}

/// What a user wrote about a thread.
#[derive(Clone, Debug)]
pub struct ThreadObject {
    /// Grows by one with every change: the thread's `ETag`.
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
    /// 1 when created, grows by one with every edit: the message's `ETag`.
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

/// The result of a write that carried an idempotency key.
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
    /// The revision in the response; 0 in the record of a creation if the thread was erased since.
    pub revision: u64,
}

/// The receipt of an erasure that carried an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// Unix nanoseconds from which the key may be used again.
    pub expires: u64,
    /// The thread that was erased.
    pub thread: ThreadId,
    /// Unix nanoseconds of the erasure.
    pub erased: u64,
    /// Unix nanoseconds until which files may hold remains.
    pub horizon: u64,
    /// The names of the keys that were destroyed.
    pub key_ids: Vec<String>,
    /// Copies of the store that held the thread then.
    pub checkpoints: Vec<String>,
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
    pub incarnation: Incarnation,
    /// Unix nanoseconds of the creation.
    pub created: u64,
    /// Random; never changes.
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
pub struct Secret {
    /// What ids are hashed under.
    pub bytes: [u8; 32],
    /// Every private row is sealed, so a plain one was not written by this server.
    pub strict: bool,
}

/// The key of an epoch, as often as it was wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochKey {
    /// Unix nanoseconds.
    pub created: u64,
    /// What the key commits to.
    pub commitment: Commitment,
    /// The same key, wrapped by one provider or, while it moves, by two.
    pub wraps: Vec<Wrapped>,
}

/// Erasures of which the files of the store may still hold remains, in Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasures {
    /// The first one.
    pub oldest: u64,
    /// The last one.
    pub latest: u64,
    /// Files may hold rows that were plain, not only wrapped keys.
    pub plain: bool,
}

/// The progress of a job over the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// The epoch that it works for.
    pub epoch: u32,
    /// The last partition that is done, as bytes.
    pub position: Option<Vec<u8>>,
    /// Unix nanoseconds.
    pub started: u64,
    /// Unix nanoseconds; 0 while it runs.
    pub finished: u64,
    /// Threads visited.
    pub threads: u64,
    /// Users visited.
    pub users: u64,
    /// Values sealed, or sealed anew.
    pub values: u64,
    /// Data keys wrapped anew.
    pub keys: u64,
    /// Partitions that could not be done.
    pub failed: u64,
}

/// The progress of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationProgress {
    /// No version that knows only older formats reads the store since it began.
    pub finalizes: bool,
    /// The store format that it leads to.
    pub to: u32,
    /// The version of the server that began it.
    pub version: String,
    /// The last partition that is done, as bytes.
    pub position: Option<Vec<u8>>,
    /// Unix nanoseconds.
    pub started: u64,
    /// Unix nanoseconds; 0 while it runs.
    pub finished: u64,
    /// Rows that were looked at.
    pub rows: u64,
    /// Rows that were written or removed.
    pub changed: u64,
}

/// An import that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// The database whose rows are put there.
    pub database_id: [u8; 16],
    /// The export that they come from.
    pub export: [u8; 16],
    /// The last partition of the export that is there with all before it, as bytes.
    pub position: Option<Vec<u8>>,
}

/// Which row an entry among what expires is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<Hash16>);

/// A message that an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageName(pub MessageId);

/// A row without content: that it exists is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present;

#[cfg(test)]
mod tests;
