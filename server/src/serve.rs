//! The composition root: opens the data directory, the engine and the database, serves them, and stops.
//!
//! A stop on SIGTERM, SIGINT or SIGQUIT goes in this order: not ready, but serving on for `drain.hold`; no new
//! connections, and requests in flight finish within `drain.timeout`; what waits is committed; the engine is flushed;
//! exit code 0. A second signal ends the process at once. An engine that fails a write ends the process with an error.
//! The other signals are in `signals`, and what changes without a restart in `reload`.

mod at_rest;
mod description;
mod development;
mod error;
mod format_change;
mod home;
mod listeners;
mod local_socket;
mod migrations;
mod moving;
pub mod offline;
mod open;
mod open_files;
mod reload;
mod restore;
mod rollback;
mod scheduled_backups;
mod signals;
mod tasks;

use std::process;
use std::sync::mpsc;
use std::time::Duration;

use crate::backup::{Backups, Checkpoints, LEASE};
use crate::config::{Config, Running};
use crate::format::Formats;
use crate::http::{App, Around};
use crate::store::Engine;
use crate::telemetry;

pub use self::development::{known_keys, reachable};
pub use self::error::StartupError;
pub(crate) use self::home::runtime;
use self::listeners::Listeners;
use self::local_socket::LocalSocket;
pub use self::moving::{Exported, Imported, MoveError, Outcome, export, import};
use self::open::Opened;
use self::open_files::OpenFiles;
pub(crate) use self::restore::check_room;
pub use self::restore::{Restore, RestoreError, Restored, restore};
pub use self::rollback::{RolledBack, rollback};
use self::scheduled_backups::Scheduled;
pub use self::signals::Signals;

/// The exit code after a second signal.
const SECOND_SIGNAL: i32 = 130;
/// How long the log waits for its reader when a second signal ends the process.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves stores of these formats, with `around` before every request, until a signal or a failed write.
pub async fn run(
    formats: Formats,
    around: Around,
    mut config: Config,
    running: Running,
    mut signals: Signals,
) -> Result<(), StartupError> {
    let (hangup, hangups) = mpsc::channel();
    signals.watch_others(hangup);
    let open_files = OpenFiles::of_process(&config)?;
    open_files.log(config.max_connections);
    let crypt = open::open_kms(&config)?;
    let directory = match &config.cassandra {
        None => Some(open::open_directory(&config, config.rehearsal)?),
        Some(_) if config.rehearsal => {
            let why =
                "a rehearsal works on a copy of the data, and a shared store has none: try the version as a canary";
            return Err(StartupError::Config(why.to_owned()));
        }
        Some(_) => None,
    };
    if let Some(directory) = directory.as_ref().filter(|_| config.development) {
        config.keys = development::keys(directory, config.rehearsal)?;
    }
    let app = App::new(&config.http());
    let settings = running.to_json();
    let reload = reload::start(app.keys_in_force(), &config, running, hangups);
    reload.map_err(|error| StartupError::io("cannot start the thread that reads files again", error))?;
    let listeners = Listeners::start(&app, around, &config, &open_files)?;
    let Opened { engine, db, home, owner } = tokio::select! {
        opened = Box::pin(open::open(directory, &config, crypt, &app, &formats)) => opened?,
        // Nothing is open yet that would have to be closed.
        () = signals.next() => return Ok(()),
    };
    let describe = description::of_checkpoints(&engine, home.identity(), &formats, &config, settings);
    let own = home.directory().map(|directory| {
        let checkpoints = Checkpoints::new(engine.clone(), directory.tmp_path(), LEASE, describe);
        let backups = Backups::new(checkpoints.clone(), directory.path().to_owned(), config.backup.root.clone());
        let socket = LocalSocket::start(directory, listeners.address, &checkpoints);
        let scheduled = Scheduled::new(&config, directory.database_id(), backups.clone(), db.clone());
        (checkpoints, backups, socket, scheduled)
    });
    let (checkpoints, backups, socket, scheduled) = match own {
        Some((checkpoints, backups, socket, scheduled)) => (Some(checkpoints), Some(backups), socket, Some(scheduled)),
        None => (None, None, None, None),
    };
    app.open(db.clone(), engine.name(), backups.clone());
    match &config.cassandra {
        None => {
            tracing::info!(event = "server.ready", db = %config.db_path.display(), rehearsal = config.rehearsal);
        }
        Some(shared) => {
            tracing::info!(event = "server.ready", keyspace = shared.keyspace, slot = engine.store().slot())
        }
    }
    if config.development {
        development::print_welcome(&config.keys, listeners.address, &config.db_path);
    }
    let tasks = tasks::start(&db, &engine, checkpoints.as_ref(), &config, owner, scheduled);

    let mut outdated = None;
    let failure = tokio::select! {
        () = signals.next() => None,
        reason = engine.stopped() => Some(reason),
        found = db.outdated() => {
            outdated = Some(StartupError::too_new(found, &formats));
            None
        }
    };
    tokio::spawn(exit_on_next(signals));
    tracing::info!(event = "server.draining", hold_s = config.drain.hold.as_secs());
    app.drain();
    if let Some(backups) = backups {
        backups.stop();
    }
    if failure.is_none() && outdated.is_none() {
        tokio::time::sleep(config.drain.hold).await;
    }
    listeners.drain().await;
    if let Some(socket) = socket {
        socket.stop().await;
    }
    tasks.abort();
    close(engine, checkpoints, failure).await?;
    outdated.map_or(Ok(()), Err)
}

/// Closes the engine, which has stopped already if there was a failure.
async fn close(engine: Engine, checkpoints: Option<Checkpoints>, failure: Option<String>) -> Result<(), StartupError> {
    let closed = tokio::task::spawn_blocking(move || {
        if let Some(checkpoints) = checkpoints {
            checkpoints.remove_all();
        }
        engine.close()
    });
    let closed = closed.await;
    match (failure, closed) {
        (Some(reason), _) => Err(StartupError::stopped("the store stopped: a write failed", reason)),
        (None, Ok(Err(error))) => Err(StartupError::stopped("the store could not be flushed", error)),
        (None, Err(error)) => Err(StartupError::stopped("the store could not be closed", error)),
        (None, Ok(Ok(()))) => {
            tracing::info!(event = "server.stopped");
            Ok(())
        }
    }
}

/// A second signal ends the process at once.
async fn exit_on_next(mut signals: Signals) {
    signals.next().await;
    tracing::warn!(event = "server.impatient", "a second signal: stopping at once");
    telemetry::flush(FLUSH_TIMEOUT);
    process::exit(SECOND_SIGNAL);
}
