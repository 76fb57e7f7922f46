//! Conditions of a request, as RFC 9110 (section 13) has them: entity tags, how they compare, and what follows.
//!
//! `If-Match` compares strongly, so a weak tag never matches; `If-None-Match` compares weakly. Both may hold `*` or a
//! list of tags, on one line or on several. `If-Match` is evaluated first. A header with anything else is refused,
//! because a condition that was not understood must not be ignored.
//!
//! The server's own tags are strong. An object has its revision, a page of messages a digest of what decides its bytes,
//! another page a digest of them. There are no dates to compare with: `If-Modified-Since` and `If-Unmodified-Since` are not looked at, as the RFC has it for resources
//! without `Last-Modified`.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::error::Error;
use crate::db::Revisions;
use crate::model::{Message, Page, ThreadId};

/// The conditions that came with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The outcome for a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The conditions hold: the full response.
    Fresh,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wanted another one.
    Failed,
}

/// The value of one of the headers.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever there is.
    Any,
    Listed(Vec<Tag>),
}

/// One entity tag, without its quotes.
#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: Vec<u8>,
}

impl Conditions {
    /// Reads both headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        Ok(Self {
            if_match: tags(headers, &header::IF_MATCH, "If-Match")?,
            if_none_match: tags(headers, &header::IF_NONE_MATCH, "If-None-Match")?,
        })
    }

    /// Evaluates a read of what has the strong tag `current`, quotes included.
    pub(super) fn evaluate(&self, current: &HeaderValue) -> Verdict {
        let opaque = current.as_bytes().trim_ascii();
        let opaque = opaque.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(opaque);
        if self.if_match.as_ref().is_some_and(|tags| !tags.match_strongly(opaque)) {
            return Verdict::Failed;
        }
        match &self.if_none_match {
            Some(tags) if tags.match_weakly(opaque) => Verdict::NotModified,
            _ => Verdict::Fresh,
        }
    }

    /// The revisions that an object must have, and those that it must not have, for a change to go ahead.
    pub(super) fn of_change(self) -> (Option<Revisions>, Option<Revisions>) {
        (self.if_match.map(|tags| tags.revisions(true)), self.if_none_match.map(|tags| tags.revisions(false)))
    }

    /// Refuses conditions on a create, because there is no earlier object that they could be about.
    pub(super) fn check_create(&self) -> Result<(), Error> {
        match (&self.if_match, &self.if_none_match) {
            (None | Some(Tags::Any), None) => Ok(()),
            (Some(Tags::Listed(_)), _) => Err(Error::ConditionOnCreate("If-Match")),
            (_, Some(_)) => Err(Error::ConditionOnCreate("If-None-Match")),
        }
    }
}

impl Tags {
    fn match_strongly(&self, current: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| !tag.weak && tag.opaque == current),
        }
    }

    fn match_weakly(&self, current: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.opaque == current),
        }
    }

    /// The revisions that these tags name; one that is no tag of ours names none.
    fn revisions(self, strong_only: bool) -> Revisions {
        match self {
            Self::Any => Revisions::Any,
            Self::Listed(tags) => {
                let wanted = tags.iter().filter(|tag| !(strong_only && tag.weak));
                Revisions::OneOf(wanted.filter_map(|tag| revision(&tag.opaque)).collect())
            }
        }
    }
}

/// Only the one spelling that the server hands out: tags are compared byte by byte.
fn revision(opaque: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(opaque).ok()?;
    text.parse::<u64>().ok().filter(|revision| revision.to_string() == text)
}

/// All lines of one header together.
fn tags(headers: &HeaderMap, name: &HeaderName, shown: &'static str) -> Result<Option<Tags>, Error> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let [line] = lines.as_slice()
        && line.trim_ascii() == b"*"
    {
        return Ok(Some(Tags::Any));
    }
    let mut listed = Vec::new();
    for line in lines {
        read_line(line, &mut listed).ok_or(Error::InvalidCondition(shown))?;
    }
    // Most likely an empty variable in a client that relies on the condition.
    if listed.is_empty() { Err(Error::InvalidCondition(shown)) } else { Ok(Some(Tags::Listed(listed))) }
}

