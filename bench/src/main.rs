//! The load generator: measures our server and the systems it is compared with on this machine, in one run, and prints
//! one table.
//!
//! A benchmark is not a test: a row that falls short of its bar says so and the exit code stays 0. Anything that breaks
//! is named, and the exit code is 1. Everything that it starts is gone when it ends, also after Ctrl-C.
//!
//! - `bench` turns: which systems, when, how often; `rows` what is measured and which bar it has
//! - `server`, `postgres`, `redis` start and check the systems; `client` what each connection repeats
//! - `load` closed and open load; `http`, `pgwire` and `redis::Resp` the three protocols, by hand and cheap
//! - `machine`, `process`, `clock`, `setup` the surroundings; `report` table and JSON

mod bench;
mod client;
mod clock;
mod http;
mod load;
mod machine;
mod noise;
mod pgwire;
mod postgres;
mod process;
mod redis;
mod report;
mod rows;
mod server;
mod setup;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::{Bench, Group, Scale};
use crate::report::Report;
use crate::setup::{Pinning, Workshop};

/// Measures ProgressDB and its peers on this machine, on loopback, with equal durability
#[derive(Parser)]
#[command(name = "progressdb-bench", version)]
struct Args {
    /// A short run on smaller stores, to see that everything works; its figures mean little
    #[arg(long)]
    quick: bool,
    /// Only these groups of rows
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<Group>,
    /// Rounds in which the systems take turns [default: 3; quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: Option<u8>,
    /// Seconds of each measured run [default: 5; quick: 2]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=120))]
    seconds: Option<u8>,
    /// Megabytes of messages in the store that is backed up [default: 2500; quick: 200]
    #[arg(long, value_name = "MB")]
    backup_mb: Option<usize>,
    /// Write all figures, round by round, with the latency histograms
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server to measure [default: `progressdb` beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Measure PostgreSQL, Redis and the disk only
    #[arg(long, conflicts_with = "server")]
    peers_only: bool,
    /// Where all stores live while measured; it must be on the disk to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Measured programs on the first half of the processors, the generator on the second
    #[arg(long)]
    pin: bool,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(finished) => {
            #[expect(clippy::print_stdout, reason = "the table is this program's output")]
            {
                print!("{}", finished.text);
            }
            if finished.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is left of a run.
struct Finished {
    text: String,
    whole: bool,
}

fn start(args: &Args) -> Result<Finished> {
    let processors = machine::processors()?;
    let pinning = if args.pin { Some(Pinning::pin_generator(processors)?) } else { None };
    let raised = setup::raise_priority()?;
    let workshop = Workshop::new(&args.dir, pinning, raised)?;
    // Half of the processors at most: the generator must not starve what it measures.
    let workers = (processors / 2).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let finished = runtime.block_on(async {
        tokio::select! {
            finished = measure(args, workshop, processors, raised) => finished,
            interrupted = interruption() => interrupted,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    finished
}

async fn interruption() -> Result<Finished> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

async fn measure(args: &Args, workshop: Workshop, processors: usize, raised: i32) -> Result<Finished> {
    let mut report = Report::default();
    if raised == 0 {
        report.note("the generator has no higher priority than what it measures, which only root can give it".into());
    }
    if let Some(text) = machine::business().await? {
        eprintln!("warning: {text}");
        report.note(text);
    }
    let mut machine = machine::describe(workshop.root(), processors)?;
    machine["generator_nice"] = (-raised).into();
    machine["layout"] = (if args.pin { "pinned" } else { "shared" }).into();
    let directory = workshop.root().to_owned();
    let synced =
        tokio::task::spawn_blocking(move || machine::write_and_sync(&directory, Duration::from_secs(2))).await??;
    for (name, quantile) in [("fdatasync_p50_ms", 0.5), ("fdatasync_p99_ms", 0.99)] {
        machine[name] = (synced.value_at_quantile(quantile) as f64 / 1e6).into();
    }
    let mut bench = Bench { scale: scale(args), workshop, program: program(args)?, report };
    let groups = groups(args);
    bench.run(&groups).await;
    if let Some(file) = &args.json {
        let document = serde_json::to_string(&bench.report.json(&machine))?;
        fs::write(file, document + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut text = String::new();
    for (name, value) in machine.as_object().into_iter().flatten() {
        text += &format!("{name}: {}\n", value.to_string().trim_matches('"'));
    }
    text = format!("{text}\n{}", bench.report.text());
    Ok(Finished { text, whole: bench.report.is_whole() })
}

fn groups(args: &Args) -> Vec<Group> {
    match (args.only.is_empty(), args.peers_only) {
        (false, _) => args.only.clone(),
        (true, true) => vec![Group::Append, Group::Single, Group::Newest],
        (true, false) => Group::value_variants().to_vec(),
    }
}

fn scale(args: &Args) -> Scale {
    let (rounds, seconds, long_thread, many_threads, backup_mb) =
        if args.quick { (1, 2, 100_000, 10_000, 200) } else { (3, 5, 1_000_000, 100_000, 2_500) };
    let rounds = args.rounds.map_or(rounds, usize::from);
    let backup_mb = args.backup_mb.unwrap_or(backup_mb);
    Scale { rounds, seconds: args.seconds.map_or(seconds, u64::from), long_thread, many_threads, backup_mb }
}

fn program(args: &Args) -> Result<Option<PathBuf>> {
    if args.peers_only {
        return Ok(None);
    }
    let beside = || std::env::current_exe().map(|own| own.with_file_name("progressdb"));
    let program = args.server.clone().map_or_else(beside, Ok)?;
    ensure!(program.is_file(), "there is no server at {}: build it, or name one with --server", program.display());
    Ok(Some(program.canonicalize()?))
}
