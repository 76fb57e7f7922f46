//! Why a server does not start or had to stop, and with which exit code. Commands on a stopped database fail with the same
//! errors.

use std::error::Error;
use std::path::PathBuf;

use crate::data_dir;

/// Why a server does not start, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The data directory is refused.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// Files of the write-ahead log are gone, and with them acknowledged writes.
    #[error(
        "{} is incomplete: {what}, and with it writes that were acknowledged; put the log back, copy the database again with all files of its store directory, or restore a backup",
        .path.display()
    )]
    LogMissing {
        /// The data directory.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        what: String,
    },
    /// A newer version wrote the store.
    #[error("store format {found} is too new: this version reads up to {newest}; start the version that wrote it")]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest that this version reads.
        newest: u32,
    },
    /// The store is of an older format than this version reads.
    #[error(
        "store format {found} is too old: this version reads from {oldest} on; start version {through} once before"
    )]
    UpgradeThrough {
        /// The format found.
        found: u32,
        /// The oldest that this version reads.
        oldest: u32,
        /// A version that reads it and writes a format that this version reads.
        through: &'static str,
    },
    /// The configured keys do not open what is stored.
    #[error("the store cannot be opened: {why}")]
    Keys {
        /// Which key is missing, and what to do.
        why: String,
    },
    /// The configuration does not fit what was found.
    #[error("{0}")]
    Config(String),
    /// A server that had started, or a command on a stopped database, failed.
    #[error("{what}")]
    Failed {
        /// The `event` of its log line.
        event: &'static str,
        /// What was being done.
        what: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system or the storage engine failed before anything had started.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StartupError {
    /// A failure of the system or of the storage engine.
    pub fn io(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    /// A server that ran had to stop.
    pub(super) fn stopped(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { event: "server.failed", what: what.into(), source: source.into() }
    }

    /// A command on a stopped database could not finish.
    pub(super) fn command(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { event: "command.failed", what: what.into(), source: source.into() }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::DataDir(error) => error.exit_code(),
            Self::Io { .. } | Self::Failed { .. } => 1,
            Self::LogMissing { .. } => 7,
            Self::TooNew { .. } | Self::UpgradeThrough { .. } | Self::Keys { .. } | Self::Config(_) => 78,
        }
    }

    /// The `event` of the log line about it.
    pub fn event(&self) -> &'static str {
        match self {
            Self::DataDir(error) => error.event(),
            Self::TooNew { .. } => "startup.schema_version_too_new",
            Self::UpgradeThrough { .. } => "startup.schema_version_too_old",
            Self::LogMissing { .. } => "startup.log_missing",
            Self::Keys { .. } => "startup.keys_unusable",
            Self::Config(_) => "startup.config_invalid",
            Self::Failed { event, .. } => event,
            Self::Io { .. } => "startup.failed",
        }
    }
}
