//! Why a server does not start or had to stop, and with which exit code. Commands on a stopped database fail with the same
//! errors.

use std::error::Error;
use std::path::PathBuf;

use crate::data_dir;
use crate::format::Formats;

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
    #[error(
        "store format {found} is too new: this version reads up to {newest}; start the version that wrote it{}",
        way_back(.checkpoint)
    )]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest that this version reads.
        newest: u32,
        /// The checkpoint from before its format was changed.
        checkpoint: Option<String>,
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
    /// Another version began to change the format of the store.
    #[error(
        "version {version} began to change the format of the store and did not end: start that version once, or go back with `progressdb rollback`"
    )]
    FormatChangeUnfinished {
        /// The version that began it.
        version: String,
    },
    /// An import began there and did not end.
    #[error("{place} holds an import that did not end: repeat it with `progressdb import`, or undo it: {undo}")]
    ImportUnfinished {
        /// The data directory, or the keyspace.
        place: String,
        /// What removes what is there.
        undo: &'static str,
    },
    /// A migration, or what comes before it, failed.
    #[error("{what}; {next}")]
    Migration {
        /// What failed.
        what: String,
        /// What to do.
        next: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Going back would hide what was written since, and nobody has confirmed that.
    #[error("{}", unconfirmed(.checkpoint, *.since))]
    Unconfirmed {
        /// The checkpoint to go back to.
        checkpoint: String,
        /// How many writes came after it, and how many messages among them, if that could be read.
        since: Option<(u64, u64)>,
    },
    /// The configured keys do not open what is stored.
    #[error("the store cannot be opened: {why}")]
    Keys {
        /// Which key is missing, and what to do.
        why: String,
    },
    /// The tables of a shared store are missing or too old.
    #[error("{what}; make them with `progressdb schema apply`")]
    Schema {
        /// What is missing.
        what: String,
    },
    /// No database was ever made in the shared store.
    #[error("{place} holds no database: check storage.cassandra.keyspace")]
    NoDatabase {
        /// The keyspace.
        place: String,
    },
    /// Servers run on the shared store.
    #[error("{servers} servers run on this store: stop them first")]
    InUse {
        /// How many.
        servers: usize,
    },
    /// Servers run on the shared store that cannot work in the format that it is to be raised to.
    #[error(
        "nothing was changed: the store is to have format {to}, in which {servers} cannot work: replace them by this version, then repeat the command"
    )]
    ServersTooOld {
        /// Which, and what they know.
        servers: String,
        /// The format to come.
        to: u32,
    },
    /// Another command raises the format of the shared store.
    #[error("nothing was changed: another command raises the format of this store: wait until it has ended")]
    FormatClaimed,
    /// A command works on the shared store.
    #[error(
        "a command works on this store alone: wait until it has ended; one that was killed is forgotten after half a minute"
    )]
    Claimed,
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

    /// A migration failed; `next` says what to do.
    pub(super) fn migration(
        what: impl Into<String>,
        next: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Migration { what: what.into(), next: next.into(), source: source.into() }
    }

    /// A store of a format that is newer than a program of these formats can go on with, and that has no way back of its own.
    pub(super) fn too_new(found: u32, formats: &Formats) -> Self {
        Self::TooNew { found, newest: formats.reads[1], checkpoint: None }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::DataDir(error) => error.exit_code(),
            Self::Io { .. } | Self::Failed { .. } => 1,
            Self::Unconfirmed { .. } => 6,
            Self::LogMissing { .. } | Self::ImportUnfinished { .. } => 7,
            Self::Migration { .. } => 70,
            Self::TooNew { .. } | Self::UpgradeThrough { .. } | Self::FormatChangeUnfinished { .. } => 78,
            Self::NoDatabase { .. } => 5,
            Self::InUse { .. } | Self::Claimed | Self::ServersTooOld { .. } | Self::FormatClaimed => 75,
            Self::Keys { .. } | Self::Config(_) | Self::Schema { .. } => 78,
        }
    }

    /// The `event` of the log line about it.
    pub fn event(&self) -> &'static str {
        match self {
            Self::DataDir(error) => error.event(),
            Self::TooNew { .. } => "startup.schema_version_too_new",
            Self::UpgradeThrough { .. } => "startup.schema_version_too_old",
            Self::FormatChangeUnfinished { .. } => "startup.format_change_unfinished",
            Self::ImportUnfinished { .. } => "startup.import_unfinished",
            Self::Migration { .. } => "migration.failed",
            Self::Unconfirmed { .. } => "rollback.unconfirmed",
            Self::LogMissing { .. } => "startup.log_missing",
            Self::Keys { .. } => "startup.keys_unusable",
            Self::Schema { .. } => "startup.schema_missing",
            Self::NoDatabase { .. } => "startup.store_missing",
            Self::InUse { .. } | Self::Claimed => "startup.store_in_use",
            Self::ServersTooOld { .. } | Self::FormatClaimed => "migration.refused",
            Self::Config(_) => "startup.config_invalid",
            Self::Failed { event, .. } => event,
            Self::Io { .. } => "startup.failed",
        }
    }
}

fn way_back(checkpoint: &Option<String>) -> String {
    let way = |name| format!(", or go back to checkpoint {name} with `progressdb rollback`");
    checkpoint.as_ref().map(way).unwrap_or_default()
}

fn unconfirmed(checkpoint: &str, since: Option<(u64, u64)>) -> String {
    let lost = match since {
        Some((writes, messages)) => format!("{writes} writes, {messages} of them new messages, came after it"),
        None => "the live store does not say how much came after it".to_owned(),
    };
    format!(
        "nothing was changed: going back to checkpoint {checkpoint} hides what was written since ({lost}); the store that holds it is kept; confirm with `progressdb rollback --confirm`"
    )
}
