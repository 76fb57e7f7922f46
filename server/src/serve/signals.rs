//! What signals do. None of those that people and supervisors send ends the process without a log line.
//!
//! | Signal | Meaning |
//! |---|---|
//! | SIGTERM, SIGINT, SIGQUIT | stop; a second one ends the process at once |
//! | SIGHUP | read the configuration and key files again |
//! | SIGUSR1, SIGUSR2 | nothing but a log line |
//! | SIGXFSZ | nothing: the write beyond the limit fails with an error |
//! | SIGPIPE | ignored, as in every Rust program |

use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StartupError;

/// The signals that stop the server, and those that do not until somebody watches them.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    others: Option<Others>,
}

/// The signals that do not stop the server.
#[derive(Debug)]
struct Others {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    file_size: Signal,
}

impl Signals {
    /// Handles all signals from now on; call it inside a runtime. A signal is kept until it is waited for.
    pub fn new() -> Result<Self, StartupError> {
        let handle = |kind| signal(kind).map_err(|error| StartupError::io("signals cannot be handled", error));
        let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let others = Others {
            hangup: handle(SignalKind::hangup())?,
            user1: handle(SignalKind::user_defined1())?,
            user2: handle(SignalKind::user_defined2())?,
            file_size: handle(file_size)?,
        };
        Ok(Self {
            terminate: handle(SignalKind::terminate())?,
            interrupt: handle(SignalKind::interrupt())?,
            quit: handle(SignalKind::quit())?,
            others: Some(others),
        })
    }

    /// Waits for the next signal that stops the server, or a long command.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// Starts a task that handles the other signals, and sends to `hangups` on each SIGHUP. Only the first call does so.
    pub(super) fn watch_others(&mut self, hangups: Sender<()>) {
        if let Some(others) = self.others.take() {
            tokio::spawn(others.watch(hangups));
        }
    }
}

impl Others {
    async fn watch(mut self, hangups: Sender<()>) {
        let ignored = |signal| tracing::info!(event = "signal.ignored", signal, "it means nothing to this server");
        loop {
            tokio::select! {
                // Sending fails only while the server ends.
                _ = self.hangup.recv() => drop(hangups.send(())),
                _ = self.user1.recv() => ignored("SIGUSR1"),
                _ = self.user2.recv() => ignored("SIGUSR2"),
                _ = self.file_size.recv() => ignored("SIGXFSZ"),
            }
        }
    }
}
