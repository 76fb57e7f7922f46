//! The composition root: opens the directory, the store and the database, serves them, and stops.
//!
//! A stop on SIGTERM, SIGINT or SIGQUIT goes in this order: not ready, but serving on for `drain.hold`; no new
//! connections, and requests in flight finish within `drain.timeout`; what is queued is committed; the store is flushed;
//! exit code 0. A second signal ends the process at once. A store that fails a write ends the process with an error.
//! The other signals are in `signals`, and what changes without a restart in `reload`.

mod development;
mod error;
pub mod offline;
mod open;
mod open_files;
mod reload;
mod signals;
mod tasks;

use std::process;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Running};
use crate::data_dir::Directory;
use crate::format::Formats;
use crate::http::listen::Drained;
use crate::http::{self, App, listen};
use crate::store::Rocks;
use crate::telemetry;

pub use self::error::StartupError;
use self::open_files::OpenFiles;
pub use self::signals::Signals;
use self::tasks::JobOwner;

/// The exit code after a second signal.
const SECOND_SIGNAL: i32 = 130;
/// How long the last lines of the log wait for their reader at such an end.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until a signal or a failed write.
pub async fn run(
    formats: &Formats,
    mut config: Config,
    running: Running,
    mut signals: Signals,
) -> Result<(), StartupError> {
    let (hangup, hangups) = mpsc::channel();
    signals.watch_others(hangup);
    let open_files = OpenFiles::of_process(&config)?;
    open_files.log(config.max_connections);
    let crypt = open::open_kms(&config)?;
    if config.rehearsal {
        // A rehearsal is of a database that exists; a mistyped directory must not become one.
        drop(Directory::open_existing(&config.db_path)?);
    }
    let directory = Directory::open(&config.db_path, open::birth(), config.storage.allow_volatile_fs)?;
    if config.development {
        config.keys = development::keys(&directory, config.rehearsal)?;
    }
    let app = App::new(&config.http());
    let reload = reload::start(app.keys_in_force(), &config, running, hangups);
    reload.map_err(|error| StartupError::io("cannot start the thread that reads files again", error))?;
    let (stop, stopping) = watch::channel(false);
    let settings = |name, connections| config.listener(name, connections);
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
    let (directory, rocks, db) = tokio::select! {
        opened = Box::pin(open::open(directory, &config, crypt, &app, formats)) => opened?,
        // Nothing is open yet that would have to be closed.
        () = signals.next() => return Ok(()),
    };
    app.open(db.clone());
    tracing::info!(event = "server.ready", db = %config.db_path.display(), rehearsal = config.rehearsal);
    if config.development {
        development::print_welcome(&config.keys, address, &config.db_path);
    }
    let owner = (!config.rehearsal).then(|| JobOwner::of(directory));
    let tasks = tasks::start(&db, &rocks, &config, owner);

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
        (Some(reason), _) => Err(StartupError::stopped("the store stopped: a write failed", reason)),
        (None, Ok(Err(error))) => Err(StartupError::stopped("the store could not be flushed", error)),
        (None, Err(error)) => Err(StartupError::stopped("the store could not be closed", error)),
        (None, Ok(Ok(()))) => {
            tracing::info!(event = "server.stopped");
            Ok(())
        }
    }
}

async fn listen_on(
    address: std::net::SocketAddr,
    router: axum::Router,
    settings: listen::Settings,
    stopping: &watch::Receiver<bool>,
) -> Result<(JoinHandle<Drained>, std::net::SocketAddr), StartupError> {
    let failed = |error| StartupError::io(format!("cannot listen on {address}: choose another with --addr"), error);
    let listener = listen::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(event = "server.listening", listener = settings.name, addr = %address);
    let serving = listen::serve(listener, router, settings, stopping.clone());
    Ok((tokio::spawn(serving), address))
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
    telemetry::flush(FLUSH_TIMEOUT);
    process::exit(SECOND_SIGNAL);
}
