//! Why a data directory is refused.

use std::path::{Path, PathBuf};

use super::Holder;

/// Why a data directory is refused, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory.
    #[error("{} is in use{}: stop that process, or choose another directory with --db", .path.display(), show(.holder))]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Which process, and where it is reached.
        holder: Holder,
    },
    /// There is no database to look at.
    #[error("{} holds no database: check --db", .path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no checkpoint of that name, or none at all.
    #[error("{} has no checkpoint {} to go back to{}: restore a backup", .path.display(), .wanted.as_deref().unwrap_or("at all"), only(.there))]
    NoCheckpoint {
        /// The data directory.
        path: PathBuf,
        /// Its name.
        wanted: Option<String>,
        /// Those that there are.
        there: Vec<String>,
    },
    /// The directory is not a database of ours; it was left as it is.
    #[error("{} is not a data directory of ours: {reason}; choose an empty or new directory with --db", .path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// What was seen there.
        reason: String,
    },
    /// The directory is a database of ours, and something is missing or unreadable.
    #[error("{} is damaged: {what}; keep a copy and restore a backup", .path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is a database, and nobody said that it may go.
    #[error("{} holds a database: pass --force to replace it, and --keep-old to keep what it holds", .path.display())]
    Exists {
        /// The data directory.
        path: PathBuf,
    },
    /// There is a database, and the backup is of another one.
    #[error("{0} holds database {1}, and this is a backup of database {2}: to give up the one that is there, add --replace-database {1}", .path.display(), hex::encode(.there), hex::encode(.backup))]
    OtherDatabase {
        /// The data directory.
        path: PathBuf,
        /// The id of its database.
        there: [u8; 16],
        /// The id in the backup.
        backup: [u8; 16],
    },
    /// A restore began there and did not end.
    #[error("{} holds a restore that did not end: repeat it with `progressdb restore`, or undo it with `progressdb reset --confirm`", .path.display())]
    Restoring {
        /// The data directory.
        path: PathBuf,
    },
    /// A reset began there and did not end.
    #[error("{} holds a reset that did not end: finish it with `progressdb reset --confirm`", .path.display())]
    Resetting {
        /// The data directory.
        path: PathBuf,
    },
    /// A newer version made the directory.
    #[error("directory layout {found} is too new: this version reads up to {newest}; start the version that wrote it")]
    TooNew {
        /// The layout found.
        found: u32,
        /// The newest that this version reads.
        newest: u32,
    },
    /// Its file system may lose what was synced.
    #[error("{} is on {kind}, which may lose acknowledged writes: use a local disk, or --allow-volatile-fs for tests", .path.display())]
    UnsupportedFs {
        /// The data directory.
        path: PathBuf,
        /// The kind of file system.
        kind: String,
    },
    /// The system failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code of a process that was refused the directory.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } => 1,
            Error::Missing { .. } | Error::NoCheckpoint { .. } => 5,
            Error::Exists { .. } | Error::OtherDatabase { .. } => 6,
            Error::NotOurs { .. } | Error::Damaged { .. } => 7,
            Error::Restoring { .. } | Error::Resetting { .. } => 7,
            Error::InUse { .. } => 75,
            Error::TooNew { .. } | Error::UnsupportedFs { .. } => 78,
        }
    }

    /// The `event` of the log line about it.
    pub fn event(&self) -> &'static str {
        match self {
            Error::InUse { .. } => "startup.store_in_use",
            Error::UnsupportedFs { .. } => "startup.unsupported_filesystem",
            Error::TooNew { .. } => "startup.schema_version_too_new",
            Error::Damaged { .. } => "startup.store_corrupt",
            Error::NotOurs { .. } => "startup.store_not_ours",
            Error::Missing { .. } => "startup.store_missing",
            Error::Exists { .. } | Error::OtherDatabase { .. } => "startup.store_exists",
            Error::Restoring { .. } => "startup.restore_unfinished",
            Error::Resetting { .. } => "startup.reset_unfinished",
            Error::NoCheckpoint { .. } => "rollback.checkpoint_missing",
            Error::Io { .. } => "startup.failed",
        }
    }

    pub(super) fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    /// A name in the directory that holds `path` may not survive a crash.
    pub(super) fn cannot_sync(path: &Path, source: std::io::Error) -> Self {
        Self::io(format!("cannot sync the directory of {}", path.display()), source)
    }

    pub(super) fn not_ours(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotOurs { path: path.to_owned(), reason: reason.into() }
    }

    /// Something of ours is missing or unreadable.
    pub fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

fn show(holder: &Holder) -> String {
    let pid = holder.pid.map(|pid| format!(" by process {pid}")).unwrap_or_default();
    let address = holder.address.map(|address| format!(", a server at {address}")).unwrap_or_default();
    pid + &address
}

fn only(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", only {}", names.join(" and ")) }
}
