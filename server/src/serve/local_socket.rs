//! The socket `<db>/server.sock`: what commands of the same user ask of the running server.
//!
//! ```text
//! POST   /checkpoints        201 {"id","lease_seconds","description"}; 429, 507
//! PUT    /checkpoints/{id}   204, and the lease begins anew; 404 if it has ended
//! DELETE /checkpoints/{id}   204; 404
//! ```
//! There is no key: who may open the socket may read the store as well. Errors look like those of the API.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::backup::{Checkpoint, Checkpoints, CutError, Lease};
use crate::data_dir::Directory;
use crate::error_chain::with_causes;
use crate::http::refusal;

/// How long a request in flight may take once the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// The listening socket.
pub(super) struct LocalSocket {
    directory: Arc<Directory>,
    serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl LocalSocket {
    /// Listens, and says in the lock file of the directory where this server is reached. A file system that has no sockets
    /// only costs the commands that need a running server.
    pub(super) fn start(directory: &Arc<Directory>, address: SocketAddr, checkpoints: &Checkpoints) -> Option<Self> {
        let listener = listen(directory).inspect_err(|error| {
            tracing::warn!(event = "server.socket_failed", %error, path = %directory.path().display(),
                "`progressdb backup` cannot reach this server: use POST /admin/backup");
        });
        if let Err(error) = directory.announce(address, listener.is_ok()) {
            tracing::warn!(event = "server.lock_unwritable", %error, "commands do not find this server");
        }
        let (stop, mut stopping) = watch::channel(false);
        let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
        let serving = axum::serve(listener.ok()?, router(checkpoints.clone())).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(async move { drop(serving.await) });
        Some(Self { directory: directory.clone(), serving, stop })
    }

    /// Takes no more requests, and removes the socket.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.directory.remove_socket();
        let mut serving = self.serving;
        if tokio::time::timeout(DRAIN, &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

fn listen(directory: &Directory) -> io::Result<UnixListener> {
    let listener = directory.bind_socket()?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn router(checkpoints: Checkpoints) -> Router {
    Router::new()
        .route("/checkpoints", post(cut))
        .route("/checkpoints/{id}", put(renew).delete(remove))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "not_found", "not found: is the command of this version?"))
        .with_state(checkpoints)
}

async fn cut(State(checkpoints): State<Checkpoints>) -> Response {
    let lease_seconds = checkpoints.lease().as_secs();
    // Goes on if the client hangs up: then the lease ends.
    match spawn_blocking(move || checkpoints.cut()).await {
        Ok(Ok(Checkpoint { id, description, .. })) => {
            (StatusCode::CREATED, Json(Lease { id, lease_seconds, description })).into_response()
        }
        Ok(Err(error)) => refuse_cut(&error),
        Err(panic) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", panic.to_string()),
    }
}

fn refuse_cut(error: &CutError) -> Response {
    let (status, code) = match error {
        CutError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many_backups"),
        CutError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
        CutError::Engine(_) | CutError::Unreadable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "checkpoint_failed"),
    };
    refusal(status, code, with_causes(error))
}

async fn renew(State(checkpoints): State<Checkpoints>, Path(id): Path<String>) -> Response {
    done(checkpoints.renew(&id))
}

async fn remove(State(checkpoints): State<Checkpoints>, Path(id): Path<String>) -> Response {
    done(spawn_blocking(move || checkpoints.remove(&id)).await.unwrap_or(false))
}

fn done(there: bool) -> Response {
    match there {
        true => StatusCode::NO_CONTENT.into_response(),
        false => refusal(
            StatusCode::NOT_FOUND,
            "checkpoint_not_found",
            "there is no such checkpoint: its lease has ended, or the server was started again",
        ),
    }
}
