//! Wire output: the objects that clients get, made from the model, and the responses that carry them.
//!
//! Message bodies and metadata keep their exact text ([`RawValue`]). Optional fields that are absent stay absent; arrays
//! are never `null`. JSON is written once, into the buffer that is sent.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::conditional::tag_of_revision;
use super::error::Error;
use super::input::AnyButNull;
use super::limits::Brief;
use super::page::Pagination;
use crate::db::{Receipt, Written};
use crate::model::{KeyText, Message, MessageKey, Thread, ThreadId};

pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A thread as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Thread)]
pub(super) struct ThreadObject<'a> {
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    key: ThreadId,
    title: &'a str,
    author: &'a str,
    /// Unix nanoseconds.
    created_ts: u64,
    /// Unix nanoseconds of the last change of the thread or of one of its messages.
    updated_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slug: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<&'a RawValue>,
    /// Unix nanoseconds of the newest message ever created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_message_ts: Option<u64>,
    /// Messages that are not deleted.
    message_count: u64,
}

impl<'a> From<&'a Thread> for ThreadObject<'a> {
    fn from(thread: &'a Thread) -> Self {
        Self {
            key: thread.id,
            title: &thread.content.title,
            author: thread.author.as_str(),
            created_ts: thread.id.0,
            updated_ts: thread.updated_ts,
            slug: thread.content.slug.as_deref(),
            metadata: thread.content.metadata.as_deref(),
            last_message_ts: thread.last_message_ts,
            message_count: thread.message_count,
        }
    }
}

/// A message as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageObject<'a> {
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000:m:1763700001000000000:000000000")]
    key: MessageKey,
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    thread: ThreadId,
    author: &'a str,
    /// Unix nanoseconds.
    created_ts: u64,
    /// Unix nanoseconds of the last edit.
    updated_ts: u64,
    /// What was sent, verbatim.
    #[schema(value_type = AnyButNull)]
    body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_key")]
    #[schema(value_type = Option<String>, nullable = false)]
    reply_to: Option<MessageKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<&'a RawValue>,
}

impl<'a> From<&'a Message> for MessageObject<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            key: MessageKey::new(message.thread, message.id),
            thread: message.thread,
            author: message.author.as_str(),
            created_ts: message.id.ts,
            updated_ts: message.updated_ts,
            body: &message.content.body,
            role: message.content.role.as_deref(),
            reply_to: message.content.reply_to.map(|id| MessageKey::new(message.thread, id)),
            metadata: message.content.metadata.as_deref(),
        }
    }
}

/// `{"thread": ...}`.
#[derive(Serialize, ToSchema)]
#[schema(as = ThreadResponse)]
pub(super) struct ThreadResponse<'a> {
    pub(super) thread: ThreadObject<'a>,
}

/// `{"message": ...}`.
#[derive(Serialize, ToSchema)]
#[schema(as = MessageResponse)]
pub(super) struct MessageResponse<'a> {
    pub(super) message: MessageObject<'a>,
}

/// The acknowledgement of a write: committed and on disk.
#[derive(Serialize, ToSchema)]
#[schema(as = ThreadAck)]
pub(super) struct ThreadAck<'a> {
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    pub(super) key: ThreadId,
    /// With `Prefer: return=representation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) thread: Option<ThreadObject<'a>>,
    /// Of an erasure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) receipt: Option<ErasureReceipt<'a>>,
}

/// What was erased, and until when remains of it may exist.
#[derive(Serialize, ToSchema)]
#[schema(as = ErasureReceipt)]
pub(super) struct ErasureReceipt<'a> {
    /// The names of the keys that were destroyed; none if the thread was never encrypted.
    key_ids: &'a [String],
    /// Unix nanoseconds from which nothing in the live store opens the thread.
    erased_ts: u64,
    /// Unix nanoseconds until which files of the store may hold what was destroyed.
    horizon_ts: u64,
    /// Copies that hold the thread for as long as they are kept. In the data directory: checkpoints by name, former stores
    /// that a restore or a rollback kept, such as `store-1`, and `tmp/backup-<id>` for backups that are being made. Elsewhere:
    /// the path or URL of the oldest backup that the schedule of the server knows; later ones hold it too.
    checkpoints: &'a [String],
}

impl<'a> From<&'a Receipt> for ErasureReceipt<'a> {
    fn from(receipt: &'a Receipt) -> Self {
        Self {
            key_ids: &receipt.key_ids,
            erased_ts: receipt.erased,
            horizon_ts: receipt.horizon,
            checkpoints: &receipt.checkpoints,
        }
    }
}

/// The acknowledgement of a write: committed and on disk.
#[derive(Serialize, ToSchema)]
#[schema(as = MessageAck)]
pub(super) struct MessageAck<'a> {
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000:m:1763700001000000000:000000000")]
    pub(super) key: MessageKey,
    /// With `Prefer: return=representation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) message: Option<MessageObject<'a>>,
}

/// A page of threads, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = ThreadPage)]
pub(super) struct ThreadPage<'a> {
    pub(super) threads: Vec<ThreadObject<'a>>,
    pub(super) pagination: Pagination,
}

