//! Log lines on their way to standard error: through a buffer, so that a stalled reader delays nothing.
//!
//! There are two buffers, each with a thread that writes. The one for ordinary lines drops a line that finds no room.
//! The other is for audit lines and, while it is less than half full, for errors and for start and stop. An audited
//! action waits for [`audit_is_written`] first, so its line finds room; a line that cannot be written is tried again
//! until it can. Dropped lines are counted, and their number is logged as soon as lines are written again.
//!
//! | Metric | Kind | Labels |
//! |---|---|---|
//! | `progressdb_log_lines_dropped_total` | counter | buffer: `events`, `audit`; reason: `full`, `unwritable` |
//! | `progressdb_log_lines_waiting` | gauge | buffer |

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder};
use tracing_subscriber::fmt::MakeWriter;

use super::filter::is_audit;
use crate::clock::monotonic;

const EVENT_LINES: usize = 8_192;
const AUDIT_LINES: usize = 4_096;
/// The pause before a line that failed, or a pipe that would block, is tried again.
const RETRY_FAILED: Duration = Duration::from_millis(500);
const RETRY_FULL: Duration = Duration::from_millis(10);
/// How often dropped lines are reported while lines are still being dropped.
const REPORT_EVERY: Duration = Duration::from_secs(10);

const DROPPED: &str = "progressdb_log_lines_dropped_total";
const WAITING: &str = "progressdb_log_lines_waiting";

/// The buffers of this process, once a server has started them.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Where the lines of events go.
#[derive(Clone)]
pub(super) enum Destination {
    /// Straight to standard error: in a command nothing else has to go on.
    Direct,
    /// Through the buffers.
    Buffered(Lines),
}

/// The two buffers.
#[derive(Clone)]
pub(super) struct Lines {
    events: Queue,
    audit: Queue,
}

impl Lines {
    /// Waits until no audit line waits and, if other lines do, one of them was written: that shows that the reader
    /// reads.
    async fn flow(&self) {
        self.audit.flow.wait_async(|_, waiting| waiting == 0).await;
        let before = self.events.flow.done();
        self.events.flow.wait_async(|done, waiting| waiting == 0 || done != before).await;
    }
}

impl Destination {
    /// The buffers of this process. The first call starts their threads.
    pub(super) fn buffered() -> Self {
        let start = || Lines { events: Queue::start(false, EVENT_LINES), audit: Queue::start(true, AUDIT_LINES) };
        Self::Buffered(LINES.get_or_init(start).clone())
    }
}

impl<'a> MakeWriter<'a> for Destination {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(match self {
            Self::Direct => None,
            Self::Buffered(lines) => Some(&lines.events),
        })
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LineWriter<'a> {
        match self {
            Self::Buffered(lines) if is_audit(event) => LineWriter(Some(&lines.audit)),
            // Many errors must leave room for audit lines.
            Self::Buffered(lines) if is_weighty(event) && lines.audit.flow.waiting() < AUDIT_LINES as u64 / 2 => {
                LineWriter(Some(&lines.audit))
            }
            _ => self.make_writer(),
        }
    }
}

/// Whether a line must not be dropped among many: errors, start and stop of the server, and reports of dropped lines.
fn is_weighty(event: &Metadata<'_>) -> bool {
    let module = event.module_path().unwrap_or_default();
    *event.level() == Level::ERROR || module.starts_with("progressdb_server::serve") || module == module_path!()
}

