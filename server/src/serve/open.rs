//! Opening the data directory, the engine, the keys and the database of a server. Each refusal is a [`StartupError`] that
//! says what to do about it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::StartupError;
use super::home::{Home, of_program, shared_error, shared_home};
use super::migrations::Stage;
use super::open_files::OpenFiles;
use super::tasks::JobOwner;
use crate::clock::Clock;
use crate::config::{self, Config, Finalize};
use crate::crypt::Crypt;
use crate::crypt::kms::{self, Kms};
use crate::data_dir::{self, Birth, Directory};
use crate::db::{self, Db, EpochError, OpenError};
use crate::error_chain::with_causes;
use crate::format::{Formats, Identity, Unreadable};
use crate::http::App;
use crate::model::Incarnation;
use crate::store::{self, Engine, SharedSettings};

/// Of a database that is made now.
pub(super) fn birth() -> Birth {
    let identity = Identity { database_id: random(), incarnation: new_incarnation() };
    Birth { identity, created_ns: Clock::wall() }
}

/// One that no other store has.
pub(super) fn new_incarnation() -> Incarnation {
    Incarnation(u64::from_be_bytes(random()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}

/// The data directory, locked. It is made if it is absent, unless it must exist: a mistyped one would become a new database.
pub(super) fn open_directory(config: &Config, must_exist: bool) -> Result<Directory, StartupError> {
    if must_exist {
        drop(Directory::open_existing(&config.db_path)?);
    }
    Ok(Directory::open(&config.db_path, birth(), config.storage.allow_volatile_fs)?)
}

/// How often a shared engine that does not answer is tried.
const PAUSE: Duration = Duration::from_secs(2);

/// What a server serves, and what it needs for that.
pub(super) struct Opened {
    pub(super) engine: Engine,
    pub(super) db: Db,
    pub(super) home: Home,
    /// None in a rehearsal.
    pub(super) owner: Option<JobOwner>,
}

/// Opens engine and database, in `directory` or in the shared engine that is configured.
pub(super) async fn open(
    directory: Option<Directory>,
    config: &Config,
    crypt: Option<Arc<Crypt>>,
    app: &App,
    formats: &Formats,
) -> Result<Opened, StartupError> {
    let (engine, mut home) = match (directory, &config.cassandra) {
        (Some(directory), _) => open_own(directory, config, formats).await?,
        (None, Some(settings)) => connect(&of_program(settings, formats), app).await?,
        (None, None) => unreachable!("a store lies in a directory or in a shared engine"),
    };
    let stage = Stage { home: &home, engine: &engine, config, formats, crypt };
    let opened = async { migrate(&stage, open_database(&stage, app).await?, app).await };
    let db = match opened.await {
        Ok(db) => db,
        Err(refused) => {
            give_back(&home, engine).await;
            return Err(refused);
        }
    };
    home.mark_ready()?;
    publish_identity(home.identity(), formats.version);
    let owner = (!config.rehearsal).then(|| JobOwner::of(&home, &engine));
    Ok(Opened { engine, db, home, owner })
}

/// A server that does not start counts as one that runs until its slot expires, unless it gives that back.
async fn give_back(home: &Home, engine: Engine) {
    if home.directory().is_none() {
        // What cannot be given back expires.
        let _ = tokio::task::spawn_blocking(move || engine.close()).await;
    }
}

/// The engine may replay a log, so it opens off the runtime.
async fn open_own(directory: Directory, config: &Config, formats: &Formats) -> Result<(Engine, Home), StartupError> {
    let settings = store_settings(&directory, config, false)?;
    let known = *formats;
    let opened = tokio::task::spawn_blocking(move || {
        let engine = open_engine(&directory, &known, settings)?;
        Ok::<_, StartupError>((engine, directory))
    });
    let (engine, directory) =
        opened.await.map_err(|error| StartupError::io("the store could not be opened", error))??;
    Ok((engine, Home::Own(Arc::new(directory))))
}

/// Waits for a shared engine that does not answer, as its nodes may be starting too.
async fn connect(settings: &SharedSettings, app: &App) -> Result<(Engine, Home), StartupError> {
    loop {
        match Box::pin(Engine::connect(settings)).await {
            Err(error @ (store::OpenError::Failed(store::Error::Unavailable(_)) | store::OpenError::Claimed)) => {
                app.await_storage();
                tracing::error!(event = "storage.awaited", %error, "nothing is served until the storage engine answers");
                tokio::time::sleep(PAUSE).await;
            }
            connected => {
                let engine = connected.map_err(|error| shared_error(settings, error))?;
                let home = shared_home(&engine, settings).await?;
                return Ok((engine, home));
            }
        }
    }
}

/// Says in metrics which database this process serves, and in which version. A restore shows as another incarnation.
fn publish_identity(identity: Identity, version: &str) {
    let Identity { database_id, incarnation } = identity;
    let labels = [
        ("database_id", hex::encode(database_id)),
        ("incarnation", incarnation.to_string()),
        ("version", version.to_owned()),
    ];
    metrics::gauge!("progressdb_instance_info", &labels).set(1.0);
}

/// Opens the database; while the KMS does not open its keys, tries again and again.
async fn open_database(stage: &Stage<'_>, app: &App) -> Result<Db, StartupError> {
    let Stage { home, config, .. } = *stage;
    loop {
        match stage.open(database_settings(config)).await {
            Err(OpenError::Keys(EpochError::Kms { epoch, error })) if may_pass(&error) => {
                app.await_kms();
                tracing::error!(event = "kms.awaited", epoch, %error, "the store stays closed until the KMS answers");
                tokio::time::sleep(config.encryption.probe_interval_failing).await;
            }
            // Others may be starting on the same new store, or nodes come and go.
            Err(OpenError::Unreadable(error @ (db::Error::Unavailable | db::Error::Busy)))
                if home.directory().is_none() =>
            {
                app.await_storage();
                tracing::error!(event = "storage.awaited", %error, "nothing is served until the storage engine answers");
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened.map_err(|error| home.open_error(error)),
        }
    }
}

/// Runs what is pending before the store is served. A rehearsal does not change the format.
async fn migrate(stage: &Stage<'_>, db: Db, app: &App) -> Result<Db, StartupError> {
    if stage.pending(&db).await?.is_empty() {
        return Ok(db);
    }
    app.migrate();
    // Other servers of a shared store may not read the newer format yet.
    let alone = stage.home.directory().is_some();
    let finalize = stage.config.finalize == Finalize::Auto && alone && !stage.config.rehearsal;
    let (db, report) = stage.run(db, finalize).await?;
    if report.pending.begun {
        tracing::warn!(
            event = "format.change_unfinished",
            data = report.format,
            "`progressdb migrate --finalize` goes on with it"
        );
    }
    if let Some(to) = report.pending.raise_to {
        tracing::info!(event = "format.pending", data = report.format, to, "`progressdb migrate --finalize` raises it");
    }
    Ok(db)
}

/// Whether the KMS may recover, or be repaired, without a restart of this server.
fn may_pass(error: &kms::Error) -> bool {
    matches!(
        error,
        kms::Error::Unavailable { .. }
            | kms::Error::Throttled { .. }
            | kms::Error::Denied { .. }
            | kms::Error::KeyUnusable { .. }
    )
}

pub(super) fn database_settings(config: &Config) -> db::Settings {
    db::Settings {
        max_clock_jump: config.storage.max_clock_jump,
        accept_clock: config.storage.accept_clock,
        read_only: false,
        makes_epochs: !config.rehearsal,
        recent_bytes: config.storage.memory_bytes / 8,
        retention: config.retention.enabled,
        message_ttl: config.retention.message_ttl,
        thread_ttl: config.retention.thread_ttl,
        epoch_age: config.encryption.epoch_age,
        rewrap_rate: config.encryption.rewrap_rate,
        erasure_horizon: config.encryption.erasure_horizon,
    }
}

/// The configured KMS, if encryption is on. Reads key files, and makes no call yet.
pub(super) fn open_kms(config: &Config) -> Result<Option<Arc<Crypt>>, StartupError> {
    let Some(settings) = config.encryption.kms.clone().filter(|_| config.encryption.enabled) else { return Ok(None) };
    if let Err(error) = forbid_core_dumps() {
        tracing::warn!(event = "startup.core_dumps", %error, "a crash may leave keys in a core file");
    }
    let kms = Kms::new(settings).map_err(|error| StartupError::Keys { why: error.to_string() })?;
    Ok(Some(Arc::new(Crypt::new(kms, config.encryption.key_cache))))
}

pub(super) fn store_settings(
    directory: &Directory,
    config: &Config,
    read_only: bool,
) -> Result<store::Settings, StartupError> {
    let config::Storage { memory_bytes, reserve_bytes, .. } = config.storage;
    let max_tables = tables(config)?;
    let (path, create) = (directory.store_path(), directory.is_new());
    Ok(store::Settings { path, create, memory_bytes, reserve_bytes, max_tables, read_only })
}

/// How many tables of the store may be open.
pub(super) fn tables(config: &Config) -> Result<u64, StartupError> {
    Ok(OpenFiles::of_process(config)?.tables)
}

pub(super) fn open_engine(
    directory: &Directory,
    formats: &Formats,
    settings: store::Settings,
) -> Result<Engine, StartupError> {
    open_engine_at(directory.path(), formats, settings).map_err(|error| with_way_back(directory, error))
}

/// The same for a store that messages call `path`.
pub(super) fn open_engine_at(
    path: &Path,
    formats: &Formats,
    settings: store::Settings,
) -> Result<Engine, StartupError> {
    Engine::open(settings).map_err(|error| match error {
        // Such parts come with a later format, whose number is not known here.
        store::OpenError::TooNew(_) => {
            let newest = formats.reads[1];
            StartupError::TooNew { found: newest + 1, newest, checkpoint: None }
        }
        store::OpenError::Schema(what) => StartupError::Schema { what },
        store::OpenError::Tls(why) => StartupError::Config(why),
        store::OpenError::Claimed => StartupError::Claimed,
        store::OpenError::FormatRaised(found) => StartupError::too_new(found, formats),
        store::OpenError::LogMissing(what) => StartupError::LogMissing { path: path.to_owned(), what },
        store::OpenError::Damaged(what) => data_dir::Error::damaged(path, what).into(),
        store::OpenError::Failed(error) => {
            StartupError::io(format!("cannot open the store in {}", path.display()), error)
        }
    })
}

pub(super) fn open_error_of_directory(directory: &Directory, error: OpenError) -> StartupError {
    with_way_back(directory, open_error_at(directory.path(), error))
}

/// The same for a store that messages call `path`.
pub(super) fn open_error_at(path: &Path, error: OpenError) -> StartupError {
    match error {
        OpenError::Format(Unreadable { found, reads: [oldest, newest] }) => match found > newest {
            true => StartupError::TooNew { found, newest, checkpoint: None },
            false => StartupError::UpgradeThrough { found, oldest, through: "0.3" },
        },
        OpenError::Foreign => data_dir::Error::damaged(path, "its store belongs to another database").into(),
        OpenError::Unfinished { version } => StartupError::FormatChangeUnfinished { version },
        OpenError::Importing => {
            StartupError::ImportUnfinished { place: path.display().to_string(), undo: "`progressdb reset --confirm`" }
        }
        OpenError::NoKeys => StartupError::Keys { why: OpenError::NoKeys.to_string() },
        OpenError::Sealed => StartupError::Keys { why: OpenError::Sealed.to_string() },
        OpenError::Keys(error) => StartupError::Keys { why: with_causes(&error) },
        OpenError::Unreadable(db::Error::Corrupt { key }) => {
            data_dir::Error::damaged(path, format!("row {key} is unreadable")).into()
        }
        OpenError::Unreadable(db::Error::DiskFull) => StartupError::io(
            format!("the store in {} cannot begin", path.display()),
            "less disk is free than storage.reserve: use a larger volume, free some, or lower storage.reserve",
        ),
        OpenError::Unreadable(error) => StartupError::io("the store could not be read", error),
    }
}

/// A refusal for a newer format also names the checkpoint from before.
fn with_way_back(directory: &Directory, error: StartupError) -> StartupError {
    match error {
        StartupError::TooNew { found, newest, .. } => StartupError::TooNew {
            found,
            newest,
            checkpoint: directory.checkpoints().ok().and_then(|mut all| all.pop()),
        },
        other => other,
    }
}

/// Keeps keys out of core files, and out of reach of other processes of the same user.
fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
