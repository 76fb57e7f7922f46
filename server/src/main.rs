//! The program: parses the command line, runs one command, and turns what became of it into an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
    thread::available_parallelism,
    time::Duration,
};

use clap::Parser;
use progressdb_server::{
    args::{Args, Command, ConfigCommand},
    config::{self, Environment, Loaded, Sources, Warning},
    format, http, rows, serve, telemetry,
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Why a command failed; each has its exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error("{0:#}")]
    Inspect(anyhow::Error),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) => 78,
            Failure::Serve(error) => error.exit_code(),
            Failure::Inspect(error) => error.downcast_ref().map_or(1, format::Error::exit_code),
            Failure::Output(_) => 1,
        }
    }

    /// The `event` of its log line, if it is one of a server that did not start.
    fn event(&self) -> &'static str {
        match self {
            Failure::Config(_) => "startup.config_invalid",
            Failure::Serve(error) => error.event(),
            Failure::Inspect(error) => error.downcast_ref().map_or("startup.failed", format::Error::event),
            Failure::Output(_) => "output.failed",
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let reasons = with_causes(&failure);
            tracing::error!(
                event = failure.event(),
                exit_code = failure.exit_code(),
                "{}",
                reasons.replace('\n', "; ")
            );
            for reason in reasons.lines() {
                eprintln!("error: {reason}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    match args.command.as_ref().unwrap_or(&Command::Serve) {
        Command::Serve => run_server(load(args)),
        Command::Config { command: None } => print_config(load(args)),
        Command::Config { command: Some(ConfigCommand::Check { json, .. }) } => check_config(load(args), *json),
        Command::Openapi => print(&http::openapi().to_pretty_json().map_err(io::Error::other)?),
        Command::Version { json } => print(&version(*json)),
        Command::Inspect { json } => inspect(load(args), *json),
    }
}

fn load(args: &Args) -> Loaded {
    config::load(&Sources { environment: Environment::of_process(), flags: args.flags(), ..Sources::default() })
}

fn run_server(loaded: Loaded) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    log_warnings(&loaded.warnings);
    let config = loaded.config?;
    telemetry::install_metrics();
    let workers = available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| serve::Error::io("cannot start the runtime", error))?;
    runtime.block_on(async {
        tokio::spawn(keep_metrics_small());
        Box::pin(serve::run(config)).await
    })?;
    Ok(())
}

async fn keep_metrics_small() {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        telemetry::upkeep_metrics();
    }
}

fn print_config(loaded: Loaded) -> Result<(), Failure> {
    print_warnings(&loaded.warnings);
    let yaml = loaded.to_yaml();
    loaded.config?;
    print(yaml.trim_end())
}

fn check_config(loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    if as_json {
        print(&loaded.to_report().to_string())?;
        return loaded.config.map(|_| ()).map_err(Failure::from);
    }
    print_warnings(&loaded.warnings);
    loaded.config?;
    print("the configuration is valid")
}

fn inspect(loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
    let config = loaded.config?;
    let report = serve::inspect(&config).map_err(Failure::Inspect)?;
    print(&if as_json { report.to_string() } else { format!("{report:#}") })
}

fn version(as_json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("PROGRESSDB_COMMIT").unwrap_or("unknown");
    let (reads, writes) = (rows::FORMATS_READ, rows::FORMAT_WRITTEN);
    if as_json {
        return json!({ "version": version, "commit": commit, "formats": { "reads": reads, "writes": writes } })
            .to_string();
    }
    format!("progressdb {version} ({commit}), reads store formats {}-{}, writes {writes}", reads[0], reads[1])
}

/// A closed pipe behind us is an error, not a panic.
fn print(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(Failure::from)
}

fn print_warnings(warnings: &[Warning]) {
    let (odd, no_effect) = sort_warnings(warnings);
    for warning in odd {
        eprintln!("warning: {}", warning.message);
    }
    if let Some(keys) = no_effect {
        eprintln!("warning: accepted, without effect: {keys}");
    }
}

fn log_warnings(warnings: &[Warning]) {
    let (odd, no_effect) = sort_warnings(warnings);
    for warning in odd {
        tracing::warn!(event = "config.warning", key = warning.key, source = warning.source, "{}", warning.message);
    }
    if let Some(keys) = no_effect {
        tracing::info!(event = "config.no_effect", keys, "settings that are accepted and have no effect");
    }
}

/// Settings without effect share one line, if there are any: a file of Go 0.2 has dozens.
fn sort_warnings(warnings: &[Warning]) -> (Vec<&Warning>, Option<String>) {
    let (no_effect, odd): (Vec<_>, Vec<_>) = warnings.iter().partition(|warning| warning.no_effect);
    let keys: Vec<_> = no_effect.iter().map(|warning| warning.key.as_str()).collect();
    (odd, (!keys.is_empty()).then(|| keys.join(", ")))
}

/// The error and what caused it, on one line each problem.
fn with_causes(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
