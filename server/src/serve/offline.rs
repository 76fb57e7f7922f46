//! Commands on a stopped database. The lock of its directory keeps servers away meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::at_rest::{AtRest, Keys};
use super::description::describe;
use super::migrations::Stage;
use super::open::{birth, database_settings, open_directory, open_engine, open_error, open_kms, store_settings};
use super::restore::check_room;
use super::{RestoreError, StartupError};
use crate::backup::{Artefact, Manifest, Progress, Source, Temporary};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::crypt::kms::{self, Kms};
use crate::data_dir::{Directory, Reset};
use crate::db::{self, Db, Digest, EpochError, Integrity, KeyReport, OpenError};
use crate::error_chain::with_causes;
use crate::files;
use crate::format::{Formats, Identity};
use crate::model::ThreadId;
use crate::store::Engine;

pub use super::migrations::{Forecast, Report};

/// What the database says of itself; changes nothing.
pub fn inspect(config: &Config, formats: &Formats) -> Result<Value, StartupError> {
    let directory = Directory::open_existing(&config.db_path)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
    let store = engine.store();
    let inspected = runtime()?.block_on(async {
        let inspected = Db::inspect(&store, formats).await?;
        Ok((inspected, db::pending(&store, formats).await?))
    });
    let (inspected, pending) = inspected.map_err(|error| open_error(&directory, error))?;
    let mut report = json!(inspected);
    report["incarnation"] = json!(directory.identity().incarnation.to_string());
    report["formats"] = json!({ "reads": formats.reads, "writes": formats.writes });
    report["pending"] = json!(pending);
    report["checkpoints"] = json!(directory.checkpoints()?);
    report["kept"] = json!(directory.kept());
    Ok(report)
}

/// A stopped database as the source of a backup. Nobody else opens it while this lives.
pub struct Stopped {
    /// Its files as they are.
    pub source: Source,
    _directory: Directory,
}

/// The stopped database as the source of a backup; changes nothing. `settings` are those that the backup lists.
pub fn source(config: &Config, settings: Value, formats: &Formats) -> Result<Stopped, StartupError> {
    let directory = Directory::open_existing(&config.db_path)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
    let described = runtime()?.block_on(describe(&engine, directory.identity(), formats, config, settings));
    let description = described.map_err(|error| open_error(&directory, error))?;
    let files = engine.files().map_err(|error| StartupError::command("the store could not be read", error))?;
    let source = Source { directory: directory.store_path(), files, live: false, description };
    Ok(Stopped { source, _directory: directory })
}

/// Runs what is pending: start migrations, and the change of format if `finalize`. Can be interrupted and started again.
pub fn migrate(config: &Config, formats: &Formats, finalize: bool) -> Result<Report, StartupError> {
    let crypt = open_kms(config)?;
    let (directory, engine) = open_for_change(config, formats)?;
    let migrated = runtime()?.block_on(async {
        let stage = Stage { directory: &directory, engine: &engine, config, formats, crypt };
        let db = stage.open(database_settings(config)).await.map_err(|error| open_error(&directory, error))?;
        stage.run(db, finalize).await.map(|(_, report)| report)
    });
    let closed = close(&engine);
    migrated.and_then(|report| closed.map(|()| report))
}

/// Says what [`migrate`] would do; changes nothing.
pub fn foresee(config: &Config, formats: &Formats, finalize: bool) -> Result<Forecast, StartupError> {
    let crypt = open_kms(config)?;
    let directory = Directory::open_existing(&config.db_path)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
    let stage = Stage { directory: &directory, engine: &engine, config, formats, crypt };
    runtime()?.block_on(async {
        let opened = stage.open(reading(config)).await;
        let db = opened.map_err(|error| open_error(&directory, error))?;
        stage.foresee(&db, finalize).await
    })
}

/// The settings of a database that is only read.
pub(super) fn reading(config: &Config) -> db::Settings {
    db::Settings { makes_epochs: false, read_only: true, ..database_settings(config) }
}

/// Reads all threads into one digest, and calls `each` with the digest of each. Changes nothing.
pub fn digest(config: &Config, formats: &Formats, each: impl FnMut(ThreadId, &str)) -> Result<Digest, StartupError> {
    let crypt = open_kms(config)?;
    let directory = Directory::open_existing(&config.db_path)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
    runtime()?.block_on(async {
        let opened = Db::open(engine.store(), directory.identity(), formats, reading(config), crypt);
        let db = opened.await.map_err(|error| open_error(&directory, error))?;
        db.digest(each).await.map_err(|error| open_error(&directory, OpenError::Unreadable(error)))
    })
}

