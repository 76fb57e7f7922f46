//! `progressdb backup`: copies a stopped database into one artefact.
//!
//! 1. the database is locked and opened read-only: 5, 7, 75, 78
//! 2. the target is resolved: 2, 6
//! 3. the artefact is written, read again and named: see `backup/create.rs`

use serde_json::{Value, json};

use super::failure::Failure;
use super::{begin_offline, print, progress};
use crate::args::BackupArgs;
use crate::backup::{NOT_INCLUDED, Progress, Stamp, Summary, Target, create};
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::format::Formats;
use crate::serve::offline;
use crate::telemetry;

pub(super) fn run(loaded: Loaded, wanted: &BackupArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let settings = loaded.to_json();
    let config = loaded.config?;
    let (started, progress) = (monotonic(), Progress::new(wanted.rate_limit));
    let made = progress::watch(&progress, || {
        let stopped = offline::source(&config, settings, formats)?;
        let stamp = Stamp::now();
        let target = Target::resolve(&wanted.out, wanted.format, &stamp, &config.db_path)?;
        Ok(create(&stopped.source, &target, &stamp, &progress)?)
    })?;
    let (src, dst) = (config.db_path.display(), made.path.display());
    tracing::info!(event = "cli.backup_complete", %src, %dst, outcome = "ok", bytes = made.bytes);
    if wanted.json {
        return print(&report(&made, started.elapsed().as_secs_f64()).to_string());
    }
    for what in NOT_INCLUDED {
        telemetry::say(&format!("not included: {what}"));
    }
    print(&format!("backup={dst}"))
}

fn report(made: &Summary, seconds: f64) -> Value {
    let manifest = &made.manifest;
    json!({
        "backup": made.path,
        "bytes": made.bytes,
        "id": hex::encode(manifest.header.id),
        "created": manifest.header.created,
        "database_id": hex::encode(manifest.header.database_id),
        "incarnation": manifest.incarnation,
        "store_format": manifest.header.store_format,
        "store_bytes": manifest.bytes(),
        "files": manifest.files.len(),
        "sequence": manifest.sequence,
        "counts": manifest.counts,
        "not_included": manifest.not_included,
        "seconds": seconds,
    })
}
