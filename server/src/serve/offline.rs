//! Commands on a stopped database. The lock of its directory keeps servers away meanwhile; those of a shared store are
//! counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::at_rest::{AtRest, Keys, check_store};
use super::description::describe;
pub(crate) use super::home::needs_directory;
use super::home::{AtHand, Home, runtime, shared_error};
use super::migrations::Stage;
use super::open::{birth, database_settings, open_kms};
use super::restore::check_room;
use super::{RestoreError, StartupError, tasks};
use crate::backup::{Artefact, Manifest, Progress, Source, Temporary};
use crate::config::Config;
use crate::crypt::Crypt;
use crate::crypt::kms::{self, Kms};
use crate::data_dir::Reset;
use crate::db::{self, Db, Digest, EpochError, Integrity, KeyReport, OpenError};
use crate::error_chain::with_causes;
use crate::files;
use crate::format::{Formats, Identity};
use crate::model::ThreadId;
use crate::store::{Applied, Engine, SharedSettings};

pub use super::migrations::{Forecast, Report};

/// What the database says of itself; changes nothing.
pub fn inspect(config: &Config, formats: &Formats) -> Result<Value, StartupError> {
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    let store = engine.store();
    let inspected = runtime.block_on(async {
        let inspected = Db::inspect(&store, formats).await?;
        Ok((inspected, db::pending(&store, formats).await?))
    });
    let (inspected, pending) = inspected.map_err(|error| home.open_error(error))?;
    let mut report = json!(inspected);
    report["incarnation"] = json!(home.identity().incarnation.to_string());
    report["formats"] = json!({ "reads": formats.reads, "writes": formats.writes });
    report["pending"] = json!(pending);
    report["checkpoints"] = json!(home.directory().map(|directory| directory.checkpoints()).transpose()?);
    report["kept"] = json!(home.directory().map(|directory| directory.kept()));
    Ok(report)
}

/// A stopped database as the source of a backup. Nobody else opens it while this lives.
pub struct Stopped {
    /// Its files as they are.
    pub source: Source,
    _home: Home,
}

/// The stopped database as the source of a backup; changes nothing. `settings` are those that the backup lists.
pub fn source(config: &Config, settings: Value, formats: &Formats) -> Result<Stopped, StartupError> {
    needs_directory(config)?;
    let AtHand { home, engine, runtime } = AtHand::to_read(config, formats)?;
    let Home::Own(directory) = &home else { unreachable!("a shared store was refused") };
    let described = runtime.block_on(describe(&engine, directory.identity(), formats, config, settings));
    let description = described.map_err(|error| home.open_error(error))?;
    let files = engine.files().map_err(|error| StartupError::command("the store could not be read", error))?;
    let source = Source { directory: directory.store_path(), files, live: false, description };
    Ok(Stopped { source, _home: home })
}

/// Runs what is pending: start migrations, and the change of format if `finalize`. Can be interrupted and started again. On a
/// shared store servers may run meanwhile.
pub fn migrate(config: &Config, formats: &Formats, finalize: bool) -> Result<Report, StartupError> {
    let crypt = open_kms(config)?;
    let hand = to_migrate(config, formats)?;
    let AtHand { home, engine, runtime } = &hand;
    let migrated = runtime.block_on(async {
        let stage = Stage { home, engine, config, formats, crypt };
        let db = stage.open(database_settings(config)).await.map_err(|error| home.open_error(error))?;
        if home.directory().is_some() {
            return stage.run(db, finalize).await.map(|(_, report)| report);
        }
        // This process is one of those that share the store, and says like all of them what it follows.
        let follows = tokio::spawn(tasks::follow_others(db.clone()));
        let report = stage.run_beside(&db, finalize).await;
        follows.abort();
        report
    });
    let closed = hand.close();
    migrated.and_then(|report| closed.map(|()| report))
}

