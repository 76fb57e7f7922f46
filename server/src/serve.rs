//! The composition root: opens the directory, the store and the database, serves them, and stops.
//!
//! A stop on SIGTERM, SIGINT or SIGQUIT goes in this order: not ready, but serving on for `drain.hold`; no new
//! connections, and requests in flight finish within `drain.timeout`; what is queued is committed; the store is flushed;
//! exit code 0. A second signal ends the process at once. A store that fails a write ends the process with an error.
//! The other signals are in `signals`, and what changes without a restart in `reload`.

mod development;
pub mod kms_check;
mod open_files;
mod reload;
mod signals;
pub mod stopped;
mod tasks;

use std::process;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{self, Config, Running};
use crate::crypt::Crypt;
use crate::crypt::kms::{self, Kms};
use crate::db::{self, Db, EpochError, OpenError};
use crate::format::{self, Birth, Directory};
use crate::http::listen::Drained;
use crate::http::{self, App, listen};
use crate::rows::FORMATS_READ;
use crate::store::{self, Rocks, Store};
use crate::telemetry;

use self::open_files::OpenFiles;
pub use self::signals::Signals;
pub use crate::format::Error;

/// The exit code after a second signal.
const IMPATIENT: i32 = 130;
/// How long the last lines of an impatient end wait for a reader.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves until a signal or a failed write.
pub async fn run(mut config: Config, running: Running, mut signals: Signals) -> Result<(), Error> {
    let (hangup, hangups) = mpsc::channel();
    signals.watch_others(hangup);
    let open_files = OpenFiles::of_process(&config)?;
    open_files.log(config.max_connections);
    let crypt = open_kms(&config)?;
    let directory = Directory::open(&config.db_path, birth(), config.storage.allow_volatile_fs)?;
    if config.development {
        config.keys = development::keys(&directory)?;
    }
    let app = App::new(&config);
    let reload = reload::start(app.keys_in_force(), &config, running, hangups);
    reload.map_err(|error| Error::io("cannot start the thread that reads files again", error))?;
    let (stop, stopping) = watch::channel(false);
    let settings = |name, connections| listen::Settings::new(name, connections, &config);
    let (router, main) = (http::router(app.clone()), settings("main", open_files.connections));
    let (main, address) = listen_on(config.listen, router, main, &stopping).await?;
    let management = match config.management {
        Some(address) => {
            let router = http::management_router(app.clone());
            let management = settings("management", open_files.management);
            Some(listen_on(address, router, management, &stopping).await?.0)
        }
        None => None,
    };
    let (rocks, db) = tokio::select! {
        opened = Box::pin(open(directory, &config, crypt, &app)) => opened?,
        // Nothing is open yet that would have to be closed.
        () = signals.next() => return Ok(()),
    };
    app.open(db.clone());
    tracing::info!(event = "server.ready", db = %config.db_path.display());
    if config.development {
        development::print_welcome(&config.keys, address, &config.db_path);
    }
    let tasks = tasks::start(&db, &rocks, &config);

    let failed = wait_for_end(&mut signals, &rocks).await;
    tokio::spawn(exit_on_next(signals));
    tracing::info!(event = "server.draining", hold_s = config.drain.hold.as_secs());
    app.drain();
    if failed.is_none() {
        tokio::time::sleep(config.drain.hold).await;
    }
    stop.send_replace(true);
    for listener in [Some(main), management].into_iter().flatten() {
        if let Ok(Drained { aborted: aborted @ 1.. }) = listener.await {
            tracing::warn!(event = "server.connections_aborted", aborted, "drain.timeout was over");
        }
    }
    tasks.abort();
    let closed = tokio::task::spawn_blocking(move || rocks.close()).await;
    match (failed, closed) {
        (Some(reason), _) => Err(Error::stopped("the store stopped: a write failed", reason)),
        (None, Ok(Err(error))) => Err(Error::stopped("the store could not be flushed", error)),
        (None, Err(error)) => Err(Error::stopped("the store could not be closed", error)),
        (None, Ok(Ok(()))) => {
            tracing::info!(event = "server.stopped");
            Ok(())
        }
    }
}

fn birth() -> Birth {
    let mut database_id = [0; 16];
    rand::fill(&mut database_id).expect("the system's random source works, or nothing here is safe");
    Birth { database_id, created_ns: Clock::wall() }
}

async fn listen_on(
    address: std::net::SocketAddr,
    router: axum::Router,
    settings: listen::Settings,
    stopping: &watch::Receiver<bool>,
) -> Result<(JoinHandle<Drained>, std::net::SocketAddr), Error> {
    let failed = |error| Error::io(format!("cannot listen on {address}: choose another with --addr"), error);
    let listener = listen::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(event = "server.listening", listener = settings.name, addr = %address);
    let serving = listen::serve(listener, router, settings, stopping.clone());
    Ok((tokio::spawn(serving), address))
}

/// Opens store and database, which may replay a log and so takes its time off the runtime.
async fn open(
    mut directory: Directory,
    config: &Config,
    crypt: Option<Arc<Crypt>>,
    app: &App,
) -> Result<(Rocks, Db), Error> {
    let settings = store_settings(&directory, config, false)?;
    let opened = tokio::task::spawn_blocking(move || {
        let rocks = open_rocks(&directory, settings)?;
        Ok::<_, Error>((rocks, directory))
    });
    let rocks;
    (rocks, directory) = opened.await.map_err(|error| Error::io("the store could not be opened", error))??;
    let db = open_database(&directory, &rocks, config, crypt, app).await?;
    if directory.is_new() {
        directory.mark_ready()?;
    }
    // The lock is the process's for good: nothing gives it back before the process ends.
    std::mem::forget(directory);
    Ok((rocks, db))
}

