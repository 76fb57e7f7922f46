//! The checked types that every layer shares: ids, threads, messages, pages.
//!
//! A value of one of these types cannot be wrong: parsing happens once, at the border, and never again. This module
//! knows neither JSON shapes (`http::input`) nor bytes on disk (`rows`).

mod incarnation;
mod key_text;
mod keys;

use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;

pub use incarnation::Incarnation;
pub use key_text::KeyText;
pub use keys::{Commitment, ProviderKind, UnknownProvider, Wrapped, WrappedKey};

/// A user's id: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Box<str>);

/// Why a text is not a user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserId {
    /// Nothing but white space, or nothing at all.
    #[error("user ID cannot be empty")]
    Empty,
    /// More than [`UserId::MAX_BYTES`].
    #[error("user ID too long (maximum {} bytes)", UserId::MAX_BYTES)]
    TooLong,
    /// A byte below 32, or 127.
    #[error("user ID contains invalid control characters")]
    ControlCharacter,
    /// White space at one of its ends, which headers and parameters lose on their way.
    #[error("user ID cannot begin or end with white space")]
    Padded,
}

impl UserId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 128;
    /// How the ids of probe users begin: users of smoke tests, whose threads are nobody's data.
    pub const PROBE_PREFIX: &str = "progressdb-probe-";

    /// Checks `text`; it is taken as it stands, white space included.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidUserId::TooLong);
        }
        if text.bytes().any(|b| b < 32 || b == 127) {
            return Err(InvalidUserId::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The user that a request names: the one rule for headers, parameters and signatures, so that each id that can be
    /// signed can be used. Stored ids are taken as they stand.
    pub fn of_request(text: &str) -> Result<Self, InvalidUserId> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        let id = Self::parse(text)?;
        if trimmed.len() == text.len() { Ok(id) } else { Err(InvalidUserId::Padded) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the id of a probe user.
    pub fn is_probe(&self) -> bool {
        self.0.starts_with(Self::PROBE_PREFIX)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A thread's identity: its creation time in Unix nanoseconds, unique in the store. Written `t:<ns>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u64);

/// A message's identity within its thread: commit time in Unix nanoseconds and sequence number.
///
/// Both grow together, so either alone orders the messages of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Unix nanoseconds, unique within the thread.
    pub ts: u64,
    /// Dense, from 0.
    pub seq: u64,
}

/// A message's external key: `t:<thread>:m:<ts>:<seq, nine digits>`, or the same without the sequence number (the
/// provisional form that older servers handed out and that stored links may still hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// The thread part.
    pub thread: ThreadId,
    /// The time part.
    pub ts: u64,
    /// The sequence part; absent in a provisional key.
    pub seq: Option<u64>,
}

impl MessageKey {
    /// The final key of message `id` in `thread`.
    pub fn new(thread: ThreadId, id: MessageId) -> Self {
        Self { thread, ts: id.ts, seq: Some(id.seq) }
    }
}

/// Why a text is not a key. `Display` is the error text that clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not a thread key.
    #[error("invalid thread key format: want t:<timestamp>")]
    Thread,
    /// A message key where a thread key belongs.
    #[error("expected thread key, got message")]
    ThreadWanted,
    /// Not a message key.
    #[error("invalid message key format: want t:<timestamp>:m:<timestamp>[:<sequence>]")]
    Message,
    /// A thread key where a message key belongs.
    #[error("expected message key, got thread")]
    MessageWanted,
}

enum AnyKey {
    Thread(ThreadId),
    Message(MessageKey),
}

impl AnyKey {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        if parts.next() != Some("t") {
            return None;
        }
        let thread = ThreadId(parse_timestamp(parts.next()?)?);
        match parts.next() {
            None => return Some(Self::Thread(thread)),
            Some("m") => {}
            Some(_) => return None,
        }
        let ts = parse_timestamp(parts.next()?)?;
        let seq = parts.next().map(parse_sequence);
        let key = match (seq, parts.next()) {
            (None, _) => MessageKey { thread, ts, seq: None },
            (Some(Some(seq)), None) => MessageKey { thread, ts, seq: Some(seq) },
            _ => return None,
        };
        Some(Self::Message(key))
    }
}

/// Digits of a number that fits, without the padding that would give one row two names.
fn parse_timestamp(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

fn parse_sequence(text: &str) -> Option<u64> {
    let padded = text.len() == 9 || (text.len() > 9 && !text.starts_with('0'));
    if padded && text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl FromStr for ThreadId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match AnyKey::parse(text) {
            Some(AnyKey::Thread(id)) => Ok(id),
            Some(AnyKey::Message(_)) => Err(InvalidKey::ThreadWanted),
            None => Err(InvalidKey::Thread),
        }
    }
}

impl FromStr for MessageKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match AnyKey::parse(text) {
            Some(AnyKey::Message(key)) => Ok(key),
            Some(AnyKey::Thread(_)) => Err(InvalidKey::MessageWanted),
            None => Err(InvalidKey::Message),
        }
    }
}

/// What a client sets in a thread; the server sets everything else.
#[derive(Clone, Debug)]
pub struct ThreadContent {
    /// Never empty.
    pub title: String,
    /// A short name for addresses, as the client sent it.
    pub slug: Option<String>,
    /// Any JSON, kept verbatim.
    pub metadata: Option<Box<RawValue>>,
}

/// A live thread as its members see it.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its identity, and the time it was created.
    pub id: ThreadId,
    /// Title, slug, metadata.
    pub content: ThreadContent,
    /// Who created it.
    pub author: UserId,
    /// Unix nanoseconds of the last change to the thread or to one of its messages.
    pub updated_ts: u64,
    /// Unix nanoseconds of the newest message ever appended.
    pub last_message_ts: Option<u64>,
    /// Live messages.
    pub message_count: u64,
    /// Grows with every change of `content`, untouched by messages: the `ETag`.
    pub revision: u64,
}

/// What a client sets in a message.
#[derive(Clone, Debug)]
pub struct MessageContent {
    /// Any JSON but `null`, kept verbatim.
    pub body: Box<RawValue>,
    /// The speaker's role, such as `user` or `assistant`.
    pub role: Option<String>,
    /// The message of the same thread that this one replies to.
    pub reply_to: Option<MessageId>,
    /// Any JSON, kept verbatim.
    pub metadata: Option<Box<RawValue>>,
}

/// A live message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its thread.
    pub thread: ThreadId,
    /// Its identity; `id.ts` is the time it was created.
    pub id: MessageId,
    /// Body, role, parent, metadata.
    pub content: MessageContent,
    /// Who wrote it.
    pub author: UserId,
    /// Unix nanoseconds of the last edit; the creation time before the first.
    pub updated_ts: u64,
    /// 1 when created, grows by one with every edit: the `ETag`.
    pub revision: u64,
}

/// Where a page starts. Cursors are positions: they need not name something that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor<K> {
    /// The newest items.
    Newest,
    /// The page in front of the position, in display order.
    Before(K),
    /// The page behind the position, in display order.
    After(K),
    /// Up to `limit` items on either side of the position, and the item itself.
    Anchor(K),
}

/// The order in which threads are listed; newest or most recently active first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ThreadOrder {
    /// By time of creation.
    #[default]
    Created,
    /// By time of last activity.
    Updated,
}

/// One page, in display order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// There are items before the first one.
    pub has_before: bool,
    /// There are items after the last one.
    pub has_after: bool,
    /// Live items on all pages together.
    pub total: u64,
}