/// Reads `"a", W/"b"`; elements of the list may be empty, tags may hold commas. None if it is anything else.
fn read_line(mut rest: &[u8], tags: &mut Vec<Tag>) -> Option<()> {
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            None => return Some(()),
            Some(b',') => {
                rest = &rest[1..];
                continue;
            }
            Some(_) => {}
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let length = inner.iter().position(|byte| *byte == b'"')?;
        let (opaque, behind) = inner.split_at(length);
        if !opaque.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
            return None;
        }
        tags.push(Tag { weak, opaque: opaque.to_vec() });
        rest = behind[1..].trim_ascii_start();
        if !matches!(rest.first(), None | Some(b',')) {
            return None;
        }
    }
}

/// The strong tag of an object: its revision.
pub(super) fn tag_of_revision(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("quoted digits are a header value")
}

/// The strong tag of a page of messages: a digest of what decides its bytes, which is a tenth of them.
///
/// A message is what it was at its revision. Its time of change tells revisions of two histories apart, as a restore
/// makes them, and the version of the program tells pages of two shapes apart.
pub(super) fn tag_of_messages(thread: ThreadId, page: &Page<Arc<Message>>) -> HeaderValue {
    const BYTES_A_MESSAGE: usize = 32;
    const BYTES_BESIDE: usize = 64;
    let mut parts = Vec::with_capacity(page.items.len() * BYTES_A_MESSAGE + BYTES_BESIDE);
    parts.extend_from_slice(concat!("messages ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    for number in [thread.0, page.total, u64::from(page.has_before), u64::from(page.has_after)] {
        parts.extend_from_slice(&number.to_be_bytes());
    }
    for message in &page.items {
        for number in [message.id.ts, message.id.seq, message.revision, message.updated_ts] {
            parts.extend_from_slice(&number.to_be_bytes());
        }
    }
    tag_of_bytes(&parts)
}

/// The strong tag of a page: a digest of its bytes.
pub(super) fn tag_of_bytes(bytes: &[u8]) -> HeaderValue {
    let digest = digest::digest(&digest::SHA256, bytes);
    let text = format!("\"{}\"", hex::encode(&digest.as_ref()[..16]));
    HeaderValue::try_from(text).expect("quoted hex digits are a header value")
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::model::{MessageContent, MessageId, UserId};

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line).unwrap())).collect()
    }

    #[track_caller]
    fn check(name: &HeaderName, lines: &[&[u8]], verdict: Verdict) {
        let conditions = Conditions::of(&headers(name, lines)).unwrap();
        assert_eq!(conditions.evaluate(&tag_of_revision(7)), verdict, "{name}: {lines:?}");
    }

    #[test]
    fn if_match_compares_strongly() {
        for lines in
            [&[&b"*"[..]][..], &[b" \"7\" "], &[b"\"6\", \"7\""], &[b"\"6\"", b"\"7\""], &[b",,\"a,b\",\"7\","]]
        {
            check(&header::IF_MATCH, lines, Verdict::Fresh);
        }
        for lines in [&[&b"\"6\""[..]][..], &[b"W/\"7\""], &[b"\"07\""], &[b"\"\""], &[b"\"6\"", b"W/\"7\""]] {
            check(&header::IF_MATCH, lines, Verdict::Failed);
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for lines in [&[&b"*"[..]][..], &[b"\"7\""], &[b"W/\"7\""], &[b"\"6\",W/\"7\""], &[b"\"6\"", b"W/\"7\""]] {
            check(&header::IF_NONE_MATCH, lines, Verdict::NotModified);
        }
        check(&header::IF_NONE_MATCH, &[b"\"6\", \"77\""], Verdict::Fresh);
    }

    #[test]
    fn if_match_is_evaluated_first() {
        let mut both = headers(&header::IF_MATCH, &[b"\"6\""]);
        both.extend(headers(&header::IF_NONE_MATCH, &[b"\"7\""]));
        assert_eq!(Conditions::of(&both).unwrap().evaluate(&tag_of_revision(7)), Verdict::Failed);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let broken: [&[&[u8]]; 14] = [
            &[b""],
            &[b" , "],
            &[b"7"],
            &[b"\"7"],
            &[b"7\""],
            &[b"w/\"7\""],
            &[b"W/ \"7\""],
            &[b"\"7\" \"8\""],
            &[b"\"7\"8"],
            &[b"\"a b\""],
            &[b"*, \"7\""],
            &[b"*", b"\"7\""],
            &[b"*", b"*"],
            &[b"'7'"],
        ];
        for lines in broken {
            for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
                let refused = Conditions::of(&headers(&name, lines));
                assert!(matches!(refused, Err(Error::InvalidCondition(_))), "{lines:?}");
            }
        }
    }

    #[test]
    fn a_change_is_told_the_revisions_that_the_tags_name() {
        let mut both =
            headers(&header::IF_MATCH, &[b"\"3\", W/\"4\", \"05\", \"+6\", \"x\"", b"\"18446744073709551615\""]);
        both.extend(headers(&header::IF_NONE_MATCH, &[b"\"1\", W/\"2\""]));
        let of_change = Conditions::of(&both).unwrap().of_change();
        assert_eq!(of_change, (Some(Revisions::OneOf(vec![3, u64::MAX])), Some(Revisions::OneOf(vec![1, 2]))));
        let any = Conditions::of(&headers(&header::IF_MATCH, &[b"*"])).unwrap().of_change();
        assert_eq!(any, (Some(Revisions::Any), None));
    }

    #[test]
    fn a_page_of_messages_has_another_tag_whenever_it_says_something_else() {
        let message = |ts, seq, revision, updated_ts| {
            let body = RawValue::from_string("1".into()).unwrap();
            let content = MessageContent { body, role: None, reply_to: None, metadata: None };
            let (id, author) = (MessageId { ts, seq }, UserId::parse("u").unwrap());
            Arc::new(Message { thread: ThreadId(1), id, content, author, updated_ts, revision })
        };
        let page = |items, total| Page { items, has_before: false, has_after: false, total };
        let (one, two) = (message(2, 0, 1, 2), message(3, 1, 1, 3));
        let both = page(vec![one.clone(), two.clone()], 2);
        let pages = [
            (ThreadId(2), both.clone()),
            (ThreadId(1), Page { has_before: true, ..both.clone() }),
            (ThreadId(1), Page { has_after: true, ..both.clone() }),
            (ThreadId(1), page(vec![two.clone(), one.clone()], 2)),
            (ThreadId(1), page(vec![one.clone(), two.clone()], 3)),
            (ThreadId(1), page(vec![one.clone()], 2)),
            (ThreadId(1), page(vec![one.clone(), message(3, 1, 2, 3)], 2)),
            (ThreadId(1), page(vec![one.clone(), message(3, 1, 1, 4)], 2)),
            (ThreadId(1), page(vec![one.clone(), message(4, 1, 1, 3)], 2)),
            (ThreadId(1), page(vec![one, message(3, 2, 1, 3)], 2)),
            (ThreadId(1), page(Vec::new(), 2)),
            (ThreadId(1), both.clone()),
        ];
        let tags = pages.map(|(thread, page)| tag_of_messages(thread, &page));
        let different: std::collections::HashSet<_> = tags.iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(different.len(), tags.len());
        assert_eq!(tags.last(), Some(&tag_of_messages(ThreadId(1), &both)));
    }

    #[test]
    fn a_page_has_the_tag_of_its_bytes() {
        assert_eq!(tag_of_bytes(b"a"), tag_of_bytes(b"a"));
        assert_ne!(tag_of_bytes(b"a"), tag_of_bytes(b"b"));
        assert_eq!(tag_of_bytes(b"").as_bytes().len(), 34);
    }
}