/// Says what [`migrate`] would do; changes nothing.
pub fn foresee(config: &Config, formats: &Formats, finalize: bool) -> Result<Forecast, StartupError> {
    let crypt = open_kms(config)?;
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    let stage = Stage { home, engine, config, formats, crypt };
    runtime.block_on(async {
        let opened = stage.open(reading(config)).await;
        let db = opened.map_err(|error| home.open_error(error))?;
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
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    runtime.block_on(async {
        let opened = Db::open(engine.store(), home.identity(), formats, reading(config), crypt);
        let db = opened.await.map_err(|error| home.open_error(error))?;
        db.digest(each).await.map_err(|error| home.open_error(OpenError::Unreadable(error)))
    })
}

/// Checks every row of the database. Without a KMS what is sealed is counted and not opened. Changes nothing.
pub fn verify(config: &Config, formats: &Formats) -> Result<Integrity, StartupError> {
    let crypt = open_kms(config)?;
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    let checked = check_store(engine, home.identity(), config, crypt, Keys::IfConfigured, formats);
    runtime.block_on(checked).map_err(|error| home.open_error(error))
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
    let AtHand { home, engine, runtime } = &AtHand::to_read(config, formats)?;
    let report = runtime.block_on(db::verify_keys(&engine.store(), &crypt, home.identity().database_id));
    report.map_err(|error| StartupError::command("the store could not be read", error))
}

/// Wraps every epoch key by another KMS instead of the configured one. Can be interrupted and started again.
pub fn migrate_keys(config: &Config, to: kms::Settings, formats: &Formats) -> Result<Value, StartupError> {
    let from = needed_kms(config)?;
    let to = Kms::new(to).map_err(|error| StartupError::Keys { why: error.to_string() })?;
    let hand = AtHand::to_change(config, formats)?;
    let AtHand { home, engine, runtime } = &hand;
    let moved = runtime.block_on(db::migrate_keys(&engine.store(), &from.kms, &to, home.identity().database_id));
    hand.close()?;
    let moved = moved.map_err(|error| epoch_error(&error))?;
    Ok(json!({ "moved": moved, "from": from.kms.kind().as_str(), "to": to.kind().as_str() }))
}

/// Writes everything plain and destroys the keys. Can be interrupted and started again.
pub fn decrypt(config: &Config, formats: &Formats) -> Result<Value, StartupError> {
    let crypt = needed_kms(config)?;
    let hand = AtHand::to_change(config, formats)?;
    let AtHand { home, engine, runtime } = &hand;
    let decrypted = runtime.block_on(async {
        let settings = database_settings(config);
        let opened = Db::open(engine.store(), home.identity(), formats, settings, Some(crypt));
        let db = opened.await.map_err(|error| home.open_error(error))?;
        db.decrypt().await.map_err(|error| StartupError::command("decryption stopped: start it again", error))
    });
    hand.close()?;
    Ok(json!({ "values": decrypted? }))
}

/// Removes the database in `path`, except for the files `named`. False if there is none.
pub fn reset(path: &Path, named: &[PathBuf]) -> Result<bool, StartupError> {
    Ok(Reset::remove(path, named, Engine::check_files, birth())?)
}

/// Servers of a shared store may run on: each start migrates under running ones too, and a format is raised beside them.
fn to_migrate(config: &Config, formats: &Formats) -> Result<AtHand, StartupError> {
    let Some(settings) = &config.cassandra else { return AtHand::to_change(config, formats) };
    // A keyspace without a database is not made one.
    drop(AtHand::to_read(config, formats)?);
    AtHand::beside_servers(settings, formats)
}

/// Makes the tables of a shared store that are missing.
pub fn apply_schema(config: &Config) -> Result<Applied, StartupError> {
    let settings = shared(config)?;
    runtime()?.block_on(Engine::apply_schema(settings)).map_err(|error| shared_error(settings, error))
}

/// The version of the tables of a shared store, if this version can work with them.
pub fn check_schema(config: &Config) -> Result<i32, StartupError> {
    let settings = shared(config)?;
    runtime()?.block_on(Engine::check_schema(settings)).map_err(|error| shared_error(settings, error))
}

fn shared(config: &Config) -> Result<&SharedSettings, StartupError> {
    config.cassandra.as_ref().ok_or_else(|| {
        let why = "storage.cassandra.contact_points: not set: only a shared store has a schema, that of a directory needs none";
        StartupError::Config(why.to_owned())
    })
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
