//! Shows how far a long command is, and stops it at a signal: a bar on a terminal, elsewhere a log line every ten seconds.

use std::io::{self, IsTerminal as _};
use std::process;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::oneshot;
use tokio::time::interval;

use super::failure::Failure;
use crate::backup::{Phase, Progress, Seen};
use crate::serve::{Signals, StartupError};

/// The exit code after a second signal, which leaves what is temporary.
pub(super) const SECOND_SIGNAL: i32 = 130;

/// Does `work`, which moves `progress`, and shows it meanwhile. The first signal stops it, the second ends the process.
pub(super) fn watch<T>(progress: &Progress, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the work begins: a signal must not end it where it cannot clean up.
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let (finished, end) = oneshot::channel();
    thread::scope(|scope| {
        let watching = thread::Builder::new().name("progress".into());
        let watching = watching.spawn_scoped(scope, || runtime.block_on(follow(progress, signals, end)));
        watching.map_err(|error| StartupError::io("cannot start a thread", error))?;
        let done = work();
        // It has ended only if it panicked.
        let _ = finished.send(());
        done
    })
}

async fn follow(progress: &Progress, mut signals: Signals, mut end: oneshot::Receiver<()>) {
    let mut shown = Shown::new();
    let mut ticks = interval(shown.every());
    let mut asked = false;
    loop {
        tokio::select! {
            _ = &mut end => return shown.finish(),
            () = signals.next() => {
                if asked {
                    process::exit(SECOND_SIGNAL);
                }
                asked = true;
                progress.stop();
            }
            _ = ticks.tick() => shown.show(progress.seen()),
        }
    }
}

/// What is shown, and on what.
enum Shown {
    Bar(ProgressBar),
    Lines { before: Seen },
}

const LINES_EVERY: Duration = Duration::from_secs(10);

impl Shown {
    fn new() -> Self {
        match io::stderr().is_terminal() {
            true => Self::Bar(ProgressBar::no_length()),
            false => Self::Lines { before: Seen { phase: Phase::Waiting, done: 0, total: 0 } },
        }
    }

    fn every(&self) -> Duration {
        match self {
            Self::Bar(_) => Duration::from_millis(200),
            Self::Lines { .. } => LINES_EVERY,
        }
    }

    fn show(&mut self, seen: Seen) {
        let Seen { phase, done, total } = seen;
        match self {
            Self::Bar(bar) => show_bar(bar, seen),
            Self::Lines { before } => {
                let since = if before.phase == phase { done.saturating_sub(before.done) } else { done };
                let rate = since / LINES_EVERY.as_secs();
                *before = seen;
                if phase != Phase::Waiting {
                    let left_s = total.saturating_sub(done).checked_div(rate);
                    tracing::info!(event = "backup.progress", phase = name(phase), done, total, rate, left_s);
                }
            }
        }
    }

    fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn show_bar(bar: &mut ProgressBar, Seen { phase, done, total }: Seen) {
    if bar.message() != name(phase) {
        bar.finish_and_clear();
        let template = match total {
            0 => "{msg:9} {spinner} {bytes} {bytes_per_sec}",
            _ => "{msg:9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are well formed");
        *bar = ProgressBar::new(total).with_style(style).with_message(name(phase));
    }
    bar.set_length(total.max(done));
    bar.set_position(done);
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "opening",
        Phase::Writing => "writing",
        Phase::Syncing => "syncing",
        Phase::Checking => "checking",
        Phase::Unpacking => "unpacking",
        Phase::Importing => "importing",
    }
}
