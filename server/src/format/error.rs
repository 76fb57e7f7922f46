//! Why a server does not start, or had to stop, and with which exit code.

use std::path::{Path, PathBuf};

/// Why a server does not start, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory.
    #[error("{} is in use{}: stop that process, or choose another directory with --db", .path.display(), show_pid(*.pid))]
    StoreInUse {
        /// The data directory.
        path: PathBuf,
        /// Who has it, if it says so.
        pid: Option<u32>,
    },
    /// There is no database to look at.
    #[error("{} holds no database: check --db", .path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory belongs to something else; it was left as it is.
    #[error("{} is not a data directory of ours: {reason}; choose an empty or new directory with --db", .path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// What was seen there.
        reason: String,
    },
    /// The directory was ours, but something is missing or unreadable.
    #[error("{} is damaged: {what}; keep a copy and restore a backup", .path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Files of the write-ahead log are gone, and acknowledged writes with them.
    #[error(
        "{} is incomplete: {what}, and with it writes that were acknowledged; put the log back, copy the database again with all files of store/, or restore a backup",
        .path.display()
    )]
    LogMissing {
        /// The data directory.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        what: String,
    },
    /// A newer version wrote here.
    #[error("{what} {found} is too new: this version reads up to {newest}; start the version that wrote it")]
    TooNew {
        /// What is numbered.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The newest that this version reads.
        newest: u32,
    },
    /// An older version wrote here than this one still reads.
    #[error(
        "store format {found} is too old: this version reads from {oldest} on; start version {through} once before"
    )]
    UpgradeThrough {
        /// The format found.
        found: u32,
        /// The oldest that this version reads.
        oldest: u32,
        /// The version that reads it and writes one that this version reads.
        through: &'static str,
    },
    /// What is acknowledged there may be lost.
    #[error("{} is on {kind}, which may lose acknowledged writes: use a local disk, or --allow-volatile-fs for tests", .path.display())]
    UnsupportedFs {
        /// The data directory.
        path: PathBuf,
        /// The kind of file system.
        kind: String,
    },
    /// What is stored cannot be opened with what is configured.
    #[error("the store cannot be opened: {why}")]
    Keys {
        /// Which key is missing, and what to do.
        why: String,
    },
    /// The configuration does not fit what was found.
    #[error("{0}")]
    Config(String),
    /// What had started failed: the server, or a command at work on a stopped store.
    #[error("{what}")]
    Failed {
        /// The `event` of its log line.
        event: &'static str,
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system or the storage engine failed before anything had started.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A failure of the system or of the storage engine.
    pub fn io(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    /// A server that ran had to stop.
    pub fn stopped(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { event: "server.failed", what: what.into(), source: source.into() }
    }

    /// A command that works on a stopped store could not end its work.
    pub fn command(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { event: "command.failed", what: what.into(), source: source.into() }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Failed { .. } => 1,
            Error::Missing { .. } => 5,
            Error::NotOurs { .. } | Error::Damaged { .. } | Error::LogMissing { .. } => 7,
            Error::StoreInUse { .. } => 75,
            Error::TooNew { .. } | Error::UpgradeThrough { .. } | Error::UnsupportedFs { .. } => 78,
            Error::Keys { .. } | Error::Config(_) => 78,
        }
    }

    /// The `event` of the log line about it.
    pub fn event(&self) -> &'static str {
        match self {
            Error::StoreInUse { .. } => "startup.store_in_use",
            Error::UnsupportedFs { .. } => "startup.unsupported_filesystem",
            Error::TooNew { .. } => "startup.schema_version_too_new",
            Error::UpgradeThrough { .. } => "startup.schema_version_too_old",
            Error::Damaged { .. } => "startup.store_corrupt",
            Error::LogMissing { .. } => "startup.log_missing",
            Error::NotOurs { .. } => "startup.store_not_ours",
            Error::Missing { .. } => "startup.store_missing",
            Error::Keys { .. } => "startup.keys_unusable",
            Error::Config(_) => "startup.config_invalid",
            Error::Failed { event, .. } => event,
            Error::Io { .. } => "startup.failed",
        }
    }

    pub(super) fn not_ours(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotOurs { path: path.to_owned(), reason: reason.into() }
    }
}

fn show_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}
