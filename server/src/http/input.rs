//! From wire to model: the JSON that clients send, checked once.
//!
//! Bodies and metadata keep their exact text ([`RawValue`]). Unknown fields are ignored; a known field that comes twice
//! or with another type is refused.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::error::Error;
use crate::db::{MessageUpdate, NewMessage, ThreadUpdate};
use crate::model::{MessageContent, MessageKey, ThreadContent, ThreadId};

const MAX_DEPTH: usize = 128;
/// In characters, as the document counts them.
const MAX_SLUG: usize = 256;
const MAX_ROLE: usize = 64;

/// What a client sends to create or change a thread.
#[derive(Deserialize, ToSchema)]
#[schema(as = ThreadWrite, example = json!({"title": "General"}))]
pub(super) struct ThreadInput<'a> {
    /// Never empty.
    #[schema(min_length = 1, required, nullable = false)]
    title: Option<String>,
    /// A short name for addresses; at most 256 characters.
    #[schema(max_length = 256)]
    slug: Option<String>,
    /// Any JSON object; kept verbatim.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
}

/// What a client sends to create a message.
#[derive(Deserialize, ToSchema)]
#[schema(as = MessageCreate, example = json!({"body": {"text": "hello"}, "role": "user"}))]
pub(super) struct MessageInput<'a> {
    /// Any JSON but `null`; kept verbatim.
    #[serde(borrow)]
    #[schema(value_type = AnyButNull, required)]
    body: Option<&'a RawValue>,
    /// The role of the speaker, such as `user` or `assistant`; at most 64 characters.
    #[schema(max_length = 64)]
    role: Option<String>,
    /// The key of the message of the same thread that this one responses to.
    #[schema(pattern = "^t:[1-9][0-9]{0,18}:m:[1-9][0-9]{0,18}(:[0-9]{9})?$")]
    reply_to: Option<String>,
    /// Any JSON object; kept verbatim.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
}

/// What a client sends to change a message.
#[derive(Deserialize, ToSchema)]
#[schema(as = MessageUpdate, example = json!({"body": {"text": "hello again"}}))]
pub(super) struct MessageUpdateInput<'a> {
    /// Any JSON but `null`; kept verbatim.
    #[serde(borrow)]
    #[schema(value_type = AnyButNull, required)]
    body: Option<&'a RawValue>,
    /// Any JSON object, kept verbatim; unchanged if absent.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
}

/// Any JSON value but `null`, for the document.
pub(super) struct AnyButNull;

impl PartialSchema for AnyButNull {
    fn schema() -> RefOr<Schema> {
        let kinds = [Type::String, Type::Number, Type::Boolean, Type::Object, Type::Array];
        ObjectBuilder::new().schema_type(SchemaType::Array(kinds.into())).into()
    }
}

impl ToSchema for AnyButNull {}

/// Parses `bytes` as one JSON object; anything else is refused with `refusal` as the text.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], refusal: &'static str) -> Result<T, Error> {
    // A struct would also be read from a JSON array, field by field.
    if first_byte(bytes) != Some(b'{') || nested_deeper_than(bytes, MAX_DEPTH) {
        return Err(Error::InvalidInput(refusal));
    }
    serde_json::from_slice(bytes).map_err(|_| Error::InvalidInput(refusal))
}

fn first_byte(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// Refuses deep nesting by a scan before parsing, because the parser recurses.
fn nested_deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// What is wrong with the fields of one input.
#[derive(Default)]
struct Findings(Vec<&'static str>);

impl Findings {
    fn check(&mut self, fine: bool, finding: &'static str) {
        if !fine {
            self.0.push(finding);
        }
    }

    fn metadata(&mut self, value: Option<&RawValue>) -> Option<Box<RawValue>> {
        self.check(value.is_none_or(|value| value.get().starts_with('{')), "metadata: must be an object");
        value.map(RawValue::to_owned)
    }

    fn into_result(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Validation(self.0.join("; "))) }
    }
}

fn is_longer_than(text: Option<&str>, characters: usize) -> bool {
    text.is_some_and(|text| text.chars().nth(characters).is_some())
}

/// The content of a new thread.
pub(super) fn thread_content(bytes: &[u8]) -> Result<ThreadContent, Error> {
    thread(bytes, "invalid thread payload")
}

/// The change of a thread. It must have a title, as with older servers.
pub(super) fn thread_update(bytes: &[u8]) -> Result<ThreadUpdate, Error> {
    let ThreadContent { title, slug, metadata } = thread(bytes, "invalid thread update payload")?;
    Ok(ThreadUpdate { title: Some(title), slug, metadata })
}

fn thread(bytes: &[u8], refusal: &'static str) -> Result<ThreadContent, Error> {
    let ThreadInput { title, slug, metadata } = parse(bytes, refusal)?;
    let title = title.unwrap_or_default();
    let mut findings = Findings::default();
    findings.check(!title.is_empty(), "title: cannot be empty");
    findings.check(!is_longer_than(slug.as_deref(), MAX_SLUG), "slug: too long (maximum 256 characters)");
    let metadata = findings.metadata(metadata);
    findings.into_result()?;
    Ok(ThreadContent { title, slug, metadata })
}

/// A new message of `thread`.
pub(super) fn new_message(bytes: &[u8], thread: ThreadId) -> Result<NewMessage, Error> {
    let MessageInput { body, role, reply_to, metadata } = parse(bytes, "invalid message payload")?;
    let mut findings = Findings::default();
    findings.check(body.is_some(), "body: cannot be empty");
    findings.check(!is_longer_than(role.as_deref(), MAX_ROLE), "role: too long (maximum 64 characters)");
    let parent = reply_to.as_deref().map(|key| parent(key, thread));
    findings.check(parent != Some(None), "reply_to: must be the key of a message of this thread");
    let metadata = findings.metadata(metadata);
    findings.into_result()?;
    let body = body.unwrap_or(RawValue::NULL).to_owned();
    Ok(NewMessage { content: MessageContent { body, role, reply_to: None, metadata }, parent: parent.flatten() })
}

