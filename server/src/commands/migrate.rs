//! `progressdb migrate`: brings a stopped store to what this version expects, or says what that would take.

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, print};
use crate::config::Loaded;
use crate::db::Pending;
use crate::format::Formats;
use crate::serve::offline::{self, Forecast, Report};

pub(super) fn run(loaded: Loaded, finalize: bool, as_json: bool, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    let report = offline::migrate(&config, formats, finalize)?;
    let Report { format, checkpoint, ran, pending } = &report;
    let db = config.db_path.display();
    tracing::info!(event = "cli.migrate_complete", %db, format, checkpoint, outcome = "ok");
    if as_json {
        return print(&json!(report).to_string());
    }
    for migration in ran {
        let (name, rows, changed, seconds) = (migration.name, migration.rows, migration.changed, migration.seconds);
        print(&format!("migration {name}: {rows} rows read, {changed} changed in {seconds:.1} s"))?;
    }
    print_pending(pending)?;
    let checkpoint = checkpoint.iter().map(|name| format!(" checkpoint={name}")).collect::<String>();
    print(&format!("migrate=ok format={format}{checkpoint}"))
}

pub(super) fn foresee(loaded: Loaded, finalize: bool, as_json: bool, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let forecast = offline::foresee(&loaded.config?, formats, finalize)?;
    if as_json {
        return print(&json!(forecast).to_string());
    }
    let Forecast { format, pending, would_run } = &forecast;
    for migration in would_run {
        let (name, rows, changes) = (migration.name, migration.rows, migration.changes);
        let (sample, seconds) = (migration.sample_rows, migration.sample_seconds);
        print(&format!(
            "migration {name}: would read {rows} rows and change {changes}; {sample} rows were read in {seconds:.3} s"
        ))?;
    }
    if finalize && let Some(to) = pending.raise_to {
        print(&format!("the format would be raised from {format} to {to}, after a checkpoint"))?;
    } else {
        print_pending(pending)?;
    }
    print(&format!("dry run: nothing was changed, format={format}"))
}

fn print_pending(pending: &Pending) -> Result<(), Failure> {
    let Some(to) = pending.raise_to else { return Ok(()) };
    print(&format!("the format is still to be raised to {to}: `progressdb migrate --finalize`"))
}
