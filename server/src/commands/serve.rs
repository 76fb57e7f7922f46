//! `progressdb serve`: sets up the process and runs the server in it.

use std::thread::available_parallelism;
use std::time::Duration;

use super::failure::Failure;
use super::{Program, sources};
use crate::args::Args;
use crate::config::{load, log_warnings};
use crate::serve::{self, StartupError};
use crate::telemetry;

pub(super) fn run(args: &Args, rehearsal: bool, program: &Program) -> Result<(), Failure> {
    let sources = sources(args);
    let runtime = runtime()?;
    // Before anything that takes time: a signal that comes while files are read must not kill the process.
    let signals = {
        let _inside = runtime.enter();
        serve::Signals::new()?
    };
    let loaded = load(&sources);
    let collector = loaded.config.as_ref().ok().and_then(|config| config.collector.as_ref());
    let _traces = telemetry::install_logs_and_traces(&loaded.log, collector, program.formats.version);
    log_warnings(&loaded.warnings);
    let (mut config, running) = loaded.into_running(sources)?;
    config.storage.accept_clock = args.accept_clock;
    config.rehearsal = rehearsal;
    telemetry::install_metrics();
    runtime.block_on(async {
        tokio::spawn(keep_metrics_small());
        Box::pin(serve::run(program.formats, program.around, config, running, signals)).await
    })?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let workers = available_parallelism().map_or(2, |cores| cores.get().max(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| StartupError::io("cannot start the runtime", error).into())
}

async fn keep_metrics_small() {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        telemetry::upkeep_metrics();
    }
}
