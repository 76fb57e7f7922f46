//! Store formats: which ones a binary reads and writes, and how it migrates; and the identity of a store.
//!
//! The format of a store is in a row that every version reads. Which formats a binary knows is one value, [`Formats`],
//! made in `main` and passed down, so that a test can build the next version from this library. Rows are written in the
//! format of the store that they go to, never in the newest that the binary knows: an older binary can then go back to
//! a store that a newer one has served, until the store's format is raised by command.

use serde::Serialize;

use crate::model::Incarnation;

/// What a binary reads, writes and can migrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// The store formats that it reads, first and last.
    pub reads: [u32; 2],
    /// The format of a store that it creates.
    pub writes: u32,
    /// How it migrates a store from one format to the next.
    pub migrations: &'static [Migration],
}

/// A step from one store format to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// The format before it.
    pub from: u32,
    /// The format after it.
    pub to: u32,
    /// What runs it.
    pub at: MigrationTime,
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

/// A store that this binary does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has format {found}, this version reads {} to {}", .reads[0], .reads[1])]
pub struct Unreadable {
    /// The store's format.
    pub found: u32,
    /// The formats that this binary reads, first and last.
    pub reads: [u32; 2],
}

/// Which database a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, the same for the life of the database and in everything that is restored from its backups.
    pub database_id: [u8; 16],
    /// Another one after each restore.
    pub incarnation: Incarnation,
}

impl Formats {
    /// Those of this version.
    pub const CURRENT: Self = Self { reads: [1, 1], writes: 1, migrations: &[] };

    /// Refuses a store of a format that this binary does not read.
    pub fn check(&self, found: u32) -> Result<(), Unreadable> {
        let [first, last] = self.reads;
        if (first..=last).contains(&found) { Ok(()) } else { Err(Unreadable { found, reads: self.reads }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_read_within_the_bounds_and_nowhere_else() {
        let formats = Formats { reads: [2, 3], writes: 3, migrations: &[] };
        let read: Vec<_> = (0..6).map(|format| formats.check(format).is_ok()).collect();
        assert_eq!(read, [false, false, true, true, false, false]);
        let refused = formats.check(4).unwrap_err().to_string();
        assert_eq!(refused, "the store has format 4, this version reads 2 to 3");
    }
}
