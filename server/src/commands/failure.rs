//! Why a command failed, and with which exit code.

use std::io;
use std::path::PathBuf;

use super::kms_check::CheckError;
use super::smoke::SmokeFailed;
use super::with_causes;
use crate::crypt::kms;
use crate::serve::{MoveError, RestoreError, StartupError};
use crate::{backup, config, telemetry};

/// Why a command failed; each has its exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Backup(#[from] backup::Failed),
    #[error(transparent)]
    Place(#[from] backup::remote::Error),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Export(MoveError),
    #[error(transparent)]
    Import(MoveError),
    #[error(transparent)]
    Online(#[from] backup::OnlineError),
    #[error(transparent)]
    Smoke(#[from] SmokeFailed),
    #[error("{0} keys do not open")]
    Verification(u64),
    #[error("cannot write {}", path.display())]
    Report { path: PathBuf, source: io::Error },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Check(CheckError::Kms { source: kms::Error::Settings(_), .. }) => 78,
            Failure::Check(_) | Failure::Verification(_) => 1,
            Failure::Startup(error) => error.exit_code(),
            Failure::Backup(error) => error.exit_code(),
            Failure::Place(error) => error.exit_code(),
            Failure::Restore(error) => error.exit_code(),
            Failure::Export(error) | Failure::Import(error) => error.exit_code(),
            Failure::Online(error) => error.exit_code(),
            Failure::Smoke(error) => error.exit_code(),
            Failure::Output(_) | Failure::Report { .. } => 1,
        }
    }

    /// The `event` of its log line.
    fn event(&self) -> &'static str {
        match self {
            Failure::Config(_) => "startup.config_invalid",
            Failure::Check(_) => "kms.failed",
            Failure::Startup(error) => error.event(),
            Failure::Backup(_) | Failure::Place(_) | Failure::Online(_) => "cli.backup_failed",
            Failure::Restore(error) => error.event(),
            Failure::Export(_) => "cli.export_failed",
            Failure::Import(_) => "cli.import_failed",
            Failure::Smoke(_) => "cli.smoke_failed",
            Failure::Verification(_) => "kms.verification_failed",
            Failure::Output(_) | Failure::Report { .. } => "output.failed",
        }
    }

    /// Logs it as one line, and prints it to standard error, one line for each problem.
    pub(super) fn report(&self) {
        let reasons = with_causes(self);
        tracing::error!(event = self.event(), exit_code = self.exit_code(), "{}", reasons.replace('\n', "; "));
        for reason in reasons.lines() {
            telemetry::say(&format!("error: {reason}"));
        }
    }
}
