//! A backup of a store that a server serves: the server cuts a checkpoint and holds it for this process.
//!
//! The lease is renewed in the background. An idle connection to the server notices at once when the server ends; the
//! backup is given up then, because the next start of the server removes the checkpoint.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde::{Deserialize, Serialize};

use super::checkpoints::checkpoint_path;
use super::{Description, Source};
use crate::clock::monotonic;
use crate::data_dir::{Holder, Reachable};

/// How long a cut may take; it waits for others, and for a flush.
const CUT_TIMEOUT: Duration = Duration::from_secs(120);
const RENEW_TIMEOUT: Duration = Duration::from_secs(10);
/// Renewals within one lease.
const RENEWALS: u32 = 4;

/// What a server answers when it has cut a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The name of the checkpoint.
    pub id: String,
    /// How long it is held unless the lease is renewed.
    pub lease_seconds: u64,
    /// What is said of the store in it.
    pub description: Description,
}

/// Why a running server gave no checkpoint, or why the backup of one was given up.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// Whoever has the directory cannot be asked.
    #[error(
        "{} is in use{}, which takes no backup for commands: it is a command, a server that is still starting, or one of an older version or on a file system without sockets; wait or stop it, or use POST /admin/backup",
        .directory.display(), .pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    NoSocket {
        /// The data directory.
        directory: PathBuf,
        /// Its process.
        pid: Option<u32>,
    },
    /// It does not answer.
    #[error("the server does not answer at {}: run this command as the user that the server runs as, on the same machine", .socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refuses.
    #[error("the server made no checkpoint: {text}")]
    Refused {
        /// Its own words.
        text: String,
        /// Others are backed up, so it is worth trying again.
        busy: bool,
    },
    /// The checkpoint is not where it should be.
    #[error("cannot read the checkpoint {} of the server: run this command where --db is the server's data directory", .path.display())]
    Unreadable {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The checkpoint is gone.
    #[error("the backup was given up: {0}; start it again")]
    Lost(&'static str),
}

impl OnlineError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSocket { .. } | Self::Unreachable { .. } | Self::Refused { busy: true, .. } => 75,
            Self::Refused { .. } | Self::Unreadable { .. } | Self::Lost(_) => 1,
        }
    }
}

/// A checkpoint that a server holds for this process. Dropping it gives it back.
#[derive(Debug)]
pub struct Online {
    server: Server,
    lease: Lease,
    /// The directory with its files, as this process sees it.
    path: PathBuf,
    keeper: Arc<Keeper>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that renews the lease shares.
#[derive(Debug)]
struct Keeper {
    /// Nothing is ever sent on it. It ends with the server; shutting it down wakes the thread.
    idle: Mutex<UnixStream>,
    ended: AtomicBool,
    lost: OnceLock<&'static str>,
}

impl Keeper {
    fn idle(&self) -> MutexGuard<'_, UnixStream> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Online {
    /// Asks the server that has `directory` for a checkpoint. `on_lost` is called if it is lost before this is dropped.
    pub fn cut(
        directory: &Path,
        holder: &Holder,
        on_lost: impl FnOnce() + Send + 'static,
    ) -> Result<Self, OnlineError> {
        let Some(socket) = &holder.socket else {
            return Err(OnlineError::NoSocket { directory: directory.to_owned(), pid: holder.pid });
        };
        let unreachable = |source| OnlineError::Unreachable { socket: socket.clone(), source };
        let server = Server::new(socket).map_err(unreachable)?;
        let idle = server.connect().map_err(|error| unreachable(error.into()))?;
        let answer = server.client.post("http://server/checkpoints").timeout(CUT_TIMEOUT).send();
        let answer = answer.map_err(|error| unreachable(error.into()))?;
        if answer.status() != StatusCode::CREATED {
            return Err(refused(answer));
        }
        let lease: Lease = answer.json().map_err(|error| unreachable(error.into()))?;
        let keeper = Keeper { idle: Mutex::new(idle), ended: AtomicBool::new(false), lost: OnceLock::new() };
        // The server may have another root, or another working directory.
        let path = checkpoint_path(directory, &lease.id);
        let mut online = Self { server, lease, path, keeper: Arc::new(keeper), thread: None };
        let thread = online.keep(on_lost).map_err(|error| unreachable(error.into()))?;
        online.thread = Some(thread);
        Ok(online)
    }

