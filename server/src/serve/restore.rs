//! Restoring a backup into a data directory. Until the last step what was there before is what counts.
//!
//! 1. the artefact is there (5), is a backup whose every digest is right (7), and of a version that this one reads (78)
//! 2. the directory is free (75), and its database may be replaced (6); its file system keeps what is synced (78); the KMS
//!    opens the keys that the artefact names (78)
//! 3. there is room
//! 4. the store is unpacked beside the live one, and its digests are compared again
//! 5. it opens with the configured keys (78), and every row of it is checked (7)
//! 6. one rename of the marker makes it the one that counts
//! 7. the former store is removed, unless it is kept

use std::path::{Path, PathBuf};

use super::StartupError;
use super::at_rest::{AtRest, Keys};
use super::home::{needs_directory, runtime};
use super::open::{birth, open_error_at, open_kms};
use crate::backup::{Artefact, Manifest, Phase, Progress, Refused};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::data_dir::{Birth, Existing, Replacement, Target};
use crate::db::{Finding, OpenError};
use crate::format::{Formats, Identity};
use crate::http::parse_wrapped_keys;

/// Why a backup was not restored, or not found to be whole. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The artefact cannot be used.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The data directory, the engine or the keys.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// The rows in it do not fit together.
    #[error("row {} of {} holds {}, and {} is expected: {wrong} findings in all; see `progressdb verify`", .first.row, .path.display(), .first.found, .first.expected)]
    Findings {
        /// The artefact, or the data directory.
        path: PathBuf,
        /// The first one.
        first: Finding,
        /// How many there are.
        wrong: u64,
    },
}

impl RestoreError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(error) => error.exit_code(),
            Self::Startup(error) => error.exit_code(),
            Self::Findings { .. } => 7,
        }
    }

    /// The `event` of the log line about it.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Refused(_) => "backup.refused",
            Self::Startup(error) => error.event(),
            Self::Findings { .. } => "verify.findings",
        }
    }
}

/// What is to be restored, and over what.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The artefact.
    pub from: PathBuf,
    /// What may become of a database that is there.
    pub existing: Existing,
    /// The database that may be given up for a backup of another one.
    pub given_up: Option<[u8; 16]>,
    /// Check everything that can be without writing, and stop.
    pub dry_run: bool,
}

impl Restore {
    /// What the backup with this manifest may replace.
    pub fn replacement(&self, manifest: &Manifest) -> Replacement {
        Replacement { by: manifest.header.database_id, existing: self.existing, given_up: self.given_up }
    }
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// The former store, if it was kept.
    pub kept: Option<PathBuf>,
}

/// Restores a backup into the data directory of the configuration.
pub fn restore(
    wanted: &Restore,
    config: &Config,
    formats: &Formats,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    needs_directory(config)?;
    let artefact = Artefact::open(&wanted.from, formats)?;
    let manifest = artefact.check(progress)?;
    let (path, volatile) = (&config.db_path, config.storage.allow_volatile_fs);
    let (crypt, replacement) = (open_kms(config)?, wanted.replacement(&manifest));
    if wanted.dry_run {
        Target::look(path, replacement, volatile).map_err(StartupError::from)?;
        check_keys(&wanted.from, &manifest, crypt.as_deref())?;
        return Ok(Restored { manifest, kept: None });
    }
    let mut target = Target::open(path, replacement, volatile).map_err(StartupError::from)?;
    check_keys(&wanted.from, &manifest, crypt.as_deref())?;
    check_room(path, target.free_bytes().map_err(StartupError::from)?, manifest.bytes())?;
    let birth = birth_of(&manifest);
    let store = target.begin(birth).map_err(StartupError::from)?;
    artefact.unpack(&store, progress)?;
    let unpacked = AtRest { name: &wanted.from, store: &store, identity: birth.identity };
    let checked = unpacked.check(config, crypt, Keys::Needed, formats)?;
    check_findings(&wanted.from, checked.findings.first(), checked.wrong)?;
    // A signal that came meanwhile stops it here for the last time.
    progress.begin(Phase::Unpacking, manifest.bytes());
    progress
        .advance(0)
        .map_err(|error| StartupError::io(format!("{} is not restored", wanted.from.display()), error))?;
    let committed = target.commit(birth, wanted.existing).map_err(StartupError::from)?;
    Ok(Restored { manifest, kept: committed.finish() })
}

/// Asks the KMS for the keys that the backup names: who lacks them learns it before anything is unpacked.
fn check_keys(from: &Path, manifest: &Manifest, crypt: Option<&Crypt>) -> Result<(), StartupError> {
    let Some(metadata) = &manifest.kms else { return Ok(()) };
    let crypt = crypt.ok_or_else(|| open_error_at(from, OpenError::Sealed))?;
    let keys = parse_wrapped_keys(metadata.wrapped_keys.to_string().as_bytes());
    let keys = keys.map_err(|what| StartupError::Keys { why: format!("the wrapped keys in the manifest: {what}") })?;
    match runtime()?.block_on(keys.open_with(&crypt.kms)).into_iter().next() {
        None => Ok(()),
        Some((_, error)) => Err(open_error_at(from, OpenError::Keys(error))),
    }
}

/// The same database, as another incarnation of it.
fn birth_of(manifest: &Manifest) -> Birth {
    let Birth { identity, created_ns } = birth();
    let identity = Identity { database_id: manifest.header.database_id, ..identity };
    Birth { identity, created_ns }
}

/// The first of the findings as an error.
pub(super) fn check_findings(path: &Path, first: Option<&Finding>, wrong: u64) -> Result<(), RestoreError> {
    match first {
        None => Ok(()),
        Some(first) => Err(RestoreError::Findings { path: path.to_owned(), first: first.clone(), wrong }),
    }
}

/// Refuses what would not fit.
pub(crate) fn check_room(path: &Path, free: u64, needed: u64) -> Result<(), StartupError> {
    if free >= needed {
        return Ok(());
    }
    let what = format!("{needed} bytes do not fit into {}, where {free} are free", path.display());
    Err(StartupError::io(what, std::io::Error::from(std::io::ErrorKind::StorageFull)))
}
