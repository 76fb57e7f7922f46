//! A database as text: one line of JSON for each row, as it is stored. What [`crate::db::Reading`] reads goes into such a file,
//! and what is read from it into [`crate::db::Writing`].
//!
//! ```text
//! line     one line, and its checksum
//! file     where an export goes, and what an interrupted one left there
//! writer   writes the lines of an export
//! reader   reads them, and trusts none of them
//! ```
//!
//! ```text
//! {"progressdb_export":1, …, "sum":…}                       first: which database, which export
//! {"key":"t:<ts>:m:<ts>:<seq>","value":"<base64>","sum":…}  a row
//! {"key":"s:messages","count":3,"sum":…}                    what a counter counts
//! {"rows":…,"bytes":…,"content":…,"digest":…,"sum":…}       last: who reads it has read everything
//! ```
//! `sum` is the first 8 bytes, in hexadecimal digits, of the SHA-256 of the number of the line, counted from 1, a colon, and
//! what stands in the line in front of `,"sum"`. So a line that was altered, lost, doubled or moved is found and named. It
//! is no proof against somebody who alters a file on purpose. `content` is [`crate::db::Content`]: every row, as stored.
//! `digest` is what `verify --digest` prints, or null if nobody could open the rows.

mod error;
mod file;
mod line;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use serde::{Deserialize, Serialize};

use crate::db::{Content, Digest, Item};

pub use self::error::Refused;
pub use self::file::{Begun, Target};
pub use self::reader::{Reader, Source};
pub use self::writer::Writer;

/// The layout that this version writes; it reads no other.
pub const LAYOUT: u32 = 1;

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The layout of the export: [`LAYOUT`].
    #[serde(rename = "progressdb_export")]
    pub layout: u32,
    /// Random: which export.
    #[serde(with = "hex")]
    pub id: [u8; 16],
    /// When it was begun: RFC 3339, in UTC.
    pub created: String,
    /// The version of the program that made it.
    pub version: String,
    /// Which database.
    #[serde(with = "hex")]
    pub database_id: [u8; 16],
    /// Unix nanoseconds of its creation.
    pub database_created_ns: u64,
    /// Which copy of the database.
    pub incarnation: String,
    /// The format of its rows.
    pub store_format: u32,
    /// Client writes ever committed.
    pub sequence: i64,
}

/// What an export ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Rows, and counters among them.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// A digest of all of them as they are stored, whatever their order.
    pub content: String,
    /// What all threads hold, whatever sealed them; none if they could not be opened.
    pub digest: Option<Digest>,
}

impl Trailer {
    /// Of an export with this content.
    pub fn of(content: &Content, digest: Option<Digest>) -> Self {
        Self { rows: content.rows, bytes: content.bytes, content: content.sum.to_string(), digest }
    }

    /// What is there holds the same rows, to the byte.
    pub fn is_of(&self, content: &Content) -> bool {
        *self == Self::of(content, self.digest.clone())
    }
}

/// Where a line begins, and what stands in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// Bytes.
    offset: u64,
    /// Lines.
    lines: u64,
    /// Rows.
    content: Content,
}

impl Mark {
    /// Behind one more line of that many bytes.
    fn pass(&mut self, bytes: usize, item: Option<&Item>) {
        self.offset += bytes as u64;
        self.lines += 1;
        if let Some(item) = item {
            self.content.add(item);
        }
    }
}
