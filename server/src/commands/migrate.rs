//! `progressdb migrate`: brings a stopped store to what this version expects, or says what that would take.

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, report};
use crate::args::ReportArgs;
use crate::config::Loaded;
use crate::db::Pending;
use crate::format::Formats;
use crate::serve::offline::{self, Forecast, Report};

pub(super) fn run(loaded: Loaded, finalize: bool, how: &ReportArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let done = offline::migrate(&config, formats, finalize)?;
    let db = config.db_path.display();
    let Report { format, checkpoint, .. } = &done;
    tracing::info!(event = "cli.migrate_complete", %db, format, checkpoint, outcome = "ok");
    report::tell(&json!(done), || done_in_words(&done), how)
}

pub(super) fn foresee(loaded: Loaded, finalize: bool, how: &ReportArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let forecast = offline::foresee(&loaded.config?, formats, finalize)?;
    report::tell(&json!(forecast), || forecast_in_words(&forecast, finalize), how)
}

fn done_in_words(Report { format, checkpoint, ran, pending }: &Report) -> String {
    let mut lines = Vec::new();
    for migration in ran {
        let (name, rows, changed, seconds) = (migration.name, migration.rows, migration.changed, migration.seconds);
        lines.push(format!("migration {name}: {rows} rows read, {changed} changed in {seconds:.1} s"));
    }
    lines.extend(still_to_be_raised(pending));
    let checkpoint = checkpoint.iter().map(|name| format!(" checkpoint={name}")).collect::<String>();
    lines.push(format!("migrate=ok format={format}{checkpoint}"));
    lines.join("\n")
}

fn forecast_in_words(Forecast { format, pending, would_run }: &Forecast, finalize: bool) -> String {
    let mut lines = Vec::new();
    for migration in would_run {
        let (name, rows, changes) = (migration.name, migration.rows, migration.changes);
        let (sample, seconds) = (migration.sample_rows, migration.sample_seconds);
        lines.push(format!(
            "migration {name}: would read {rows} rows and change {changes}; {sample} rows were read in {seconds:.3} s"
        ));
    }
    lines.extend(match pending.raise_to {
        Some(to) if finalize => Some(format!("the format would be raised from {format} to {to}, after a checkpoint")),
        _ => still_to_be_raised(pending),
    });
    lines.push(format!("dry run: nothing was changed, format={format}"));
    lines.join("\n")
}

fn still_to_be_raised(pending: &Pending) -> Option<String> {
    let to = pending.raise_to?;
    Some(format!("the format is still to be raised to {to}: `progressdb migrate --finalize`"))
}