/// A page of messages, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = MessagePage)]
pub(super) struct MessagePage<'a> {
    #[serde(serialize_with = "key")]
    #[schema(value_type = String, example = "t:1763700000000000000")]
    pub(super) thread: ThreadId,
    pub(super) messages: Vec<MessageObject<'a>>,
    pub(super) pagination: Pagination,
}

impl MessagePage<'_> {
    /// The page as JSON, in one buffer of about its length.
    pub(super) fn write(&self) -> Result<Vec<u8>, Error> {
        const BYTES_BESIDE: usize = 512;
        let of_messages: usize = self.messages.iter().map(MessageObject::length).sum();
        let mut bytes = Vec::with_capacity(of_messages + BYTES_BESIDE);
        serde_json::to_writer(&mut bytes, self).map_err(Error::Encoding)?;
        Ok(bytes)
    }
}

impl MessageObject<'_> {
    /// About how many bytes it has as JSON.
    fn length(&self) -> usize {
        // Names of fields, keys and times have nearly the same length in all messages.
        const EVERY_MESSAGE: usize = 184;
        const EVERY_FIELD: usize = 16;
        const EVERY_KEY: usize = 56;
        let optional = |length: Option<usize>| length.map_or(0, |length| EVERY_FIELD + length);
        let reply_to = optional(self.reply_to.map(|_| EVERY_KEY));
        let metadata = optional(self.metadata.map(|metadata| metadata.get().len()));
        EVERY_MESSAGE
            + self.author.len()
            + self.body.get().len()
            + optional(self.role.map(str::len))
            + reply_to
            + metadata
    }
}

/// A response of `status` with `value` as its JSON body.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_text(status, bytes),
        Err(error) => Error::Encoding(error).into_response(),
    }
}

/// A response of `status` with JSON that is already written.
pub(super) fn json_text(status: StatusCode, mut bytes: Vec<u8>) -> Response {
    // A buffer that grew by doubling holds up to twice the bytes that are counted.
    if bytes.capacity() > bytes.len() + bytes.len() / 8 {
        bytes.shrink_to_fit();
    }
    text(status, "application/json", bytes)
}

/// A response of `status` with a body of another type.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The 202 of a committed write: the key and, in `represented`, the object too if the client asked for it.
pub(super) fn acknowledge<K, T: Serialize>(written: &Written<K>, brief: &T, represented: Option<&T>) -> Response {
    let mut response = json(StatusCode::ACCEPTED, represented.unwrap_or(brief));
    if represented.is_some()
        && let Ok(bytes) = serde_json::to_vec(brief)
    {
        response.extensions_mut().insert(Brief(bytes.into()));
    }
    let headers = response.headers_mut();
    if written.revision > 0 {
        headers.insert(header::ETAG, tag_of_revision(written.revision));
    }
    if written.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if represented.is_some() {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=representation"));
    }
    response
}

fn key<K: Copy + Into<KeyText>, S: Serializer>(key: &K, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str((*key).into().as_str())
}

fn optional_key<S: Serializer>(key: &Option<MessageKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => self::key(key, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MessageContent, MessageId, ThreadContent, UserId};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_message_keeps_its_exact_text() {
        let body = r#"{ "z":1e400, "a": 12345678901234567890123, "z":"\u00e9", "n":1.0 }"#;
        let message = Message {
            thread: ThreadId(5),
            id: MessageId { ts: 6, seq: 1 },
            content: MessageContent {
                body: raw(body),
                role: Some("user".into()),
                reply_to: Some(MessageId { ts: 4, seq: 0 }),
                metadata: None,
            },
            author: UserId::parse("u").unwrap(),
            updated_ts: 7,
            revision: 2,
        };
        let response = serde_json::to_string(&MessageResponse { message: (&message).into() }).unwrap();
        let expected = format!(
            r#"{{"message":{{"key":"t:5:m:6:000000001","thread":"t:5","author":"u","created_ts":6,"updated_ts":7,"body":{body},"role":"user","reply_to":"t:5:m:4:000000000"}}}}"#
        );
        assert_eq!(response, expected);
    }

    #[test]
    fn what_a_thread_lacks_is_absent() {
        let thread = Thread {
            id: ThreadId(5),
            content: ThreadContent { title: "a".into(), slug: None, metadata: Some(raw("{ }")) },
            author: UserId::parse("u").unwrap(),
            updated_ts: 6,
            last_message_ts: None,
            message_count: 0,
            revision: 1,
        };
        assert_eq!(
            serde_json::to_string(&ThreadAck { key: thread.id, thread: Some((&thread).into()), receipt: None })
                .unwrap(),
            r#"{"key":"t:5","thread":{"key":"t:5","title":"a","author":"u","created_ts":5,"updated_ts":6,"metadata":{ },"message_count":0}}"#
        );
        assert_eq!(
            serde_json::to_string(&ThreadAck { key: thread.id, thread: None, receipt: None }).unwrap(),
            r#"{"key":"t:5"}"#
        );
    }
}
