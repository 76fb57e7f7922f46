//! Going back to a checkpoint: its files become another store, which takes the place of the live one in one rename.
//!
//! What was written since the checkpoint is not in it. So that nothing is lost silently, that has to be confirmed, and the
//! store that counted before is kept. A store that has the format of the checkpoint already is left as it is, unless the
//! checkpoint was named: the command can be repeated.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::at_rest::{AtRest, Keys};
use super::home::{needs_directory, runtime};
use super::open::{new_incarnation, open_directory, open_engine, open_error_of_directory, open_kms, store_settings};
use super::restore::check_findings;
use super::{RestoreError, StartupError};
use crate::config::Config;
use crate::data_dir::{Checkpoint, Directory, Former};
use crate::db::{Inspected, inspect_any};
use crate::format::Formats;

/// What was done.
#[derive(Debug, Serialize)]
pub struct RolledBack {
    /// The checkpoint.
    pub checkpoint: String,
    /// The format of the store now.
    pub format: u32,
    /// The directory of the store that counts now.
    pub store: String,
    /// That of the one before, which is kept.
    pub kept: String,
    /// Client writes that only the kept store has; none if that store does not say.
    pub writes_left_behind: Option<u64>,
    /// Messages among them.
    pub messages_left_behind: Option<u64>,
    /// Which incarnation of the database it is now.
    pub incarnation: String,
}

/// Goes back to the checkpoint of that name, or to the newest. None if there was nothing to go back from.
pub fn rollback(
    config: &Config,
    formats: &Formats,
    to: Option<&str>,
    confirmed: bool,
) -> Result<Option<RolledBack>, RestoreError> {
    needs_directory(config)?;
    let mut directory = open_directory(config, true)?;
    let checkpoint = directory.find_checkpoint(to).map_err(StartupError::from)?;
    formats.check(checkpoint.of.format).map_err(|error| open_error_of_directory(&directory, error.into()))?;
    let now = live_store(&directory, config, formats);
    if to.is_none() && now.as_ref().is_some_and(|now| now.format <= checkpoint.of.format) {
        return Ok(None);
    }
    let since = now.and_then(|now| left_behind(&now, &checkpoint));
    if since.is_none_or(|(writes, _)| writes > 0) && !confirmed {
        return Err(StartupError::Unconfirmed { checkpoint: checkpoint.name, since }.into());
    }
    let former = directory.store_path();
    let store = directory.next_store().map_err(StartupError::from)?;
    directory.take_over(&checkpoint, &store).map_err(StartupError::from)?;
    let taken = AtRest { name: checkpoint.path(), store: &store, identity: directory.identity() };
    let checked = taken.check(config, open_kms(config)?, Keys::Needed, formats).map_err(RestoreError::from);
    checked.and_then(|found| check_findings(checkpoint.path(), found.findings.first(), found.wrong)).inspect_err(
        |_| {
            // What cannot be removed is, by the next start: the marker does not name it.
            let _ = fs::remove_dir_all(&store);
        },
    )?;
    let incarnation = new_incarnation();
    directory.switch_to(&store, incarnation, Former::Kept).map_err(StartupError::from)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    Ok(Some(RolledBack {
        format: checkpoint.of.format,
        checkpoint: checkpoint.name,
        store: name(&store),
        kept: name(&former),
        writes_left_behind: since.map(|(writes, _)| writes),
        messages_left_behind: since.map(|(_, messages)| messages),
        incarnation: incarnation.to_string(),
    }))
}

/// What the store that counts says of itself; none if it does not open.
fn live_store(directory: &Directory, config: &Config, formats: &Formats) -> Option<Inspected> {
    let settings = store_settings(directory, config, true).ok()?;
    let engine = open_engine(directory, formats, settings).ok()?;
    runtime().ok()?.block_on(inspect_any(&engine.store())).ok()
}

/// How many writes, and how many messages among them, came after the checkpoint; none if the numbers do not fit.
fn left_behind(now: &Inspected, checkpoint: &Checkpoint) -> Option<(u64, u64)> {
    let since = |now: i64, then: i64| u64::try_from(now - then).ok();
    since(now.sequence, checkpoint.of.sequence).zip(since(now.messages, checkpoint.of.messages))
}