/// Opens the database; while the KMS does not give its keys, asks again and again.
async fn open_database(
    directory: &Directory,
    rocks: &Rocks,
    config: &Config,
    crypt: Option<Arc<Crypt>>,
    app: &App,
) -> Result<Db, Error> {
    loop {
        let store = Store::Rocks(rocks.clone());
        match Db::open(store, directory.database_id(), database_settings(config), crypt.clone()).await {
            Err(OpenError::Keys(EpochError::Kms { epoch, error })) if may_pass(&error) => {
                app.await_kms();
                tracing::error!(event = "kms.awaited", epoch, %error, "the store stays closed until the KMS answers");
                tokio::time::sleep(config.encryption.probe_interval_failing).await;
            }
            opened => return opened.map_err(|error| open_error(directory, error)),
        }
    }
}

/// Whether the KMS may answer otherwise without a change of ours: a restart would not help.
fn may_pass(error: &kms::Error) -> bool {
    matches!(
        error,
        kms::Error::Unavailable { .. }
            | kms::Error::Throttled { .. }
            | kms::Error::Denied { .. }
            | kms::Error::KeyUnusable { .. }
    )
}

fn database_settings(config: &Config) -> db::Settings {
    db::Settings {
        max_clock_jump: config.storage.max_clock_jump,
        accept_clock: config.storage.accept_clock,
        tail_bytes: config.storage.memory_bytes / 8,
        retention: config.retention.enabled,
        message_ttl: config.retention.message_ttl,
        thread_ttl: config.retention.thread_ttl,
        epoch_age: config.encryption.epoch_age,
        rewrap_rate: config.encryption.rewrap_rate,
        erasure_horizon: config.encryption.erasure_horizon,
    }
}

/// What the configuration says about encryption; touches key files, and calls nobody.
fn open_kms(config: &Config) -> Result<Option<Arc<Crypt>>, Error> {
    let Some(settings) = config.encryption.kms.clone().filter(|_| config.encryption.enabled) else { return Ok(None) };
    if let Err(error) = format::forbid_core_dumps() {
        tracing::warn!(event = "startup.core_dumps", %error, "a crash may leave keys in a core file");
    }
    let kms = Kms::new(settings).map_err(|error| Error::Keys { why: error.to_string() })?;
    Ok(Some(Arc::new(Crypt::new(kms, config.encryption.key_cache))))
}

fn store_settings(directory: &Directory, config: &Config, read_only: bool) -> Result<store::Settings, Error> {
    let config::Storage { memory_bytes, reserve_bytes, .. } = config.storage;
    let max_tables = OpenFiles::of_process(config)?.tables;
    Ok(store::Settings { path: directory.store_path(), memory_bytes, reserve_bytes, max_tables, read_only })
}

fn open_rocks(directory: &Directory, settings: store::Settings) -> Result<Rocks, Error> {
    let path = &settings.path;
    if !Rocks::unknown_families(path).is_empty() {
        let newest = FORMATS_READ[1];
        return Err(Error::TooNew { what: "store format", found: newest + 1, newest });
    }
    let incomplete = |what| Error::LogMissing { path: directory.path().to_owned(), what };
    if let Some(what) = Rocks::missing_log(path) {
        return Err(incomplete(what));
    }
    Rocks::open(settings).map_err(|error| match (Rocks::missing_log_of(&error), error) {
        (Some(what), _) => incomplete(what),
        (None, store::Error::Read(what)) if what.starts_with("Corruption") => {
            Error::Damaged { path: directory.path().to_owned(), what }
        }
        (None, error) => Error::io(format!("cannot open the store in {}", directory.path().display()), error),
    })
}

fn open_error(directory: &Directory, error: OpenError) -> Error {
    let path = directory.path().to_owned();
    match error {
        OpenError::TooNew { found } => Error::TooNew { what: "store format", found, newest: FORMATS_READ[1] },
        OpenError::TooOld { found } => Error::UpgradeThrough { found, oldest: FORMATS_READ[0], through: "0.3" },
        OpenError::Foreign => Error::Damaged { path, what: "its store belongs to another database".into() },
        OpenError::Sealed => Error::Keys { why: OpenError::Sealed.to_string() },
        OpenError::Keys(error) => Error::Keys { why: with_cause(&error) },
        OpenError::Unreadable(db::Error::Corrupt { key }) => {
            Error::Damaged { path, what: format!("row {key} is unreadable") }
        }
        OpenError::Unreadable(db::Error::DiskFull) => Error::io(
            format!("the store in {} cannot begin", path.display()),
            "less disk is free than storage.reserve: use a larger volume, free some, or lower storage.reserve",
        ),
        OpenError::Unreadable(error) => Error::io("the store could not be read", error),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// Waits for a signal, or for the store to stop; then why.
async fn wait_for_end(signals: &mut Signals, rocks: &Rocks) -> Option<String> {
    let mut store = rocks.stopped();
    let store_stopped = async {
        match &mut store {
            Some(store) => store.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.next() => None,
        reason = store_stopped => reason,
    }
}

/// A second signal ends the process at once.
async fn exit_on_next(mut signals: Signals) {
    signals.next().await;
    tracing::warn!(event = "server.impatient", "a second signal: stopping at once");
    telemetry::flush(LAST_WORDS);
    process::exit(IMPATIENT);
}
