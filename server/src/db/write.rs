//! What a client may ask to be written, and what it is answered.

use serde_json::value::RawValue;

use super::Error;
use crate::model::{MessageContent, MessageId, MessageKey, UserId};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user on whose behalf.
    pub user: UserId,
}

/// What a client may attach to any write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Makes a repeated request give the first answer again.
    pub idempotency: Option<Idempotency>,
    /// The revisions of which the object must have one. Creates ignore it.
    pub if_match: Option<Revisions>,
    /// The revisions of which the object must have none. Creates ignore it.
    pub if_none_match: Option<Revisions>,
}

/// Revisions that a client names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revisions {
    /// Every one.
    Any,
    /// Each of these; there may be none.
    OneOf(Vec<u64>),
}

impl Revisions {
    fn contain(&self, revision: u64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(revisions) => revisions.contains(&revision),
        }
    }
}

impl WriteOptions {
    /// Refuses to change an object whose revision is not what the client said.
    pub(super) fn check_revision(&self, current: u64) -> Result<(), Error> {
        let wanted = self.if_match.as_ref().is_none_or(|wanted| wanted.contain(current));
        let unwanted = self.if_none_match.as_ref().is_some_and(|unwanted| unwanted.contain(current));
        if wanted && !unwanted { Ok(()) } else { Err(Error::PreconditionFailed { current }) }
    }
}

/// An idempotency key and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// As the client chose it.
    pub key: String,
    /// SHA-256 of the request.
    pub request: [u8; 32],
}

/// A message to append.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// What it says; the parent in it is not looked at.
    pub content: MessageContent,
    /// The message of the same thread that it answers.
    pub parent: Option<MessageKey>,
}

/// A change to a thread; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ThreadUpdate {
    /// Never empty.
    pub title: Option<String>,
    /// A short name for addresses.
    pub slug: Option<String>,
    /// Any JSON.
    pub metadata: Option<Box<RawValue>>,
}

/// A change to a message; what is absent stays.
#[derive(Clone, Debug)]
pub struct MessageUpdate {
    /// Any JSON but `null`.
    pub body: Box<RawValue>,
    /// Any JSON.
    pub metadata: Option<Box<RawValue>>,
}

/// A write that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<K> {
    /// What was written.
    pub key: K,
    /// Its revision from then on; 0 if it was deleted.
    pub revision: u64,
    /// The answer is that of an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// What a write does to a thread that exists.
#[derive(Clone, Debug)]
pub(super) enum Write {
    CreateMessage(NewMessage),
    UpdateMessage(MessageKey, MessageUpdate),
    DeleteMessage(MessageKey),
    UpdateThread(ThreadUpdate),
    DeleteThread,
}

/// The answer to a write to a thread: the message that it concerned, if it was one, and the revision of the object.
pub(super) type Answer = Written<Option<MessageId>>;
