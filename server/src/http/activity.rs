//! What a connection is doing and since when: its timeouts follow from it.
//!
//! A response has a deadline of its own: a client that reads a byte now and then is not idle, and yet holds memory.
//! Requests touch no timer; the connection's one timer reads [`Activity::deadline`] when it fires.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::listen::Settings;

/// How long a connection may be idle while others wait for it.
const WANTED: Duration = Duration::from_secs(5);
/// The same of one that has never been used.
const WANTED_UNUSED: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests, or sending a response.
    Idle,
    /// In the middle of a request's headers.
    Headers,
    /// A handler is running; it has its own timeouts.
    Busy,
}

/// What a connection is doing, and since when. Touched by one task only, the connection's.
pub(super) struct Activity {
    settings: Settings,
    opened: Instant,
    phase: AtomicU8,
    since_us: AtomicU64,
    /// When the oldest unfinished response began, and 0 if there is none.
    sending_since_us: AtomicU64,
}

/// A response that is being sent; finished when this is dropped.
pub(super) struct Sending(Arc<Activity>);

impl Sending {
    /// A connection sends one response at a time.
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.sending_since_us.store(activity.now_us().max(1), Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending_since_us.store(0, Ordering::Relaxed);
    }
}

impl Activity {
    pub(super) fn new(settings: Settings) -> Self {
        let phase = AtomicU8::new(Phase::Idle as u8);
        Self {
            settings,
            opened: Instant::now(),
            phase,
            since_us: AtomicU64::new(0),
            sending_since_us: AtomicU64::new(0),
        }
    }

    fn now_us(&self) -> u64 {
        self.opened.elapsed().as_micros() as u64
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since_us.store(self.now_us(), Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Idle as u8 => Phase::Idle,
            phase if phase == Phase::Headers as u8 => Phase::Headers,
            _ => Phase::Busy,
        }
    }

    /// When the connection has been slow for too long; sooner if it is `wanted` for others.
    pub(super) fn deadline(&self, wanted: bool) -> Instant {
        let since_us = self.since_us.load(Ordering::Relaxed);
        let since = self.opened + Duration::from_micros(since_us);
        let idle = self.settings.idle_timeout;
        let of_phase = match self.phase() {
            Phase::Idle if wanted && since_us == 0 => since + idle.min(WANTED_UNUSED),
            Phase::Idle if wanted => since + idle.min(WANTED),
            Phase::Idle => since + idle,
            Phase::Headers => since + self.settings.header_timeout,
            Phase::Busy => Instant::now() + self.settings.idle_timeout.max(Duration::from_secs(1)),
        };
        self.response_deadline().map_or(of_phase, |of_response| of_response.min(of_phase))
    }

    /// Whether a response took too long to send.
    pub(super) fn response_is_late(&self) -> bool {
        self.response_deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn response_deadline(&self) -> Option<Instant> {
        let since = self.sending_since_us.load(Ordering::Relaxed);
        (since != 0).then(|| self.opened + Duration::from_micros(since) + self.settings.reply_timeout)
    }
}

/// A stream that notes when bytes move.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) activity: Arc<Activity>,
}

impl Watched {
    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(_))) && self.activity.phase() == Phase::Idle {
            self.activity.enter(Phase::Idle);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        if buf.filled().len() > before && self.activity.phase() == Phase::Idle {
            self.activity.enter(Phase::Headers);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
