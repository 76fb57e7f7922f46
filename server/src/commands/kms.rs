//! `progressdb kms`: tries the KMS, opens every wrapped key of a store, moves the keys to another KMS.

use std::io;
use std::path::Path;

use super::failure::Failure;
use super::kms_check::{self, CheckError, Checked};
use super::{begin_offline, print, print_warnings, with_causes};
use crate::args::KmsCommand;
use crate::config::{self, Environment, Flags, Loaded, Sources};
use crate::crypt::kms;
use crate::format::Formats;
use crate::serve::offline;

pub(super) fn run(sources: &Sources, command: &KmsCommand, formats: &Formats) -> Result<(), Failure> {
    match command {
        KmsCommand::Check { wrapped_keys, json } => {
            check_kms(config::load_for_kms_check(sources), wrapped_keys.as_deref(), *json)
        }
        KmsCommand::Verify { json } => verify_keys(config::load(sources), *json, formats),
        KmsCommand::Migrate { to } => migrate_keys(config::load(sources), to, formats),
    }
}

/// Checks the KMS even if encryption is not enabled, because the check comes before enabling it.
fn check_kms(loaded: Loaded, wrapped_keys: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    print_warnings(&loaded.warnings);
    let checked = probe_kms(loaded, wrapped_keys);
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
        error.unopened().iter().try_for_each(|key| print(&key.to_string()))?;
    }
    print(&checked?.to_text())
}

fn probe_kms(loaded: Loaded, wrapped_keys: Option<&Path>) -> Result<Checked, Failure> {
    let settings = kms_settings(loaded)?;
    let provider = settings.kind();
    let wrapped = wrapped_keys.map(kms_check::read_wrapped_keys).transpose();
    let wrapped = wrapped.map_err(|source| CheckError::Kms { provider, source })?;
    Ok(kms_check::check_kms(settings, wrapped.as_ref())?)
}

fn kms_settings(loaded: Loaded) -> Result<kms::Settings, Failure> {
    let encryption = loaded.config?.encryption;
    encryption.kms.ok_or(Failure::Config(config::Error(encryption.missing)))
}

/// Prints the report whether or not a key failed.
fn verify_keys(loaded: Loaded, as_json: bool, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let report = offline::verify_keys(&loaded.config?, formats)?;
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

fn migrate_keys(loaded: Loaded, to: &Path, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    // The environment and `.env` name the KMS in use, not the new one.
    let flags = Flags { config: Some(to.to_owned()), ..Flags::default() };
    let environment = Environment::of_process();
    let target = config::load(&Sources { environment, flags, only_file: true, ..Sources::default() });
    print(&offline::migrate_keys(&loaded.config?, kms_settings(target)?, formats)?.to_string())
}
