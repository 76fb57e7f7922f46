//! One line of an export: JSON, and the checksum at its end.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::{Header, Trailer};
use crate::db::{Held, Item};

/// What stands in front of the checksum and behind it. Both are of fixed length, so the checksum is found from the end.
const BEFORE: &[u8] = b",\"sum\":\"";
const AFTER: &[u8] = b"\"}";
const SUM_BYTES: usize = 8;
const TAIL: usize = BEFORE.len() + 2 * SUM_BYTES + AFTER.len();

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Header(Header),
    Item(Item),
    Trailer(Trailer),
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it does not end with a checksum")]
    NoSum,
    #[error("its checksum is wrong, or it is not where it was")]
    Sum,
    #[error("it cannot be understood")]
    Content,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemLine {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
}

impl Line {
    /// As line number `number`, its end included.
    pub(super) fn encode(&self, number: u64) -> Vec<u8> {
        let json = match self {
            Self::Header(header) => serde_json::to_vec(header),
            Self::Trailer(trailer) => serde_json::to_vec(trailer),
            Self::Item(Item { key, held }) => {
                let (value, count) = match held {
                    Held::Value(value) => (Some(BASE64_STANDARD.encode(value)), None),
                    Held::Count(count) => (None, Some(*count)),
                };
                serde_json::to_vec(&ItemLine { key: key.to_string(), value, count })
            }
        };
        let mut line = json.expect("numbers and texts have a form in JSON");
        line.pop();
        let sum = sum(number, &line);
        for part in [BEFORE, hex::encode(sum).as_bytes(), AFTER, b"\n"] {
            line.extend_from_slice(part);
        }
        line
    }

    /// From the bytes of line number `number`, without its end.
    pub(super) fn decode(number: u64, line: &[u8]) -> Result<Self, Wrong> {
        let (text, tail) = line.split_at_checked(line.len().wrapping_sub(TAIL)).ok_or(Wrong::NoSum)?;
        let digits = tail.strip_prefix(BEFORE).and_then(|tail| tail.strip_suffix(AFTER)).ok_or(Wrong::NoSum)?;
        if digits != hex::encode(sum(number, text)).as_bytes() {
            return Err(Wrong::Sum);
        }
        let json = [text, b"}"].concat();
        let understood = match () {
            () if json.starts_with(b"{\"key\":") => decode_item(&json),
            () if json.starts_with(b"{\"rows\":") => serde_json::from_slice(&json).ok().map(Self::Trailer),
            () => serde_json::from_slice(&json).ok().map(Self::Header),
        };
        understood.ok_or(Wrong::Content)
    }
}

fn decode_item(json: &[u8]) -> Option<Line> {
    let ItemLine { key, value, count } = serde_json::from_slice(json).ok()?;
    let key = key.parse().ok()?;
    let held = match (value, count) {
        (Some(value), None) if !Item::is_counter(&key) => Held::Value(BASE64_STANDARD.decode(value).ok()?),
        (None, Some(count)) if Item::is_counter(&key) => Held::Count(count),
        _ => return None,
    };
    Some(Line::Item(Item { key, held }))
}

fn sum(number: u64, text: &[u8]) -> [u8; SUM_BYTES] {
    let mut hash = Context::new(&SHA256);
    hash.update(number.to_string().as_bytes());
    hash.update(b":");
    hash.update(text);
    *hash.finish().as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
}
