//! Moving a database out of a store, and into one: what `progressdb export` and `progressdb import` do.

mod export;
mod import;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::StartupError;
use super::at_rest::{Keys, open_with};
use super::home::Home;
use super::offline::reading;
use super::open::open_kms;
use crate::backup::{Phase, Progress, STOPPED, is_stop};
use crate::config::Config;
use crate::db::{self, Content, Db, Digest, OpenError, Reading};
use crate::format::Formats;
use crate::moving::Refused;
use crate::store::Engine;

pub use self::export::{Exported, export};
pub use self::import::{Imported, import};

/// Whether anything was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was.
    Ok,
    /// It had been done before.
    Noop,
}

impl Outcome {
    /// As reports and the log say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Noop => "noop",
        }
    }
}

/// Why a database is not exported, or not imported.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The file cannot be used.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The data directory, the engine, the keys, or servers that run.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// It stopped in the middle, and can be gone on with.
    #[error("{what}")]
    Interrupted {
        /// What stopped, and how it goes on.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A signal stopped it.
    #[error("stopped by a signal; {next}")]
    Stopped {
        /// How it goes on.
        next: &'static str,
    },
    /// The store was written to while it was exported.
    #[error(
        "{file} is no export of one moment: the database was served since it was begun; remove it and export again"
    )]
    Changed {
        /// The file.
        file: String,
    },
    /// The target holds something else.
    #[error("{place} {holds}; nothing was changed: choose {elsewhere}")]
    Occupied {
        /// The store.
        place: String,
        /// What it holds.
        holds: String,
        /// What to choose.
        elsewhere: &'static str,
    },
    /// What was put into the target is not what it holds.
    #[error("{place} does not hold what {} says: {what}; start the import again, and it begins anew", .file.display())]
    Differs {
        /// The store.
        place: String,
        /// The export.
        file: PathBuf,
        /// What differs.
        what: String,
    },
}

impl MoveError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(error) => error.exit_code(),
            Self::Startup(error) => error.exit_code(),
            Self::Interrupted { .. } => 1,
            Self::Stopped { .. } => STOPPED,
            Self::Occupied { .. } | Self::Changed { .. } => 6,
            Self::Differs { .. } => 7,
        }
    }
}

impl From<db::Error> for MoveError {
    fn from(error: db::Error) -> Self {
        let what = match &error {
            db::Error::TooLarge { .. } => "a row cannot move to this engine",
            _ => "the store failed; start the command again to go on",
        };
        Self::Interrupted { what: what.to_owned(), source: error.into() }
    }
}

/// How far a database has come that is opened to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    /// It is one.
    Yes,
    /// Every row was imported, and the last step of the import is still to come.
    AlmostImported,
}

/// The store that a database is moved out of, or into.
#[derive(Clone, Copy)]
struct Side<'a> {
    home: &'a Home,
    engine: &'a Engine,
    config: &'a Config,
    formats: &'a Formats,
    progress: &'a Progress,
    /// How the command goes on that was stopped.
    next: &'static str,
}

impl Side<'_> {
    /// Opens the database read-only. None if it is sealed, and no KMS is configured.
    async fn open_database(&self, whole: Whole) -> Result<Option<Db>, StartupError> {
        let crypt = open_kms(self.config)?;
        let open = |crypt| async {
            let (store, identity, settings) = (self.engine.store(), self.home.identity(), reading(self.config));
            match whole {
                Whole::Yes => Db::open(store, identity, self.formats, settings, crypt).await,
                Whole::AlmostImported => Db::open_import(store, identity, self.formats, settings, crypt).await,
            }
        };
        open_with(crypt, Keys::IfConfigured, open).await.map_err(|error| self.home.open_error(error))
    }

    /// What is read of the store, of so many bytes, unless a signal comes.
    async fn content(&self, reading: Reading, bytes: u64) -> Result<Content, MoveError> {
        self.progress.begin(Phase::Checking, bytes);
        Content::of(&self.engine.store(), reading, |read| self.advance(read, "the store could not be read")).await
    }

    /// What all threads hold, unless a signal comes.
    async fn digest(&self, db: &Db) -> Result<Digest, MoveError> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut digest = Box::pin(db.digest(|_, _| {}));
        loop {
            tokio::select! {
                found = &mut digest => return found.map_err(|error| self.read_error(error).into()),
                _ = looks.tick() => self.advance(0, "the store could not be read")?,
            }
        }
    }

    fn advance(&self, bytes: u64, what: &str) -> Result<(), MoveError> {
        self.progress.advance(bytes).map_err(|error| self.error(what, error))
    }

    fn read_error(&self, error: db::Error) -> StartupError {
        self.home.open_error(OpenError::Unreadable(error))
    }

    /// A failure of `what`, or a signal.
    fn error(&self, what: &str, error: io::Error) -> MoveError {
        match is_stop(&error) {
            true => MoveError::Stopped { next: self.next },
            false => MoveError::Interrupted { what: what.to_owned(), source: error.into() },
        }
    }
}