    /// What is to be backed up.
    pub fn source(&self) -> Result<Source, OnlineError> {
        let Self { path, lease, server, .. } = self;
        let source = Source::of_checkpoint(path, lease.description.clone());
        let source = source.map_err(|source| OnlineError::Unreadable { path: path.clone(), source })?;
        // Only what is still held now was whole when it was listed: a client may have slept through its lease.
        match server.renew(lease) {
            Ok(true) => Ok(source),
            Ok(false) => Err(OnlineError::Lost(LEASE_ENDED)),
            Err(_) => Err(OnlineError::Lost(GONE)),
        }
    }

    /// Why the checkpoint is gone, if it is.
    pub fn lost(&self) -> Option<OnlineError> {
        self.keeper.lost.get().copied().map(OnlineError::Lost)
    }

    fn keep(&self, on_lost: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let idle = self.keeper.idle().try_clone()?;
        let (server, lease, keeper) = (self.server.clone(), self.lease.clone(), self.keeper.clone());
        thread::Builder::new().name("lease".into()).spawn(move || {
            if let Some(why) = server.keep(&lease, idle, &keeper) {
                let _ = keeper.lost.set(why);
                on_lost();
            }
        })
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.keeper.ended.store(true, Ordering::Release);
        // Fails if the server has ended, which the thread has seen then.
        let _ = self.keeper.idle().shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // A server that does not answer removes it when the lease ends, or when it starts.
        let _ = self.server.client.delete(self.server.url(&self.lease)).timeout(RENEW_TIMEOUT).send();
    }
}

/// The running server, as the client of its socket sees it.
#[derive(Clone, Debug)]
struct Server {
    client: Client,
    socket: Arc<Reachable>,
}

impl Server {
    fn new(socket: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let socket = Arc::new(Reachable::new(socket)?);
        let client = Client::builder().no_proxy().unix_socket(socket.path()).build()?;
        Ok(Self { client, socket })
    }

    fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.socket.path())
    }

    fn url(&self, lease: &Lease) -> String {
        format!("http://server/checkpoints/{}", lease.id)
    }

    /// Begins the lease anew; false if it has ended.
    fn renew(&self, lease: &Lease) -> reqwest::Result<bool> {
        let answer = self.client.put(self.url(lease)).timeout(RENEW_TIMEOUT).send()?;
        Ok(answer.status().is_success())
    }

    /// Renews the lease until the keeper has ended; why it was lost, if it was.
    fn keep(&self, lease: &Lease, mut idle: UnixStream, keeper: &Keeper) -> Option<&'static str> {
        let pause = Duration::from_secs(lease.lease_seconds.max(1)) / RENEWALS;
        let mut renewed = monotonic();
        loop {
            // Without a timeout it would wait for ever: as good as a server that does not answer.
            let waited = idle.set_read_timeout(Some(pause)).and_then(|()| idle.read(&mut [0]));
            if keeper.ended.load(Ordering::Acquire) {
                return None;
            }
            match self.renew(lease) {
                Ok(true) => renewed = monotonic(),
                Ok(false) => return Some(LEASE_ENDED),
                Err(error) if error.is_connect() || is_over(lease, renewed) => return Some(GONE),
                // It may be busy for a while.
                Err(_) => {}
            }
            if waited.is_ok_and(|bytes| bytes == 0) {
                let connected = self.connect().and_then(|new| Ok((new.try_clone()?, new)));
                let Ok((new, shared)) = connected else { return Some(GONE) };
                idle = new;
                *keeper.idle() = shared;
            }
        }
    }
}

const LEASE_ENDED: &str = "the server has ended the lease of its checkpoint";
const GONE: &str = "the server stopped, or was killed";

fn is_over(lease: &Lease, renewed: Instant) -> bool {
    monotonic() - renewed > Duration::from_secs(lease.lease_seconds)
}

fn refused(answer: Response) -> OnlineError {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    let status = answer.status();
    let text = answer.json::<Body>().map_or_else(|_| status.to_string(), |body| body.error);
    OnlineError::Refused { text, busy: status == StatusCode::TOO_MANY_REQUESTS }
}
