//! The program: parses the command line, runs one command, and turns what became of it into an exit code.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    thread::available_parallelism,
    time::Duration,
};

use clap::Parser;
use progressdb_server::{
    args::{Args, Command, ConfigCommand, KmsCommand},
    config::{self, Environment, Flags, Loaded, Sources, Warning},
    crypt::kms,
    http, rows,
    serve::{
        self,
        kms_check::{self, CheckError},
    },
    telemetry, termination,
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
    Check(#[from] CheckError),
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error("{0} keys do not open")]
    Verification(u64),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Check(CheckError::Kms { source: kms::Error::Settings(_), .. }) => 78,
            Failure::Check(_) | Failure::Verification(_) => 1,
            Failure::Serve(error) => error.exit_code(),
            Failure::Output(_) => 1,
        }
    }

    /// The `event` of its log line, if it is one of a server that did not start.
    fn event(&self) -> &'static str {
        match self {
            Failure::Config(_) => "startup.config_invalid",
            Failure::Check(_) => "kms.failed",
            Failure::Serve(error) => error.event(),
            Failure::Verification(_) => "kms.verification_failed",
            Failure::Output(_) => "output.failed",
        }
    }
}

/// How long the last lines of the log wait for a reader.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let _flush = telemetry::FlushAtEnd(LAST_WORDS);
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
                telemetry::say(&format!("error: {reason}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    match args.command.as_ref().unwrap_or(&Command::Serve) {
        Command::Serve => run_server(sources(args), args.accept_clock),
        Command::Config { command: None } => print_config(load(args)),
        Command::Config { command: Some(ConfigCommand::Check { json, .. }) } => check_config(load(args), *json),
        Command::Openapi => print(&http::openapi().to_pretty_json().map_err(io::Error::other)?),
        Command::Version { json } => print(&version(*json)),
        Command::Kms { command: KmsCommand::Check { wrapped_keys, json } } => {
            check_kms(config::load_for_kms_check(&sources(args)), wrapped_keys.as_deref(), *json)
        }
        Command::Kms { command: KmsCommand::Verify { json } } => verify_keys(load(args), *json),
        Command::Kms { command: KmsCommand::Migrate { to } } => migrate_keys(load(args), to),
        Command::Decrypt => decrypt(load(args)),
        Command::Inspect { json } => inspect(load(args), *json),
    }
}

fn load(args: &Args) -> Loaded {
    config::load(&sources(args))
}

fn sources(args: &Args) -> Sources {
    Sources { environment: Environment::of_process(), flags: args.flags(), ..Sources::default() }
}

fn run_server(sources: Sources, accept_clock: bool) -> Result<(), Failure> {
    let runtime = runtime()?;
    // Before anything that takes time: a signal that comes while files are read must not kill the process.
    let signals = {
        let _inside = runtime.enter();
        serve::Signals::new()?
    };
    let loaded = config::load(&sources);
    let collector = loaded.config.as_ref().ok().and_then(|config| config.collector.as_ref());
    let _traces = telemetry::install_logs_and_traces(&loaded.log, collector);
    config::log_warnings(&loaded.warnings);
    let (mut config, running) = loaded.into_running(sources)?;
    config.storage.accept_clock = accept_clock;
    telemetry::install_metrics();
    runtime.block_on(async {
        tokio::spawn(keep_metrics_small());
        Box::pin(serve::run(config, running, signals)).await
    })?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let workers = available_parallelism().map_or(2, |cores| cores.get().max(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| serve::Error::io("cannot start the runtime", error).into())
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
        let report = loaded.to_report();
        termination::leave(Path::new(termination::FILE), &report);
        print(&report.to_string())?;
        return loaded.config.map(|_| ()).map_err(Failure::from);
    }
    print_warnings(&loaded.warnings);
    loaded.config?;
    print("the configuration is valid")
}

/// Asks the KMS whether or not encryption is enabled: one checks before one enables it.
fn check_kms(loaded: Loaded, wrapped_keys: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    print_warnings(&loaded.warnings);
    let checked = ask_kms(loaded, wrapped_keys);
    if as_json {
        let report = match &checked {
            Ok(checked) => checked.to_report(),
            Err(Failure::Check(error)) => error.to_report(),
            Err(failure) => kms_check::report_of_failure(None, "settings", &with_causes(failure)),
        };
        print(&report.to_string())?;
        return checked.map(|_| ());
    }
    if let Err(Failure::Check(error)) = &checked {
        error.to_lines().iter().try_for_each(|line| print(line))?;
    }
    print(&checked?.to_text())
}

fn ask_kms(loaded: Loaded, wrapped_keys: Option<&Path>) -> Result<kms_check::Checked, Failure> {
    let settings = kms_of(loaded)?;
    let provider = settings.kind();
    let wrapped = wrapped_keys.map(kms_check::read_wrapped_keys).transpose();
    let wrapped = wrapped.map_err(|source| kms_check::CheckError::Kms { provider, source })?;
    Ok(kms_check::check_kms(settings, wrapped.as_ref())?)
}

fn kms_of(loaded: Loaded) -> Result<kms::Settings, Failure> {
    let encryption = loaded.config?.encryption;
    encryption.kms.ok_or(Failure::Config(config::Error(encryption.missing)))
}

fn inspect(loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
    let config = loaded.config?;
    let report = serve::stopped::inspect(&config)?;
    print(&if as_json { report.to_string() } else { format!("{report:#}") })
}

/// The report goes to the output whether or not a key failed.
fn verify_keys(loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
    let report = serve::stopped::verify_keys(&loaded.config?)?;
    if as_json {
        print(&serde_json::to_string(&report).map_err(io::Error::other)?)?;
    } else {
        for failure in &report.failures {
            print(&format!("{}: {}", failure.key, failure.why))?;
        }
        print(&format!(
            "{} epoch keys and {} data keys, {} do not open",
            report.epochs, report.data_keys, report.failed
        ))?;
    }
    if report.failed == 0 { Ok(()) } else { Err(Failure::Verification(report.failed)) }
}

fn migrate_keys(loaded: Loaded, to: &Path) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
    // Variables and `.env` speak of the KMS that is in use.
    let flags = Flags { config: Some(to.to_owned()), ..Flags::default() };
    let environment = Environment::of_process();
    let target = config::load(&Sources { environment, flags, only_file: true, ..Sources::default() });
    print(&serve::stopped::migrate_keys(&loaded.config?, kms_of(target)?)?.to_string())
}

fn decrypt(loaded: Loaded) -> Result<(), Failure> {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
    print(&serve::stopped::decrypt(&loaded.config?)?.to_string())
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

/// A reader that has seen enough and left, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::from),
    }
}

fn print_warnings(warnings: &[Warning]) {
    let (odd, no_effect) = config::sort_warnings(warnings);
    for warning in odd {
        telemetry::say(&format!("warning: {}", warning.message));
    }
    if let Some(keys) = no_effect {
        telemetry::say(&format!("warning: accepted, without effect: {keys}"));
    }
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
