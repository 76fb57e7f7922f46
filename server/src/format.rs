//! Store formats: which ones a binary reads and writes, and how it migrates; and the identity of a store.
//!
//! The format of a store is in a row that every version reads. Which formats a binary knows is one value, [`Formats`],
//! made in `main` and passed down, so that a test can build the next version from this library. Rows are written in the
//! format of the store that they go to, never in the newest that the binary knows: an older binary can then go back to
//! a store that a newer one has served, until the store's format is raised by command.

mod migrations;

use crate::model::Incarnation;

pub use migrations::{Change, Migration, MigrationTime, Rewrite};

/// What a binary is to a store: its version, and what it reads, writes and can migrate.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// The version that it tells, and notes in what it makes beside the format.
    pub version: &'static str,
    /// The store formats that it reads, first and last.
    pub reads: [u32; 2],
    /// The format of a store that it creates.
    pub writes: u32,
    /// How it migrates a store from one format to the next, in the order in which they run.
    pub migrations: &'static [Migration],
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
    pub const CURRENT: Self = Self { version: env!("CARGO_PKG_VERSION"), reads: [1, 1], writes: 1, migrations: &[] };

    /// Refuses a store of a format that this binary does not read.
    pub fn check(&self, found: u32) -> Result<(), Unreadable> {
        let [first, last] = self.reads;
        if (first..=last).contains(&found) { Ok(()) } else { Err(Unreadable { found, reads: self.reads }) }
    }

    /// The formats that it both reads and writes, first and last.
    pub fn works_in(&self) -> [u32; 2] {
        [self.reads[0], self.reads[1].min(self.writes)]
    }

    /// The migrations of this kind that a store of format `found` has before it.
    pub fn ahead(&self, found: u32, at: MigrationTime) -> impl Iterator<Item = &'static Migration> + use<> {
        self.migrations.iter().filter(move |migration| migration.at == at && found < migration.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_read_within_the_bounds_and_nowhere_else() {
        let formats = Formats { reads: [2, 3], writes: 3, ..Formats::CURRENT };
        let read: Vec<_> = (0..6).map(|format| formats.check(format).is_ok()).collect();
        assert_eq!(read, [false, false, true, true, false, false]);
        let refused = formats.check(4).unwrap_err().to_string();
        assert_eq!(refused, "the store has format 4, this version reads 2 to 3");
    }
}