/// The change of a message; role and parent stay what they were.
pub(super) fn message_update(bytes: &[u8]) -> Result<MessageUpdate, Error> {
    let MessageUpdateInput { body, metadata } = parse(bytes, "invalid message update payload")?;
    let mut findings = Findings::default();
    findings.check(body.is_some(), "body: cannot be empty");
    let metadata = findings.metadata(metadata);
    findings.into_result()?;
    Ok(MessageUpdate { body: body.unwrap_or(RawValue::NULL).to_owned(), metadata })
}

/// A parent may be named by its final or its provisional key.
fn parent(key: &str, thread: ThreadId) -> Option<MessageKey> {
    key.parse::<MessageKey>().ok().filter(|key| key.thread == thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: ThreadId = ThreadId(5);

    fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        match result.expect_err("should be refused") {
            Error::InvalidInput(text) => text.to_owned(),
            Error::Validation(text) => format!("validation errors: {text}"),
            other => panic!("another error: {other:?}"),
        }
    }

    #[test]
    fn a_body_keeps_its_exact_text() {
        let text = r#"{ "z":1e400, "a": 12345678901234567890123, "z":"\u00e9", "n":1.0 }"#;
        let content = new_message(format!(r#"{{"body":{text}}}"#).as_bytes(), THREAD).unwrap().content;
        assert_eq!(content.body.get(), text);
    }

    #[test]
    fn falsy_bodies_are_bodies_and_null_is_none() {
        for body in ["\"\"", "0", "false", "{}", "[]"] {
            let content = new_message(format!(r#"{{"body":{body}}}"#).as_bytes(), THREAD).unwrap().content;
            assert_eq!(content.body.get(), body);
        }
        for payload in ["{}", r#"{"body":null}"#] {
            let text = refusal(new_message(payload.as_bytes(), THREAD));
            assert_eq!(text, "validation errors: body: cannot be empty");
            let text = refusal(message_update(payload.as_bytes()));
            assert_eq!(text, "validation errors: body: cannot be empty");
        }
    }

    #[test]
    fn what_is_not_one_json_object_of_the_right_types_is_refused() {
        let cases: [&[u8]; 10] = [
            b"",
            b"null",
            b"[\"title\"]",
            b"{\"title\":1}",
            b"{\"title\":\"a\"} x",
            b"{\"title\":\"a\"}{}",
            b"{\"title\":\"a\",\"title\":\"b\"}",
            b"{\"title\":\"\xff\"}",
            b"{\"title\":\"a\"",
            b"{\"title\":\"a\",\"slug\":7}",
        ];
        for case in cases {
            assert_eq!(refusal(thread_content(case)), "invalid thread payload", "{}", String::from_utf8_lossy(case));
            assert_eq!(refusal(thread_update(case)), "invalid thread update payload");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let content = thread_content(br#"{"title":"a","deleted":true,"author":"x","key":7}"#).unwrap();
        assert_eq!((content.title.as_str(), content.slug), ("a", None));
    }

    #[test]
    fn nesting_is_limited_outside_strings_only() {
        let nested = |depth: usize| format!(r#"{{"body":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(new_message(nested(MAX_DEPTH - 1).as_bytes(), THREAD).is_ok());
        assert_eq!(refusal(new_message(nested(MAX_DEPTH).as_bytes(), THREAD)), "invalid message payload");
        assert_eq!(refusal(new_message(nested(100_000).as_bytes(), THREAD)), "invalid message payload");
        let quoted = format!(r#"{{"body":"\"{}"}}"#, "[".repeat(1000));
        assert!(new_message(quoted.as_bytes(), THREAD).is_ok());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let payload = format!(r#"{{"title":"","slug":"{}","metadata":[]}}"#, "s".repeat(257));
        assert_eq!(
            refusal(thread_content(payload.as_bytes())),
            "validation errors: title: cannot be empty; slug: too long (maximum 256 characters); metadata: must be an object"
        );
    }

    #[test]
    fn a_thread_change_names_the_title() {
        for payload in [&b"{}"[..], br#"{"title":""}"#, br#"{"title":null,"slug":"s"}"#] {
            assert_eq!(refusal(thread_update(payload)), "validation errors: title: cannot be empty");
        }
        let update = thread_update(br#"{"title":"a","slug":"s"}"#).unwrap();
        assert_eq!((update.title.as_deref(), update.slug.as_deref()), (Some("a"), Some("s")));
    }

    #[test]
    fn lengths_count_characters() {
        let role = |count| new_message(format!(r#"{{"body":1,"role":"{}"}}"#, "é".repeat(count)).as_bytes(), THREAD);
        assert!(role(64).is_ok());
        assert_eq!(refusal(role(65)), "validation errors: role: too long (maximum 64 characters)");
    }

    #[test]
    fn a_parent_is_a_message_of_the_same_thread() {
        let with = |key: &str| new_message(format!(r#"{{"body":1,"reply_to":"{key}"}}"#).as_bytes(), THREAD);
        for key in ["t:5:m:6:000000001", "t:5:m:6"] {
            assert_eq!(with(key).unwrap().parent.map(|key| key.to_string()).as_deref(), Some(key));
        }
        for key in ["t:4:m:6:000000001", "t:5", "x"] {
            assert_eq!(refusal(with(key)), "validation errors: reply_to: must be the key of a message of this thread");
        }
    }
}