/// Checks every row of the database. Without a KMS what is sealed is counted and not opened. Changes nothing.
pub fn verify(config: &Config, formats: &Formats) -> Result<Integrity, StartupError> {
    let crypt = open_kms(config)?;
    let directory = Directory::open_existing(&config.db_path)?;
    let (name, store, identity) = (directory.path(), &directory.store_path(), directory.identity());
    AtRest { name, store, identity }.check(config, crypt, Keys::IfConfigured, formats)
}

/// Checks every digest of a backup, unpacks it below `within`, and checks every row of it.
pub fn verify_backup(
    from: &Path,
    within: &Path,
    config: &Config,
    formats: &Formats,
    progress: &Progress,
) -> Result<(Manifest, Integrity), RestoreError> {
    let artefact = Artefact::open(from, formats)?;
    let manifest = artefact.check(progress)?;
    let crypt = open_kms(config)?;
    let scratch = scratch(within, manifest.bytes())?;
    let store = scratch.path().join("store-1");
    artefact.unpack(&store, progress)?;
    let incarnation = birth().identity.incarnation;
    let identity = Identity { database_id: manifest.header.database_id, incarnation };
    let checked = AtRest { name: from, store: &store, identity }.check(config, crypt, Keys::IfConfigured, formats)?;
    Ok((manifest, checked))
}

/// A temporary directory below `within`, where these bytes are to be unpacked.
fn scratch(within: &Path, bytes: u64) -> Result<Temporary, StartupError> {
    let cannot = |error| {
        let what = format!("cannot unpack in {}: name another directory with --scratch", within.display());
        StartupError::io(what, error)
    };
    check_room(within, files::free_bytes(within).map_err(cannot)?, bytes)?;
    Temporary::directory(within, "progressdb-verify-").map_err(cannot)
}

/// Opens every wrapped key, and names those that do not open; changes nothing.
pub fn verify_keys(config: &Config, formats: &Formats) -> Result<KeyReport, StartupError> {
    let crypt = needed_kms(config)?;
    let directory = Directory::open_existing(&config.db_path)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
    let report = runtime()?.block_on(db::verify_keys(&engine.store(), &crypt, directory.database_id()));
    report.map_err(|error| StartupError::command("the store could not be read", error))
}

/// Wraps every epoch key by another KMS instead of the configured one. Can be interrupted and started again.
pub fn migrate_keys(config: &Config, to: kms::Settings, formats: &Formats) -> Result<Value, StartupError> {
    let from = needed_kms(config)?;
    let to = Kms::new(to).map_err(|error| StartupError::Keys { why: error.to_string() })?;
    let (directory, engine) = open_for_change(config, formats)?;
    let moved = runtime()?.block_on(db::migrate_keys(&engine.store(), &from.kms, &to, directory.database_id()));
    close(&engine)?;
    let moved = moved.map_err(|error| epoch_error(&error))?;
    Ok(json!({ "moved": moved, "from": from.kms.kind().as_str(), "to": to.kind().as_str() }))
}

/// Writes everything plain and destroys the keys. Can be interrupted and started again.
pub fn decrypt(config: &Config, formats: &Formats) -> Result<Value, StartupError> {
    let crypt = needed_kms(config)?;
    let (directory, engine) = open_for_change(config, formats)?;
    let decrypted = runtime()?.block_on(async {
        let settings = database_settings(config);
        let opened = Db::open(engine.store(), directory.identity(), formats, settings, Some(crypt));
        let db = opened.await.map_err(|error| open_error(&directory, error))?;
        db.decrypt().await.map_err(|error| StartupError::command("decryption stopped: start it again", error))
    });
    close(&engine)?;
    Ok(json!({ "values": decrypted? }))
}

/// Removes the database in `path`, except for the files `named`. False if there is none.
pub fn reset(path: &Path, named: &[PathBuf]) -> Result<bool, StartupError> {
    Ok(Reset::remove(path, named, Engine::check_files, birth())?)
}

fn open_for_change(config: &Config, formats: &Formats) -> Result<(Directory, Engine), StartupError> {
    let directory = open_directory(config, true)?;
    let engine = open_engine(&directory, formats, store_settings(&directory, config, false)?)?;
    Ok((directory, engine))
}

fn close(engine: &Engine) -> Result<(), StartupError> {
    engine.close().map_err(|error| StartupError::command("the store could not be flushed", error))
}

fn needed_kms(config: &Config) -> Result<Arc<Crypt>, StartupError> {
    open_kms(config)?.ok_or_else(|| {
        StartupError::Config(
            "encryption.enabled: false: want true, with the KMS that the store was encrypted with".to_owned(),
        )
    })
}

fn epoch_error(error: &EpochError) -> StartupError {
    StartupError::Keys { why: with_causes(error) }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, StartupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| StartupError::io("cannot start the runtime", error))
}