/// Accepts one line; never fails, and blocks only where there is no buffer.
pub(super) struct LineWriter<'a>(Option<&'a Queue>);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0 {
            Some(queue) => queue.offer(line),
            // If standard error cannot be written, the failure cannot be reported either.
            None => drop(io::stderr().write_all(line)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One buffer; clones share it.
#[derive(Clone)]
struct Queue {
    lines: NonBlocking,
    flow: Arc<Flow>,
}

impl Queue {
    fn start(is_audit: bool, capacity: usize) -> Self {
        let flow = Arc::new(Flow { is_audit, ..Flow::default() });
        let name = if is_audit { "audit" } else { "log" };
        let sink = Sink(flow.clone());
        let (lines, guard) =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(capacity).thread_name(name).finish(sink);
        flow.full.get_or_init(|| lines.error_counter());
        // Never dropped, because its drop would wait for the stalled reader. `flush` does the same within a limit.
        std::mem::forget(guard);
        Self { lines, flow }
    }

    fn offer(&self, line: &[u8]) {
        self.flow.offered.fetch_add(1, Ordering::Relaxed);
        // The buffer counts lines that find no room.
        let _ = self.lines.clone().write_all(line);
    }
}

/// Counts of the lines of one buffer.
#[derive(Default)]
struct Flow {
    is_audit: bool,
    offered: AtomicU64,
    full: OnceLock<ErrorCounter>,
    unwritable: AtomicU64,
    /// Lines that left the buffer, written or not.
    done: Mutex<u64>,
    moved: Condvar,
    moved_async: Notify,
    reported: Mutex<Reported>,
}

/// What was reported about dropped lines.
#[derive(Default)]
struct Reported {
    /// How many were reported.
    lines: u64,
    /// When lines were first written again while there were dropped lines to report.
    due: Option<Instant>,
}

impl Flow {
    fn dropped_full(&self) -> u64 {
        self.full.get().map_or(0, ErrorCounter::dropped_lines) as u64
    }

    fn unwritable(&self) -> u64 {
        self.unwritable.load(Ordering::Relaxed)
    }

    fn done(&self) -> u64 {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> u64 {
        self.waiting_beside(self.done())
    }

    fn waiting_beside(&self, done: u64) -> u64 {
        let kept = self.offered.load(Ordering::Relaxed).saturating_sub(self.dropped_full());
        kept.saturating_sub(done)
    }

    /// A line has left the buffer.
    fn finish_line(&self, is_written: bool) {
        // Before the line counts as done, so that whoever waits for it waits for this report too.
        if is_written {
            self.report_dropped();
        }
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
        self.moved_async.notify_waiters();
    }

    /// Reports how many lines were dropped, once the buffer is empty, and at intervals if it never is.
    fn report_dropped(&self) {
        let dropped = self.dropped_full() + self.unwritable();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = dropped.saturating_sub(reported.lines);
        if lines == 0 {
            return;
        }
        let due = *reported.due.get_or_insert_with(monotonic);
        if self.waiting() > 1 && due.elapsed() < REPORT_EVERY {
            return;
        }
        *reported = Reported { lines: dropped, due: None };
        drop(reported);
        if self.is_audit {
            tracing::error!(target: "audit", event = "audit.lines_dropped", lines, "nobody read standard error");
        } else {
            tracing::warn!(event = "log.lines_dropped", lines, "nobody read standard error fast enough");
        }
    }

    /// Waits until the buffer is empty.
    fn wait(&self, limit: Duration) {
        let start = monotonic();
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        while self.waiting_beside(*done) > 0 {
            let Some(left) = limit.checked_sub(start.elapsed()) else { return };
            // A line that is dropped wakes nobody, so this looks again.
            let slice = left.min(Duration::from_millis(50));
            done = self.moved.wait_timeout(done, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `enough(done, waiting)` holds.
    async fn wait_async(&self, enough: impl Fn(u64, u64) -> bool) {
        loop {
            let moved = self.moved_async.notified();
            let done = self.done();
            if enough(done, self.waiting_beside(done)) {
                return;
            }
            // As above.
            let _ = timeout(Duration::from_millis(50), moved).await;
        }
    }
}

/// Standard error, as the thread of a buffer sees it. An audit line that cannot be written is tried again.
struct Sink(Arc<Flow>);

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (mut rest, mut is_written) = (line, true);
        while !rest.is_empty() {
            match write_some(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process that shares the pipe has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY_FULL),
                Err(_) if self.0.is_audit => thread::park_timeout(RETRY_FAILED),
                Err(_) => {
                    self.0.unwritable.fetch_add(1, Ordering::Relaxed);
                    is_written = false;
                    break;
                }
            }
        }
        self.0.finish_line(is_written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_some(line: &[u8]) -> io::Result<usize> {
    match io::stderr().write(line)? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

/// Waits until all lines are written, but no longer than `limit`: a stalled reader must not keep the process from
/// ending.
pub fn flush(limit: Duration) {
    let Some(lines) = LINES.get() else { return };
    let start = monotonic();
    lines.audit.flow.wait(limit);
    lines.events.flow.wait(limit.saturating_sub(start.elapsed()));
    // The report of dropped lines may be a new line.
    lines.audit.flow.wait(limit.saturating_sub(start.elapsed()));
}

/// Flushes when it is dropped, also by a panic.
#[derive(Debug)]
pub struct FlushAtEnd(pub Duration);

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush(self.0);
    }
}

/// Prints a line for people to standard error that is not an event.
pub fn say(text: &str) {
    let line = format!("{text}\n");
    let _ = LineWriter(LINES.get().map(|lines| &lines.audit)).write_all(line.as_bytes());
}

/// Waits until all audit lines are written; false if they are not within `limit`. Call it before an audited action, so
/// that none is done whose line may never be written.
pub async fn audit_is_written(limit: Duration) -> bool {
    match LINES.get() {
        Some(lines) => timeout(limit, lines.flow()).await.is_ok(),
        None => true,
    }
}

/// Publishes the figures, zeros where no buffer was started.
pub(super) fn measure() {
    let lines = LINES.get();
    for (buffer, queue) in [("events", lines.map(|lines| &lines.events)), ("audit", lines.map(|lines| &lines.audit))] {
        let flow = queue.map(|queue| &*queue.flow);
        let figure = |read: fn(&Flow) -> u64| flow.map_or(0, read);
        counter!(DROPPED, "buffer" => buffer, "reason" => "full").absolute(figure(Flow::dropped_full));
        counter!(DROPPED, "buffer" => buffer, "reason" => "unwritable").absolute(figure(Flow::unwritable));
        gauge!(WAITING, "buffer" => buffer).set(figure(Flow::waiting) as f64);
    }
}
