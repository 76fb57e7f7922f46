//! The commands: one file each, parsed arguments in, text on standard output and an exit code out.
//!
//! [`main`] is the whole program, except for the allocator and what [`Program`] says, which the binary chooses. A command
//! loads the configuration, prints its warnings, does its work and prints the result. A [`Failure`] is logged as one
//! line and printed to standard error, one line for each problem.

mod backup;
mod backups;
mod config;
mod decrypt;
mod export;
mod failure;
mod fetched;
mod import;
mod inspect;
mod kms;
mod kms_check;
mod migrate;
mod progress;
mod report;
mod reset;
mod restore;
mod rollback;
mod schema;
mod serve;
mod smoke;
mod verify;
mod version;

use std::convert::identity;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Args, BackupArgs, Command};
use crate::config::{Environment, Loaded, Sources, Warning, load, sort_warnings};
use crate::data_dir::Existing;
use crate::error_chain::with_causes;
use crate::format::Formats;
use crate::http::Around;
use crate::serve::Restore;
use crate::{http, telemetry};

use self::failure::Failure;

/// How long the exit waits until the last log lines are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What tells one program of this library from another.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its version, and the store formats that it knows.
    pub formats: Formats,
    /// What it adds to the HTTP service.
    pub around: Around,
}

impl Program {
    /// This version, which adds nothing.
    pub const CURRENT: Self = Self { formats: Formats::CURRENT, around: identity };
}

/// Runs the command of the command line.
pub fn main(program: &Program) -> ExitCode {
    let _flush = telemetry::FlushAtEnd(FLUSH_TIMEOUT);
    let args = Args::of_process(program.formats.version);
    match run(&args, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: &Args, program: &Program) -> Result<(), Failure> {
    let formats = &program.formats;
    match args.command.as_ref().unwrap_or(&Command::Serve { rehearsal: false }) {
        Command::Serve { rehearsal } => serve::run(args, *rehearsal, program),
        Command::Config { command } => config::run(load(&sources(args)), command.as_ref()),
        Command::Openapi => print(&http::openapi().to_pretty_json().map_err(io::Error::other)?),
        Command::Version(how) => version::run(how, formats),
        Command::Kms { command } => kms::run(&sources(args), command, formats),
        Command::Decrypt => decrypt::run(load(&sources(args)), formats),
        Command::Backup(BackupArgs { command: Some(command), .. }) => backups::run(load(&sources(args)), command),
        Command::Backup(wanted) => backup::run(load(&sources(args)), wanted, formats),
        Command::Verify(wanted) => verify::run(load(&sources(args)), wanted, formats),
        Command::Restore { from, scratch, force, keep_old, replace_database, dry_run } => {
            let existing = match (force, keep_old) {
                (false, _) => Existing::Refuse,
                (true, false) => Existing::Replace,
                (true, true) => Existing::Keep,
            };
            let wanted = Restore { from: from.clone(), existing, given_up: *replace_database, dry_run: *dry_run };
            restore::run(load(&sources(args)), wanted, scratch.as_deref(), formats)
        }
        Command::Export(wanted) => export::run(load(&sources(args)), wanted, formats),
        Command::Import { from, json } => import::run(load(&sources(args)), from, *json, formats),
        Command::Reset { confirm } => reset::run(load(&sources(args)), *confirm),
        Command::Smoke(wanted) => smoke::run(&sources(args), wanted),
        Command::Migrate { finalize, dry_run: true, report } => {
            migrate::foresee(load(&sources(args)), *finalize, report, formats)
        }
        Command::Migrate { finalize, report, .. } => migrate::run(load(&sources(args)), *finalize, report, formats),
        Command::Rollback { to, confirm, json } => {
            rollback::run(load(&sources(args)), to.as_deref(), *confirm, *json, formats)
        }
        Command::Schema { command } => schema::run(load(&sources(args)), command),
        Command::Inspect(how) => inspect::run(load(&sources(args)), how, formats),
    }
}

fn sources(args: &Args) -> Sources {
    Sources { environment: Environment::of_process(), flags: args.flags(), ..Sources::default() }
}

/// Begins a command that is not `serve`: sets up the log and prints the configuration's warnings.
fn begin_offline(loaded: &Loaded) {
    telemetry::install_logs(&loaded.log);
    print_warnings(&loaded.warnings);
}

/// A reader that closes the pipe early, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::from),
    }
}

fn print_warnings(warnings: &[Warning]) {
    let (odd, no_effect) = sort_warnings(warnings);
    for warning in odd {
        telemetry::say(&format!("warning: {}", warning.message));
    }
    if let Some(keys) = no_effect {
        telemetry::say(&format!("warning: accepted, without effect: {keys}"));
    }
}
