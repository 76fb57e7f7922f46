//! Why a backup is not written, or not read.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::Unreadable;

/// Why an artefact is not read, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is nothing.
    #[error("{} does not exist: check --in", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a backup of ours: {reason}", .path.display())]
    NotOurs {
        /// The artefact.
        path: PathBuf,
        /// What was seen there.
        reason: String,
    },
    /// It was a backup, and something in it is missing or altered.
    #[error("{} is damaged: {what}; use another backup", .path.display())]
    Damaged {
        /// The artefact.
        path: PathBuf,
        /// Which file in it, and what is wrong with it.
        what: String,
    },
    /// Its layout is newer than this version knows.
    #[error("{} has backup layout {found}, this version reads up to {newest}: use version {version} or a newer one", .path.display())]
    TooNew {
        /// The artefact.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest that this version reads.
        newest: u32,
        /// Which version of the program made it.
        version: String,
    },
    /// Its store is of a format that this version does not read.
    #[error("{} was made by version {version}: {unreadable}", .path.display())]
    Format {
        /// The artefact.
        path: PathBuf,
        /// Which version of the program made it.
        version: String,
        /// The format found, and those that this version reads.
        unreadable: Unreadable,
    },
    /// The system failed.
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
            Self::Io { source, .. } if is_stop(source) => STOPPED,
            Self::Io { .. } => 1,
            Self::Missing { .. } => 5,
            Self::NotOurs { .. } | Self::Damaged { .. } => 7,
            Self::TooNew { .. } | Self::Format { .. } => 78,
        }
    }

    pub(super) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    pub(super) fn not_ours(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotOurs { path: path.to_owned(), reason: reason.into() }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// Why a backup was not made. Nothing temporary is left.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something is there already.
    #[error("{} exists: a backup never overwrites; choose another name, or a directory to get a dated one", .path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target lies in the data directory.
    #[error("{} lies inside the data directory: choose a place outside, at best on another disk", .path.display())]
    Inside {
        /// The target.
        path: PathBuf,
    },
    /// What was written is not what was read back.
    #[error("the backup was written and does not read back: check the disk")]
    Unreadable(#[source] Refused),
    /// The system failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Failed {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exists { .. } => 6,
            Self::Inside { .. } => 2,
            Self::Io { source, .. } if is_stop(source) => STOPPED,
            Self::Unreadable(_) | Self::Io { .. } => 1,
        }
    }

    pub(super) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}

/// The exit code after a signal.
pub const STOPPED: u8 = 130;

/// A signal asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub(super) struct Stopped;

/// A signal ended it.
pub fn is_stop(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
}
