//! Why a file is not written, or not read.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::Unreadable;

/// Why an export is not written to a file, or not read from it, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Standard output keeps nothing that could be gone on with.
    #[error("--resume needs a file: name it with --to")]
    NoFile,
    /// The target lies in the data directory.
    #[error("{} lies inside the data directory: choose a place outside", .path.display())]
    Inside {
        /// The target.
        path: PathBuf,
    },
    /// There is nothing to read.
    #[error("{} does not exist: check --from", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{} exists: add --resume to go on with an export that was interrupted, or choose another name", .path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// It is an export of something else than the database that is to be exported.
    #[error("{} is not an export of the database as it is now: {what}; choose another name", .path.display())]
    Outdated {
        /// The target.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// It is something else.
    #[error("{} is not an export of ours: {reason}", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What was seen there.
        reason: &'static str,
    },
    /// A line of it is missing or altered.
    #[error("{} is damaged in line {line}: {what}; use another copy of it, or make the export again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Its layout is another one than this version knows.
    #[error("{} has export layout {found}, this version reads {newest}: use version {version} or a newer one", .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The one that this version reads.
        newest: u32,
        /// Which version of the program made it.
        version: String,
    },
    /// Its rows are of a format that this version does not read.
    #[error("{} was made by version {version}: {unreadable}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Which version of the program made it.
        version: String,
        /// The format found, and those that this version reads.
        unreadable: Unreadable,
    },
    /// The system failed, or a signal stopped it.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Refused {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } => 1,
            Self::NoFile | Self::Inside { .. } => 2,
            Self::Missing { .. } => 5,
            Self::Exists { .. } | Self::Outdated { .. } => 6,
            Self::NotOurs { .. } | Self::Damaged { .. } => 7,
            Self::TooNew { .. } | Self::Format { .. } => 78,
        }
    }

    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    pub(super) fn damaged(path: &Path, line: u64, what: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), line, what: what.to_string() }
    }
}
