//! What brings a store from one format to the next, as a binary states it. What runs it is in [`crate::db`].
//!
//! A store is raised to a format in two steps. **Start migrations** of that format run when a server starts that knows
//! them. They add what every older version carries without reading it: rows of kinds that are reserved
//! ([`Key::is_reserved`]). Afterwards an older version still serves the store. **Finalize migrations** run on command,
//! after the store was raised to the format, and from then on an older version refuses it.
//!
//! On a shared store older servers write beside a start migration, and what they write lacks what it adds. It runs once more
//! when every server knows the new format: only of a store that has the format may a reader take what it adds for whole.
//!
//! A migration rewrites rows one by one, and is begun again wherever it was interrupted. So rewriting what was rewritten
//! must change nothing, and a reader of the new version must understand rows of both kinds side by side.

use serde::Serialize;

use crate::keys::{Key, KeyRange, Partition, PartitionKind};
use crate::rows::Damaged;

/// A step from one store format to the next.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Migration {
    /// What it is called in the store, where its progress is kept. Never given to another.
    pub number: u32,
    /// What it is called in reports and logs.
    pub name: &'static str,
    /// The format before it.
    pub from: u32,
    /// The format that it leads to.
    pub to: u32,
    /// What runs it.
    pub at: MigrationTime,
    /// The partitions that it visits.
    #[serde(skip)]
    pub kinds: &'static [PartitionKind],
    /// The rows of such a partition that it looks at.
    #[serde(skip)]
    pub range: fn(Partition) -> KeyRange,
    /// What it makes of one of them.
    #[serde(skip)]
    pub rewrite: Rewrite,
}

/// When a migration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationTime {
    /// When a server starts: an older binary reads the store after it.
    Start,
    /// On command: an older binary does not read the store any more.
    Finalize,
}

/// What becomes of a row, given its key, its value as it was before it was sealed, and the format to write in. Nothing to
/// do is no change.
pub type Rewrite = fn(Key, &[u8], u32) -> Result<Vec<Change>, Damaged>;

/// A change to the partition of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a row. It is sealed as any row of its kind.
    Put(Key, Vec<u8>),
    /// Removes a row.
    Delete(Key),
}
